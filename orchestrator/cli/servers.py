"""The servers of `teleport ui` and `teleport dashboard`.

A server is a process of its own. It listens on this machine only, unless a password guards it.
"""

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
from orchestrator.home import SweepPaths
from orchestrator.track import QUIET, Address, Destination, prepare, runs_page, sweep_link

MLFLOW_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
DASHBOARD_PASSWORD = "TELEPORT_DASHBOARD_PASSWORD"
STOP_SECONDS = 10.0


@final
@dataclass(frozen=True)
class Server:
    """A server that can be started.

    Args:
        arguments: its command line, without credentials, because every user of the machine can read it.
        environment: its environment, which holds the store's address.
        directory: its working directory.
        url: the address of its page.
        notes: sentences that the user should read.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    url: str
    notes: tuple[str, ...] = ()

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server for as long as the block lasts, and end its workers with it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            self.arguments, env=dict(self.environment), cwd=self.directory, start_new_session=True
        )
        try:
            yield process
        finally:
            _stop(process)

    def run(self, greeting: str) -> int:
        """Print the notes and a greeting on stderr, and run the server until Ctrl-C or SIGTERM.

        Returns:
            The exit code: 0 after an interrupt, else the server's own.
        """
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            for line in (*self.notes, f"{greeting}; stop it with Ctrl-C"):
                print(line, file=sys.stderr, flush=True)
            with self.running() as process:
                return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            signal.signal(signal.SIGTERM, before)


def mlflow_server(
    tracking_uri: str, *, host: str = "127.0.0.1", port: int = 5000, environment: Mapping[str, str] | None = None
) -> Server:
    """Make the server that shows an MLflow store.

    Args:
        tracking_uri: the address of a SQLite file or a PostgreSQL database.
        host: the address to listen on; one that other machines can reach needs a password.
        port: the port to listen on; where it is taken, or 0, the system picks one.
        environment: this process's by default; a password in ``MLFLOW_AUTH_ADMIN_PASSWORD`` turns authentication on.

    Raises:
        UserError: the server cannot, or must not, be started like this.
    """
    address = Address.parse(tracking_uri)
    if not address.is_database:
        raise UserError(f"--tracking-uri: {address.shown} is a server already; open it in a browser")
    given = dict(os.environ if environment is None else environment)
    has_auth = bool(given.get(MLFLOW_PASSWORD))
    if not is_loopback(host) and not has_auth:
        raise UserError(
            f"--host: {host!r} can be reached from other machines, and without authentication anyone there could "
            f"change or delete every run; set {MLFLOW_PASSWORD} (user: admin) and install 'mlflow[auth]', or keep to "
            "127.0.0.1 and forward the port with ssh -L"
        )
    if has_auth and importlib.util.find_spec("flask_wtf") is None:
        raise UserError(f"{MLFLOW_PASSWORD} asks for authentication, which needs: pip install 'mlflow[auth]'")
    free, notes = _port(host, port)
    if not is_loopback(host):
        notes.append(
            "if a browser gets the answer 403, MLflow does not know the name that it uses: set "
            "MLFLOW_SERVER_ALLOWED_HOSTS=NAME:PORT"
        )
    settings = {
        **QUIET,
        # Browsing needs no job queue, which would start four more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": address.uri,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": given.get("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32)),
    }
    directory = Path.cwd() if address.file is None else address.file.parent
    arguments = _mlflow_arguments(address, host, free, has_auth)
    return Server(arguments, {**given, **settings}, directory, url_of(host, free), tuple(notes))


def _mlflow_arguments(address: Address, host: str, port: int, has_auth: bool) -> tuple[str, ...]:
    artifacts = (
        ["--no-serve-artifacts"]
        if address.artifact_root is None
        else ["--artifacts-destination", address.artifact_root.as_uri()]
    )
    auth = ["--app-name", "basic-auth"] if has_auth else []
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    return (*server, "--uvicorn-opts", "--log-level warning", *auth, *artifacts)


def serve_mlflow(at: Destination, paths: SweepPaths | None = None, *, host: str, port: int) -> int:
    """Show an MLflow store until Ctrl-C, and return the exit code; the link that is printed opens a sweep's own run."""
    server = mlflow_server(at.uri, host=host, port=port)
    address = Address.parse(at.uri)
    if address.file is not None and not address.file.exists():
        print(
            f"{address.file} does not exist yet; run a sweep first: teleport run sweeps/quickstart.yaml",
            file=sys.stderr,
        )
    # Otherwise the server would create the tables in the database itself.
    prepare(address)
    return server.run(f"MLflow at {_page_in(server.url, at, paths)} (experiment {at.experiment})")


def _page_in(url: str, at: Destination, paths: SweepPaths | None) -> str:
    """Give the address of a sweep's run, or else of the experiment's runs, since MLflow begins with another page."""
    if paths is None:
        return runs_page(at, url)
    link = sweep_link(at, url, paths)
    if link.note:
        print(link.note, file=sys.stderr)
    return link.url or url


def dashboard_server(
    home: Path,
    tracking_uri: str,
    ui_url: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Make the server of the live page.

    Args:
        home: the directory of the sweeps that it shows.
        tracking_uri: the MLflow store that the sweeps are tracked in.
        ui_url: the address of ``teleport ui``, to which links to runs lead where the store is no server.
        host: the address to listen on; one that other machines can reach needs a password.
        port: the port to listen on; where it is taken, or 0, the system picks one.
        environment: this process's by default; ``TELEPORT_DASHBOARD_PASSWORD`` holds the password.

    Raises:
        UserError: the server cannot, or must not, be started like this.
    """
    given = dict(os.environ if environment is None else environment)
    if importlib.util.find_spec("streamlit") is None:
        raise UserError("the dashboard needs streamlit: pip install 'teleport[dashboard]'")
    is_own = is_loopback(host)
    if not is_own and not given.get(DASHBOARD_PASSWORD):
        raise UserError(
            f"--host: {host!r} can be reached from other machines, and without a password anyone there could read "
            f"every sweep; set {DASHBOARD_PASSWORD}, or keep to 127.0.0.1 and forward the port from where you are: "
            f"ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
        )
    free, notes = _port(host, port)
    if not is_own:
        notes.append("the password and the page go over the network unencrypted: put a proxy with TLS in front")
    arguments = [sys.executable, "-m", "dashboards", "--server.address", host, "--server.port", str(free)]
    if is_own:
        # A foreign page whose name resolves to this machine gets no answer.
        names = ("localhost", "127.0.0.1", "[::1]", host)
        arguments += [f"--server.allowedHosts={name}" for name in dict.fromkeys(names)]
    settings = {
        "TELEPORT_HOME": str(home.absolute()),
        "MLFLOW_TRACKING_URI": Address.parse(tracking_uri).uri,
        "TELEPORT_UI": ui_url,
    }
    return Server(tuple(arguments), {**given, **settings}, Path.cwd(), url_of(host, free), tuple(notes))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; a name other than localhost may resolve to any."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _port(host: str, port: int) -> tuple[int, list[str]]:
    """Find a free port; say so in a note where it is not the wanted one."""
    free = free_port(host, port)
    return free, [] if port in (0, free) else [f"port {port} is taken, so it listens on {free}"]


def free_port(host: str, port: int) -> int:
    """Return the wanted port, or where it is taken or 0 one that the system picks.

    Raises:
        UserError: the host is no address of this machine.
    """
    try:
        return _bound_port(host, port)
    except OSError:
        pass  # The port is taken, or the address is not of this machine; the next attempt tells which.
    try:
        return _bound_port(host, 0)
    except OSError as error:
        raise UserError(f"--host: cannot listen on {host!r}: {error.strerror}") from None


def _bound_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # The servers set this too, so a port whose last server has just ended counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), port))
        found: int = probe.getsockname()[1]
        return found


def url_of(host: str, port: int) -> str:
    """Return the URL of a page; a host that stands for all addresses becomes this machine's name.

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
    """Treat SIGTERM like Ctrl-C, so that the server does not outlive this process.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt
