"""The commands that serve a page until Ctrl-C: ui and dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, Experiment, Home, TrackingUri

Host = Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (ui, dashboard):
        app.command()(command)


def ui(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A sweep of this home, whose run the printed link opens.")
    ] = None,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535)] = 5000,
) -> int:
    """Open the MLflow UI on this home's store.

    Example: teleport ui quickstart --port 5001
    """
    from orchestrator.cli.servers import serve_mlflow
    from orchestrator.home import find_sweep
    from orchestrator.track import destination

    paths = None if name is None else find_sweep(home, name)
    at = destination(home, tracking_uri, experiment, None if paths is None else paths.read_tracking())
    return serve_mlflow(at, paths, host=host, port=port)


def dashboard(
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535)] = 8501,
    ui_url: Annotated[
        str, typer.Option("--ui", metavar="URL", help="Address of `teleport ui`, to which links to runs lead.")
    ] = "http://127.0.0.1:5000",
) -> int:
    """Open the live page on this home; it shows sweeps while they run and after.

    Example: teleport dashboard --home runs
    """
    from orchestrator.cli.servers import dashboard_server
    from orchestrator.track import destination

    server = dashboard_server(home, destination(home, tracking_uri, None).uri, ui_url, host=host, port=port)
    return server.run(f"dashboard of {home} at {server.url}")
