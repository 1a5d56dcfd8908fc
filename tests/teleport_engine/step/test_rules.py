"""The contract of a step rule: one class, run over every rule; a new rule is tested by being listed."""

import math
from collections.abc import Callable

import pytest

from teleport_engine import (
    FixedStep,
    GrowthStep,
    LayerwiseStep,
    MeasuredGrowth,
    ModelFacts,
    RuleError,
    StepRule,
)


class Curve:
    """A line given by a function of one number, which counts what it is asked."""

    def __init__(self, function: Callable[[float], float], slope: float, hint: float = 1.0) -> None:
        self.function = function
        self.value = function(0.0)
        self.slope = slope
        self.hint = hint
        self.longest = math.inf
        self.asked: list[float] = []

    def at(self, eta: float) -> float:
        self.asked.append(eta)
        try:
            return self.function(eta)
        except OverflowError:
            return math.inf

    def allowed(self, eta: float) -> float:
        return min(eta, self.longest)

    def rise(self, rho: float) -> float:
        return (rho - 1.0) * abs(self.value)

    def weight_norm(self) -> float:
        return 3.0

    @property
    def direction_norm(self) -> float:
        return math.sqrt(self.slope)

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(loss=0.5, grad_norm=2.0, weight_norm=self.weight_norm(), num_layers=4)


CURVES: dict[str, Callable[[], Curve]] = {
    "linear": lambda: Curve(lambda x: 2.0 + 3.0 * x, 3.0),
    "quadratic": lambda: Curve(lambda x: 1.0 + 0.1 * x + 50.0 * x * x, 0.1),
    "explodes": lambda: Curve(lambda x: 1e-4 + 1e-6 * x + x**8, 1e-6),
    "exponential": lambda: Curve(lambda x: math.exp(1000.0 * x), 1000.0),
    "concave": lambda: Curve(lambda x: 1.0 + math.sqrt(x + 1e-4) - 1e-2, 50.0),
    "not finite far out": lambda: Curve(lambda x: 1.0 + x if x < 0.9 else math.inf, 0.01),
    "bad hint": lambda: Curve(lambda x: 1.0 + x + x * x, 1.0, hint=1e3),
    "below zero": lambda: Curve(lambda x: -2.0 + 3.0 * x + x * x, 3.0),
    "through zero": lambda: Curve(lambda x: -1.0 + math.exp(0.9 * x) - math.exp(-3.0 * x), 3.9),
}
RULES: dict[str, StepRule] = {
    "fixed": FixedStep(0.2),
    "growth": GrowthStep(1.3),
    "small growth": GrowthStep(1.001),
    "large growth": GrowthStep(100.0, max_evaluations=60),
    "scaled by layer": LayerwiseStep(lambda layer: 0.1, FixedStep(2.0)),
    "measured growth": MeasuredGrowth(lambda model: 1.0 + model.grad_norm / model.num_layers),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
class TestStepRuleContract:
    def test_length_is_positive_or_refused(self, rule: StepRule, curve: Callable[[], Curve]) -> None:
        eta = rule.length(curve())
        assert eta is None or (eta > 0.0 and math.isfinite(eta))

    def test_same_line_same_length(self, rule: StepRule, curve: Callable[[], Curve]) -> None:
        assert rule.length(curve()) == rule.length(curve())

    def test_cost_is_bounded(self, rule: StepRule, curve: Callable[[], Curve]) -> None:
        line = curve()
        rule.length(line)
        assert len(line.asked) <= 60


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())
@pytest.mark.parametrize("rho", [1.001, 1.3, 1.8])
def test_growth_is_within_5_percent(curve: Callable[[], Curve], rho: float) -> None:
    line = curve()
    eta = GrowthStep(rho).length(line)
    assert eta is not None
    rise = line.rise(rho)
    assert abs(line.function(eta) - line.value - rise) <= 0.05 * rise
    assert line.asked[-1] == eta, "the accepted point must be the last one evaluated, so that it is not paid twice"


def test_one_evaluation_gives_the_quadratic() -> None:
    line = Curve(lambda x: 1.0 + x + 4.0 * x * x, 1.0)
    eta = GrowthStep(2.0).length(line)
    assert len(line.asked) == 2
    assert eta == pytest.approx((-1.0 + math.sqrt(17.0)) / 8.0, rel=1e-12)


def test_a_good_hint_saves_the_first_guess() -> None:
    line = Curve(lambda x: 1.0 + x + 4.0 * x * x, 1.0, hint=(-1.0 + math.sqrt(17.0)) / 8.0)
    assert GrowthStep(2.0).length(line) == line.hint
    assert len(line.asked) == 1


def test_growth_that_cannot_be_had_is_refused() -> None:
    flat = Curve(lambda x: 1.0 + min(x, 0.1), 1.0)
    assert GrowthStep(2.0).length(flat) is None
    assert len(flat.asked) <= 40


@pytest.mark.parametrize("eta", [0.0, -0.2, float("nan"), float("inf")])
def test_fixed_step_refuses(eta: float) -> None:
    with pytest.raises(ValueError, match=r"FixedStep: eta must be finite and > 0, got"):
        FixedStep(eta)


@pytest.mark.parametrize("rho", [1.0, 0.5, -2.0, float("nan"), float("inf")])
def test_growth_step_refuses(rho: float) -> None:
    with pytest.raises(ValueError, match=r"GrowthStep: rho must be finite and > 1, got"):
        GrowthStep(rho)
    with pytest.raises(ValueError, match="max_evaluations must be >= 1, got 0"):
        GrowthStep(1.1, max_evaluations=0)


@pytest.mark.parametrize("value", [1.0, 0.5, math.nan, math.inf])
def test_measured_growth_refuses(value: float) -> None:
    with pytest.raises(RuleError, match=r"growth factor must be finite and > 1, got"):
        MeasuredGrowth(lambda model: value).length(CURVES["linear"]())


def test_growth_looks_for_nothing_beyond_the_room_there_is() -> None:
    """At its end the rule says how much further it would have gone, which the climb shortens and tells of."""
    line = Curve(lambda x: 1.0 + x, 1.0)
    line.longest = 0.25
    wish = GrowthStep(2.0).length(line)
    assert line.asked == [0.25]
    assert wish is not None
    assert wish > 0.25


def test_a_wide_tolerance_saves_evaluations() -> None:
    strict, loose = (Curve(lambda x: 1.0 + x + 0.5 * x * x, 1.0) for _ in range(2))
    assert GrowthStep(1.5).length(strict) is not None
    assert GrowthStep(1.5, tolerance=0.4).length(loose) is not None
    assert len(loose.asked) < len(strict.asked)
    with pytest.raises(ValueError, match=r"tolerance must lie in \(0, 1\), got 1.0"):
        GrowthStep(1.5, tolerance=1.0)
