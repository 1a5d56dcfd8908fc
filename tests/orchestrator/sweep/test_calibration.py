"""``plan`` says of a spec's budgets what the simulated sweeps have shown, and where none tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.calibrate import BUDGETS, for_plan
from orchestrator.spec import SweepSpec, load_spec
from orchestrator.sweep import calibration
from orchestrator.sweep.calibration import calibration_of
from orchestrator.sweep.plan import make_plan
from tests.orchestrator.specs import tiny_spec

ROOT = Path(__file__).parents[3]
COVERED = (
    "workloads.digits.optimizer={name: sgd, lr: {loguniform: [0.01, 1]}}",
    "search={trials: 12, objective: {metric: steps_to_target}}",
    "confirm={seeds: 10}",
)


def told(*overrides: str) -> str:
    [sentence] = calibration_of(tiny_spec(*COVERED, *overrides))
    return sentence


def test_covered_budgets_get_their_rates() -> None:
    known = {(each.trials, each.seeds): each for each in calibration._known()}
    found = known[12, 10]
    sentence = told()
    assert f"of {found.num_sweeps} simulated sweeps" in sentence
    assert f"{100 * found.false[0]:.1f} % called an arm without an effect faster or slower" in sentence
    assert f"-15 % in {100 * found.found['-15 %']:.0f} %" in sentence
    assert sentence in make_plan(tiny_spec(*COVERED)).power


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("search.trials=13", "simulated are the search trials/confirm seeds 8/8, 12/10"),
        ("confirm.grid=none", "confirm.grid is not the simulated one"),
        ("confirm.grid={factor: 2.0}", "confirm.grid is not the simulated one"),
        ("workloads.digits.optimizer.lr=0.1", "searches its learning rate on a logarithmic scale"),
        ("search.sampler=random", "the simulated searches use tpe"),
        ("search.replicates=3", "search each arm once"),
        ("search.objective={metric: train_loss}", "the simulated searches improve steps_to_target"),
    ],
)
def test_what_was_not_simulated_is_said(override: str, why: str) -> None:
    sentence = told(override)
    assert sentence.startswith("not calibrated, ")
    assert why in sentence


def test_a_shared_search_is_not_covered() -> None:
    [sentence] = calibration_of(load_spec(ROOT / "sweeps" / "open_question" / "shared.yaml"))
    assert sentence.startswith("not calibrated, since the search is shared by several workloads")


def test_where_no_claim_is_made_nothing_is_said() -> None:
    assert not list(calibration_of(tiny_spec(*COVERED, "confirm={seeds: 0}")))
    assert not list(calibration_of(tiny_spec(*COVERED, "arms={}")))


def test_several_claims_are_said_to_find_less() -> None:
    sentence = told("arms.other={teleport: {step: {rule: growth, factor: 1.2}}}")
    assert "with 2 claims, each of them finds less" in sentence


def test_the_stored_rates_are_those_of_the_measured_rows() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text())["rows"]
    stored = json.loads(Path(calibration.__file__).with_name(calibration.FILE).read_text())
    assert stored == for_plan([row for row in rows if row["part"] == "calibrate"])
    assert [(each["trials"], each["seeds"]) for each in stored] == list(BUDGETS)


def sweeps_with_own_searches() -> list[Path]:
    return [path for path in sorted((ROOT / "sweeps").rglob("*.yaml")) if is_plain(load_spec(path))]


def is_plain(spec: SweepSpec) -> bool:
    return (
        spec.search.scope.name == "own" and spec.search.objective.metric == "steps_to_target" and spec.name != "night"
    )


@pytest.mark.parametrize("path", sweeps_with_own_searches(), ids=lambda path: path.stem)
def test_the_budgets_of_shipped_sweeps_are_calibrated(path: Path) -> None:
    [sentence] = calibration_of(load_spec(path))
    assert "simulated sweeps with these budgets" in sentence


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_searches_are_longer_than_their_random_beginning(path: Path) -> None:
    assert not [lint for lint in make_plan(load_spec(path)).lints if "at random" in lint]
