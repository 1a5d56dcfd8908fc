"""Independent searches of one arm: each has its own seeds and sends its best to confirm, and a claim holds over all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted, SpecError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.launch import InlineLauncher, Launcher
from orchestrator.report import Report
from orchestrator.search import Candidates, champions, confirm_grids
from orchestrator.spec import SweepSpec
from orchestrator.sweep.plan import make_plan
from orchestrator.sweep.run import Outcome, run
from orchestrator.sweep.standing import standing
from orchestrator.track import NoTracker
from tests.orchestrator.home.test_checkpoint import CutAt
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.sweep.test_run import outcomes

R = 3
SEARCHED = (
    f"search={{trials: 3, seeds: [0, 1], replicates: {R}, concurrency: 2, objective: {{metric: steps_to_target}}}}",
    "confirm={seeds: 4}",
    "workloads.digits.optimizer={name: sgd, lr: {loguniform: [0.05, 0.5]}}",
    "workloads.digits.target={metric: train_loss, value: 1.5}",
    "workloads.digits.evaluate={every: 2}",
    "checkpoint.every=1e-9",
)


def spec_of(*more: str) -> SweepSpec:
    return tiny_spec(*SEARCHED, *more)


def go(home: Path, launcher: Launcher) -> Outcome:
    spec = spec_of()
    paths = SweepPaths(home, spec.name)
    return run(spec, paths, launcher, NoTracker(), command="teleport run", observe=lambda progress: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(tmp_path_factory.mktemp("home"), InlineLauncher())


def test_each_search_has_its_own_seeds_and_its_own_proposals(done: Outcome) -> None:
    search = [trial.config for trial in read_record(done.paths).trials if trial.config.phase == "search"]
    of_arm = [config for config in search if config.arm == "teleport"]
    assert Counter(config.replicate for config in of_arm) == dict.fromkeys(range(R), 6)
    assert {(config.replicate, config.seeds[0]) for config in of_arm} == {
        (replicate, seed + 1_000_000 * replicate) for replicate in range(R) for seed in (0, 1)
    }
    first = {config.replicate: config.values for config in of_arm if config.number == 0}
    assert len({str(values) for values in first.values()}) == R, "the samplers draw differently"
    assert f"digits/teleport#{R}" in done.paths.journal.read_text()


def test_each_search_sends_its_best_to_one_grid_and_the_baseline_runs_there_once(done: Outcome) -> None:
    record = read_record(done.paths)
    candidates = Candidates.of(record)
    best = champions(candidates)["digits", "teleport"]
    assert [trial.config.replicate for trial in best] == list(range(R))
    grid = confirm_grids(candidates)["digits"]
    confirm = [trial.config for trial in record.trials if trial.config.phase == "confirm"]
    num_settings = len({str(trial.config.method) for trial in best})
    assert Counter(config.arm for config in confirm) == {
        "baseline": len(grid.points) * 4,
        "teleport": len(grid.points) * 4 * num_settings,
    }


def test_the_claim_holds_the_luck_of_searches_and_seeds(done: Outcome) -> None:
    report = done.report
    [claim] = [each for each in report.comparisons if each.is_primary]
    assert (claim.num_replicates, claim.num_pairs, len(claim.pairs)) == (R, 4, 4 * R)
    assert {(pair.replicate, pair.seed) for pair in claim.pairs} == {(r, 1000 + s) for r in range(R) for s in range(4)}
    assert claim.interval is not None
    assert claim.interval.method == "crossed"
    assert (claim.p is not None and claim.p <= 0.05) == claim.interval.excludes_none
    assert any(f"{R} independent searches" in answer.sentence for answer in report.answers)
    exploratory = [each for each in report.comparisons if each.metric == "train_loss"]
    assert {each.num_replicates for each in exploratory} == {1}
    assert all(point.num_pairs == 4 * R for point in claim.at_points)


def test_the_counts_of_plan_status_and_files_agree(done: Outcome) -> None:
    plan = make_plan(spec_of())
    assert {study.num_search for study in plan.studies} == {3 * 2 * R}
    progress = standing(done.paths).progress
    assert progress.num_done == progress.num_planned
    assert progress.num_done == len(read_record(done.paths).trials)


@pytest.mark.parametrize("cut_at", [3, 40])
def test_one_that_was_cut_off_comes_to_the_same(done: Outcome, tmp_path: Path, cut_at: int) -> None:
    with pytest.raises(Interrupted, match="was interrupted"):
        go(tmp_path, CutAt(cut_at))
    again = go(tmp_path, InlineLauncher())
    assert outcomes(read_record(again.paths)) == outcomes(read_record(done.paths))
    assert said(again.report) == said(done.report)


def said(report: Report) -> list[object]:
    return [(c.verdict, c.effect, c.p) for c in report.comparisons if c.metric in {"steps_to_target", "train_loss"}]


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("search.replicates=0", "search.replicates: must be greater than or equal to 1, is 0"),
        ("confirm.top_k=2", "confirm.top_k: each of 3 replicates confirms its best alone, so must be 1"),
        ("confirm.grid=none", "with search.replicates the arms meet on one grid"),
        ("confirm.seeds=[1, 2000001]", r"but \[1, 2000001\] are in those of its replicates"),
        ("search.seeds=[0, 1000000]", "with replicates each must be below 1,000,000"),
        ("budget.trials=35", "the searches of 3 replicates take 36 trials, and budget.trials is 35"),
    ],
)
def test_what_cannot_be_meant_is_refused(override: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        spec_of(override)


def test_without_a_search_there_is_nothing_to_repeat() -> None:
    with pytest.raises(SpecError, match=r"nothing is searched \(trials: 0\), so must be 1, is 2"):
        tiny_spec("search={trials: 0, replicates: 2}", "workloads.digits.optimizer.lr=0.1")
