"""The commands that keep a page open: ui and dashboard."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, Home, TrackingUri, store_of

if TYPE_CHECKING:
    from orchestrator.cli.servers import Server

PASSWORD = "TELEPORT_DASHBOARD_PASSWORD"
PAGE = "dashboards"
PACKAGE = "streamlit"

Host = Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (ui, dashboard):
        app.command()(command)


def ui(
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535)] = 5000,
) -> int:
    """Open the MLflow UI on this home's store.

    Example: teleport ui --port 5001
    """
    from orchestrator.cli.servers import serve

    return serve(tracking_uri or store_of(home), host=host, port=port)


def dashboard(
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535)] = 8501,
    ui_url: Annotated[
        str, typer.Option("--ui", metavar="URL", help="Where `teleport ui` listens: what links to runs lead to.")
    ] = "http://127.0.0.1:5000",
) -> int:
    """Open the live page on this home: sweeps while they run and after.

    Example: teleport dashboard --home runs
    """
    from orchestrator.cli.servers import run_until_interrupted

    server = make_server(home, tracking_uri or store_of(home), ui_url, host=host, port=port)
    return run_until_interrupted(server, f"dashboard of {home} at {server.url}")


def make_server(
    home: Path,
    tracking_uri: str,
    ui_url: str,
    *,
    host: str,
    port: int,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Make the server of the live page.

    Args:
        home: whose sweeps it shows.
        tracking_uri: of the MLflow store that they went to.
        ui_url: where ``teleport ui`` shows a store that is no server.
        host: address to listen on; any but this machine's own needs a password.
        port: to listen on; where it is taken, or is 0, a free one is used.
        environment: instead of this process's.

    Returns:
        The server, not started.

    Raises:
        UserError: it may not or cannot be started so; the reason says what to do.
    """
    from orchestrator.cli.servers import Server, free_port, is_loopback, url_of
    from orchestrator.errors import UserError
    from orchestrator.track import Address

    given = dict(os.environ if environment is None else environment)
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(f"the dashboard needs {PACKAGE}: pip install 'teleport[dashboard]'")
    is_own = is_loopback(host)
    if not is_own and not given.get(PASSWORD):
        raise UserError(
            f"--host: {host!r} can be reached from other machines, and without a password anyone there could read "
            f"every sweep; set {PASSWORD}, or keep to 127.0.0.1 and forward the port from where you are: "
            f"ssh -L {port}:127.0.0.1:{port} THIS_MACHINE"
        )
    address = Address.parse(tracking_uri)
    free = free_port(host, port)
    notes = [f"port {port} is taken, so it listens on {free}"] if port not in (0, free) else []
    if not is_own:
        notes.append("the password and the page go over the network as they are: put a proxy with TLS in front")
    arguments = [sys.executable, "-m", PAGE, "--server.address", host, "--server.port", str(free)]
    if is_own:
        # A page elsewhere whose name is made to resolve to this machine is not answered.
        names = ("localhost", "127.0.0.1", "[::1]", host)
        arguments += [f"--server.allowedHosts={name}" for name in dict.fromkeys(names)]
    settings = {
        "TELEPORT_HOME": str(home.absolute()),
        "MLFLOW_TRACKING_URI": address.uri,
        "TELEPORT_UI": ui_url,
    }
    return Server(tuple(arguments), {**given, **settings}, Path.cwd(), url_of(host, free), tuple(notes))
