"""The search's memory: one Optuna study per workload and arm, in one journal with one writer.

A study proposes configurations and is told how they ended. The sweep's own files are the truth; the journal is
what the sampler learns from. After a crash a study is brought level with the files, and what had been proposed
but not finished is handed out again under its own number.

The study of a control takes the settings that the search of its teleport arm has chosen, so it waits until that
search is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from orchestrator.catalog import TeleportOptions
from orchestrator.ids import Json
from orchestrator.progress import num_planned
from orchestrator.results import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.space import make_sampler, suggest
from orchestrator.spec import Arm, SweepSpec, Workload
from orchestrator.stopping import Stopping

if TYPE_CHECKING:
    import optuna

SAMPLED_DUPLICATES = 8
ALL_DUPLICATES = 256


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the sweep's Optuna storage; only the driver that holds the sweep's lock writes it.

    Args:
        path: of the journal file.

    Returns:
        The storage.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Its INFO lines would break into the live display; the sweep's own log says more.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path)))


@final
class Study:
    """The search of one workload and arm.

    Args:
        spec: of the sweep.
        workload: label of the workload.
        arm: label of the arm.
        storage: from :func:`open_journal`.
        results: the search results that are already on file, by trial id. Where the arm is a control that takes
            its settings from another, they are looked at when these are there.
    """

    def __init__(
        self,
        spec: SweepSpec,
        workload: str,
        arm: str,
        storage: optuna.storages.BaseStorage,
        results: Mapping[str, TrialResult],
    ) -> None:
        import optuna

        self.spec = spec
        self.workload = workload
        self.arm = arm
        self.name = f"{workload}/{arm}"
        direction: Any = {"min": "minimize", "max": "maximize"}[spec.search.objective.mode]
        self._templates = (spec.workloads[workload], spec.arms[arm])
        self._study = optuna.create_study(
            storage=storage, study_name=self.name, direction=direction, load_if_exists=True
        )
        self._stopping = Stopping(spec, workload, self.name, storage) if spec.search.scheduler.rungs else None
        self._configs: dict[str, TrialConfig] = {}
        self._pending: deque[TrialConfig] = deque()
        self._open: set[str] = set()
        self._is_exhausted = False
        self._results = results
        self._settings: TeleportOptions | None = None
        self.source = spec.sources.get(arm)
        self.is_waiting = self.source is not None
        if not self.is_waiting:
            self._take_up(results)

    @property
    def num_planned(self) -> int:
        """Trials this search has in all."""
        return num_planned(self.spec, self.workload, self.arm, "search")

    @property
    def num_handed_out(self) -> int:
        """Distinct configurations handed out so far; one that was cut off counts again when it is handed out again."""
        return len(self._configs) - len(self._pending)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to propose, and nothing will be."""
        if self.is_waiting or self._pending:
            return False
        return self._is_exhausted or len(self._configs) >= self.num_planned

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended."""
        return self.is_exhausted and not self._open

    def follow(self, settings: TeleportOptions | None) -> None:
        """End the wait for another arm's search.

        Args:
            settings: what it has chosen; None: nothing, so that this study has nothing to run.
        """
        self.is_waiting = False
        self._settings = settings
        if settings is None:
            self._is_exhausted = True
        else:
            self._take_up(self._results)

    def propose(self) -> TrialConfig | None:
        """Hand out the next configuration to run.

        Returns:
            The configuration, one that was cut off before any new one; None where the search is exhausted or waits
            for another arm's.
        """
        if self._pending:
            return self._pending.popleft()
        if self.is_waiting or self.is_exhausted:
            return None
        for attempt in range(ALL_DUPLICATES):
            sampler = self.spec.search.sampler if attempt < SAMPLED_DUPLICATES else "random"
            config = self._ask(sampler)
            if config.trial_id not in self._configs:
                self._configs[config.trial_id] = config
                self._open.add(config.trial_id)
                return config
            self._dismiss(config)
        self._is_exhausted = True
        return None

    def judge(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Let the scheduler see new rows of a running trial; see :meth:`Stopping.judge`.

        Args:
            config: that this study proposed.
            rows: in order; first of all those that it keeps from before it was cut off.

        Returns:
            How many of these rows the trial keeps, where it is to end; None where it goes on.
        """
        return None if self._stopping is None else self._stopping.judge(config, rows)

    def tell(self, result: TrialResult) -> None:
        """Say how a trial ended; saying it again changes nothing.

        Args:
            result: of a configuration that this study proposed.
        """
        import optuna

        number = self._configs[result.trial_id].number
        assert number is not None
        self._open.discard(result.trial_id)
        # A FAIL is told without a value: Optuna refuses NaN with state COMPLETE and would keep the trial
        # RUNNING, where constant_liar holds it against its neighbourhood for ever.
        state = {
            TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
            TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
            TrialState.FAIL: optuna.trial.TrialState.FAIL,
        }[result.state]
        self._study.tell(number, result.value, state=state, skip_if_finished=True)
        if self._stopping is not None:
            self._stopping.end(number, state, result.value)

    def _ask(self, sampler: str) -> TrialConfig:
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(sampler, self.spec.search.seed, self.name, number)
        trial = self._study.ask()
        assert trial.number == number, "the journal has a second writer"
        return self._config(suggest(self._templates, trial), number)

    def _config(self, values: dict[str, Json], number: int) -> TrialConfig:
        training, written = (template.concretise(values) for template in self._templates)
        method = Arm.model_validate(written)
        if self._settings is not None:
            method = method.following(self._settings)
        return TrialConfig(
            workload=self.workload,
            arm=self.arm,
            phase="search",
            seeds=self.spec.search.seeds,
            training=Workload.model_validate(training),
            method=method,
            objective=self.spec.search.objective,
            values=values,
            number=number,
            share=self.spec.resources.share("search"),
            checkpoint_every=self.spec.checkpoint.every,
        )

    def _dismiss(self, config: TrialConfig) -> None:
        assert config.number is not None
        self._study.tell(config.number, state=_failed())

    def _take_up(self, results: Mapping[str, TrialResult]) -> None:
        """Bring the study level with the files, and find what was proposed but has not ended."""
        for trial in self._study.get_trials(deepcopy=False):
            try:
                config = self._config(dict(trial.params), trial.number)
            except KeyError:
                # The driver died while the parameters were being chosen: nothing had run.
                self._study.tell(trial.number, state=_failed(), skip_if_finished=True)
                continue
            if config.trial_id in self._configs:
                self._study.tell(trial.number, state=_failed(), skip_if_finished=True)
                continue
            self._configs[config.trial_id] = config
            self._open.add(config.trial_id)
            result = results.get(config.trial_id)
            if result is None:
                self._pending.append(config)
            else:
                self.tell(result)


def _failed() -> optuna.trial.TrialState:
    import optuna

    return optuna.trial.TrialState.FAIL


def plan_studies(spec: SweepSpec, storage: optuna.storages.BaseStorage, results: Iterable[TrialResult]) -> list[Study]:
    """Open every study of a sweep.

    Args:
        spec: of the sweep.
        storage: from :func:`open_journal`.
        results: the search results on file.

    Returns:
        The studies, workload by workload.
    """
    known = {result.trial_id: result for result in results}
    return [Study(spec, workload, arm, storage, known) for workload, arm in spec.studies]
