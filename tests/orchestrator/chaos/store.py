"""A real MLflow server over HTTP, on SQLite or PostgreSQL, that can be killed and come back where it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, final

Database = Literal["sqlite", "postgresql"]
START_SECONDS = 90.0


@final
class Server:
    """One MLflow server on one port and one database for as long as it lives, however often it is killed.

    Args:
        backend: URI of its database.
        root: directory for its artifacts and its log.
    """

    def __init__(self, backend: str, root: Path) -> None:
        self._backend = backend
        self._root = root
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """What ``teleport run --tracking-uri`` is given."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def start(self) -> None:
        """Start it; it answers some seconds later."""
        assert self._process is None, "it is killed first"
        program = [str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1"]
        store = ["--backend-store-uri", self._backend, "--artifacts-destination", str(self._root / "artifacts")]
        with open(self._root / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*program, *store, "--host", "127.0.0.1", "--port", str(self._port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up:
            assert self._process is not None, "it is started first"
            log = self._root / "server.log"
            assert self._process.poll() is None, f"the MLflow server ended: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < deadline, "the MLflow server does not answer"
            time.sleep(0.1)

    def kill(self) -> int:
        """Kill it as the kernel would, the process that listens and the one that answers alike.

        Returns:
            Its process id.
        """
        assert self._process is not None, "it is started first"
        pid = self._process.pid
        os.killpg(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        return pid

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self.kill()


@contextmanager
def database(kind: Database, root: Path) -> Iterator[str]:
    """Provide a database for as long as the block lasts.

    Args:
        kind: of which kind.
        root: directory for its files.

    Yields:
        Its URI.
    """
    if kind == "sqlite":
        yield f"sqlite:///{root / 'mlflow.db'}"
        return
    import pgserver

    postgres = pgserver.get_server(root / "postgres", cleanup_mode="stop")
    try:
        yield postgres.get_uri()
    finally:
        postgres.cleanup()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
