"""Starts the program; it stands on the standard library, so that it can say which package is missing."""

from __future__ import annotations

import sys

SYSTEMS = ("linux", "darwin")
WRONG_INPUT = 2


def main() -> None:
    """Run the program, and exit with its exit code; say in one line what it lacks here."""
    if not sys.platform.startswith(SYSTEMS):
        _refuse(f"teleport runs on Linux and macOS, because its files are locked with fcntl; this is {sys.platform}")
    try:
        from orchestrator.cli import main as program
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if not name or name in sys.stdlib_module_names or name == "orchestrator":
            raise
        _refuse(f"the package {name} is missing; install teleport with what it needs: pip install teleport")
    program()


def _refuse(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(WRONG_INPUT)


if __name__ == "__main__":
    main()
