"""Hooks by real processes and a real server: what they are told, and that nothing they do reaches the sweep."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import TrialFailure
from orchestrator.spec import EVENT_KEYS, HooksOptions
from orchestrator.sweep.hooks import MAX_MESSAGE, Hooks
from tests.orchestrator.trials import config, failed
from tests.waiting import PATIENCE, wait_until

KEEP = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(sys.stdin.read() + '\\n')"


class Clock:
    """Stands still until a test lets time pass, so that a busy machine cannot make a timeout come early."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked_by: set[int] = set()

    def __call__(self) -> float:
        self.asked_by.add(threading.get_ident())
        return self.now


class Story:
    """The hooks of one sweep, with its log and its clock."""

    def __init__(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.paths = SweepPaths(home, "night")
        self.caplog = caplog
        self.log = logging.getLogger("teleport.night")
        self.clock = Clock()

    def hooks(self, *, pause: float = 0.0, **options: Any) -> Hooks:
        plain = {"timeout": 30, **options}
        return Hooks(HooksOptions.model_validate(plain), self.paths, self.log, pause=pause, clock=self.clock)

    def tell(self, *, until: Callable[[], bool] | None = None, **hook: Any) -> str:
        """Tell one hook that the sweep is over, and read what the log says of it.

        Args:
            until: when this is so, the hook's time is up.
            hook: a command or a webhook.
        """
        hooks = self.hooks(sweep_finished=hook, timeout=30)
        hooks.sweep_finished("finished")
        if until is not None:
            wait_until(until)
            self.clock.now += 30.0
        hooks.close()
        return "\n".join(self.caplog.messages)


@pytest.fixture
def story(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Story:
    caplog.set_level(logging.INFO)
    return Story(tmp_path / "home", caplog)


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def has_text(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


def has_begun(told: Path, num_calls: int) -> bool:
    return told.exists() and told.read_text().split().count("in") >= num_calls


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_gets_the_event_on_stdin_in_its_environment_and_in_its_arguments(
    story: Story, tmp_path: Path
) -> None:
    code = "import os, sys, json; json.dump([sys.stdin.read(), dict(os.environ), sys.argv[2:]], open(sys.argv[1], 'w'))"
    told = tmp_path / "told.json"
    hooks = story.hooks(trial_failed={"command": python(code, told, "{trial} failed: {kind}")})
    of = config(number=3)
    before = time.time()
    hooks.trial_failed(of, failed(of))
    after = time.time()
    hooks.close()
    stdin, environment, arguments = json.loads(told.read_text())
    event = json.loads(stdin)
    assert before <= event.pop("time") <= after
    assert event == {
        "version": 1,
        "event": "trial_failed",
        "sweep": "night",
        "home": str(story.paths.home),
        "message": "the loss was not finite",
        "trial": "digits/baseline search #3",
        "trial_id": of.trial_id,
        "study": "digits/baseline",
        "phase": "search",
        "kind": "diverged",
        "num_failed": 1,
    }
    assert {key: environment[f"TELEPORT_{key.upper()}"] for key in event} == {k: str(v) for k, v in event.items()}
    assert arguments == ["digits/baseline search #3 failed: diverged"]
    assert story.caplog.messages == []


def test_the_end_of_a_sweep_says_how_and_where_the_report_is(story: Story, tmp_path: Path) -> None:
    hooks = story.hooks(sweep_finished={"command": python(KEEP, tmp_path / "told")})
    hooks.sweep_finished("ended early", message="the budget is used up", report=story.paths.report_page)
    hooks.close()
    event = json.loads((tmp_path / "told").read_text())
    assert (event["event"], event["status"], event["message"]) == (
        "sweep_finished",
        "ended early",
        "the budget is used up",
    )
    assert event["report"] == str(story.paths.report_page)
    assert set(event) == set(EVENT_KEYS["sweep_finished"])


def test_an_event_has_the_keys_that_a_spec_may_name(story: Story, tmp_path: Path) -> None:
    hooks = story.hooks(trial_failed={"command": python(KEEP, tmp_path / "told")})
    hooks.trial_failed(config(), failed(config()))
    hooks.close()
    assert set(json.loads((tmp_path / "told").read_text())) == set(EVENT_KEYS["trial_failed"])


def test_without_hooks_nothing_is_started(story: Story) -> None:
    before = threading.active_count()
    hooks = story.hooks()
    hooks.trial_failed(config(), failed(config()))
    hooks.sweep_finished("finished")
    assert threading.active_count() == before
    hooks.close()


@pytest.mark.parametrize("message", ["a\0b", "\udcff", "x" * 1_000_000, "{sweep} $HOME `id`"], ids=range(4))
def test_any_message_can_be_told(story: Story, tmp_path: Path, message: str) -> None:
    hooks = story.hooks(trial_failed={"command": python(KEEP, tmp_path / "told", "{message}")})
    result = failed(config()).model_copy(update={"failure": TrialFailure(kind="crashed", message=message)})
    hooks.trial_failed(config(), result)
    hooks.close()
    assert len(json.loads((tmp_path / "told").read_text())["message"]) < MAX_MESSAGE + 100
    assert story.caplog.messages == []


def test_a_hook_that_fails_is_told_with_its_code_and_the_end_of_its_stderr(story: Story) -> None:
    told = story.tell(command=python("import sys; sys.exit('https://me:hunter2@host/ says no')"))
    assert told == (
        f"hook sweep_finished ({Path(sys.executable).name}): ended with code 1; it wrote: https://***@host/ says no"
    )


def test_a_hook_that_is_killed_from_elsewhere_is_told(story: Story) -> None:
    assert "was ended by signal 9" in story.tell(command=python("import os; os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: "no-such-program", "No such file or directory"),
        (lambda path: str(path), "Permission denied"),
        (lambda path: "bad\udc00\ud800", "cannot be called"),
    ],
    ids=["missing", "a folder", "no text"],
)
def test_a_program_that_cannot_be_called_is_told(
    story: Story, tmp_path: Path, make: Callable[[Path], str], reason: str
) -> None:
    told = story.tell(command=[make(tmp_path)])
    assert reason in told
    assert told.encode(), "a log can hold it"


def test_a_hook_that_hangs_is_killed_with_its_children(story: Story, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    told = story.tell(command=python(code, tmp_path / "pid"), until=lambda: has_text(tmp_path / "pid"))
    assert "was killed: no end after 30 s" in told
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(pid))


def test_a_timeout_ends_one_call_and_the_next_is_made(story: Story, tmp_path: Path) -> None:
    code = f"{KEEP}\nimport time; time.sleep(600 if not os.path.exists(sys.argv[1] + '2') else 0)"
    hooks = story.hooks(trial_failed={"command": python(code, tmp_path / "told")})
    hooks.trial_failed(config(), failed(config()))
    wait_until(lambda: has_text(tmp_path / "told"))
    story.clock.now += 30.0
    wait_until(lambda: bool(story.caplog.messages))
    assert "was killed: no end after 30 s" in story.caplog.messages[0]
    (tmp_path / "told2").touch()
    hooks.trial_failed(config(), failed(config()))
    hooks.close()
    assert len((tmp_path / "told").read_text().splitlines()) == 2


def test_a_hook_whose_child_outlives_it_is_not_waited_for(story: Story, tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))"
    )
    assert story.tell(command=python(code, tmp_path / "pid")) == ""
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    os.kill(pid, 9)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_of_output_fills_no_memory_and_no_pipe(story: Story, tmp_path: Path, stream: str) -> None:
    code = f"import sys, pathlib\nfor i in range(10**9): sys.{stream}.write('x' * 65536), i == 20 and {{}}"
    code = code.format("pathlib.Path(sys.argv[1]).write_text('flood')")
    told = story.tell(command=python(code, tmp_path / "begun"), until=lambda: has_text(tmp_path / "begun"))
    assert "was killed" in told
    assert len(told) < 3_000


def test_a_hook_that_closes_its_stdin_unread_goes_well(story: Story) -> None:
    assert story.tell(command=["true"]) == ""


def test_a_thousand_failures_are_a_handful_of_calls_and_none_is_forgotten(story: Story, tmp_path: Path) -> None:
    told = tmp_path / "told"
    hooks = story.hooks(trial_failed={"command": python(KEEP, told)}, pause=60.0)
    for number in range(1_000):
        of = config(number=number)
        hooks.trial_failed(of, failed(of))
    hooks.close()
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert sum(event["num_failed"] for event in events) == 1_000
    assert len(events) <= 3
    assert events[-1]["trial"] == "digits/baseline search #999"


def test_calls_of_one_event_do_not_overlap(story: Story, tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    print('in', file=file, flush=True); time.sleep(0.2); print('out', file=file, flush=True)"
    )
    told = tmp_path / "told"
    hooks = story.hooks(trial_failed={"command": python(code, told)})
    for num_begun in range(1, 4):
        # Each event comes while the call before it runs.
        hooks.trial_failed(config(), failed(config()))
        wait_until(partial(has_begun, told, num_begun))
    hooks.close()
    assert told.read_text().split() == ["in", "out"] * 3


def test_the_end_waits_for_all_hooks_together_no_longer_than_the_timeout(story: Story, tmp_path: Path) -> None:
    """Each hook has one call that hangs and one that waits, so by itself it would take twice the timeout."""
    begun = {event: tmp_path / event for event in ("trial_failed", "sweep_finished")}
    hang = "echo > '{}'; exec sleep 600"
    calls: dict[str, Any] = {event: {"command": ["sh", "-c", hang.format(file)]} for event, file in begun.items()}
    hooks = story.hooks(**calls)
    for _ in range(2):
        hooks.trial_failed(config(), failed(config()))
        hooks.sweep_finished("failed")
        wait_until(lambda: all(file.exists() for file in begun.values()))
    closing = threading.Thread(target=hooks.close)
    closing.start()
    wait_until(lambda: closing.ident in story.clock.asked_by)
    story.clock.now += 30.0
    # If it waited for one hook after the other, the clock would have to go on by another timeout.
    closing.join(PATIENCE)
    assert not closing.is_alive()
    wait_until(lambda: not any(thread.name.startswith("hook ") for thread in threading.enumerate()))
    for event in begun:
        # The second call would come to its own timeout a whole timeout after the end was waited for.
        said = [message for message in story.caplog.messages if message.startswith(f"hook {event} (sh): ")]
        assert len(said) == 2
        assert "the sweep is over and waits no longer" in said[-1]
    hooks.close()


class Server(ThreadingHTTPServer):
    """Keeps what is posted; answers as it is told to."""

    daemon_threads = True
    answer = 200
    location = ""
    drips = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[tuple[str, str, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, self.headers["Content-Type"], body))
        if self.server.drips:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(2_000):
                self.wfile.write(f"X-{number}: y\r\n".encode())
                time.sleep(0.05)
        self.send_response(self.server.answer)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.posted.append((self.path, "GET", b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            return  # the client was killed, which is what the test is about


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_webhook_is_posted_the_event_as_json(story: Story, server: Server) -> None:
    assert story.tell(webhook=server.url) == ""
    [(path, content_type, body)] = server.posted
    assert (path, content_type) == ("/hook", "application/json")
    assert json.loads(body)["status"] == "finished"


def test_a_webhook_may_lie_in_the_environment_and_the_log_has_its_name_alone(
    story: Story, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = 500
    monkeypatch.setenv("MY_HOOK", f"{server.url}/secret?token=hunter2")
    told = story.tell(webhook="$MY_HOOK")
    assert (
        told
        == "hook sweep_finished ($MY_HOOK): ended with code 1; it wrote: the server answered 500 Internal Server Error"
    )
    assert server.posted[0][0] == "/hook/secret?token=hunter2"


def test_a_variable_that_is_not_there_or_holds_no_url_is_told(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_HOOK", raising=False)
    assert "$MY_HOOK is not set in the environment" in story.tell(webhook="$MY_HOOK")
    monkeypatch.setenv("MY_HOOK", "hunter2")
    story.caplog.clear()
    told = story.tell(webhook="$MY_HOOK")
    assert "$MY_HOOK must be an http or https URL" in told
    assert "hunter2" not in told


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(story: Story, server: Server, code: int) -> None:
    with Server() as other:
        server.answer, server.location = code, other.url
        told = story.tell(webhook=server.url)
        assert f"the server answered {code}" in told
        assert "redirects are not followed" in told
        assert len(server.posted) == 1
        other.socket.setblocking(False)
        with pytest.raises(BlockingIOError, match=r".*"):
            other.socket.accept()


def test_a_server_that_answers_byte_by_byte_is_given_up(story: Story, server: Server) -> None:
    server.drips = True
    assert "was killed" in story.tell(webhook=server.url, until=lambda: bool(server.posted))


def test_a_server_that_is_down_is_told(story: Story) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no answer:" in story.tell(webhook=f"http://127.0.0.1:{port}/")


def test_a_server_that_hangs_up_or_speaks_no_http_is_told(story: Story) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            for answer in (b"", b"what?\r\n\r\n"):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        assert "no answer:" in story.tell(webhook=url)
        assert "no answer:" in story.tell(webhook=url)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_secret_address_is_not_among_the_arguments_of_any_process(
    story: Story, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.drips = True
    monkeypatch.setenv("MY_HOOK", f"{server.url}/hunter2")
    hooks = story.hooks(sweep_finished={"webhook": "$MY_HOOK"})
    hooks.sweep_finished("finished")
    wait_until(lambda: bool(server.posted))
    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(b"hunter2" in words for words in arguments)
    story.clock.now += 30.0
    hooks.close()
