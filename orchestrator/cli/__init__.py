"""Parses a command, calls one function, and prints the answer.

A command imports what it needs when it runs, so that ``teleport --help`` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from orchestrator.cli import operate, pages, ready, run, stored, transfer
from orchestrator.errors import Interrupted, UserError

app = typer.Typer(
    name="teleport",
    help="Does loss-level-set teleportation pay? Run sweeps that answer it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        from orchestrator.home import code_here

        print(f"teleport {version('teleport')} ({code_here().in_words})")
        raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool, typer.Option("--version", help="Print version and commit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


ready.register(app)
run.register(app)
operate.register(app)
stored.register(app)
pages.register(app)
transfer.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program, with this process's arguments by default, and exit with its exit code."""
    sys.exit(exit_code(sys.argv[1:] if arguments is None else list(arguments)))


def exit_code(arguments: Sequence[str]) -> int:
    """Run the program with these arguments.

    Returns:
        0: done. 1: the sweep ended with failures. 2: the input is wrong. 130: interrupted.
    """
    try:
        code = app(args=list(arguments), prog_name="teleport", standalone_mode=False)
        return int(code or 0)
    except UserError as error:
        return _complain(map(str, error.faults), error.exit_code)
    except Interrupted as error:
        return _complain([str(error)], error.exit_code)
    except typer.TyperException as error:
        code = _complain([str(error)], UserError.exit_code)
        print("`teleport COMMAND --help` shows what is valid", file=sys.stderr)
        return code
    except (KeyboardInterrupt, typer.Abort):
        return _complain(["interrupted"], Interrupted.exit_code)
    except BrokenPipeError:
        # The reader of the output has ended, as in `teleport list | head`.
        sys.stderr.close()
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain([f"{where}{error.strerror or error}"], UserError.exit_code)


def _complain(lines: Iterable[str], code: int) -> int:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return code
