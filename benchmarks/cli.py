"""How quickly the command line answers, against an empty typer application."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.timing import medians, row

EMPTY = """
import typer
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
@app.command()
def a(): ...
@app.command()
def b(): ...
app()
"""
QUICKSTART = str(Path(__file__).parents[1] / "sweeps" / "quickstart.yaml")


def rows() -> list[dict[str, Any]]:
    teleport = str(Path(sys.executable).parent / "teleport")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    taken = medians(
        {
            "empty": lambda: run(sys.executable, "-c", EMPTY, "--help"),
            "help": lambda: run(teleport, "--help"),
            "plan": lambda: run(teleport, "plan", QUICKSTART, "--home", "/nonexistent"),
        },
        repeats=7,
    )
    return [
        row("teleport --help against an empty typer application", taken["help"] / taken["empty"], "ratio", 2.0),
        row("teleport plan sweeps/quickstart.yaml", taken["plan"], "s", 2.0),
    ]
