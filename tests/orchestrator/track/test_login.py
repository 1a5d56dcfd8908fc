"""A server that refuses the user is told before anything is begun; one that is down is not waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.errors import UserError
from orchestrator.track import Destination, refuse_login


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Serve this status to whatever is asked."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://me:hunter2@127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "told"), [(401, "does not know this user"), (403, "refuses this user or this name")]
)
def test_a_refusal_is_an_error_that_says_what_to_do(status: int, told: str) -> None:
    with answering(status) as uri, pytest.raises(UserError, match=told) as caught:
        refuse_login(Destination(uri))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_other_trouble_may_be_over_soon(status: int) -> None:
    with answering(status) as uri:
        refuse_login(Destination(uri))


def test_neither_a_dead_server_nor_a_database_is_in_the_way() -> None:
    refuse_login(Destination("http://127.0.0.1:9"))
    refuse_login(Destination("sqlite:////nowhere/mlflow.db"))
