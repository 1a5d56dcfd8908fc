"""What a transfer matrix lacks, as a sweep that runs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.home import SweepRecord
from orchestrator.report.schema import Transfer
from orchestrator.report.settings import NAMED_DIGITS, Place, Source, table_of
from orchestrator.search import training_of
from orchestrator.spec import BASELINE, Json, Workload, digest, dump_yaml

MAX_NAME = 64
# Where sweeps take their own confirm seeds from lies below.
FIRST_TRANSFER_SEED = 2_000


@final
@dataclass(frozen=True)
class MissingSweep:
    """A sweep that runs what is missing.

    Args:
        name: of it.
        yaml: its spec.
        num_missing: pairs of a setting and a workload that are asked for.
        num_beside: pairs that run along, since a sweep runs every arm on every workload.
    """

    name: str
    yaml: str
    num_missing: int
    num_beside: int


def missing_of_transfer(transfer: Transfer) -> tuple[Place, ...]:
    """List what a whole matrix of the winners lacks.

    Args:
        transfer: as it stands.

    Returns:
        Keys of settings and labels of workloads.
    """
    return tuple((each.setting, each.workload) for each in transfer.missing)


def missing_of_left_out(transfer: Transfer) -> tuple[Place, ...]:
    """List what leaving one workload out lacks: the choice on each workload, beside what was tuned on it.

    Args:
        transfer: as it stands.

    Returns:
        Keys of settings and labels of workloads; where no choice can be made yet, those of the whole matrix.
    """
    choices = {each.workload: each for each in transfer.left_out}
    if choices.keys() < set(transfer.workloads):
        return missing_of_transfer(transfer)
    own = {each.workload: each.setting for each in transfer.own}
    found = []
    for workload, choice in choices.items():
        if choice.cell is None or choice.cell.evidence != "confirmed":
            found += [(choice.setting, workload), (own[workload], workload)]
    return tuple(dict.fromkeys(found))


def missing_sweep(
    records: Sequence[SweepRecord],
    sources: Sequence[Source],
    transfer: Transfer,
    places: Sequence[Place],
    *,
    suffix: str = "transfer",
    taken: Collection[str] = (),
) -> MissingSweep:
    """Write the sweep that runs what is missing.

    Every workload has the training values that were tuned for its baseline, every setting is an arm with all values
    fixed, and the seeds are fresh: no search and no confirm of these sweeps has used them. A workload whose matrix is
    there in part goes on with the seeds that it has, so that only the settings it lacks need to run. A setting that
    makes something else of a workload's training values has that workload once more, under a name of its own.

    Args:
        records: all sweeps.
        sources: the workloads on which the arm was tuned.
        transfer: as it stands.
        places: what is missing, at least one.
        suffix: of the sweep's name.
        taken: names that it may not have.

    Returns:
        The sweep.
    """
    wanted = [source for source in sources if any(workload == source.workload for _, workload in places)]
    seeds = _begun_seeds(records, sources, wanted)
    needed = dict.fromkeys(places)
    if seeds is None:
        # Seeds of their own need a run of their own of what they are compared with.
        labels = {source.workload for source in wanted}
        needed |= dict.fromkeys((each.setting, each.workload) for each in transfer.own if each.workload in labels)
        seeds = _fresh_seeds(records, max(len(source.record.spec.confirm_seeds) for source in sources))
    arms = _arms(transfer, {key for key, _ in needed})
    workloads = _workloads(transfer, wanted, needed)
    first = sources[0].record
    name = _name(f"{first.spec.name}_{suffix}", {*taken, *(record.spec.name for record in records)})
    data: dict[str, Json] = {
        "version": 1,
        "name": name,
        "description": f"Does one setting of {transfer.arm} serve all of {', '.join(transfer.workloads)}?",
        "workloads": {
            label: training.model_dump(mode="json", exclude_none=True) for label, training in workloads.items()
        },
        "arms": {BASELINE: {}, **arms},
        "search": {
            "sampler": "random",
            "trials": 1,
            "seeds": list(first.spec.search.seeds[:1]),
            "objective": first.spec.search.objective.model_dump(mode="json"),
        },
        "confirm": {"top_k": 1, "seeds": list(seeds)},
        "resources": first.spec.resources.model_dump(mode="json", exclude_none=True),
    }
    text = "".join(f"# {line}\n" for line in _comment(transfer, name)) + dump_yaml(data)
    return MissingSweep(name, text, len(places), len(arms) * len(workloads) - len(places))


def _begun_seeds(
    records: Sequence[SweepRecord], sources: Sequence[Source], wanted: Sequence[Source]
) -> tuple[int, ...] | None:
    """Seeds, beside those of the sources' own sweeps, on which each of these workloads has its own and its baseline."""
    table = table_of(records, sources, "confirm")
    used = {seed for source in sources for seed in source.record.spec.confirm_seeds}
    found = {
        tuple(sorted(table.runs(table.own[s.workload], s.workload).keys() & table.baseline[s.workload].keys() - used))
        for s in wanted
    }
    return found.pop() or None if len(found) == 1 else None


def _fresh_seeds(records: Sequence[SweepRecord], count: int) -> tuple[int, ...]:
    used = {seed for record in records for seed in (*record.spec.search.seeds, *record.spec.confirm_seeds)}
    first = FIRST_TRANSFER_SEED
    while used & set(range(first, first + count)):
        first += 1
    return tuple(range(first, first + count))


def _workloads(transfer: Transfer, wanted: Sequence[Source], needed: Collection[Place]) -> dict[str, Workload]:
    """With the training values of their baselines, and with what the settings that run on them make of these."""
    changes = {setting.key: setting.training for setting in transfer.settings if setting.training}
    found = {source.workload: source.baseline.config.training for source in wanted}
    for source in wanted:
        for key in (key for key, workload in needed if workload == source.workload and key in changes):
            label = _name(f"{source.workload}_{key[:NAMED_DIGITS]}", found)
            found[label] = training_of(source.record.spec, source.baseline.config, changes[key])
    return found


def _arms(transfer: Transfer, needed: Collection[str]) -> dict[str, Json]:
    arms: dict[str, Json] = {}
    for setting in transfer.settings:
        if setting.key in needed:
            label = f"from_{setting.sources[0]}" if setting.sources else f"setting_{setting.key}"
            arms[_name(label, arms)] = setting.method
    return arms


def _name(wanted: str, taken: Collection[str]) -> str:
    """The name, cut where it is too long, with a number where it is taken."""
    name = wanted if len(wanted) <= MAX_NAME else f"{wanted[: MAX_NAME - 7]}-{digest(wanted, 6)}"
    count = 2
    while name in taken:
        name = f"{wanted[: MAX_NAME - 11]}_{count}" if len(wanted) > MAX_NAME - 4 else f"{wanted}_{count}"
        count += 1
    return name


def _comment(transfer: Transfer, name: str) -> list[str]:
    names = " ".join(transfer.sweeps)
    return [
        f"What settings of {transfer.arm} come to on workloads where they are not confirmed: for sweeps {names}.",
        "Workloads have the training values tuned for their baselines, or what a setting makes of these; confirm seeds",
        "are fresh. After it has run:",
        f"teleport transfer {names} {name} --arm {transfer.arm}",
    ]
