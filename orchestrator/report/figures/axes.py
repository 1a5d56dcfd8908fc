"""Axes whose labels are round values, one of them at or beyond each end of what is drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.report.wording import ratio_change

# Few enough for a phone to show every other one, and always both ends.
MAX_LABELS = 5
# A power of ten more is better than two that are empty.
MAX_LOG_LABELS = 6
FEWEST_LABELS = 3
MANTISSAS = (1, 2, 2.5, 5)
# Within this ratio a logarithmic axis has evenly spaced values.
NARROW = 2.5
# How far an axis goes beyond its outermost labels, as a share of what lies between them.
MARGIN = 0.03
RATIOS = (0.125, 0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 8.0)
MIN_RATIO, MAX_RATIO = RATIOS[0], RATIOS[-1]
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def numeric_axis(
    values: Iterable[float | None], *, is_log: bool = False, is_integer: bool = False, from_zero: bool = False
) -> dict[str, Any]:
    """Lay out an axis that holds all finite values; on a logarithmic one, those above zero.

    Args:
        values: what is drawn along it.
        is_log: whether the axis is logarithmic.
        is_integer: whether only whole numbers may stand at it.
        from_zero: whether it begins at zero; not for a logarithmic one.
    """
    known = [value for value in values if value is not None and math.isfinite(value) and (value > 0.0 or not is_log)]
    if not known:
        return {"type": "log"} if is_log else {}
    low, high = min(known), max(known)
    if is_log:
        return axis_at(log_ticks(low, high), is_log=True)
    low = min(low, 0.0) if from_zero else low
    return axis_at(linear_ticks(low, high, is_integer=is_integer))


def say_log(axis: dict[str, Any]) -> None:
    """Add to the title of an axis that it is logarithmic, where it is."""
    if axis.get("type") == "log":
        axis["title"] = axis["title"] | {"text": f"{axis['title']['text']} (log scale)"}


def axis_at(ticks: Sequence[float], labels: Sequence[str] | None = None, *, is_log: bool = False) -> dict[str, Any]:
    """Lay out an axis from its first to its last label, and a little beyond."""
    ends = [math.log10(tick) if is_log else tick for tick in (ticks[0], ticks[-1])]
    margin = MARGIN * (ends[1] - ends[0])
    text = [tick_text(tick) for tick in ticks] if labels is None else list(labels)
    span = [ends[0] - margin, ends[1] + margin]
    return {"type": "log" if is_log else "linear", "tickvals": list(ticks), "ticktext": text, "range": span}


def share_axis() -> dict[str, Any]:
    """Lay out an axis of shares from none to all."""
    return axis_at((0.0, 0.25, 0.5, 0.75, 1.0), ("0 %", "25 %", "50 %", "75 %", "100 %"))


def ratio_axis(values: Iterable[float]) -> dict[str, Any]:
    """Lay out a logarithmic axis of changes from the baseline, no change among its labels; ends at 1/8 and 8."""
    known = [min(max(value, MIN_RATIO), MAX_RATIO) for value in values]
    ticks = ratio_ticks(min(known, default=1.0), max(known, default=1.0))
    return axis_at(ticks, ["none" if tick == 1.0 else ratio_change(tick) for tick in ticks], is_log=True)


def linear_ticks(low: float, high: float, *, is_integer: bool = False) -> list[float]:
    """Choose three to five multiples of a round step, the first at or below ``low``, the last at or above ``high``.

    >>> linear_ticks(0.0, 87.9), linear_ticks(0.031, 0.034)
    ([0.0, 25.0, 50.0, 75.0, 100.0], [0.031, 0.032, 0.033, 0.034])
    >>> linear_ticks(0, 1, is_integer=True), linear_ticks(7.0, 7.0)
    ([0.0, 1.0, 2.0], [6.0, 6.5, 7.0, 7.5, 8.0])
    """
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        reach = 1.0 if is_integer or low == 0.0 else abs(low) / 10.0
        low, high = low - reach, high + reach
    begin = math.floor(math.log10((high - low) / MAX_LABELS))
    found = (
        _multiples(low, high, mantissa, power)
        for power in itertools.count(begin)
        for mantissa in MANTISSAS
        if not is_integer or (mantissa * 10.0**power).is_integer()
    )
    return next(ticks for ticks in found if len(ticks) <= MAX_LABELS)


def _multiples(low: float, high: float, mantissa: float, power: int) -> list[float]:
    """List the multiples of a step from the last one at or below ``low`` to the first at or above ``high``."""
    step = float(f"{mantissa}e{power}")
    # A value that is a multiple but for rounding has no need of another one beyond it.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + FEWEST_LABELS - 1)
    return [float(f"{place * mantissa}e{power}") for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Choose three to six labels of a logarithmic axis: 1, 2 and 5 times powers of ten, or powers alone.

    >>> log_ticks(84.0, 780.0), log_ticks(1e-8, 3e-1), log_ticks(0.0311, 0.0342)
    ([50.0, 100.0, 200.0, 500.0, 1000.0], [1e-08, 1e-06, 0.0001, 0.01, 1.0], [0.031, 0.032, 0.033, 0.034, 0.035])
    """
    if high <= NARROW * low:
        return linear_ticks(low, high)
    # A value that is a power of ten but for rounding has no need of another one beyond it.
    first, last = math.floor(math.log10(low) + 1e-10), math.ceil(math.log10(high) - 1e-10)
    known = [float(f"{digit}e{power}") for power in range(first, last + 2) for digit in (1, 2, 5)]
    start = max(place for place, tick in enumerate(known) if tick <= low * (1.0 + 1e-9))
    end = min(place for place, tick in enumerate(known) if tick >= high * (1.0 - 1e-9))
    ticks = known[start : max(end, start + FEWEST_LABELS - 1) + 1]
    stride = 0
    while len(ticks) > MAX_LOG_LABELS:
        stride += 1
        ticks = [float(f"1e{first + stride * place}") for place in range(math.ceil((last - first) / stride) + 1)]
    while len(ticks) < FEWEST_LABELS:
        ticks.append(ticks[-1] * 10.0**stride)
    return ticks


def ratio_ticks(low: float, high: float) -> list[float]:
    """Choose round ratios, 1 among them, the first at or below ``low`` and the last at or above ``high``.

    >>> ratio_ticks(0.91, 1.12), ratio_ticks(1.01, 3.7), ratio_ticks(0.125, 8.0)
    ([0.9, 1.0, 1.1, 1.25], [0.67, 1.0, 2.0, 4.0], [0.125, 0.25, 1.0, 4.0, 8.0])
    """
    none = RATIOS.index(1.0)
    start = max(place for place in range(none) if RATIOS[place] <= min(low, RATIOS[none - 1]))
    end = min(place for place in range(none + 1, len(RATIOS)) if RATIOS[place] >= max(high, RATIOS[none + 1]))

    def apart(one: int, other: int) -> float:
        """How far two labels lie apart, as a share of the axis."""
        return abs(math.log(RATIOS[one] / RATIOS[other])) / math.log(RATIOS[end] / RATIOS[start])

    least = 1.0 / (MAX_LABELS + 1)
    while start > 0 and apart(start, none) < least:
        start -= 1
    while end < len(RATIOS) - 1 and apart(end, none) < least:
        end += 1
    kept = [start, none, end]
    for place in sorted(range(start + 1, end), key=lambda each: -apart(each, none)):
        if len(kept) < MAX_LABELS and all(apart(place, other) >= least for other in kept):
            kept.append(place)
    return [RATIOS[place] for place in sorted(kept)]


def tick_text(value: float) -> str:
    """Write the label of an axis as short as it is exact.

    >>> tick_text(1500.0), tick_text(0.25), tick_text(1e-8), tick_text(2e7), tick_text(0.0), tick_text(-0.5)
    ('1,500', '0.25', '10⁻⁸', '2·10⁷', '0', '−0.5')
    """
    if value == 0.0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.10g}".replace("-", "−")
    mantissa, power = f"{abs(value):.6e}".split("e")
    short = f"{float(mantissa):g}"
    text = ("" if short == "1" else f"{short}·") + "10" + str(int(power)).translate(_SUPERSCRIPTS)
    return f"−{text}" if value < 0.0 else text
