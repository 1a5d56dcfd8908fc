"""A short form of ``make calibrate``: sweeps whose truth is known, through search, confirm grid and verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.calibrate import (
    BUDGETS,
    SEARCHED,
    TRUTHS,
    Sweep,
    Table,
    World,
    searched,
    simulated,
    spec_of,
    table_of,
    tables,
)
from orchestrator.report.schema import Verdict
from orchestrator.spec import BASELINE

LABEL = "mlp"
SMALL = BUDGETS[0]
CLAIMS = {Verdict.FASTER, Verdict.SLOWER}


def sweeps_of(truth: str, numbers: range) -> list[Sweep]:
    return [sweep for number in numbers for sweep in simulated(LABEL, number, [truth], [SMALL])]


@pytest.mark.slow
@pytest.mark.parametrize("truth", ["identical, no settings", "identical, seven idle settings"])
def test_no_claim_is_made_of_an_arm_that_does_what_the_baseline_does(truth: str) -> None:
    found = sweeps_of(truth, range(12))
    assert {sweep.verdict for sweep in found} == {Verdict.NO_DIFFERENCE}
    assert all(sweep.is_covered for sweep in found)


@pytest.mark.slow
def test_no_claim_is_made_of_a_learning_rate_in_disguise() -> None:
    found = [
        *sweeps_of("learning rate x 2 in disguise", range(12)),
        *sweeps_of("learning rate x 0.5 in disguise", range(12)),
    ]
    assert not [sweep for sweep in found if sweep.verdict in CLAIMS]
    assert [sweep for sweep in found if sweep.verdict == Verdict.LEARNING_RATE], "the rule has been needed"


@pytest.mark.slow
@pytest.mark.parametrize("truth", ["-25 %", "-15 % at twice the rate"])
def test_a_real_effect_is_claimed(truth: str) -> None:
    found = sweeps_of(truth, range(8))
    assert sum(sweep.verdict == Verdict.FASTER for sweep in found) >= 6
    assert sum(sweep.is_covered for sweep in found) >= 6


def test_a_search_with_few_trials_is_the_beginning_of_one_with_more() -> None:
    world = World(table_of(LABEL), TRUTHS["noisy, no effect"], "a sweep")
    for arm in (BASELINE, "teleport"):
        few, many = (searched(spec_of(LABEL, SEARCHED, trials), arm, world) for trials in (12, 16))
        begun = [trial for trial in many if (trial.config.number or 0) < 12]
        assert sorted(trial.trial_id for trial in few) == sorted(trial.trial_id for trial in begun)


def test_a_table_is_straight_in_logarithms_between_recorded_rates() -> None:
    table = Table((0.1, 0.4), ((100.0, math.inf), (25.0, 30.0)), 200)
    assert table.at(0.2, 0) == pytest.approx(50.0)
    assert table.at(0.4, 0) == pytest.approx(25.0)
    assert table.at(0.05, 0) == pytest.approx(100.0)
    assert table.at(9.0, 0) == pytest.approx(25.0)
    assert table.at(0.19, 1) == math.inf
    assert table.at(0.21, 1) == 30.0


def test_the_page_shows_what_was_measured() -> None:
    root = Path(__file__).parents[3]
    rows = json.loads((root / "benchmarks/results.json").read_text(encoding="utf-8"))["rows"]
    page = (root / "docs/methodology.md").read_text(encoding="utf-8")
    assert tables([row for row in rows if row["part"] == "calibrate"]) in page, (
        "python -m benchmarks.calibrate prints it"
    )
