"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.track import Destination, Tracker

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")]


def sweep_names_here(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a sweep, from the home on the command line."""
    from orchestrator.home import sweep_names

    home = context.params.get("home") or os.environ.get("TELEPORT_HOME") or DEFAULT_HOME
    return [name for name in sweep_names(Path(home)) if name.startswith(incomplete)]


SweepName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A sweep of this home (see `teleport list`).", autocompletion=sweep_names_here),
]
Home = Annotated[Path, typer.Option(envvar="TELEPORT_HOME", metavar="DIR", help="Directory that holds the sweeps.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the spec; a dotted key, a YAML value. Repeatable."),
]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="TELEPORT_DATA", metavar="DIR", help="Where data sets are looked for first.")
]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="A running Ray cluster: auto, HOST:PORT or ray://HOST:PORT."),
]
WaitForNodes = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="How long the cluster may take to have nodes that can hold the trials."
    ),
]
AcceptCodeChange = Annotated[
    bool,
    typer.Option(
        "--accept-code-change",
        help="Go on with other code than the sweep has run with; its report then makes no primary claim.",
    ),
]
TrustHooks = Annotated[
    bool,
    typer.Option("--trust-hooks", help="Let the hooks of a sweep run that `teleport track fetch` has brought."),
]
LauncherName = Annotated[str, typer.Option("--launcher", metavar="ray|inline", help="Where trials run.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow store; without it the sweep's own, $MLFLOW_TRACKING_URI, or HOME/mlflow.db (SQLite).",
    ),
]
Experiment = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="MLflow experiment; without it the sweep's own, $MLFLOW_EXPERIMENT_NAME, or `teleport`.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="A module with own models, data sets or workloads. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for a machine to read.")]

# As orchestrator.home has it, whose import would slow every command down.
DEFAULT_HOME = Path("runs")


def use_plugins(names: list[str] | None) -> None:
    """Load the plug-ins that installed packages declare, and those that the command line names."""
    from orchestrator.spec import plugins

    for fault in plugins.load_installed():
        print(f"warning: {fault}", file=sys.stderr)
    plugins.load(names or ())


def make_tracker(home: Path, at: Destination) -> Tracker:
    """Make the tracker of an MLflow store; artifacts of a database that is no SQLite file lie in the home."""
    from orchestrator.track import MlflowTracker

    root = None if at.uri.startswith("sqlite:") else home.absolute() / "mlartifacts"
    return MlflowTracker(at.uri, experiment=at.experiment, artifact_root=root)
