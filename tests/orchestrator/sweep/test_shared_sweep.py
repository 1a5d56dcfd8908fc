"""A sweep whose search is shared, from spec to report, with real trials in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialConfig, TrialState
from orchestrator.launch import InlineLauncher, RayLauncher, TrialSource
from orchestrator.report import Verdict, best_spec, transfers_of
from orchestrator.search.candidates import Candidates
from orchestrator.search.selection import champions, roles
from orchestrator.search.warm_start import best_points
from orchestrator.spec import Share, SweepSpec, load_spec
from orchestrator.sweep.run import Outcome
from orchestrator.sweep.single import single_config
from orchestrator.sweep.standing import standing
from orchestrator.track import NoTracker
from orchestrator.track.projection import trial_facts
from tests.orchestrator.launch.test_launchers import ray_warnings
from tests.orchestrator.launchers import ReadyLauncher
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import costing
from tests.orchestrator.sweep.test_run import Cut, go, outcomes
from tests.orchestrator.trials import failed, row

# A low threshold of the race, so that a search this small has something to give up.
RACED = (
    "search.scheduler={name: wilcoxon, p_threshold: 0.3}",
    "search.trials=5",
    "search.max_concurrent=1",
    "workloads.narrow.evaluate.every=1",
    "workloads.wide.evaluate.every=1",
    "search.scope={name: shared, lr_factor: [0.1, 3.0]}",
    "confirm.candidates=[chosen, own, leave_one_out]",
)


def raced(*overrides: str) -> SweepSpec:
    return shared_spec(*RACED, "arms.random={random_move: {}}", *overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(raced(), tmp_path_factory.mktemp("home"))


def test_a_shared_sweep_ends_with_a_setting_for_every_arm_and_a_comparison_for_every_workload(
    finished: Outcome,
) -> None:
    assert not finished.failures
    record, report = read_record(finished.paths), finished.report
    settings = Candidates.of(record).shared
    assert {arm: len(of) for arm, of in settings.items()} == {"teleport": 5, "random": 5}
    assert any(setting.state == "PRUNED" for of in settings.values() for setting in of)
    assert [(c.workload, c.arm) for c in report.comparisons if c.is_primary] == [
        ("narrow", "teleport"),
        ("wide", "teleport"),
    ]
    assert not any(c.verdict is Verdict.REFUSED for c in report.comparisons), "the budgets are equal, in settings"
    for arm, of in settings.items():
        best = min(of, key=lambda one: (one.aggregate is None, one.aggregate, one.number))
        for workload in record.spec.workloads:
            study = report.study(workload, arm)
            assert study.shared is not None
            assert study.best is not None
            assert study.best.number == best.number
            assert study.best.aggregate == study.shared.value == best.aggregate
            assert "chosen" in study.best.roles
            assert len(study.best.confirm) == 2
            assert study.num_trials == study.num_planned == 5
            assert study.num_pruned == study.shared.num_pruned == sum(one.state == "PRUNED" for one in of)
            assert study.shared.num_units + study.shared.num_saved == 5 * 4
    text = (finished.paths.report / "report.md").read_text()
    assert "## Searches over all workloads" in text
    assert "settings, " in (finished.paths.report / "report.html").read_text()
    counted = standing(finished.paths).progress
    assert counted.num_planned == counted.num_done == len(record.trials)


def test_confirm_runs_the_chosen_setting_on_each_workloads_own_learning_rate(finished: Outcome) -> None:
    record = read_record(finished.paths)
    best = champions(Candidates.of(record))
    for workload in record.spec.workloads:
        tuned, chosen = best[workload, "baseline"][0].config, best[workload, "teleport"][0].config
        factor = chosen.values["lr_factor"]
        assert isinstance(factor, float)
        lr = tuned.training.optimizer.model_dump()["lr"]
        assert chosen.training.optimizer.model_dump()["lr"] == pytest.approx(lr * factor)
        runs = [t.config for t in record.trials if t.config.phase == "confirm" and t.config.study == chosen.study]
        assert {run.configuration_id for run in runs} == {t.config.configuration_id for t in best[workload, "teleport"]}
        search = {trial.trial_id for trial in record.trials if trial.config.phase == "search"}
        assert {run.origin for run in runs} <= search, "it comes from a trial that is on file"
    controls = {
        trial.config.method.random_move.teleport
        for trial in record.trials
        if trial.config.arm == "random" and trial.config.method.random_move is not None
    }
    assert controls == {best["narrow", "teleport"][0].config.method.teleport}


@pytest.mark.parametrize("arm", ["teleport", "random"])
def test_leaving_one_workload_out_is_answered_on_the_seeds_of_its_confirm_runs(finished: Outcome, arm: str) -> None:
    record = read_record(finished.paths)
    [made] = [each for each in transfers_of([Candidates.of(record)]) if each.arm == arm]
    assert [each.workload for each in made.left_out] == ["narrow", "wide"]
    for left in made.left_out:
        assert left.cell is not None
        assert (left.cell.evidence, left.cell.seeds) == ("confirmed", record.spec.confirm_seeds)
        numbers = roles(Candidates.of(record))[left.workload, arm]
        [number] = [number for number, of in numbers.items() if "leave_one_out" in of]
        assert made.label(left.setting).startswith(f"#{number} (")


def test_an_exported_setting_runs_on_one_workload_by_itself(finished: Outcome, tmp_path: Path) -> None:
    record = read_record(finished.paths)
    exported = tmp_path / "best.yaml"
    exported.write_text(best_spec(record, "wide", "teleport"))
    config = single_config(load_spec(exported), None, "teleport", None)
    assert config.configuration_id == champions(Candidates.of(record))["wide", "teleport"][0].config.configuration_id


@pytest.mark.parametrize("after", [14, *(pytest.param(after, marks=pytest.mark.slow) for after in (3, 23, 37))])
def test_a_sweep_that_is_cut_off_anywhere_goes_on_as_if_it_had_not_been(
    finished: Outcome, tmp_path: Path, after: int
) -> None:
    with pytest.raises(Interrupted, match="sweep 'shared' was interrupted"):
        go(raced(), tmp_path, Cut(after))
    outcome = go(raced(), tmp_path)
    assert outcomes(read_record(outcome.paths)) == outcomes(read_record(finished.paths))


def test_a_shared_search_begins_with_the_best_of_another(finished: Outcome) -> None:
    record = read_record(finished.paths)
    points = best_points(record, raced("name=next", "search.warm_start={sweep: shared, top_k: 2}"))
    assert set(points) == {"narrow/baseline", "wide/baseline", "*/teleport", "*/random"}
    chosen = champions(Candidates.of(record))["narrow", "teleport"][0]
    assert points["*/teleport"][0] == chosen.config.values


class _TwoAtOnce(ReadyLauncher):
    """Two workers; the first unit of setting 0 diverges while the second runs, and ends at its next report or not."""

    def __init__(self, *, cut: bool) -> None:
        self.cut = cut
        self.stopped: list[str] = []

    def launch(self, source: TrialSource) -> None:
        while not source.is_exhausted:
            configs = [config for config in (source.propose(), source.propose()) if config is not None]
            for config in configs:
                source.on_started(config)
            self._end(source, configs)

    def _end(self, source: TrialSource, configs: Sequence[TrialConfig]) -> None:
        for config in configs:
            if config.arm != "teleport" or config.phase == "confirm" or config.number != 0:
                source.on_ended(config, costing(config, 4))
            elif config is configs[0]:
                source.on_ended(config, failed(config))
                if self.cut:
                    raise KeyboardInterrupt
            elif not source.on_history(config, [row(0), row(2)]):
                self.stopped.append(config.trial_id)


@pytest.mark.parametrize("cut", [False, True])
def test_what_runs_when_its_setting_ends_is_pruned_also_where_a_crash_cut_it_off(tmp_path: Path, cut: bool) -> None:
    spec, tracker = shared_spec(), NoTracker()
    launcher = _TwoAtOnce(cut=cut)
    if cut:
        with pytest.raises(Interrupted, match="was interrupted"):
            go(spec, tmp_path, launcher, tracker)
    outcome = go(spec, tmp_path, launcher, tracker)
    record = read_record(outcome.paths)
    assert all(trial.result is not None for trial in record.trials)
    units = [trial for trial in record.trials if trial.config.arm == "teleport" and trial.config.number == 0]
    states = [trial.result.state for trial in units if trial.result is not None]
    assert sorted(states) == [TrialState.FAIL, TrialState.PRUNED]
    assert bool(launcher.stopped) is not cut
    counted = standing(outcome.paths).progress
    assert counted.num_planned == counted.num_done == len(record.trials)
    assert outcome.report.study("wide", "teleport").num_diverged == 1


@pytest.mark.slow
@ray_warnings
def test_ray_runs_the_pairs_of_a_setting_at_once(tmp_path: Path) -> None:
    outcome = go(shared_spec("search.trials=2"), tmp_path, RayLauncher(shares=[Share()]))
    inline = go(shared_spec("search.trials=2"), tmp_path / "inline", InlineLauncher())
    assert outcomes(read_record(outcome.paths)) == outcomes(read_record(inline.paths))


def test_a_tracked_unit_says_which_setting_and_search_it_is_of(finished: Outcome) -> None:
    record = read_record(finished.paths, with_history=False)
    units = [trial.config for trial in record.trials if trial.config.study == "wide/teleport"]
    first = [trial_facts(record, unit) for unit in units if unit.number == 0]
    assert {facts.name for facts in first} == {"wide/teleport #0 seed 0", "wide/teleport #0 seed 1"}
    assert all(facts.tags["setting"] == "0" and facts.tags["search"] == "*/teleport" for facts in first)
    tuned = [trial_facts(record, trial.config) for trial in record.trials if trial.config.arm == "baseline"]
    assert not any("setting" in facts.tags for facts in tuned)
