"""The tables of the search: what was tried, what became of it, and which parameters mattered."""

from __future__ import annotations

from collections import Counter

from orchestrator.report.schema import Report, SearchTrial, Study
from orchestrator.report.tables import Header, Rows
from orchestrator.report.wording import number, percent


def value_text(value: object) -> str:
    """Write a value of a configuration: floats short, the rest as it is."""
    return number(value, 4) if isinstance(value, float) else str(value)


def search_rows(report: Report, workload: str, arm: str) -> tuple[Header, Rows]:
    """Make the table of one study's search, best first.

    Args:
        report: of a sweep.
        workload: label.
        arm: label.

    Returns:
        The header, with a column per parameter, and a row per trial.
    """
    study = report.study(workload, arm)
    names = list(dict.fromkeys(name for trial in study.search for name in trial.values))
    ranks = {candidate.trial_id: candidate.rank for candidate in study.candidates}
    sign = 1.0 if report.sweep.objective.mode == "min" else -1.0
    shared = ("over all workloads",) if study.shared is not None else ()
    header: Header = ("#", "state", report.sweep.objective.metric, "median steps to target", *shared, *names, "trial")
    ordered = sorted(
        study.search,
        key=lambda trial: (
            ranks.get(trial.trial_id, len(study.search) + 1),
            trial.value is None,
            *(() if trial.aggregate is None else (trial.aggregate,)),
            sign * trial.value if trial.value is not None else -trial.share,
        ),
    )
    rows: Rows = [
        (
            str(trial.number),
            _state(trial) + (f" · confirmed ({ranks[trial.trial_id]})" if trial.trial_id in ranks else ""),
            number(trial.value, 4),
            number(trial.steps_to_target),
            *(number(trial.aggregate, 4) for _ in shared),
            *(value_text(trial.values[name]) if name in trial.values else "" for name in names),
            trial.trial_id,
        )
        for trial in ordered
    ]
    return header, rows


def _state(trial: SearchTrial) -> str:
    """Its state, and where it was stopped."""
    return f"{trial.state} at {percent(trial.share)}" if trial.state == "PRUNED" else trial.state


def other_rows(study: Study) -> tuple[Header, Rows]:
    """Make the table of the candidates that were confirmed beside the champion.

    Args:
        study: with several candidates.

    Returns:
        The header and a row per candidate, the champion first; why one was dropped, where one was.
    """
    has_dropped = any(candidate.dropped for candidate in study.candidates)
    has_roles = study.shared is not None
    roles = ("confirmed as",) if has_roles else ()
    header: Header = ("rank in search", "trial", "median steps", "reached", *roles, *(("",) if has_dropped else ()))
    rows: Rows = []
    for candidate in study.candidates:
        runs = [run for run in candidate.confirm if run.is_answer]
        hits = sum(run.outcome == "reached" for run in runs)
        median = number(candidate.median_steps_to_target)
        why = (candidate.dropped,) if has_dropped else ()
        role = (", ".join(candidate.roles).replace("_", " "),) if has_roles else ()
        rows.append((str(candidate.rank), candidate.trial_id, median, f"{hits}/{len(runs)}", *role, *why))
    return header, rows


def fate_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of what became of all trials.

    Args:
        report: of a sweep.

    Returns:
        The header and a row per study: a column for each way to end that there was.
    """
    counts = [_fates(study) for study in report.studies]
    names = list(dict.fromkeys(name for each in counts for name in each))
    header: Header = ("workload", "arm", *names)
    rows: Rows = [
        (study.workload, study.arm, *(f"{each[name]:,}" for name in names))
        for study, each in zip(report.studies, counts, strict=True)
    ]
    return header, rows


def _fates(study: Study) -> Counter[str]:
    """How many trials of a study ended how; those in the order in which a reader asks for them."""
    search = Counter(trial.failure or trial.state for trial in study.search)
    runs = Counter(run.outcome for candidate in study.candidates for run in candidate.confirm)
    found = Counter({f"search: {name.lower()}": count for name, count in sorted(search.items())})
    found |= {"replaced": study.num_replaced}
    found |= {f"confirm: {name}": count for name, count in sorted(runs.items())}
    found |= {"dropped in the race": sum(bool(candidate.dropped) for candidate in study.candidates)}
    return +found


def importance_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of which parameters mattered in search.

    Args:
        report: of a sweep, with importances.

    Returns:
        The header and a row per study and parameter, the most important first.
    """
    header: Header = ("workload", "arm", "parameter", "importance")
    rows: Rows = [
        (study.workload, study.arm, each.parameter, percent(each.share))
        for study in report.studies
        for each in study.importance
    ]
    return header, rows
