"""Where a sweep comes from: the code's commit, versions, host and command."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

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


def collect(command: str, plugin_names: Iterable[str] = ()) -> Provenance:
    """Collect the provenance of a sweep that begins now.

    Args:
        command: a shell's command that runs the sweep again.
        plugin_names: modules of the plug-ins that the sweep needs, all of them loaded.
    """
    # Code that is installed in another project's environment may lie in a repository that does not track it.
    is_tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = _git("rev-parse", "HEAD") if is_tracked else None
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return Provenance(
        command=command,
        git_commit=commit,
        git_dirty=None if changes is None else bool(changes),
        versions=versions() | {f"plug-in {name}": plugins.version_of(name) for name in plugin_names},
        host=socket.gethostname(),
        started_at=time.time(),
    )


def _git(*arguments: str) -> str | None:
    """Ask git about the directory of this code, or return None if git does not answer or knows no repository."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
