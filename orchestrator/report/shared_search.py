"""What a report says of a search that all workloads share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.schema import SharedSearch, StudyReport
from orchestrator.search import Setting
from orchestrator.spec import Role


def with_settings(study: StudyReport, settings: Sequence[Setting], roles: Mapping[int, Sequence[Role]]) -> StudyReport:
    """Add to a study what its search found over all workloads.

    Args:
        study: one workload's part, its search trials being settings on that workload.
        settings: of the whole search, from :func:`orchestrator.search.candidates.settings_of`.
        roles: number of a setting -> for what it is confirmed on this workload.

    Returns:
        The study, its candidates and search trials with their aggregates.
    """
    values = {setting.number: setting.aggregate for setting in settings}
    candidates = tuple(
        candidate.model_copy(
            update={"aggregate": values.get(number), "roles": tuple(roles.get(number, ()))},
        )
        for candidate in study.candidates
        for number in [candidate.number or 0]
    )
    search = tuple(
        trial.model_copy(update={"aggregate": values.get(trial.number or 0)}) if trial.state == "COMPLETE" else trial
        for trial in study.search
    )
    return study.model_copy(
        update={
            "candidates": candidates,
            "best": candidates[0] if candidates else None,
            "search": search,
            "shared": _shared(settings),
        }
    )


def _shared(settings: Sequence[Setting]) -> SharedSearch:
    units = [unit for setting in settings for unit in setting.units]
    aggregates = [setting.aggregate for setting in settings if setting.aggregate is not None]
    states = [setting.state for setting in settings]
    of_ended = [unit for setting in settings if setting.state != "RUNNING" for unit in setting.units]
    return SharedSearch(
        aggregation=settings[0].aggregation if settings else "geometric_mean",
        value=min(aggregates, default=None),
        num_settings=len(settings),
        num_complete=states.count("COMPLETE"),
        num_pruned=states.count("PRUNED"),
        num_units=sum(unit.result is not None for unit in units),
        num_saved=sum(unit.state in {None, "PRUNED"} for unit in of_ended),
    )
