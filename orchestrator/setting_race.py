"""The race of a shared search: which settings are given up before they have run on every workload and seed.

Optuna's ``WilcoxonPruner`` compares a setting with the best one that ran in full, pair by pair. What it says of a pair
is in the journal before anything follows from it, and it is never asked about that pair again, so a search that is
taken up after a crash goes on from the same decisions. The pruner itself remembers nothing: it looks at the values
reported alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from orchestrator.journal import STOPPED_AT
from orchestrator.spec.options import SCHEDULERS, WilcoxonOptions

if TYPE_CHECKING:
    import optuna


@final
class SettingRace:
    """Decides which settings of one shared search are given up.

    Args:
        options: of the scheduler.
        name: of the study.
        storage: the journal, in which the study is.
    """

    def __init__(self, options: WilcoxonOptions, name: str, storage: optuna.storages.BaseStorage) -> None:
        import optuna

        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._judged = optuna.create_study(
            study_name=name,
            direction="minimize",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=SCHEDULERS[options.name].load()(options),
        )
        self._trials: list[optuna.Trial] = []
        self._best: float | None = None
        self.min_pairs = options.min_pairs
        for stored in storage.get_all_trials(self._study_id, deepcopy=False):
            for step, value in sorted(stored.intermediate_values.items()):
                self._trial(stored.number).report(value, step)

    @property
    def has_leader(self) -> bool:
        """Whether any setting ran in full, so that others can lose to it."""
        return self._best is not None

    def is_out(self, number: int, step: int, log_ratio: float, so_far: float, *, is_last: bool) -> bool:
        """Take in what a setting cost on its next pair.

        Args:
            number: of the setting.
            step: the pair's place in the race's order.
            log_ratio: of its cost over the baseline's, finite: the pruner never gives up what has an infinite value.
            so_far: the setting's aggregate over its pairs up to this one. One that is no worse than the leader's is
                never given up: the signed-rank test speaks of most pairs, the aggregate may be of the worst workload.
            is_last: whether it has no more pairs; then there is nothing left to save.

        Returns:
            Whether the setting is given up here; never where the journal has it as ended, and it runs again since a
            result is no longer on file.
        """
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        stored = self._storage.get_trial(trial_id)
        stopped_at = stored.user_attrs.get(STOPPED_AT)
        if step not in stored.intermediate_values and not stored.state.is_finished():
            trial = self._trial(number)
            trial.report(log_ratio, step)
            is_behind = self._best is not None and so_far > self._best
            if stopped_at is None and not is_last and is_behind and trial.should_prune():
                stopped_at = step
                self._storage.set_trial_user_attr(trial_id, STOPPED_AT, step)
            self._storage.set_trial_intermediate_value(trial_id, step, log_ratio)
        return stopped_at == step

    def end(self, number: int, aggregate: float | None) -> None:
        """Take note that a setting has ended.

        Args:
            number: of the setting.
            aggregate: where it ran in full; None: it lost, or failed.
        """
        import optuna

        states = optuna.trial.TrialState
        state = states.FAIL if aggregate is None else states.COMPLETE
        self._judged.tell(self._trial(number), aggregate, state=state, skip_if_finished=True)
        if aggregate is not None:
            self._best = aggregate if self._best is None else min(self._best, aggregate)

    def _trial(self, number: int) -> optuna.Trial:
        while len(self._trials) <= number:
            self._trials.append(self._judged.ask())
        return self._trials[number]
