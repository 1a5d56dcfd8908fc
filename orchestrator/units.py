"""The runs of a shared search, a setting's one by one: in which order, with what training, against which baselines."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from orchestrator.costs import run_cost
from orchestrator.home.records import Trial, TrialConfig
from orchestrator.ranking import by_value, is_complete
from orchestrator.spec import BASELINE, LR_FACTOR, Arm, SweepSpec, Workload
from orchestrator.spec.identity import Json, digest

Pair = tuple[str, int]


def race_order(spec: SweepSpec) -> tuple[Pair, ...]:
    """Order a setting's pairs of workload and seed: the same for every setting, shuffled by the search's seed.

    Args:
        spec: of the sweep.

    Returns:
        The pairs, the workloads taking turns, so that every workload is among the first.
    """
    drawn = random.Random(int(digest([spec.search.seed, "race"], 8), 16))
    seeds = {label: drawn.sample(spec.search.seeds, len(spec.search.seeds)) for label in spec.workloads}
    labels = list(spec.workloads)
    return tuple(
        (label, seeds[label][turn])
        for turn in range(len(spec.search.seeds))
        for label in drawn.sample(labels, len(labels))
    )


def training_of(spec: SweepSpec, baseline: TrialConfig, values: Mapping[str, Json]) -> Workload:
    """Make what a workload trains under a shared setting.

    Args:
        spec: of the sweep.
        baseline: configuration of the workload's tuned baseline.
        values: of the setting.

    Returns:
        The workload: common parameters from the setting, all others from the baseline, the learning rate times the
        setting's factor where it has one.
    """
    data = spec.workloads[baseline.workload].concretise({**baseline.values, **values})
    factor = values.get(LR_FACTOR)
    if isinstance(factor, int | float):
        tuned = Workload.model_validate(data).optimizer.model_dump()["lr"]
        data["optimizer"]["lr"] = tuned * factor
    return Workload.model_validate(data)


def unit_configs(
    spec: SweepSpec, baselines: Mapping[str, TrialConfig], arm: str, method: Arm, values: dict[str, Json], number: int
) -> dict[Pair, TrialConfig]:
    """Make the trials of a setting.

    Args:
        spec: of the sweep.
        baselines: workload -> configuration of its tuned baseline.
        arm: label.
        method: of the setting, every value fixed.
        values: of the setting.
        number: of the setting.

    Returns:
        Workload and seed -> configuration, workload by workload.
    """
    return {
        (workload, seed): TrialConfig(
            workload=workload,
            arm=arm,
            phase="search",
            seeds=(seed,),
            training=training,
            method=method,
            objective=spec.search.objective,
            values=values,
            number=number,
            share=spec.resources.share("search"),
            checkpoint_every=spec.checkpoint.every,
            system_metrics_every=spec.tracking.system_metrics_every,
        )
        for workload, baseline in baselines.items()
        for training in [training_of(spec, baseline, values)]
        for seed in spec.search.seeds
    }


def baselines_of(spec: SweepSpec, trials: Iterable[Trial]) -> dict[str, Trial]:
    """Find the tuned baselines: the best of each workload's baseline search.

    Args:
        spec: of the sweep.
        trials: of it.

    Returns:
        Workload -> search trial, in the order of the spec; a workload is left out where none ended well.
    """
    found: dict[str, list[Trial]] = {label: [] for label in spec.workloads}
    for trial in trials:
        config = trial.config
        if config.arm == BASELINE and config.phase == "search" and config.workload in found and is_complete(trial):
            found[config.workload].append(trial)
    best = {label: by_value(of, spec.search.objective.mode) for label, of in found.items()}
    return {label: of[0] for label, of in best.items() if of}


def baseline_costs(spec: SweepSpec, baselines: Mapping[str, Trial]) -> dict[Pair, float]:
    """Read what the tuned baselines cost.

    Args:
        spec: of the sweep.
        baselines: from :func:`baselines_of`.

    Returns:
        Workload and seed -> cost, a miss as twice the budget.
    """
    return {
        (workload, seed.seed): run_cost(seed, spec.search.objective.metric).value
        for workload, trial in baselines.items()
        if trial.result is not None
        for seed in trial.result.seeds
    }
