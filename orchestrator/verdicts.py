"""What a sampler hears of a result: values, a failure, or the violation of the constraint not to diverge."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from orchestrator.home.records import TrialResult, TrialState
from orchestrator.spec import Search
from orchestrator.study_log import DIVERGENCE, Ending

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

KEPT = -1.0


@final
class Verdicts:
    """Translates the results of one study.

    Where divergence is a constraint, a trial that diverged is COMPLETE to the sampler, which looks at the
    constraints of no other; its values are the worst of the study so far, since a sampler wants some, and its
    violation is the larger the earlier it diverged. In the sweep's own files it is FAIL all the same.

    Args:
        search: of the spec.
    """

    def __init__(self, search: Search) -> None:
        self._is_constraint = search.divergence == "constraint"
        self._signs = [1.0 if objective.mode == "min" else -1.0 for objective in search.objectives]
        self._worst: tuple[float, ...] | None = None

    def ending(self, result: TrialResult) -> Ending:
        """Translate a result.

        Args:
            result: of a search trial.

        Returns:
            What the sampler is told.
        """
        import optuna

        states = optuna.trial.TrialState
        if result.state is TrialState.COMPLETE:
            assert result.value is not None
            values = result.values or (result.value,)
            self._see(values)
            return Ending(states.COMPLETE, values, KEPT if self._is_constraint else None)
        if result.state is TrialState.PRUNED:
            return Ending(states.PRUNED)
        # A FAIL is told without a value: Optuna refuses NaN with state COMPLETE and would keep the trial
        # RUNNING, where constant_liar holds it against its neighbourhood for ever.
        if result.is_no_answer or not self._is_constraint:
            return Ending(states.FAIL)
        worst = self._worst or tuple(0.0 for _ in self._signs)
        return Ending(states.COMPLETE, worst, _violation(result))

    def recall(self, trial: FrozenTrial) -> None:
        """Take note of a trial that was told before a crash.

        Args:
            trial: of the journal, finished.
        """
        if trial.values is not None and trial.constraints.get(DIVERGENCE, KEPT) <= 0:
            self._see(tuple(trial.values))

    def _see(self, values: tuple[float, ...]) -> None:
        if len(values) != len(self._signs):
            return  # of a pruned trial, whose last report stands for one objective
        worst = self._worst or values
        self._worst = tuple(
            sign * max(sign * one, sign * other) for sign, one, other in zip(self._signs, worst, values, strict=True)
        )


def _violation(result: TrialResult) -> float:
    """From 1, diverged in the last step, to 2, in the first one."""
    if not result.seeds:
        return 2.0
    last = result.seeds[-1]
    return 2.0 - last.num_steps / last.budget_steps
