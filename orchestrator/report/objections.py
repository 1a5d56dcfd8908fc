"""What the results of a sweep make a careful reader object to, a sentence each."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.home import Machine, SweepRecord, difference
from orchestrator.report.caveats import coarse_evaluation_of, edge_of, has_control
from orchestrator.report.schema import Comparison, StudyReport, Verdict

# The engine's name for the outcome of a teleport that was measured and taken back.
PUT_BACK = "put back"


def study_objections(study: StudyReport) -> Iterator[str]:
    """Object to trials that did not end well, to evaluations far apart, and to teleports that moved nothing."""
    name = f"{study.workload}/{study.arm}"
    of_search = f"of {study.num_trials} search trials"
    told = {
        f"{study.num_diverged} {of_search} diverged; they count in the budget": study.num_diverged,
        f"{study.num_timeout} {of_search} were over budget.per_trial; they count as answers, so the time of a trial "
        "has shaped the search": study.num_timeout,
        f"in {study.num_undefined} of {study.num_trials} trials an expression gave no number that can be used "
        "(result.json says which, with its values); they count in the budget": study.num_undefined,
        f"{study.num_crashed} {of_search} crashed or were lost": study.num_crashed,
        **_confirm_objections(study),
    }
    yield from (f"{name}: {sentence}" for sentence, count in told.items() if count)
    if (edge := edge_of(study)) is not None:
        yield (
            f"{name}: the best {edge.parameter} of confirm is {edge.rate:.3g}, at the end of its grid, so a better one "
            "may lie beyond; search a wider range"
        )
    if coarse := coarse_evaluation_of(study):
        yield f"{name}: {coarse}"
    price = study.price
    # An arm that takes its teleports back does so on purpose, and acts in another way.
    if price is None or not price.layers or PUT_BACK in price.outcomes:
        return
    if not any(layer.moved for layer in price.layers):
        outcomes = ", ".join(f"{outcome} {count:,}" for outcome, count in price.outcomes.items())
        yield (
            f"{name}: none of its {price.num_teleports:,} teleports moved a weight ({outcomes}): it is the baseline "
            "with the teleports' cost"
        )


def _confirm_objections(study: StudyReport) -> dict[str, int]:
    outcomes = Counter(run.outcome for run in study.best.confirm) if study.best is not None else Counter()
    gone = sum(outcomes[kind] for kind in ("crashed", "memory", "lost"))
    return {
        f"{outcomes['diverged']} confirm runs diverged; each counts as a miss": outcomes["diverged"],
        f"{outcomes['timeout']} confirm runs were over budget.per_trial; each counts as a miss": outcomes["timeout"],
        f"in {outcomes['expression']} confirm runs an expression gave no number that can be used; each counts as a "
        "miss": outcomes["expression"],
        f"{gone} confirm runs crashed or were lost; their seeds are left out of the comparison": gone,
    }


def control_objections(studies: Sequence[StudyReport], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Object to a gain that nothing in the sweep tells from a larger step or larger weights."""
    for found in comparisons:
        if found.is_primary and found.verdict is Verdict.FASTER:
            others = [study for study in studies if study.workload == found.workload]
            if not has_control(others, found.arm):
                yield (
                    f"{found.workload}/{found.arm}: faster than the baseline, and no control is in this sweep: larger "
                    "steps or larger weights may explain it (docs/arms.md)"
                )


def no_claim_of(record: SweepRecord) -> str:
    """Say why no primary claim may be made of a sweep at all; empty where one may."""
    if record.damage:
        return f"files of the sweep are damaged or gone: {'; '.join(record.damage)}"
    named = (trial.result.code for trial in record.trials if trial.result is not None)
    codes = {code.model_dump_json(): code for code in named if code is not None}.values()
    told = next(filter(None, itertools.starmap(difference, itertools.combinations(codes, 2))), "")
    return f"trials ran with different code: {told}" if told else ""


def sweep_objections(record: SweepRecord, machines: Sequence[Machine]) -> Iterator[str]:
    """Object to how the sweep as a whole ran."""
    ended_early = record.ended_early
    if ended_early:
        yield (
            f"{ended_early}; to raise that budget and go on after a look at these numbers is a second look, for "
            "which no p here is adjusted"
        )
    if num_by_user := sum(trial.result is not None and trial.result.by_user for trial in record.trials):
        yield (
            f"{num_by_user} search trials were ended by the user, who may have seen how they stood; they count in the "
            "budget"
        )
    if any(code.changes for code in record.provenance.codes):
        yield "the code had uncommitted changes when the sweep ran: its commit alone does not say what ran"
    if told := no_claim_of(record):
        yield f"{told}; no primary claim is made"
    if len({machine.device for machine in machines}) > 1:
        yield "trials ran on different devices: their seconds do not compare"
