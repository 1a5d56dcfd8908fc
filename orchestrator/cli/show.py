"""Prints results on stdout, in tables that fit the terminal's width."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.display import table as progress_table
from orchestrator.spec import duration_text

if TYPE_CHECKING:
    from orchestrator.home import HistoryRow, TrialConfig, TrialResult
    from orchestrator.report import JointReport, Report
    from orchestrator.sweep import Plan, Show, Standing

Row = Sequence[str]


def draw(header: Row, rows: Iterable[Row], *, right: frozenset[int] = frozenset()) -> None:
    """Print a table as wide as the terminal; without a terminal it is 200 columns wide.

    Where the terminal is too narrow for a table, each row becomes a block of lines. Cells are printed as they are.

    Args:
        header: the columns' names.
        rows: the cells of each row.
        right: the indices of the columns that are aligned to the right.
    """
    console = Console() if sys.stdout.isatty() else Console(width=200)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        drawn.add_column(name, justify="right" if index in right else "left", overflow="fold", no_wrap=index == 0)
    rows = list(rows)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    if Console(width=10_000).measure(drawn).minimum <= console.width:
        console.print(drawn)
        return
    width = max(map(len, header))
    for row in rows:
        for name, cell in zip(header, row, strict=True):
            console.print(Text(f"{name:<{width}}  {cell}"))
        console.print()


def print_plan(plan: Plan) -> None:
    """Print what a sweep will do, what it will cost, and what it can show."""
    print(f"{plan.name}: {plan.description}" if plan.description else plan.name)
    print()
    rows = (
        (
            study.workload,
            study.arm,
            str(study.num_search),
            str(study.num_confirm),
            f"{study.steps_per_seed:,}",
            "?" if study.wall_clock is None else duration_text(study.wall_clock),
            ", ".join(study.parameters) or "-",
        )
        for study in plan.studies
    )
    header = ("workload", "arm", "search", "confirm", "steps a seed", "time", "searched")
    draw(header, rows, right=frozenset({2, 3, 4, 5}))
    print()
    print(f"{plan.num_trials} trials, {plan.num_steps:,} optimizer steps at most")
    confirm = plan.num_concurrent_confirm
    in_confirm = "" if confirm == plan.num_concurrent else f", {confirm} in confirm"
    in_search = f"the search can keep {plan.num_busy} busy" if plan.num_busy else "nothing is searched"
    if plan.num_concurrent:
        print(f"on {plan.place}: {plan.num_concurrent} workers{in_confirm}; {in_search}")
    if not plan.num_concurrent:
        print(f"on {plan.place}: nobody answers, so neither its workers nor the time are known; {in_search}")
    elif plan.seconds is None:
        print("time: unknown, nothing like it has run in this home; --pilot times an epoch of each study")
    else:
        hours = f", {plan.gpu_hours:.3g} GPU-hours" if plan.gpu_hours else ""
        print(f"time: about {duration_text(plan.seconds)}{hours}")
    for kind, sentences in (("power", plan.power), ("lint", plan.lints)):
        for sentence in sentences:
            print(f"{kind}: {sentence}")
    for sentence in plan.warnings:
        print(f"warning: {sentence}", file=sys.stderr)


def print_verdicts(report: Report | JointReport) -> None:
    """Print the verdicts and the lints of a report."""
    from orchestrator.report import reports_of, verdict_section

    reports = reports_of(report)
    verdicts = verdict_section(report)
    if verdicts.rows:
        draw(verdicts.header, verdicts.rows)
    for each in reports:
        place = f"{each.sweep.name}: " if len(reports) > 1 else ""
        for lint in each.lints:
            print(f"lint: {place}{lint}")


def print_headline(report: Report | JointReport) -> None:
    """Print what a report comes to, as the last line of a command that made it."""
    from orchestrator.report import headline

    print(headline(report))


def print_standing(standing: Standing) -> None:
    """Print where a sweep stands."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    print(f"{standing.name}: {standing.state}")
    if standing.ended_early:
        print(standing.ended_early)
    console.print(progress_table(standing.progress, console.width))
    for usage in standing.usages:
        print(f"budget: {usage.sentence}")
    if standing.ended_by_user:
        print(f"ended by the user: {', '.join(standing.ended_by_user)}; they count as PRUNED")


def print_training(config: TrialConfig, run: Callable[[Show], tuple[TrialResult, Path]]) -> int:
    """Print curves while ``run`` trains a configuration, then how it ended; return 1 where the trial failed."""
    from orchestrator.home import TrialState

    print(f"{config.study}, seed {config.seeds[0]}")
    measured = [name for name in config.training.task.curves if not name.endswith("_loss")]
    finals = [f"val. {name.removeprefix('validation_')}" for name in measured]
    heads = ("step", "epoch", "seconds", "train loss", "val. loss", *finals, "moves")
    widths = (8, 7, 9, 11, 11, *map(len, finals), 6)
    print(" ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    result, directory = run(functools.partial(_print_rows, measured))
    if result.state is TrialState.FAIL:
        assert result.failure is not None
        print(f"failed: {result.failure.kind}: {result.failure.message}", file=sys.stderr)
        if result.failure.traceback:
            print(result.failure.traceback, file=sys.stderr)
    for seed in result.seeds:
        hit = f"reached at step {seed.steps_to_target:.4g}" if seed.steps_to_target is not None else "not reached"
        print(
            f"target {hit}; {seed.seconds:.2f} s on the optimizer clock, {seed.teleport_seconds:.2f} s of it teleports"
        )
    print(f"files: {directory}")
    return int(result.state is TrialState.FAIL)


def _print_rows(measured: Sequence[str], rows: Sequence[HistoryRow]) -> None:
    for row in rows:
        metrics = row.metrics
        finals = " ".join(f"{metrics[name]:>{len(name) - len('validation_') + len('val. ')}.4f}" for name in measured)
        print(
            f"{row.step:>8} {row.epoch:>7.2f} {row.seconds:>9.3f} {metrics['train_loss']:>11.5f} "
            f"{metrics['validation_loss']:>11.5f} {finals} {row.num_teleports:>6}",
            flush=True,
        )
