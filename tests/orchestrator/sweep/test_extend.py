"""A sweep that is extended runs exactly what is added, and its earlier claims stand beside the new ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.errors import Interrupted, SpecError, UserError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.launch import InlineLauncher
from orchestrator.report import Report, full_report, page_sections
from orchestrator.spec import SweepSpec
from orchestrator.sweep.extend import extend
from orchestrator.sweep.run import Outcome, run
from orchestrator.sweep.standing import standing
from orchestrator.track import MlflowTracker, NoTracker, Tracker
from tests.orchestrator.home.test_checkpoint import CutAt
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.test_fetch import uri_of
from tests.waiting import PATIENCE

SPEC = (
    "search={trials: 2, seeds: [0], objective: {metric: steps_to_target}}",
    "confirm={seeds: 6}",
    "workloads.digits.optimizer={name: sgd, lr: {loguniform: [0.1, 0.4]}}",
    "workloads.digits.target={metric: train_loss, value: 1.5}",
    "workloads.digits.evaluate={every: 2}",
    "checkpoint.every=1e-9",
)


def go(
    spec: SweepSpec, home: Path, launcher: InlineLauncher | CutAt | None = None, tracker: Tracker | None = None
) -> Outcome:
    paths = SweepPaths(home, spec.name)
    launcher, tracker = launcher or InlineLauncher(), tracker or NoTracker()
    return run(spec, paths, launcher, tracker, command="teleport run", observe=lambda progress: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(tiny_spec(*SPEC), tmp_path_factory.mktemp("home"))


@pytest.fixture
def paths(finished: Outcome, tmp_path: Path) -> SweepPaths:
    shutil.copytree(finished.paths.root, tmp_path / "tiny")
    return SweepPaths(tmp_path, "tiny")


def results(paths: SweepPaths) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in paths.trials.glob("*/result.json")}


def claims(report: Report) -> list[object]:
    """Every primary comparison but for what depends on the family."""
    return [
        each.model_dump(include={"workload", "arm", "p", "pairs", "num_pairs", "rate", "baseline_rate"})
        for each in report.comparisons
        if each.is_primary
    ]


def test_confirm_seeds_that_are_added_carry_a_claim_of_their_own(finished: Outcome, paths: SweepPaths) -> None:
    before = results(paths)
    outcome = go(extend(paths, confirm_seeds=5), paths.home)
    after = results(paths)
    assert {key: after[key] for key in before} == before, "nothing that ran runs again"
    new = [paths.read_trial(key).config for key in after.keys() - before.keys()]
    assert {config.phase for config in new} == {"confirm"}
    assert {config.seeds[0] for config in new} == set(range(1006, 1011))
    report = outcome.report
    [stage] = report.earlier
    assert (stage.confirm_seeds, stage.num_trials) == (tuple(range(1000, 1006)), 2)
    assert claims(report.model_copy(update={"comparisons": stage.comparisons})) == claims(finished.report)
    [claim] = [each for each in report.comparisons if each.is_primary]
    assert {pair.seed for pair in claim.pairs} == set(range(1006, 1011))
    [first] = stage.comparisons
    assert first.p is not None
    assert claim.p is not None
    smaller, larger = sorted([first.p, claim.p])
    adjusted = sorted([first.p_adjusted or 0.0, claim.p_adjusted or 0.0])
    assert adjusted == pytest.approx([min(1.0, 2 * smaller), min(1.0, max(2 * smaller, larger))])
    assert "Claims before the sweep was extended" in [section.title for section in page_sections(report)]
    assert full_report(read_record(paths)) == report
    assert standing(paths).state == "finished"


def test_trials_that_are_added_go_on_with_the_same_search_and_are_confirmed_on_fresh_seeds(paths: SweepPaths) -> None:
    before = results(paths)
    outcome = go(extend(paths, trials=2), paths.home)
    assert results(paths).items() >= before.items()
    search = [trial.config for trial in read_record(paths).trials if trial.config.phase == "search"]
    assert sorted(config.number or 0 for config in search if config.arm == "teleport") == [0, 1, 2, 3]
    assert outcome.report.sweep.confirm_seeds == tuple(range(1006, 1012)), "as many as before"
    assert outcome.report.earlier[0].num_trials == 2


def test_searches_that_are_added_leave_the_first_as_it_is(paths: SweepPaths) -> None:
    before = results(paths)
    outcome = go(extend(paths, replicates=1, confirm_seeds=2), paths.home)
    assert results(paths).items() >= before.items()
    [claim] = [each for each in outcome.report.comparisons if each.is_primary]
    assert (claim.num_replicates, claim.num_pairs) == (2, 2)
    assert outcome.report.earlier[0].num_replicates == 1


def test_it_can_be_extended_again_and_again(paths: SweepPaths) -> None:
    go(extend(paths, confirm_seeds=1), paths.home)
    outcome = go(extend(paths, confirm_seeds=2), paths.home)
    assert [len(stage.confirm_seeds) for stage in outcome.report.earlier] == [6, 1]
    assert outcome.report.sweep.confirm_seeds == (1007, 1008)


def test_a_sweep_that_has_not_ended_becomes_larger_and_makes_one_claim(tmp_path: Path) -> None:
    spec = tiny_spec(*SPEC)
    with pytest.raises(Interrupted, match="was interrupted"):
        go(spec, tmp_path, CutAt(40))
    paths = SweepPaths(tmp_path, "tiny")
    assert any(path for path in paths.trials.glob("*/result.json")), "it was cut off within confirm"
    outcome = go(extend(paths, confirm_seeds=2), tmp_path)
    assert outcome.report.earlier == ()
    assert outcome.report.sweep.confirm_seeds == tuple(range(1000, 1008))


def test_a_plain_search_gets_a_confirm_phase(tmp_path: Path) -> None:
    go(tiny_spec(*SPEC, "confirm={seeds: 0}"), tmp_path)
    outcome = go(extend(SweepPaths(tmp_path, "tiny"), confirm_seeds=2), tmp_path)
    assert outcome.report.earlier == ()
    assert [each.num_pairs for each in outcome.report.comparisons if each.is_primary] == [2]


def test_a_crash_before_the_larger_spec_is_stored_changes_no_claim(finished: Outcome, paths: SweepPaths) -> None:
    stored = paths.spec.read_bytes()
    extend(paths, confirm_seeds=2)
    paths.spec.write_bytes(stored)
    report = full_report(read_record(paths))
    assert report.earlier == ()
    assert claims(report) == claims(finished.report)


def test_its_run_in_mlflow_stays_the_same(tmp_path: Path) -> None:
    import mlflow

    def tracker() -> MlflowTracker:
        return MlflowTracker(uri_of(tmp_path), close_seconds=PATIENCE)

    go(tiny_spec(*SPEC, "confirm.seeds=1"), tmp_path, tracker=tracker())
    outcome = go(extend(SweepPaths(tmp_path, "tiny"), confirm_seeds=1), tmp_path, tracker=tracker())
    assert outcome.num_untracked == 0
    client = mlflow.MlflowClient(uri_of(tmp_path))
    [experiment] = [each for each in client.search_experiments() if each.name == "teleport"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert [each.info.status for each in parents] == ["FINISHED"]
    assert len(runs) - 1 == len(results(outcome.paths))


@pytest.mark.parametrize(
    ("added", "rule"),
    [
        ({}, "nothing to add: give at least one of --trials, --confirm-seeds and --replicates"),
        ({"replicates": 200}, "search.replicates"),
    ],
)
def test_what_cannot_be_added_is_refused_and_changes_nothing(
    paths: SweepPaths, added: dict[str, int], rule: str
) -> None:
    before = {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}
    with pytest.raises((UserError, SpecError), match=rule):
        extend(paths, **added)
    assert {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()} == before


def test_the_command_runs_what_is_added_and_says_what_stood(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--home", str(paths.home), "--launcher", "inline"]
    assert exit_code(["extend", "tiny", "--confirm-seeds", "1", *where]) == 0
    capsys.readouterr()
    assert exit_code(["report", "tiny", "--home", str(paths.home), "--format", "json,md,html"]) == 0
    text = (paths.report / "report.md").read_text()
    assert "Claims before the sweep was extended" in text
    assert len(json.loads((paths.report / "report.json").read_text())["earlier"]) == 1
    assert exit_code(["extend", "tiny", *where]) == 2
    assert "nothing to add" in capsys.readouterr().err
    assert exit_code(["extend", "tiny", "--trials", "0", *where]) == 2
    assert exit_code(["extend", "tinny", "--trials", "1", *where]) == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err
