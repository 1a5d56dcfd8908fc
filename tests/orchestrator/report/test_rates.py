"""What a report says of arms on a grid of learning rates: no claim from a rate alone, every claim that is real."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from orchestrator.home.records import SweepRecord, TrialConfig
from orchestrator.report.metrics import TIMES
from orchestrator.report.rates import RateRule, rate_rule
from orchestrator.report.schema import Comparison, Report, SweepStage, Verdict
from orchestrator.report.sections import sections, verdict_section
from orchestrator.report.summarise import summarise
from orchestrator.statistics import Measured, Pair, rejects_beyond
from tests.orchestrator.report.build import EVERY, Effects, running, sweep, sweep_spec

STEPS = TIMES[0]


@dataclass(frozen=True)
class Valley(Effects):
    """Steps are a parabola of the logarithm of the learning rate, lowest at each arm's own best rate.

    Args:
        best: by arm, its best rate; an arm not named has 0.3.
        depth: by arm, what its steps are multiplied by; an arm not named has 1.
    """

    best: Mapping[str, float] = field(default_factory=dict)
    depth: Mapping[str, float] = field(default_factory=dict)
    own_noise: float = 0.0
    steps: float = 120.0

    def time(self, config: TrialConfig, seed: int) -> float:
        rate = float(config.training.optimizer.model_dump()["lr"])
        away = math.log(rate / self.best.get(config.arm, 0.3))
        shared = random.Random(f"{seed}").gauss(0.0, self.noise)
        own = random.Random(f"{config.arm} {rate:.4g} {seed}").gauss(0.0, self.own_noise)
        return self.steps * self.depth.get(config.arm, 1.0) * math.exp(0.25 * away**2 + shared + own)


def record_of(effects: Valley, *overrides: str) -> SweepRecord:
    return sweep(sweep_spec("confirm.grid={}", *overrides), effects)


def primary(report: Report) -> Comparison:
    (found,) = (comparison for comparison in report.comparisons if comparison.is_primary)
    return found


def told(effects: Valley, *overrides: str) -> Comparison:
    return primary(summarise(record_of(effects, *overrides)))


def test_arms_that_do_the_same_differ_by_nothing_whatever_their_searches_found() -> None:
    record = record_of(Valley())
    champions = {trial.config.values["optimizer.lr"] for trial in record.trials if trial.config.phase == "search"}
    assert len(champions) > 2, "each arm has drawn rates of its own"
    found = primary(summarise(record))
    assert found.verdict is Verdict.NO_DIFFERENCE
    assert found.rate == found.baseline_rate
    assert found.effect is not None
    assert found.effect.estimate == 1.0
    assert {point.estimate for point in found.at_points} == {1.0}


@pytest.mark.parametrize("depth", [0.8, 1.25])
def test_an_arm_that_is_better_or_worse_at_every_rate_is_said_to_be(depth: float) -> None:
    found = told(Valley(depth={"teleport": depth}))
    assert found.verdict is (Verdict.FASTER if depth < 1.0 else Verdict.SLOWER)
    assert all(point.estimate is not None and (point.estimate < 1.0) == (depth < 1.0) for point in found.at_points)


def test_a_learning_rate_in_disguise_is_no_effect() -> None:
    found = told(Valley(best={"teleport": 0.15}))
    assert found.rate is not None
    assert found.baseline_rate is not None
    assert found.rate < found.baseline_rate, "the arm does at half the rate what the baseline does at the whole"
    assert found.verdict in {Verdict.NO_DIFFERENCE, Verdict.LEARNING_RATE}
    apart = [point.estimate for point in found.at_points if point.estimate is not None]
    assert min(apart) < 1.0 < max(apart), "at equal rates they differ, this way or that"


def test_a_gain_that_is_real_is_claimed_though_the_best_rates_differ() -> None:
    found = told(Valley(best={"teleport": 0.15}, depth={"teleport": 0.7}))
    assert found.rate != found.baseline_rate
    assert found.verdict is Verdict.FASTER


def test_a_claim_that_a_peak_between_two_rates_could_explain_is_not_made() -> None:
    pairs = [Pair(Measured(100.0 + seed, 400.0), Measured(95.0 + seed, 400.0)) for seed in range(8)]
    small = RateRule(is_same_point=False, signs=(-1, 1), hidden=0.01)
    large = RateRule(is_same_point=False, signs=(-1, 1), hidden=0.10)

    def beyond(alpha: float) -> Callable[[float], bool]:
        return lambda amount: rejects_beyond(pairs, STEPS.scale, -1, amount, alpha)

    assert small.allows(-1, beyond(0.05))
    assert not large.allows(-1, beyond(0.05))
    assert not small.allows(-1, beyond(0.001)), "the level is that of Holm's step"
    assert RateRule(is_same_point=True, signs=(0, 0), hidden=None).allows(-1, beyond(0.05))
    assert RateRule(is_same_point=False, signs=(-1, -1), hidden=None).allows(-1, beyond(0.05))
    assert not RateRule(is_same_point=False, signs=(-1, 1), hidden=None).allows(-1, beyond(0.05))
    assert not RateRule(is_same_point=False, signs=(1, 1), hidden=None).allows(-1, beyond(0.05))


def test_what_is_hidden_between_two_rates_is_an_eighth_of_the_second_difference() -> None:
    report = summarise(record_of(Valley(best={"teleport": 0.15})))
    baseline, teleport = report.study("mlp_digits", "baseline"), report.study("mlp_digits", "teleport")
    rule = rate_rule(baseline, teleport, STEPS)
    assert rule is not None
    assert rule.hidden is not None
    step = math.log(1.4)
    # The parabola has the second difference 2 · 0.25 · step²; steps are read off every few steps.
    assert rule.hidden == pytest.approx(0.5 * step**2 / 8, abs=2 * EVERY / 120 / 8)


def test_the_report_shows_the_best_point_and_every_other_one() -> None:
    report = summarise(record_of(Valley()))
    for arm in ("baseline", "teleport"):
        study = report.study("mlp_digits", arm)
        (best,) = (point for point in study.grid if point.is_best)
        assert study.best is not None
        assert study.best.confirm == best.confirm
        assert study.best.values["optimizer.lr"] == best.rate
        assert f"lr: {best.rate:g}" in study.best.yaml
        assert best.mean_steps == min(point.mean_steps for point in study.grid if point.mean_steps is not None)
    assert report.sweep.standing is SweepStage.FINISHED
    (table,) = (section for section in sections(report) if section.key == "rates")
    assert len(table.rows) == len(report.study("mlp_digits", "teleport").grid)
    assert verdict_section(report).header[-1] == "learning rate"


def test_confirm_runs_until_every_point_has_ended() -> None:
    spec = sweep_spec("confirm.grid={}")
    record = sweep(spec, Valley(), change=lambda t: running(t) if t.config.seeds == (spec.confirm_seeds[-1],) else t)
    report = summarise(record)
    assert report.sweep.standing is SweepStage.CONFIRM
    assert primary(report).verdict is Verdict.PENDING


def test_without_a_grid_there_is_no_word_of_rates() -> None:
    report = summarise(sweep())
    assert all(not study.grid for study in report.studies)
    assert not any(section.key == "rates" for section in sections(report))
    assert "learning rate" not in verdict_section(report).header
