"""Every arm over all workloads: on what share of them it is within a factor of the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from orchestrator.report.metrics import TIMES, Metric
from orchestrator.report.schema import Profile, StudyReport, TimeMetric
from orchestrator.statistics import performance_profiles

MIN_COMPARED = 2


def profiles_of(studies: Sequence[StudyReport]) -> tuple[Profile, ...]:
    """Work out the performance profiles of a sweep whose confirm phase is over; they are exploratory.

    There are none with fewer than two arms, or with fewer than two workloads on which all arms have a seed in common.
    """
    workloads = list(dict.fromkeys(study.workload for study in studies))
    arms = list(dict.fromkeys(study.arm for study in studies))
    by_name = {metric.name: metric for metric in TIMES}
    return tuple(
        profile for name in get_args(TimeMetric) for profile in _profiles(studies, workloads, arms, by_name[name], name)
    )


def _profiles(
    studies: Sequence[StudyReport], workloads: Sequence[str], arms: Sequence[str], metric: Metric, name: TimeMetric
) -> Iterator[Profile]:
    """Give each arm's profile for one metric."""
    by_label = {(study.workload, study.arm): study for study in studies}
    costs = {workload: _costs([by_label[workload, arm] for arm in arms], metric) for workload in workloads}
    compared = [workload for workload in workloads if costs[workload][0]]
    if min(len(compared), len(arms)) < MIN_COMPARED:
        return
    by_arm = {arm: [costs[workload][i] for workload in compared] for i, arm in enumerate(arms)}
    factors, profiles = performance_profiles(by_arm)
    for profile in profiles:
        yield Profile(
            metric=name,
            arm=profile.arm,
            workloads=tuple(compared),
            ratios=profile.ratios,
            factors=factors,
            share=profile.share,
            low=profile.low,
            high=profile.high,
            score=profile.score,
        )


def _costs(arms: Sequence[StudyReport], metric: Metric) -> list[list[float]]:
    """List each arm's cost on the seeds that all of them answered."""
    runs = [{run.seed: run for run in arm.best.confirm if run.is_answer} if arm.best else {} for arm in arms]
    common = [seed for seed in runs[0] if all(seed in of_arm for of_arm in runs)]
    return [[side.value for seed in common if (side := metric.measure(of_arm[seed])) is not None] for of_arm in runs]
