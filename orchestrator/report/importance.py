"""Which parameters decide whether a trial of the search does well; optuna is imported in the functions."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from orchestrator.report.schema import Importance, Report, SearchTrial, StudyReport
from orchestrator.search import distribution_of
from orchestrator.spec import SweepSpec

if TYPE_CHECKING:
    import optuna

# The evaluator compares the best trials with the rest, and needs at least five best ones.
MIN_TRIALS = 10
NUM_BEST = 5
BEST_SHARE = 0.1


def with_importance(report: Report, spec: SweepSpec) -> Report:
    """Add each study's importances where it has enough trials, from the report's own trials.

    PED-ANOVA takes about a second for a thousand trials, knows conditional parameters and several objectives, and draws
    nothing at random. Optuna's fANOVA fits a forest and leaves out every parameter of a branch.

    A parameter of a branch counts only if enough trials took that branch, because among a few trials any parameter can
    look decisive.
    """
    studies = tuple(study.model_copy(update={"importance": _importance(study, spec)}) for study in report.studies)
    return report.model_copy(update={"studies": studies})


def _complete(study: StudyReport) -> list[SearchTrial]:
    return [trial for trial in study.search if trial.state == "COMPLETE" and trial.value is not None]


def _importance(study: StudyReport, spec: SweepSpec) -> tuple[Importance, ...]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    trials = _complete(study)
    counts = Counter(name for trial in trials for name in trial.values)
    names = {each.name for each in study.space if counts[each.name] >= MIN_TRIALS}
    if len(names) < 2:
        return ()
    share = max(BEST_SHARE, NUM_BEST / len(trials))
    rebuilt = _rebuild(study, trials, spec, names)
    with warnings.catch_warnings():
        # It warns where the best trials hardly took a branch; the importance that it gives there is near 0.
        warnings.simplefilter("ignore")
        found = get_param_importances(rebuilt, evaluator=PedAnovaImportanceEvaluator(target_quantile=share))
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return tuple(Importance(parameter=name, share=float(value)) for name, value in ordered)


def _rebuild(
    study: StudyReport, trials: Sequence[SearchTrial], spec: SweepSpec, names: Collection[str]
) -> optuna.Study:
    import optuna

    templates = spec.space(study.workload, study.arm)
    known = (each for template in templates for each in template.distributions())
    space = {each.name: distribution_of(each) for each in known if each.name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    minimize, maximize = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    directions = [minimize if objective.mode == "min" else maximize for objective in spec.search.objectives]
    rebuilt = optuna.create_study(directions=directions)
    rebuilt.add_trials(
        [
            optuna.trial.create_trial(
                params={name: value for name, value in trial.values.items() if name in space},
                distributions={name: space[name] for name in trial.values if name in space},
                values=trial.objectives or [trial.value or 0.0],
            )
            for trial in trials
        ]
    )
    return rebuilt
