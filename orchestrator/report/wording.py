"""Numbers as people read them: the same words in the page, the Markdown and the terminal."""

from __future__ import annotations

import math

from orchestrator.report.schema import Comparison, Effect, Interval
from orchestrator.statistics import ALPHA, Scale

SPLIT_WORDS = {"train": "training", "validation": "validation", "test": "test"}
# Names of metrics that are not written as their words.
SYMBOLS = {"r2": "R²", "f1": "F1", "mse": "MSE", "mae": "MAE"}
MISSING = "–"
# A ratio of this or more is written as a factor.
FACTOR = 3.0


def metric_words(metric: str) -> str:
    """Write the name of a curve.

    >>> metric_words("train_loss"), metric_words("validation_r2"), metric_words("grad_norm")
    ('training loss', 'validation R²', 'grad norm')
    """
    split, _, name = metric.partition("_")
    if split not in SPLIT_WORDS:
        return metric.replace("_", " ")
    return f"{SPLIT_WORDS[split]} {SYMBOLS.get(name, name.replace('_', ' '))}"


def unit_of(metric: str) -> str:
    """Write what the number of a comparison or an objective is.

    >>> unit_of("steps_to_target"), unit_of("validation_accuracy"), unit_of("test_accuracy")
    ('steps to target', 'final validation accuracy', 'test accuracy')
    """
    is_last = metric.startswith(("train_", "validation_"))
    return f"{'final ' if is_last else ''}{metric_words(metric)}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a few significant digits.

    >>> number(1234567.0), number(0.04567), number(12.0), number(float("inf")), number(None)
    ('1,234,567', '0.0457', '12', '∞', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1) or value == int(value):
        text = f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.{digits}g}"
    elif abs(value) < 1e-4:
        text = f"{value:.{digits - 1}e}"
    else:
        text = f"{value:.{digits - 1 - math.floor(math.log10(abs(value)))}f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def p_text(p: float | None) -> str:
    """Write a p-value into a sentence.

    >>> p_text(0.25), p_text(0.00002)
    ('p = 0.25', 'p < 0.001')
    """
    return f"p = {p_value(p)}".replace("= <", "<")


def p_value(p: float | None) -> str:
    """Write a p-value.

    >>> p_value(0.0078125), p_value(1.0), p_value(0.00002), p_value(None)
    ('0.008', '1', '< 0.001', '–')
    """
    if p is None:
        return MISSING
    if p >= 0.9995:
        return "1"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def percent(share: float, digits: int = 0) -> str:
    """Write a share in percent.

    >>> percent(0.123), percent(0.0004, 1), percent(float("inf"))
    ('12 %', '< 0.1 %', '∞ %')
    """
    if math.isinf(share):
        return "∞ %"
    least = 10.0**-digits
    if 0.0 < share * 100 < least / 2:
        return f"< {least:.{digits}f} %"
    return f"{share * 100:.{digits}f} %"


def change(effect: Effect, against: str = "baseline") -> str:
    """Write an effect as a change from the arm ``against``: ``−12 %``, or ``+0.4 points``.

    Where misses on one side prevail there is no number, and the text says whose they are.
    """
    if effect.scale == "difference":
        return _points(effect.estimate)
    if effect.estimate == 0.0:
        return f"{against} misses"
    return "arm misses" if math.isinf(effect.estimate) else ratio_change(effect.estimate)


def interval(comparison: Comparison) -> str:
    """Write a comparison's interval as changes from the baseline: ``[−18 %, −5 %]``; a dash where there is none.

    An end without a limit, and one at no effect that the interval excludes, is open: ``[−18 %, 0 %)``. Where one end is
    a factor, so is the other: ``[×2.8, ×5]``.
    """
    found, effect = comparison.interval, comparison.effect
    if found is None or effect is None:
        return MISSING
    return interval_text(found, effect.scale)


def interval_text(found: Interval, scale: Scale) -> str:
    """Write the interval of an effect as changes; see :func:`interval`."""
    none = 1.0 if scale == "ratio" else 0.0
    ends = (found.low, found.high)
    if scale == "ratio" and any(FACTOR <= end < math.inf for end in ends):
        low, high = ("+∞" if math.isinf(end) else f"×{number(end)}" for end in ends)
    else:
        low, high = (effect_change(end, scale) for end in ends)
    left = "(" if _is_open(found.low, none, found) else "["
    right = ")" if _is_open(found.high, none, found) else "]"
    return f"{left}{low}, {high}{right}"


def effect_change(value: float, scale: Scale) -> str:
    """Write an effect, or an end of its interval, as a change.

    >>> effect_change(0.88, "ratio"), effect_change(0.004, "difference")
    ('−12 %', '+0.40 points')
    """
    return ratio_change(value) if scale == "ratio" else _points(value)


def _is_open(end: float, none: float, found: Interval) -> bool:
    return math.isinf(end) or (found.excludes_none and end == none)


def interval_kind(comparison: Comparison) -> str:
    """Name a comparison's interval as it stands before its ends: ``95 % interval``.

    That of a claim among several is simultaneous, or names the level of the Holm step at which the claim stands.
    """
    found = comparison.interval
    if found is not None and found.method == "bonferroni" and found.confidence > 1.0 - ALPHA:
        return "simultaneous 95 % interval"
    if found is not None and found.method == "crossed":
        simultaneous = "simultaneous " if found.confidence > 1.0 - ALPHA else ""
        return f"{simultaneous}95 % interval over searches and seeds"
    if found is not None and found.method == "holm":
        return f"{found.confidence * 100:.3g} % interval at its Holm step"
    return "95 % interval"


def smallest(effect: Effect) -> str:
    """Write the smallest effect that these seeds would have shown, such as ``14 %``; empty where there is none."""
    if math.isinf(effect.smallest):
        return ""
    if effect.scale == "ratio":
        return percent(effect.smallest - 1.0) if effect.smallest > 1.005 else "1 %"
    return f"{number(effect.smallest * 100, 2)} points"


def ratio_change(ratio: float) -> str:
    """Write a ratio to the baseline as a change.

    >>> ratio_change(0.88), ratio_change(1.034), ratio_change(5.0), ratio_change(1.0), ratio_change(float("inf"))
    ('−12 %', '+3.4 %', '×5', '0 %', '+∞')
    """
    if math.isinf(ratio):
        return "+∞"
    share = ratio - 1.0
    if ratio >= FACTOR:
        return f"×{number(ratio)}"
    digits = 0 if abs(share) >= 0.0995 or share == 0.0 else 1
    text = f"{abs(share) * 100:.{digits}f}"
    sign = "" if float(text) == 0.0 else "−" if share < 0.0 else "+"
    return f"{sign}{text if float(text) else 0} %"


def _points(difference: float) -> str:
    if math.isinf(difference):
        return "+∞" if difference > 0 else "−∞"
    sign = "+" if difference > 0 else "−" if difference < 0 else ""
    return f"{sign}{number(abs(difference) * 100, 2)} points"
