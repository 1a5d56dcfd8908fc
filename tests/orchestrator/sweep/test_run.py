"""A sweep from spec to report: paired, equal, resumable, and honest about what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted, SweepConflict, SweepLocked
from orchestrator.home.lock import locked
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record, stored_spec
from orchestrator.home.records import HistoryRow, SweepOutcome, SweepRecord, TrialConfig, TrialResult, TrialState
from orchestrator.launch import InlineLauncher, Launcher, TrialSource
from orchestrator.report import write_report
from orchestrator.search.candidates import Candidates
from orchestrator.search.confirm import confirm_configs
from orchestrator.spec import HookOptions, HooksOptions, SweepSpec
from orchestrator.sweep.run import Outcome, run, sync
from orchestrator.sweep.standing import Progress, standing
from orchestrator.track import NoTracker, Tracker
from orchestrator.track.projection import NOTE
from tests.orchestrator.launchers import ReadyLauncher, Relay
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.faulty_store import FaultyStore, in_memory
from tests.orchestrator.trials import complete, failed


class Cut(ReadyLauncher):
    """Runs trials inline until ``after`` of them have begun, then is cut off in the middle of the next."""

    def __init__(self, after: int) -> None:
        self.after = after

    def launch(self, source: TrialSource) -> None:
        InlineLauncher().launch(_CutSource(source, self.after))


class _CutSource(Relay):
    def __init__(self, source: TrialSource, after: int) -> None:
        super().__init__(source)
        self.left = after

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        goes_on = super().on_history(config, rows)
        if self.left == 0:
            raise KeyboardInterrupt
        return goes_on

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        self.left -= 1
        super().on_ended(config, result)


class Simulated(ReadyLauncher):
    """Gives each trial a made-up end: for what the driver does, not for what training does."""

    def __init__(self, *, crash_every: int = 0, kind: str = "crashed") -> None:
        self.crash_every = crash_every
        self.kind = kind
        self.num_run = 0

    def launch(self, source: TrialSource) -> None:
        while not source.is_exhausted:
            config = source.propose()
            assert config is not None
            source.on_started(config)
            self.num_run += 1
            crashes = self.crash_every and self.num_run % self.crash_every == 0
            source.on_ended(config, failed(config, self.kind) if crashes else complete(config))


def go(
    spec: SweepSpec,
    home: Path,
    launcher: Launcher | None = None,
    tracker: Tracker | None = None,
) -> Outcome:
    return run(
        spec,
        SweepPaths(home, spec.name),
        launcher or InlineLauncher(),
        tracker or NoTracker(),
        command="teleport run tiny.yaml",
        observe=lambda progress: None,
    )


def outcomes(record: SweepRecord) -> dict[str, object]:
    """Everything that must be bit-identical between two runs of one sweep."""
    found: dict[str, object] = {}
    for trial in record.trials:
        assert trial.result is not None
        curves = [(row.seed, row.step, row.metrics) for row in trial.history]
        seeds = [(s.seed, s.steps_to_target, s.metrics) for s in trial.result.seeds]
        found[trial.trial_id] = (trial.config.number, trial.result.state, trial.result.value, seeds, curves)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(tiny_spec(), tmp_path_factory.mktemp("home"))


def test_every_arm_gets_the_same_budget_and_fresh_paired_seeds(finished: Outcome) -> None:
    record = read_record(finished.paths)
    search = [trial.config for trial in record.trials if trial.config.phase == "search"]
    confirm = [trial.config for trial in record.trials if trial.config.phase == "confirm"]
    for arm in ("baseline", "teleport"):
        assert sum(config.arm == arm for config in search) == record.spec.search.trials
        assert sorted(config.seeds[0] for config in confirm if config.arm == arm) == [1000, 1001]
    assert not finished.failures


def test_arms_of_one_seed_start_from_the_same_weights(finished: Outcome) -> None:
    first: dict[int, set[float]] = {}
    for trial in read_record(finished.paths).trials:
        if trial.config.phase == "confirm":
            first.setdefault(trial.config.seeds[0], set()).add(trial.history[0].metrics["train_loss"])
    assert all(len(losses) == 1 for losses in first.values())
    assert len(first) == 2


def test_everything_is_on_file(finished: Outcome) -> None:
    paths = finished.paths
    for path in (paths.spec, paths.journal, paths.provenance, paths.log, paths.report / "report.html"):
        assert path.stat().st_size > 0, path
    assert json.loads((paths.report / "report.json").read_text())["sweep"]["name"] == "tiny"
    assert {path.name for path in paths.best.iterdir()} == {"digits.baseline.yaml", "digits.teleport.yaml"}
    assert not list(paths.root.rglob(".*")), "no temporary file is left"


def test_running_again_repeats_no_trial(finished: Outcome) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.paths.trials.rglob("*.json")}
    simulated = Simulated()
    again = go(tiny_spec(), finished.paths.home, simulated)
    assert simulated.num_run == 0
    assert {path: path.stat().st_mtime_ns for path in finished.paths.trials.rglob("*.json")} == before
    assert again.report.comparisons == finished.report.comparisons


def test_same_spec_and_seed_give_bit_identical_metrics(finished: Outcome, tmp_path: Path) -> None:
    again = go(tiny_spec(), tmp_path)
    assert outcomes(read_record(again.paths)) == outcomes(read_record(finished.paths))


@pytest.mark.parametrize("after", [0, 2, 5, 7, 9])
def test_a_sweep_cut_off_anywhere_goes_on_as_if_it_had_not_been(finished: Outcome, tmp_path: Path, after: int) -> None:
    with pytest.raises(Interrupted, match="sweep 'tiny' was interrupted"):
        go(tiny_spec(), tmp_path, Cut(after))
    assert standing(SweepPaths(tmp_path, "tiny")).state == "interrupted"
    go(tiny_spec(), tmp_path)
    assert outcomes(read_record(SweepPaths(tmp_path, "tiny"))) == outcomes(read_record(finished.paths))
    assert standing(SweepPaths(tmp_path, "tiny")).state == "finished"


def test_the_same_name_with_another_spec_is_refused_with_the_difference(finished: Outcome) -> None:
    before = finished.paths.spec.read_text()
    with pytest.raises(
        SweepConflict, match=r"(?s)exists in .* with another spec; .*-  trials: 3\n.*\+  trials: 4"
    ) as caught:
        go(tiny_spec("search.trials=4"), finished.paths.home)
    assert "teleport resume" in str(caught.value)
    assert finished.paths.spec.read_text() == before


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "tiny")
    with locked(paths), pytest.raises(SweepLocked, match="is being run by process"):
        go(tiny_spec(), tmp_path)


def test_a_crashed_confirm_trial_fails_the_sweep_and_a_diverged_one_does_not(tmp_path: Path) -> None:
    crashed = go(tiny_spec(), tmp_path / "a", Simulated(crash_every=10))
    assert crashed.failures == ("1 confirm trials crashed",)
    diverged = go(tiny_spec(), tmp_path / "b", Simulated(crash_every=10, kind="diverged"))
    assert diverged.failures == ()


def test_many_crashes_in_search_fail_the_sweep(tmp_path: Path) -> None:
    assert (
        "3 of 6 search trials crashed"
        in go(tiny_spec("search.max_replaced=0"), tmp_path, Simulated(crash_every=2)).failures
    )


def test_when_everything_fails_the_sweep_still_ends_with_a_report(tmp_path: Path) -> None:
    outcome = go(tiny_spec(), tmp_path, Simulated(crash_every=1))
    assert "digits/baseline has no trial that ended well" in outcome.failures
    assert (outcome.paths.report / "report.html").is_file()


def test_confirm_interleaves_the_arms_and_turns_their_order(finished: Outcome) -> None:
    arms = [(config.seeds[0], config.arm) for config in _confirmed(finished)]
    assert arms == [(1000, "baseline"), (1000, "teleport"), (1001, "teleport"), (1001, "baseline")]


def _confirmed(outcome: Outcome) -> list[TrialConfig]:
    record = read_record(outcome.paths)
    return confirm_configs(Candidates.of(record))


def test_top_k_sends_the_best_of_each_arm_to_confirm(tmp_path: Path) -> None:
    outcome = go(tiny_spec("confirm.top_k=2"), tmp_path, Simulated())
    confirm = [trial.config for trial in read_record(outcome.paths).trials if trial.config.phase == "confirm"]
    assert len(confirm) == 2 * 2 * 2
    assert len({config.origin for config in confirm}) == 4


def test_progress_is_shown_and_reaches_the_end(tmp_path: Path) -> None:
    seen: list[Progress] = []
    spec = tiny_spec()
    run(spec, SweepPaths(tmp_path, "tiny"), Simulated(), NoTracker(), command="c", observe=seen.append)
    assert [progress.num_done for progress in seen] == sorted(progress.num_done for progress in seen)
    assert seen[-1].is_finished
    assert max(progress.num_running for progress in seen) == 1


def test_max_concurrent_is_kept(tmp_path: Path) -> None:
    class Greedy(ReadyLauncher):
        """Takes all it is offered before it ends anything."""

        most = 0

        def launch(self, source: TrialSource) -> None:
            running: list[TrialConfig] = []
            while not source.is_exhausted or running:
                while (config := source.propose()) is not None:
                    source.on_started(config)
                    running.append(config)
                self.most = max(self.most, len(running))
                oldest = running.pop(0)
                source.on_ended(oldest, complete(oldest))

    greedy = Greedy()
    go(tiny_spec("search.max_concurrent=2"), tmp_path, greedy)
    assert greedy.most == 2


def test_sync_sends_what_a_tracker_has_not_got(finished: Outcome) -> None:
    store = FaultyStore()
    assert sync(finished.paths, in_memory(store)) == 0
    assert len(store.runs) == 1 + len(read_record(finished.paths).trials)


def test_a_report_on_the_way_does_not_end_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="interrupted"):
        go(tiny_spec(), tmp_path, Cut(3))
    paths = SweepPaths(tmp_path, "tiny")
    write_report(read_record(paths), paths)
    assert standing(paths).state == "interrupted"


def test_a_sweep_that_ended_with_failures_says_so(tmp_path: Path) -> None:
    outcome = go(tiny_spec(), tmp_path, Simulated(crash_every=2))
    assert standing(outcome.paths).state == "failed"


def test_a_sweep_that_ended_early_says_so_wherever_it_is_looked_at(tmp_path: Path) -> None:
    sentence = "the trials budget of 10 is used up: 10 of 12 trials ended"
    outcome = go(tiny_spec("budget={trials: 10, wall_clock: 1h}"), tmp_path, Simulated())
    outcome.paths.write_outcome(SweepOutcome(status="FINISHED", ended_early=sentence))
    assert read_record(outcome.paths).ended_early == sentence
    found = standing(outcome.paths)
    assert (found.state, found.ended_early) == ("ended early", sentence)
    assert [usage.title.split(" of ")[0] for usage in found.usages] == ["the wall-clock budget", "the trials budget"]
    assert found.usages[1].sentence == "10 of the trials budget of 10 used (100%)"
    store = FaultyStore()
    assert sync(outcome.paths, in_memory(store)) == 0
    [note] = [run.tags[NOTE] for run in store.runs.values() if run.parent is None]
    assert sentence in note


def test_a_new_run_of_a_sweep_that_ended_early_has_not_ended_early(tmp_path: Path) -> None:
    outcome = go(tiny_spec("budget.trials=10"), tmp_path, Simulated())
    outcome.paths.write_outcome(SweepOutcome(status="FINISHED", ended_early="the budget is used up"))
    again = go(tiny_spec("budget.trials=20"), tmp_path, Simulated())
    assert again.report.sweep.ended_early == ""
    assert standing(outcome.paths).state == "finished"
    assert stored_spec(outcome.paths).budget.trials == 20


def finished_events(spec: SweepSpec, home: Path, launcher: Launcher, fails: str = "") -> list[dict[str, object]]:
    """The events that a sweep's hook was told of."""
    told = home / "told"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')", str(told)]
    hooks = HooksOptions(sweep_finished=HookOptions(command=tuple(command)))
    spec = spec.model_copy(update={"hooks": hooks})
    if fails:
        with pytest.raises(BaseException, match=fails):
            go(spec, home, launcher)
    else:
        go(spec, home, launcher)
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_the_end_of_every_run_is_told_to_its_hook(tmp_path: Path) -> None:
    class Broken(ReadyLauncher):
        def launch(self, source: TrialSource) -> None:
            raise RuntimeError("no cluster")

    [cut] = finished_events(tiny_spec(), tmp_path, Cut(2), fails="interrupted")
    assert (cut["status"], cut["report"]) == ("interrupted", "")
    [_, broken] = finished_events(tiny_spec(), tmp_path, Broken(), fails="no cluster")
    assert (broken["status"], broken["message"]) == ("stopped on an error", "RuntimeError: no cluster")
    assert "the sweep stopped on an error" in SweepPaths(tmp_path, "tiny").log.read_text()
    *_, good = finished_events(tiny_spec(), tmp_path, Simulated())
    assert (good["status"], good["message"]) == ("finished", "sweep tiny: finished")
    assert Path(str(good["report"])).is_file()
    [failed_] = finished_events(tiny_spec("name=other"), tmp_path / "other", Simulated(crash_every=2))
    assert failed_["status"] == "failed"
    assert "search trials crashed" in str(failed_["message"])


def test_a_log_that_finds_no_room_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = SweepPaths(tmp_path, "tiny")
    paths.root.mkdir()
    paths.log.symlink_to("/dev/full")
    go(tiny_spec(), tmp_path, Simulated())
    assert capsys.readouterr().err == ""


def test_the_log_tells_the_story(finished: Outcome) -> None:
    text = finished.paths.log.read_text()
    assert text.count("started digits/") == text.count("ended digits/") == 10


def test_a_failed_trial_leaves_its_reason_on_file_and_in_the_log(tmp_path: Path) -> None:
    outcome = go(tiny_spec("workloads.digits.optimizer.lr=1e9", "arms={}", "search.trials=1"), tmp_path)
    trials = read_record(outcome.paths).trials
    assert [trial.config.phase for trial in trials].count("confirm") == 2, (
        "the only candidate is confirmed all the same"
    )
    [trial] = [trial for trial in trials if trial.config.phase == "search"]
    assert trial.result is not None
    assert trial.result.failure is not None
    assert (trial.result.state, trial.result.failure.kind) == (TrialState.FAIL, "diverged")
    assert "diverged: seed 0: the loss was not finite" in outcome.paths.log.read_text()
