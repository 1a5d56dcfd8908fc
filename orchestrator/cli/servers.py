"""Pages that run beside a sweep: a server in a process of its own, on this machine alone unless it is guarded."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import UserError
from orchestrator.track import EXPERIMENT, QUIET, Address, prepare

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"


def make_server(
    tracking_uri: str,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Make the server of a store.

    Args:
        tracking_uri: of a SQLite file or a PostgreSQL database.
        host: address to listen on; any but this machine's own needs authentication.
        port: to listen on; where it is taken, or is 0, a free one is used.
        environment: instead of this process's; a password in ``MLFLOW_AUTH_ADMIN_PASSWORD`` turns
            authentication on.

    Returns:
        The server, not started.

    Raises:
        UserError: it may not or cannot be started so; the reason says what to do.
    """
    address = Address.parse(tracking_uri)
    if not address.is_database:
        raise UserError(f"--tracking-uri: {address.shown} is a server already; open it in a browser")
    given = dict(os.environ if environment is None else environment)
    has_auth = bool(given.get(PASSWORD))
    if not is_loopback(host) and not has_auth:
        raise UserError(
            f"--host: {host!r} can be reached from other machines, and without authentication anyone there could "
            f"change or delete every run; set {PASSWORD} (user: admin) and install 'mlflow[auth]', or keep to "
            "127.0.0.1 and forward the port with ssh -L"
        )
    if has_auth and importlib.util.find_spec("flask_wtf") is None:
        raise UserError(f"{PASSWORD} asks for authentication, which needs: pip install 'mlflow[auth]'")
    free = free_port(host, port)
    notes = [f"port {port} is taken, so it listens on {free}"] if port not in (0, free) else []
    if not is_loopback(host):
        notes.append(
            "a browser that is answered 403 uses a name that MLflow does not know: set "
            "MLFLOW_SERVER_ALLOWED_HOSTS=NAME:PORT"
        )
    directory = Path.cwd() if address.file is None else address.file.parent
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(free), "--workers", "1"]
    arguments += ["--uvicorn-opts", "--log-level warning"]
    arguments += ["--app-name", "basic-auth"] if has_auth else []
    if address.artifact_root is None:
        arguments.append("--no-serve-artifacts")
    else:
        arguments += ["--artifacts-destination", address.artifact_root.as_uri()]
    settings = {
        **QUIET,
        # A page to browse runs needs no job queue, which would start four more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": address.uri,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": given.get("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32)),
    }
    return Server(tuple(arguments), {**given, **settings}, directory, url_of(host, free), tuple(notes))


def serve(tracking_uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> int:
    """Run the server of a store until it is interrupted.

    Args:
        tracking_uri: of a SQLite file or a PostgreSQL database.
        host: address to listen on.
        port: to listen on.

    Returns:
        The exit code: 0 where it was interrupted, else the server's own.

    Raises:
        UserError: it may not or cannot be started so.
    """
    server = make_server(tracking_uri, host=host, port=port)
    file = Address.parse(tracking_uri).file
    if file is not None and not file.exists():
        print(f"no sweep is tracked in {file} yet; start one: teleport run sweeps/quickstart.yaml", file=sys.stderr)
    # The server would make them in the file itself.
    prepare(Address.parse(tracking_uri))
    return run_until_interrupted(server, f"MLflow at {server.url} (experiment {EXPERIMENT})")


STOP_SECONDS = 10.0


@final
@dataclass(frozen=True)
class Server:
    """A server that can be started.

    Args:
        arguments: its command line; holds no credentials, since every user of the machine can read it.
        environment: its environment, which holds the store's address.
        directory: where it runs.
        url: of its page.
        notes: what the user should know, a sentence each.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    url: str
    notes: tuple[str, ...] = ()

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until the block is left, however that happens; its workers end with it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.arguments, env=dict(self.environment), cwd=self.directory, start_new_session=True
        )
        try:
            yield process
        finally:
            _stop(process)


def run_until_interrupted(server: Server, greeting: str) -> int:
    """Run a server until Ctrl-C or SIGTERM.

    Args:
        server: not started.
        greeting: said before, on stderr, after the server's own notes.

    Returns:
        The exit code: 0 where it was interrupted, else the server's own.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for line in (*server.notes, f"{greeting}; stop it with Ctrl-C"):
            print(line, file=sys.stderr, flush=True)
        with server.running() as process:
            return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own; a name other than localhost may resolve to anything."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int) -> int:
    """Find a port to listen on: the one asked for, or else one that the system picks.

    Args:
        host: address to listen on.
        port: wanted; 0: any.

    Returns:
        The port.

    Raises:
        UserError: there is no such address on this machine.
    """
    try:
        return _bound_port(host, port)
    except OSError:
        pass  # taken, or nothing there to bind to: the next try tells which
    try:
        return _bound_port(host, 0)
    except OSError as error:
        raise UserError(f"--host: cannot listen on {host!r}: {error.strerror}") from None


def _bound_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does, so that a port whose last server has just ended counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), port))
        found: int = probe.getsockname()[1]
        return found


def url_of(host: str, port: int) -> str:
    """Write the address of a page for a browser.

    Args:
        host: that it listens on; one that stands for all of them is shown as this machine's name.
        port: likewise.

    Returns:
        The URL.

    >>> url_of("127.0.0.1", 5000), url_of("::1", 5000)
    ('http://127.0.0.1:5000', 'http://[::1]:5000')
    """
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://[{shown.strip('[]')}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which share its process group."""
    for wish in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, wish)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _interrupt(number: int, frame: object) -> None:
    """Take SIGTERM as Ctrl-C, so that the server does not outlive this process.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt
