"""The commands that evaluate settings across architectures: transfer, loao."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home

if TYPE_CHECKING:
    from orchestrator.home import SweepRecord
    from orchestrator.report import Block, Place, Source
    from orchestrator.report.schema import Leave, TimeMetric, Transfer

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...",
        help="Sweeps of this home: those that tuned an arm, and those that ran its settings elsewhere.",
    ),
]
ArmLabel = Annotated[
    str | None, typer.Option("--arm", metavar="A", help="Without it the only teleport arm of the first sweep.")
]
Metric = Annotated[
    str,
    typer.Option(
        metavar="METRIC", help="What a cost is: steps_to_target, seconds_to_target or gradient_evaluations_to_target."
    ),
]
LeaveOut = Annotated[
    str | None,
    typer.Option(
        "--leave",
        metavar="WHAT",
        help="What a choice has not seen of the workload it is tested on: its whole architecture (where there are "
        "several), or the workload alone.",
    ),
]
Missing = Annotated[
    Path | None, typer.Option("--missing", metavar="FILE", help="Write a sweep that runs what is missing.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (transfer, loao):
        app.command()(command)


def transfer(
    names: Names,
    home: Home = DEFAULT_HOME,
    arm: ArmLabel = None,
    metric: Metric = "steps_to_target",
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """Run the best setting of each workload on every other: regret against what was tuned there.

    Reads what is stored; what has not run is listed, and --missing writes a sweep that runs it.

    Example: teleport transfer cross_architecture --arm tuned --missing missing.yaml
    """
    from orchestrator.report import band_blocks, matrix_blocks, missing_of_transfer, stability_blocks

    found = _read(home, names, arm, metric)
    made = found.transfer
    blocks = [*matrix_blocks(made), *stability_blocks(made), *band_blocks(made)]
    _tell(found, blocks, missing_of_transfer(made), missing, home, suffix="transfer", as_json=as_json)


def loao(
    names: Names,
    home: Home = DEFAULT_HOME,
    arm: ArmLabel = None,
    metric: Metric = "steps_to_target",
    leave: LeaveOut = None,
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """Leave one architecture out: choose a setting on the others, test it on the one left out.

    Reads what is stored; what has not run is listed, and --missing writes a sweep that runs it.

    Example: teleport loao cross_architecture cross_architecture_transfer --arm tuned
    """
    from orchestrator.report import left_out_blocks, missing_of_left_out, stability_blocks

    found = _read(home, names, arm, metric, leave)
    made = found.transfer
    blocks = [*left_out_blocks(made), *stability_blocks(made)]
    _tell(found, blocks, missing_of_left_out(made), missing, home, suffix="loao", as_json=as_json)


@final
@dataclass(frozen=True)
class _Found:
    """What is stored of an arm."""

    records: Sequence[SweepRecord]
    sources: Sequence[Source]
    transfer: Transfer


def _read(home: Path, names: Sequence[str], arm: str | None, metric: str, leave: str | None = None) -> _Found:
    from orchestrator.cli.reports import name_faults
    from orchestrator.errors import Fault, SweepNotFound, UserError, nearest
    from orchestrator.home import find_sweep, read_record
    from orchestrator.report import architectures_of, mismatches, sources_of, transfer_of
    from orchestrator.report.schema import LEAVES, TIME_METRICS

    faults = list(name_faults(names))
    paths = []
    for name in dict.fromkeys(names):
        try:
            paths.append(find_sweep(home, name))
        except SweepNotFound as error:
            faults += error.faults
    known: dict[str, TimeMetric] = {each: each for each in TIME_METRICS}
    if metric not in known:
        faults.append(Fault("--metric", f"{metric!r} is no cost that compares; {nearest(metric, known)}"))
    parts: dict[str | None, Leave] = {each: each for each in LEAVES}
    if leave is not None and leave not in parts:
        faults.append(Fault("--leave", f"{leave!r} cannot be left out; {nearest(leave, LEAVES)}"))
    if faults:
        raise UserError(*faults)
    records = [read_record(each, with_history=False) for each in paths]
    label = _arm(records, arm)
    sources, lacking = sources_of(records, label)
    faults = [*lacking, *mismatches(records, sources)]
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
    return _Found(records, sources, transfer_of(records, label, sources, known[metric], leave=parts.get(leave)))


def _arm(records: Sequence[SweepRecord], arm: str | None) -> str:
    from orchestrator.errors import Fault, UserError, nearest
    from orchestrator.spec import BASELINE

    known = list(dict.fromkeys(label for record in records for label in record.spec.arms if label != BASELINE))
    if arm is None:
        first = records[0].spec
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


def _tell(
    found: _Found,
    blocks: Sequence[Block],
    places: Sequence[Place],
    missing: Path | None,
    home: Path,
    *,
    suffix: str,
    as_json: bool,
) -> None:
    from orchestrator.cli.show import draw

    if as_json:
        print(found.transfer.model_dump_json(indent=1))
    else:
        for block in blocks:
            print(block.title)
            draw(block.header, block.rows)
            print(f"{block.note}\n")
    if places:
        told = ", ".join(f"{found.transfer.label(key)} on {workload}" for key, workload in places)
        print(f"not confirmed: {len(places)}: {told}", file=sys.stderr)
    if missing is None:
        if places:
            print("--missing FILE writes a sweep that runs them", file=sys.stderr)
        return
    if not places:
        print(f"nothing is missing, so {missing} was not written", file=sys.stderr)
        return
    _write(found, places, missing, home, suffix)


def _write(found: _Found, places: Sequence[Place], file: Path, home: Path, suffix: str) -> None:
    from orchestrator.home import atomic_write, sweep_names
    from orchestrator.report import missing_sweep

    taken = sweep_names(home)
    made = missing_sweep(found.records, found.sources, found.transfer, places, suffix=suffix, taken=taken)
    atomic_write(file, made.yaml)
    beside = f"; {made.num_beside} more run along, as a sweep runs every arm on every workload" * bool(made.num_beside)
    print(f"{file}: runs what is missing{beside}", file=sys.stderr)
    names = " ".join([*found.transfer.sweeps, made.name])
    plugins = sorted({name for record in found.records for name in record.spec.plugins})
    run = " ".join([f"teleport run {file}", *(f"--plugin {name}" for name in plugins)])
    print(f"next: {run}, then teleport {suffix} {names} --arm {found.transfer.arm}", file=sys.stderr)
