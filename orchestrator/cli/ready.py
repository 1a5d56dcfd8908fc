"""The command that hands out what the package carries to begin with: ready-made sweeps, and files for clusters."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import UserError, nearest

ROOT = Path(__file__).with_name("ready")
SWEEPS = "sweeps"


def register(app: typer.Typer) -> None:
    """Add this module's command to the program."""
    app.command()(init)


def _names(incomplete: str) -> list[str]:
    return [name for name in ready_files() if name.startswith(incomplete)]


def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Which one.", autocompletion=_names)] = "quickstart",
    is_listing: Annotated[bool, typer.Option("--list", help="List the names, and what each file is for.")] = False,
) -> None:
    """Write a ready-made sweep, or a file for a cluster, into this directory.

    Example: teleport init quickstart
    """
    from orchestrator.cli.show import draw

    if is_listing:
        draw(("name", "for"), ((name, purpose_of(file)) for name, file in ready_files().items()))
        return
    file = write_ready_file(name, Path())
    print(file)
    if not Path(name).suffix:  # a sweep, by its name
        print(f"see what it will do, and run it: teleport plan {file}, teleport run {file}", file=sys.stderr)


def ready_files() -> dict[str, Path]:
    """List the files by the name that ``teleport init`` takes: a sweep's has neither folder ``sweeps`` nor ending."""
    found = {}
    # In a checkout the folders are links to those at its root.
    places = (Path(place, name) for place, _, names in os.walk(ROOT, followlinks=True) for name in names)
    for file in sorted(places):
        name = file.relative_to(ROOT)
        is_sweep = name.parts[0] == SWEEPS
        found[name.relative_to(SWEEPS).with_suffix("").as_posix() if is_sweep else name.as_posix()] = file
    return found


def purpose_of(file: Path) -> str:
    """Return what a file is for: the description of a sweep, else the first comment of the file."""
    if file.is_relative_to(ROOT / SWEEPS):
        from orchestrator.spec import load_spec

        return load_spec(file).description
    comments = (line.lstrip("# ").strip() for line in file.read_text().splitlines() if line.startswith("# "))
    return next(comments, "")


def write_ready_file(name: str, directory: Path) -> Path:
    """Copy a file into a directory, under the last part of its name, and return where it lies.

    Raises:
        UserError: there is no such file, or another one of that name lies there.
    """
    from orchestrator.home import atomic_write

    known = ready_files()
    if name not in known:
        raise UserError(f"no ready-made file has the name {name!r}; {nearest(name, known)} (teleport init --list)")
    text, target = known[name].read_text(), directory / known[name].name
    if target.exists() and (not target.is_file() or target.read_text() != text):
        raise UserError(f"{target} is there already and is another file; move it away, or go to another directory")
    atomic_write(target, text)
    return target
