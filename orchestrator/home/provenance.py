"""Where a sweep comes from: the code, versions, host and command."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import time
from collections.abc import Sequence

from orchestrator.home.code import code_here
from orchestrator.home.records import Provenance
from orchestrator.spec import plugins

PACKAGES = ("teleport", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def versions() -> dict[str, str]:
    """Look up the versions of Python and of the packages that results depend on, importing none of them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def collect(command: str, plugin_names: Sequence[str] = ()) -> Provenance:
    """Collect the provenance of a sweep that begins now.

    Args:
        command: a shell's command that runs the sweep again.
        plugin_names: modules of the plug-ins that the sweep needs, all of them loaded.
    """
    return Provenance(
        command=command,
        codes=(code_here(plugin_names),),
        versions=versions() | {f"plug-in {name}": plugins.version_of(name) for name in plugin_names},
        host=socket.gethostname(),
        started_at=time.time(),
    )
