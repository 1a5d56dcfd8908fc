"""The command that evaluates settings across workloads: transfer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home

if TYPE_CHECKING:
    from orchestrator.report.schema import Leave, TimeMetric, Transfer
    from orchestrator.search import Candidates


def register(app: typer.Typer) -> None:
    """Add this module's command to the program."""
    app.command()(transfer)


def transfer(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Sweeps of this home: those that tuned an arm, and those that ran its settings elsewhere.",
        ),
    ],
    home: Home = DEFAULT_HOME,
    arm: Annotated[
        str | None, typer.Option(metavar="A", help="Without it the only teleport arm of the first sweep.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="What a cost is: steps_to_target, seconds_to_target or gradient_evaluations_to_target.",
        ),
    ] = "steps_to_target",
    leave: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What a choice has not seen of the workload it is tested on: its whole architecture (where there are "
            "several), or the workload alone.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a setting costs away from the workload it was tuned on, and how well one chosen without it does.

    It reads stored sweeps and runs nothing. It lists on stderr what has not been confirmed.

    Example: teleport transfer cross_architecture --arm tuned --leave architecture
    """
    from orchestrator.cli.show import draw
    from orchestrator.report import transfer_sections

    found = _evaluate(home, names, arm, metric, leave)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        for section in transfer_sections(found):
            print(section.title)
            draw(section.header, section.rows)
            print(f"{section.note}\n")
    if found.missing:
        told = ", ".join(f"{found.label(each.setting)} on {each.workload}" for each in found.missing)
        print(f"not confirmed: {len(found.missing)}: {told}", file=sys.stderr)


def _evaluate(home: Path, names: Sequence[str], arm: str | None, metric: str, leave: str | None) -> Transfer:
    from orchestrator.errors import Fault, UserError
    from orchestrator.report import architectures_of, mismatches, sources_of, transfer_of

    sweeps, cost, part = _asked_for(home, names, metric, leave)
    label = _arm(sweeps, arm)
    sources, lacking = sources_of(sweeps, label)
    faults = [*lacking, *mismatches(sweeps, sources)]
    if len(sources) < 2 and not faults:
        raise UserError(
            f"{label} was tuned on {len(sources)} workload ({', '.join(s.workload for s in sources)}), and to carry a "
            "setting over takes two; name a further sweep that tuned it on another"
        )
    architectures = set(architectures_of(sources).values())
    if leave == "architecture" and len(architectures) == 1 and not faults:
        faults.append(Fault("--leave", f"all workloads are {architectures.pop()}; --leave workload leaves out one"))
    if faults:
        raise UserError(*faults)
    return transfer_of(sweeps, label, sources, cost, leave=part)


def _asked_for(
    home: Path, names: Sequence[str], metric: str, leave: str | None
) -> tuple[list[Candidates], TimeMetric, Leave | None]:
    """Read the sweeps, once everything that is wrong with the command has been told."""
    from orchestrator.cli.reports import named_sweeps
    from orchestrator.errors import Fault, UserError, nearest
    from orchestrator.home import read_record
    from orchestrator.report.schema import LEAVES, TIME_METRICS
    from orchestrator.search import Candidates

    paths, faults = named_sweeps(home, names)
    costs: dict[str, TimeMetric] = {each: each for each in TIME_METRICS}
    if metric not in costs:
        faults.append(Fault("--metric", f"{metric!r} is no cost that compares; {nearest(metric, costs)}"))
    parts: dict[str | None, Leave] = {each: each for each in LEAVES}
    if leave is not None and leave not in parts:
        faults.append(Fault("--leave", f"{leave!r} cannot be left out; {nearest(leave, LEAVES)}"))
    if faults:
        raise UserError(*faults)
    return [Candidates.of(read_record(each, with_history=False)) for each in paths], costs[metric], parts.get(leave)


def _arm(sweeps: Sequence[Candidates], arm: str | None) -> str:
    from orchestrator.errors import Fault, UserError, nearest
    from orchestrator.spec import BASELINE

    known = list(dict.fromkeys(label for sweep in sweeps for label in sweep.spec.arms if label != BASELINE))
    if arm is None:
        first = sweeps[0].spec
        found = [label for label in first.arms if first.example_of(label).kind == "teleport"]
        if len(found) != 1:
            raise UserError(
                Fault("--arm", f"{first.name} has {len(found)} teleport arms; say which arm; {nearest('', known)}")
            )
        return found[0]
    if arm == BASELINE:
        raise UserError(Fault("--arm", f"the baseline has no setting to carry over; {nearest('', known)}"))
    if arm not in known:
        raise UserError(Fault("--arm", f"{arm!r} is in none of these sweeps; {nearest(arm, known)}"))
    return arm
