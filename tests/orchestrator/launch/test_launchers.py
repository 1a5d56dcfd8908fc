"""Runs one contract on each launcher: a trial is started once and ended once, and its rows come in order."""

from __future__ import annotations

import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.errors import Infeasible
from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.launch import InlineLauncher, Launcher, RayLauncher, TrialSource
from orchestrator.spec import Share
from tests.orchestrator.trials import config, failed

# Ray's own code, on this Python: nothing of ours.
ray_warnings = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


class ListSource(TrialSource):
    """Hands out a fixed list and writes down what it hears; the second half waits for the first."""

    def __init__(self, configs: Sequence[TrialConfig]) -> None:
        middle = (len(configs) + 1) // 2
        self.waves = deque([deque(configs[:middle]), deque(configs[middle:])])
        self.running: set[str] = set()
        self.started: list[str] = []
        self.rows: dict[str, list[HistoryRow]] = {}
        self.results: dict[str, TrialResult] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.printed: dict[str, str] = {}
        self.first: TrialConfig | None = None
        self.interrupt_after: int | None = None

    @property
    def is_exhausted(self) -> bool:
        return not any(self.waves)

    def propose(self) -> TrialConfig | None:
        if not self.waves[0] and len(self.waves) > 1 and not self.running:
            self.waves.popleft()
        if not self.waves[0]:
            return None
        proposed = self.waves[0].popleft()
        self.running.add(proposed.trial_id)
        return proposed

    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        return self.checkpoints.get(config.trial_id)

    def on_output(self, config: TrialConfig, text: str) -> None:
        assert config.trial_id in self.running
        self.printed[config.trial_id] = self.printed.get(config.trial_id, "") + text

    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        assert config.trial_id in self.running
        self.checkpoints[config.trial_id] = data

    def on_started(self, config: TrialConfig) -> None:
        assert config.trial_id in self.running
        self.started.append(config.trial_id)

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        assert config.trial_id in self.started
        assert config.trial_id not in self.results
        self.rows.setdefault(config.trial_id, []).extend(rows)
        return True

    @property
    def overdue(self) -> Collection[str]:
        return ()

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        assert config.trial_id not in self.results
        self.running.remove(config.trial_id)
        self.results[config.trial_id] = result

    def check(self) -> None:
        if self.interrupt_after is not None and len(self.results) >= self.interrupt_after:
            raise KeyboardInterrupt


class LauncherContract(ABC):
    """What every launcher promises."""

    @abstractmethod
    def launcher(self) -> Launcher:
        """A launcher, which others may have launched with before."""

    @abstractmethod
    def launcher_to_interrupt(self) -> Launcher:
        """A launcher that makes ready what it needs, and ends it: what is interrupted goes no later."""

    def test_an_interrupt_reaches_the_caller(self) -> None:
        source = ListSource([config(lr=0.01 * (1 + i)) for i in range(4)])
        source.interrupt_after = 1
        with pytest.raises(KeyboardInterrupt):
            self.launcher_to_interrupt().launch(source)
        assert 1 <= len(source.results) < 4

    def test_an_interrupt_does_not_wait_for_the_trial_to_end(self) -> None:
        class Impatient(ListSource):
            def check(self) -> None:
                if self.rows:
                    raise KeyboardInterrupt

        source = Impatient([config(lr=0.01)])
        with pytest.raises(KeyboardInterrupt):
            self.launcher_to_interrupt().launch(source)
        assert not source.results

    def test_every_trial_runs_once_and_its_curves_come_in_order(self) -> None:
        configs = [config(lr=0.01 * (1 + i)) for i in range(5)]
        source = ListSource(configs)
        self.launcher().launch(source)
        assert sorted(source.started) == sorted(c.trial_id for c in configs)
        assert source.results.keys() == {c.trial_id for c in configs}
        assert set(source.started[:3]) == {c.trial_id for c in configs[:3]}, "the second wave waits for the first"
        for trial_id, result in source.results.items():
            assert result.state is TrialState.COMPLETE, result
            steps = [row.step for row in source.rows[trial_id]]
            assert steps == sorted(steps)
            assert steps[0] == 0

    def test_a_trial_that_fails_leaves_the_others_alone(self) -> None:
        crash = config(arm="crash", lr=0.05, training=_crashing())
        source = ListSource([config(lr=1e8), crash, config(lr=0.1), config(lr=0.2)])
        self.launcher().launch(source)
        kinds = {i: r.failure.kind for i, r in source.results.items() if r.failure is not None}
        assert kinds == {config(lr=1e8).trial_id: "diverged", crash.trial_id: "crashed"}
        assert len(source.results) == 4

    def test_nothing_to_run_is_nothing_done(self) -> None:
        source = ListSource([])
        self.launcher().launch(source)
        assert not source.started

    def test_a_failure_of_the_source_is_no_trials(self) -> None:
        class Full(ListSource):
            def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
                raise OSError(28, "No space left on device")

        source = Full([config()])
        with pytest.raises(OSError, match="No space left on device"):
            self.launcher().launch(source)
        assert not source.results

    def test_a_trial_that_the_source_has_ended_is_stopped_and_heard_of_no_more(self) -> None:
        class Ending(ListSource):
            """Ends the first trial at its second bunch of rows."""

            def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
                super().on_history(config, rows)
                if config != self.first or len(self.rows[config.trial_id]) < 2:
                    return True
                self.running.remove(config.trial_id)
                self.results[config.trial_id] = failed(config)
                return False

        first = endless_config()
        source = Ending([first, config(lr=0.05), config(lr=0.06)])
        source.first = first
        self.launcher().launch(source)
        assert source.results[first.trial_id] == failed(first)
        assert all(
            source.results[of.trial_id].state is TrialState.COMPLETE for of in (config(lr=0.05), config(lr=0.06))
        )

    def test_a_trial_goes_on_from_its_checkpoint(self) -> None:
        class Cut(ListSource):
            def check(self) -> None:
                if self.checkpoints:
                    raise KeyboardInterrupt

        of = long_config()
        whole = ListSource([of])
        self.launcher().launch(whole)
        cut = Cut([of])
        with pytest.raises(KeyboardInterrupt):
            self.launcher_to_interrupt().launch(cut)
        again = ListSource([of])
        again.checkpoints = dict(cut.checkpoints)
        self.launcher().launch(again)
        check_goes_on(again.rows[of.trial_id], whole.rows[of.trial_id])


def long_config() -> TrialConfig:
    """Thirty epochs with a checkpoint after each."""
    plain = config().training.model_dump(mode="json")
    return config(training=plain | {"epochs": 30, "evaluate": {"every": 9}}, checkpoint_every=1e-9)


def endless_config(lr: float = 0.1) -> TrialConfig:
    """Longer than any test waits; a row at least twice a second."""
    plain = config(lr=lr).training.model_dump(mode="json")
    return config(lr=lr, training=plain | {"epochs": 100_000, "evaluate": {"every": 9}})


def check_goes_on(later: Sequence[HistoryRow], whole: Sequence[HistoryRow]) -> None:
    """Check that rows are the last ones of an undisturbed trial, and not all of them."""
    assert 0 < len(later) < len(whole)
    expected = [(row.step, row.metrics) for row in whole[-len(later) :]]
    assert [(row.step, row.metrics) for row in later] == expected


def kill_worker() -> None:
    """Kill the process that runs a trial as the kernel would, this test's own alone."""
    parents: dict[int, int] = {}
    workers: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc"):
                workers.append(int(path.name))
    mine = [pid for pid in workers if os.getpid() in _ancestors(pid, parents)]
    assert len(mine) == 1, mine
    os.kill(mine[0], signal.SIGKILL)


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def _crashing() -> dict[str, object]:
    plain = config(lr=0.05).training.model_dump(mode="json")
    return {**plain, "data": {"name": "fashion_mnist", "batch_size": 128, "root": "/nowhere"}}


class TestInline(LauncherContract):
    def launcher(self) -> Launcher:
        return InlineLauncher()

    def launcher_to_interrupt(self) -> Launcher:
        return InlineLauncher()


class SharedRay:
    """One Ray for launches that come to an end, made ready when it is asked for."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._launcher: Launcher | None = None

    def launcher(self) -> Launcher:
        if self._launcher is None:
            self._launcher = RayLauncher(shares=[Share()])
            self._running.enter_context(self._launcher.prepared())
        return self._launcher

    def end(self) -> None:
        self._launcher = None
        self._running.close()


@pytest.mark.slow
@ray_warnings
class TestRay(LauncherContract):
    @pytest.fixture(scope="class")
    def one(self) -> Iterator[SharedRay]:
        shared = SharedRay()
        yield shared
        shared.end()

    @pytest.fixture(autouse=True)
    def _shared(self, one: SharedRay) -> None:
        self.shared = one

    def launcher(self) -> Launcher:
        return self.shared.launcher()

    def launcher_to_interrupt(self) -> Launcher:
        self.shared.end()
        return RayLauncher(shares=[Share()])

    def test_a_silent_trial_whose_time_is_up_is_killed(self) -> None:
        class Impatient(ListSource):
            """Wants the first trial ended once it has started."""

            @property
            def overdue(self) -> Collection[str]:
                return self.started[:1] if len(self.results) == 0 else ()

        silent = config(
            training=config().training.model_dump(mode="json") | {"evaluate": {"every": 10**9}, "epochs": 10**6}
        )
        source = Impatient([silent, config(lr=0.05)])
        self.launcher().launch(source)
        failure = source.results[silent.trial_id].failure
        assert failure is not None
        assert failure.kind == "lost"
        assert source.results[config(lr=0.05).trial_id].state is TrialState.COMPLETE

    def test_a_killed_workers_trial_goes_on_from_its_checkpoint(self) -> None:
        class Killing(ListSource):
            """Kills the worker at the third checkpoint, and hands the trial out again when it hears of it."""

            def __init__(self, configs: Sequence[TrialConfig]) -> None:
                super().__init__(configs)
                self.num_checkpoints = 0
                self.num_rows_before = 0

            @property
            def is_exhausted(self) -> bool:
                return super().is_exhausted and not self.running

            def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
                super().on_checkpoint(config, data)
                self.num_checkpoints += 1
                if self.num_checkpoints == 3:
                    kill_worker()

            def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
                if result.failure is not None and result.failure.kind == "lost":
                    assert "the worker died" in result.failure.message
                    self.num_rows_before = len(self.rows[config.trial_id])
                    self.running.remove(config.trial_id)
                    self.waves[0].append(config)
                else:
                    super().on_ended(config, result)

        of = long_config()
        whole, killed = ListSource([of]), Killing([of])
        InlineLauncher().launch(whole)
        self.launcher().launch(killed)
        assert killed.results[of.trial_id].state is TrialState.COMPLETE
        assert killed.started == [of.trial_id] * 2
        later = killed.rows[of.trial_id][killed.num_rows_before :]
        check_goes_on(later, whole.rows[of.trial_id])
        assert len(later) <= len(whole.rows[of.trial_id]) - 4, "the rows before the third checkpoint are not repeated"


@pytest.mark.slow
@ray_warnings
def test_what_no_machine_can_hold_is_refused() -> None:
    source = ListSource([config()])
    with pytest.raises(Infeasible, match=r"a trial asks for 1000 CPU on one node; .* has [0-9]+ CPU"):
        RayLauncher(shares=[Share(cpu=1000.0)]).launch(source)
    assert not source.started
