"""Times to target and effects, each interval beside the seeds it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, layout_of
from orchestrator.report.palette import MUTED
from orchestrator.report.schema import Comparison, StudyReport
from orchestrator.report.wording import interval, number, ratio_change

MAX_RATIO = 8.0


def points_figure(
    studies: Sequence[StudyReport], comparisons: Sequence[Comparison], colours: dict[str, str], metric: str
) -> Figure:
    """Draw each seed's time to target; a miss stands at the right edge as a cross.

    Args:
        studies: of one workload.
        comparisons: of that workload, for the medians.
        colours: by arm.
        metric: ``steps_to_target`` or ``seconds_to_target``.

    Returns:
        The figure.
    """
    limit = "budget_steps" if metric == "steps_to_target" else "seconds"
    runs = [run for study in studies if study.best for run in study.best.confirm]
    known = [v for run in runs for v in (getattr(run, metric), getattr(run, limit)) if v is not None]
    misses = any(run.is_answer and run.outcome != "reached" for run in runs)
    edge = 1.06 * max(known, default=1.0)
    lane = _lanes([run.seed for run in runs])
    rows = {study.arm: place for place, study in enumerate(studies)}
    data = _pair_lines(comparisons, metric, rows, edge, lane) if len(studies) == 2 else []
    for study in studies:
        data += _points(study, colours[study.arm], metric, edge, rows[study.arm], lane)
    layout = layout_of(TIME_METRICS[metric][1], "")
    layout["yaxis"] |= {
        "tickvals": list(rows.values()),
        "ticktext": list(rows),
        "range": [len(rows) - 0.5, -0.5],
        "showgrid": False,
        "automargin": True,
    }
    layout |= {"showlegend": False}
    caption = "A point per confirm seed; the bar is the median."
    if len(studies) == 2:
        caption += " Grey lines join the same seed."
    return Figure(
        key=f"{studies[0].workload}-{metric}",
        workload=studies[0].workload,
        title=f"{TIME_METRICS[metric][0]} to target, seed by seed".capitalize(),
        caption=caption + (" A cross at the right edge is a run that missed its target." if misses else ""),
        data=data,
        layout=layout,
        height=90 + 62 * len(rows),
    )


def effect_figure(
    comparisons: Sequence[Comparison], colours: dict[str, str], labels: Sequence[str] | None = None
) -> Figure:
    """Draw each effect with its exact interval and, beside it, the seeds it comes from.

    Args:
        comparisons: on a ratio scale, with intervals.
        colours: by arm.
        labels: one each; None: its arm and metric.

    Returns:
        The figure.
    """
    data: list[Trace] = []
    if labels is None:
        labels = [f"{each.arm} · {TIME_METRICS[each.metric][0]}" for each in comparisons]
    finite = [r for c in comparisons for r in _ratios(c) if 1 / MAX_RATIO <= r <= MAX_RATIO]
    reach = max([1.25, *(max(r, 1 / r) for r in finite)]) * 1.05
    for place, comparison in enumerate(comparisons):
        data += _effect_traces(comparison, colours[comparison.arm], place, reach)
    layout = layout_of("change from the baseline (log scale)", "")
    data.insert(0, _no_change(len(labels)))
    ticks = _ratio_ticks(reach)
    layout["xaxis"] |= {
        "type": "log",
        "range": [-1.06 * math.log10(reach), 1.06 * math.log10(reach)],
        "tickangle": 0,
        "tickvals": ticks,
        "ticktext": ["none" if r == 1.0 else ratio_change(r) for r in ticks],
    }
    layout["yaxis"] |= {
        "tickvals": list(range(len(labels))),
        "ticktext": list(labels),
        "range": [len(labels) - 0.5, -0.5],
        "showgrid": False,
        "automargin": True,
    }
    layout |= {"showlegend": False}
    return Figure(
        key=f"{comparisons[0].workload}-effects",
        workload=comparisons[0].workload,
        title="How much less, or more, than the baseline",
        caption="Diamond and line: Hodges-Lehmann estimate and its exact 95 % interval (simultaneous for a claim among "
        "several); an arrow: the interval or a point goes on. Small points: each seed. "
        "Left is better. Only steps of a teleport arm carry a verdict.",
        data=data,
        layout=layout,
        height=110 + 46 * len(labels),
    )


def _ratios(comparison: Comparison) -> Iterator[float]:
    yield from (pair.effect for pair in comparison.pairs)
    if comparison.interval is not None and comparison.effect is not None:
        yield from (comparison.interval.low, comparison.interval.high, comparison.effect.estimate)


def _lanes(seeds: Sequence[int]) -> dict[int, float]:
    """Give each seed its own height within a row: evaluations are steps apart, so that many seeds are equal."""
    distinct = sorted(set(seeds))
    return {seed: 0.4 * ((place + 0.5) / len(distinct) - 0.5) for place, seed in enumerate(distinct)}


def _points(study: StudyReport, colour: str, metric: str, edge: float, row: int, lane: dict[int, float]) -> list[Trace]:
    runs = [run for run in (study.best.confirm if study.best else ()) if run.is_answer]
    hits = [(run, getattr(run, metric)) for run in runs if getattr(run, metric) is not None]
    gone = [run for run in runs if getattr(run, metric) is None]
    common = {"type": "scatter", "mode": "markers", "hovertemplate": "%{text}<extra></extra>"}
    traces = [
        common
        | {
            "name": study.arm,
            "x": [value for _, value in hits],
            "y": [row + lane[run.seed] for run, _ in hits],
            "text": [f"{study.arm}, seed {run.seed}: {number(float(value), 4)}" for run, value in hits],
            "marker": {"color": colour, "size": 9, "opacity": 0.75},
        }
    ]
    if gone:
        traces.append(
            common
            | {
                "name": "missed",
                "x": [edge] * len(gone),
                "y": [row + lane[run.seed] for run in gone],
                "text": [f"{study.arm}, seed {run.seed}: {run.outcome}" for run in gone],
                "marker": {"color": colour, "size": 11, "symbol": "x-thin", "line": {"color": colour, "width": 2}},
            }
        )
    median = getattr(study.best, f"median_{metric}", None)
    if median is not None and math.isfinite(median):
        traces.append(
            common
            | {
                "name": "median",
                "x": [median],
                "y": [row],
                "text": [f"{study.arm}, median: {number(median, 4)}"],
                "marker": {"color": colour, "size": 34, "symbol": "line-ns", "line": {"color": colour, "width": 3}},
            }
        )
    return traces


def _pair_lines(
    comparisons: Sequence[Comparison], metric: str, rows: dict[str, int], edge: float, lane: dict[int, float]
) -> list[Trace]:
    pairs = next((c.pairs for c in comparisons if c.metric == metric), ())
    first, second = rows.values()
    xs: list[float | None] = []
    ys: list[float | None] = []
    for pair in pairs:
        xs += [min(pair.baseline, edge), min(pair.arm, edge), None]
        ys += [first + lane[pair.seed], second + lane[pair.seed], None]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "pairs",
            "x": xs,
            "y": ys,
            "line": {"color": MUTED[0], "width": 1},
            "opacity": 0.5,
            "hoverinfo": "skip",
        }
    ]


def _effect_traces(comparison: Comparison, colour: str, row: int, reach: float) -> list[Trace]:
    assert comparison.interval is not None
    assert comparison.effect is not None
    least, most = 1 / reach, reach
    lane = _lanes([pair.seed for pair in comparison.pairs])
    low, high = (min(max(end, least), most) for end in (comparison.interval.low, comparison.interval.high))
    # Where misses prevail the estimate is no number, and the interval's arrow says which way.
    estimate = [e for e in (comparison.effect.estimate,) if least <= e <= most]
    beyond = [
        (end, symbol)
        for end, symbol, is_cut in (
            (least, "triangle-left", comparison.interval.low < least),
            (most, "triangle-right", comparison.interval.high > most),
        )
        if is_cut
    ]
    common = {"type": "scatter", "hovertemplate": "%{text}<extra></extra>"}
    told = f"{comparison.arm}: {ratio_change(comparison.effect.estimate)} {interval(comparison)}"
    return [
        common
        | {
            "name": "seeds",
            "mode": "markers",
            "x": [min(max(pair.effect, least), most) for pair in comparison.pairs],
            "y": [row + 0.3 + 0.4 * lane[pair.seed] for pair in comparison.pairs],
            "text": [f"seed {pair.seed}: {ratio_change(pair.effect)}" for pair in comparison.pairs],
            "marker": {"color": colour, "size": 6, "opacity": 0.55},
        },
        common
        | {
            "name": "interval",
            "mode": "lines",
            "x": [low, high],
            "y": [row, row],
            "text": [told, told],
            "line": {"color": colour, "width": 4},
        },
        common
        | {
            "name": "estimate",
            "mode": "markers",
            "x": estimate,
            "y": [row] * len(estimate),
            "text": [told] * len(estimate),
            "marker": {"color": colour, "size": 13, "symbol": "diamond"},
        },
        common
        | {
            "name": "beyond",
            "mode": "markers",
            "x": [end for end, _ in beyond],
            "y": [row] * len(beyond),
            "text": [told] * len(beyond),
            "marker": {"color": colour, "size": 12, "symbol": [symbol for _, symbol in beyond]},
        },
    ]


def _no_change(num_rows: int) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "no change",
        "x": [1.0, 1.0],
        "y": [-0.5, num_rows - 0.5],
        "line": {"color": MUTED[0], "width": 1.5, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _ratio_ticks(reach: float) -> list[float]:
    """Round changes within reach, none so close to the one before that their labels meet on a phone."""
    ticks = [1.0]
    for candidates in ((1.1, 1.25, 1.5, 2.0, 4.0, 8.0), (0.9, 0.8, 0.67, 0.5, 0.25, 0.125)):
        last = 1.0
        for ratio in candidates:
            if 1 / reach <= ratio <= reach and abs(math.log(ratio / last)) >= math.log(reach) / 3.5:
                ticks.append(ratio)
                last = ratio
    return sorted(ticks)
