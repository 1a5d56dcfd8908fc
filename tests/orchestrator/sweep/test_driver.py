"""What the driver makes of budgets and of trials that take too long, with real trials in this process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import optuna
import pytest

from orchestrator.errors import Interrupted
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import SweepRecord, TrialConfig, TrialResult, TrialState
from orchestrator.launch import InlineLauncher, RayLauncher, TrialSource
from orchestrator.search.journal import open_journal
from orchestrator.spec import Share
from orchestrator.sweep import driver as driver_module
from orchestrator.sweep.budgets import Budgets
from orchestrator.sweep.standing import standing
from orchestrator.track.projection import TRIAL_ID
from tests.orchestrator.home.test_checkpoint import CutAt
from tests.orchestrator.launch.test_launchers import ray_warnings
from tests.orchestrator.launchers import ReadyLauncher
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.sweep.test_run import Simulated, go, outcomes
from tests.orchestrator.track.faulty_store import FaultyStore, in_memory
from tests.orchestrator.trials import complete, failed

LONG = "workloads.digits.epochs=100000"


def kinds(record: SweepRecord) -> list[str]:
    results = [trial.result for trial in record.trials if trial.result is not None]
    return [result.failure.kind if result.failure else result.state.value for result in results]


def test_a_budget_of_trials_ends_the_sweep_with_a_report_and_more_of_it_goes_on(tmp_path: Path) -> None:
    outcome = go(tiny_spec("budget.trials=4"), tmp_path)
    assert outcome.failures == ()
    assert len(read_record(outcome.paths).trials) == 4
    assert outcome.report.sweep.ended_early == "the trials budget of 4 is used up: 4 of 10 trials ended"
    assert standing(outcome.paths).state == "ended early"
    more = go(tiny_spec("budget.trials=10"), tmp_path)
    assert more.report.sweep.ended_early == "", "the last trial of the budget was the last of the sweep"
    undisturbed = go(tiny_spec(), tmp_path / "undisturbed")
    assert outcomes(read_record(more.paths)) == outcomes(read_record(undisturbed.paths))


def test_a_budget_that_is_used_up_starts_nothing(tmp_path: Path) -> None:
    go(tiny_spec("budget.trials=2"), tmp_path)
    again = Simulated()
    go(tiny_spec("budget.trials=2"), tmp_path, again)
    assert again.num_run == 0


def let_time_pass(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Give budgets a clock of the test's own, so that a busy machine cannot use them up."""
    monkeypatch.setattr(driver_module, "Budgets", partial(Budgets, clock=clock))


@pytest.fixture
def _a_minute_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SweepPaths(tmp_path, "tiny").trials
    let_time_pass(
        monkeypatch, lambda: 60.0 * sum(len(each.read_bytes().splitlines()) for each in files.glob("*/*.jsonl"))
    )


def test_the_wall_clock_cuts_off_what_runs_and_that_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = SweepPaths(tmp_path, "tiny").trials
    let_time_pass(monkeypatch, lambda: 60.0 * len(list(files.glob("*/checkpoint.pt"))))
    outcome = go(tiny_spec("budget.wall_clock=2s", LONG, "checkpoint.every=0.1"), tmp_path)
    [trial] = read_record(outcome.paths).trials
    assert trial.result is None
    assert outcome.paths.checkpoint(trial.trial_id).is_file()
    assert outcome.report.sweep.ended_early == "the wall-clock budget of 2s is used up: 0 of 10 trials ended"
    assert outcome.failures == ()


@pytest.mark.usefixtures("_a_minute_for_each_row")
def test_a_trial_that_takes_too_long_fails_as_timeout_and_the_sweep_goes_on(tmp_path: Path) -> None:
    spec = tiny_spec("budget.per_trial=1", LONG, "search.trials=1", "confirm.seeds=1")
    outcome = go(spec, tmp_path)
    record = read_record(outcome.paths)
    assert kinds(record) == ["timeout"] * 2
    for trial in record.trials:
        assert trial.history, "its rows stay"
        assert trial.result is not None
        assert trial.result.failure is not None
        assert trial.result.failure.message.endswith("budget.per_trial is 1s")


class Silent(ReadyLauncher):
    """Runs trials that say nothing, and loses the worker of the first when it is overdue."""

    def __init__(self) -> None:
        self.overdue: list[Collection[str]] = []
        self.now = 0.0

    def launch(self, source: TrialSource) -> None:
        hangs = source.propose()
        assert hangs is not None
        source.on_started(hangs)
        self.now = 1.0
        while not source.overdue:
            source.check()
        assert source.overdue == [hangs.trial_id]
        source.on_ended(hangs, TrialResult.lost(hangs.trial_id, "the worker died", 1.0, 2.0))
        Simulated().launch(source)


def test_a_silent_trial_is_killed_as_timeout_and_does_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "SILENT_SECONDS", 0.2)
    silent = Silent()
    let_time_pass(monkeypatch, lambda: silent.now)
    outcome = go(tiny_spec("budget.per_trial=0.3"), tmp_path, silent)
    assert sorted(kinds(read_record(outcome.paths))).count("timeout") == 1


class Greedy(ReadyLauncher):
    """Runs two trials at once; the one of the largest learning rate has too little memory beside another."""

    def __init__(self, *, is_ever_enough: bool) -> None:
        self.is_ever_enough = is_ever_enough
        self.alone: list[str] = []

    def launch(self, source: TrialSource) -> None:
        running: list[TrialConfig] = []
        while not source.is_exhausted:
            while len(running) < 2 and (config := source.propose()) is not None:
                source.on_started(config)
                running.append(config)
            config = running.pop(0)
            if not config.values["optimizer.lr"] > 0.2:  # type: ignore[operator]
                source.on_ended(config, complete(config))
            elif running or not self.is_ever_enough:
                source.on_ended(config, failed(config, "memory"))
            else:
                self.alone.append(config.trial_id)
                source.on_ended(config, complete(config))


SPEC = tiny_spec("workloads.digits.optimizer.lr={choice: [0.01, 0.1, 0.3]}", "arms={}", "confirm.top_k=3")


@pytest.mark.parametrize("is_ever_enough", [True, False])
def test_a_trial_short_of_memory_runs_once_more_and_alone(tmp_path: Path, is_ever_enough: bool) -> None:
    launcher = Greedy(is_ever_enough=is_ever_enough)
    record = read_record(go(SPEC, tmp_path, launcher).paths)
    greedy = [t for t in record.trials if t.config.values["optimizer.lr"] == 0.3]
    assert all(trial.result is not None for trial in record.trials)
    if is_ever_enough:
        assert set(kinds(record)) == {"COMPLETE"}
        assert launcher.alone
    else:
        assert kinds(SweepRecord(record.spec, record.provenance, tuple(greedy))) == ["memory"]


def test_what_is_started_while_one_runs_alone_is_nothing(tmp_path: Path) -> None:
    class Watching(ReadyLauncher):
        def launch(self, source: TrialSource) -> None:
            first = source.propose()
            assert first is not None
            source.on_started(first)
            source.on_ended(first, failed(first, "memory"))
            others = []
            while (config := source.propose()) is not None and config != first:
                source.on_started(config)
                others.append(config)
                source.on_ended(config, complete(config))
            assert config == first, "it waits until nothing else is left"
            assert len(others) == 5
            assert source.propose() is None
            source.on_started(first)
            source.on_ended(first, complete(first))
            assert source.propose() is not None, "confirm begins"
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="was interrupted"):
        go(tiny_spec(), tmp_path, Watching())


def test_max_concurrent_holds_for_both_phases(tmp_path: Path) -> None:
    class Counting(ReadyLauncher):
        most = 0

        def launch(self, source: TrialSource) -> None:
            running: list[TrialConfig] = []
            while not source.is_exhausted:
                while (config := source.propose()) is not None:
                    source.on_started(config)
                    running.append(config)
                self.most = max(self.most, len(running))
                ended = running.pop(0)
                source.on_ended(ended, complete(ended))

    counting = Counting()
    go(tiny_spec("search.max_concurrent=2"), tmp_path, counting)
    assert counting.most == 2


def test_failed_trials_reach_the_hooks(tmp_path: Path) -> None:
    failures, ends = tmp_path / "failures.jsonl", tmp_path / "ends.jsonl"
    hooks = [f"{{command: [sh, -c, 'cat >> {file}; echo >> {file}']}}" for file in (failures, ends)]
    spec = tiny_spec(f"hooks={{trial_failed: {hooks[0]}, sweep_finished: {hooks[1]}}}")
    outcome = go(spec, tmp_path, Simulated(crash_every=2))
    told = [json.loads(line) for line in failures.read_text().splitlines()]
    assert {event["event"] for event in told} == {"trial_failed"}
    num_failed = sum(bool(trial.result and trial.result.failure) for trial in read_record(outcome.paths).trials)
    assert sum(event["num_failed"] for event in told) == num_failed >= 4
    [end] = [json.loads(line) for line in ends.read_text().splitlines()]
    assert (end["event"], end["status"]) == ("sweep_finished", "failed")


@pytest.mark.usefixtures("_a_minute_for_each_row")
def test_an_inline_launch_survives_a_trial_that_its_source_ends(tmp_path: Path) -> None:
    spec = tiny_spec("budget.per_trial=0.5", LONG, "search.trials=1", "confirm.seeds=1", "arms={}")
    assert kinds(read_record(go(spec, tmp_path, InlineLauncher()).paths)) == ["timeout"]
    assert not list(SweepPaths(tmp_path, "tiny").trials.glob("*/checkpoint.pt"))


ASHA = tiny_spec(
    "search.scheduler={name: asha, grace: 0.2, reduction_factor: 2}",
    "search.trials=6",
    "search.seeds=[0, 1]",
    "workloads.digits.epochs=2",
    "checkpoint.every=1e-9",
    "arms={}",
)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    return read_record(go(ASHA, tmp_path_factory.mktemp("home")).paths)


def test_a_scheduler_stops_trials_and_they_are_pruned_everywhere(tmp_path: Path) -> None:
    store = FaultyStore()
    paths = go(ASHA, tmp_path, tracker=in_memory(store)).paths
    record = read_record(paths)
    stopped = [trial for trial in record.trials if trial.result and trial.result.state is TrialState.PRUNED]
    assert stopped
    study = optuna.load_study(study_name="digits/baseline", storage=open_journal(paths.journal))
    for trial in stopped:
        assert trial.result is not None
        assert trial.config.number is not None
        stored = study.trials[trial.config.number]
        assert stored.state.name == "PRUNED"
        assert stored.intermediate_values
        assert trial.history[-1].step == trial.result.seeds[-1].num_steps
        assert trial.history[-1].step < trial.result.seeds[-1].budget_steps or len(trial.result.seeds) < 2
        assert not paths.checkpoint(trial.trial_id).is_file()
    assert Counter(trial.state.name for trial in study.trials)["PRUNED"] == len(stopped)
    numbers = {trial.config.number for trial in record.trials if trial.config.phase == "search"}
    assert numbers == set(range(6))
    tracked = {run.tags.get(TRIAL_ID): run for run in store.runs.values()}
    assert all(tracked[trial.trial_id].tags["state"] == "PRUNED" for trial in stopped)


@pytest.mark.parametrize("cut_at", [1, 3, 6, 12, 20])
def test_decisions_are_the_same_after_an_interrupt(pruned: SweepRecord, tmp_path: Path, cut_at: int) -> None:
    with pytest.raises(Interrupted, match="was interrupted"):
        go(ASHA, tmp_path, CutAt(cut_at))
    again = read_record(go(ASHA, tmp_path).paths)
    assert outcomes(again) == outcomes(pruned)


@pytest.mark.slow
@ray_warnings
def test_decisions_are_the_same_under_ray_with_one_trial_at_a_time(pruned: SweepRecord, tmp_path: Path) -> None:
    spec = ASHA.model_copy(update={"search": ASHA.search.model_copy(update={"max_concurrent": 1})})
    record = read_record(go(spec, tmp_path, RayLauncher(shares=[Share()])).paths)
    assert outcomes(record) == outcomes(pruned)
