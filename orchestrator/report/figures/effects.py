"""Times to target and effects, each interval beside the seeds it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, layout_of, rows_axis, trace
from orchestrator.report.palette import MUTED
from orchestrator.report.schema import Comparison, Report, StudyReport
from orchestrator.report.wording import interval, number, ratio_change
from orchestrator.spec import BASELINE

MAX_RATIO = 8.0
EFFECTS = (
    "The diamond is the Hodges-Lehmann estimate, the line its exact 95 % interval (a simultaneous one for a claim "
    "among several), each small point a seed. An arrow marks an interval or a point beyond the edge. Left is better. "
    "Only the steps of a teleport arm carry a verdict."
)


def points_figure(
    studies: Sequence[StudyReport], comparisons: Sequence[Comparison], colours: dict[str, str], metric: str
) -> Figure:
    """Draw each seed's time to target; a miss stands at the right edge as a cross.

    Args:
        studies: those of one workload.
        comparisons: those of that workload; its pairs are joined where there are two arms.
        colours: arm -> colour.
        metric: ``steps_to_target`` or ``seconds_to_target``.
    """
    limit = "budget_steps" if metric == "steps_to_target" else "seconds"
    runs = [run for study in studies if study.best for run in study.best.confirm]
    known = [v for run in runs for v in (getattr(run, metric), getattr(run, limit)) if v is not None]
    edge = 1.06 * max(known, default=1.0)
    lane = _lanes([run.seed for run in runs])
    rows = {study.arm: place for place, study in enumerate(studies)}
    data = [_pair_lines(comparisons, metric, rows, edge, lane)] if len(studies) == 2 else []
    for study in studies:
        data += _points(study, colours[study.arm], metric, edge, rows[study.arm], lane)
    layout = layout_of(TIME_METRICS[metric][1], "") | {"showlegend": False}
    layout["yaxis"] |= rows_axis(list(rows))
    caption = "Each point is a confirm seed; the bar is the median."
    if len(studies) == 2:
        caption += " Grey lines join the same seed."
    if any(run.is_answer and run.outcome != "reached" for run in runs):
        caption += " A cross at the right edge is a run that missed its target."
    return Figure(
        key=f"{studies[0].workload}-{metric}",
        workload=studies[0].workload,
        title=f"{TIME_METRICS[metric][0]} to target, seed by seed".capitalize(),
        caption=caption,
        data=data,
        layout=layout,
        height=90 + 62 * len(rows),
    )


def effect_figure(
    comparisons: Sequence[Comparison], colours: dict[str, str], labels: Sequence[str] | None = None
) -> Figure:
    """Draw each effect with its exact interval and, beside it, the seeds it comes from.

    Args:
        comparisons: at least one, all on a ratio scale and with intervals.
        colours: arm -> colour.
        labels: a name for each row; None: its arm and metric.
    """
    labels = labels or [f"{each.arm} · {TIME_METRICS[each.metric][0]}" for each in comparisons]
    finite = [r for c in comparisons for r in _ratios(c) if 1 / MAX_RATIO <= r <= MAX_RATIO]
    reach = max([1.25, *(max(r, 1 / r) for r in finite)]) * 1.05
    no_change = {"color": MUTED[0], "width": 1.5, "dash": "dash"}
    data = [trace("lines", "no change", [1.0, 1.0], [-0.5, len(labels) - 0.5], line=no_change)]
    for place, comparison in enumerate(comparisons):
        data += _effect_traces(comparison, colours[comparison.arm], place, reach)
    layout = layout_of("change from the baseline (log scale)", "") | {"showlegend": False}
    ticks = _ratio_ticks(reach)
    end = 1.06 * math.log10(reach)
    layout["xaxis"] |= {"type": "log", "range": [-end, end], "tickangle": 0, "tickvals": ticks}
    layout["xaxis"] |= {"ticktext": ["none" if r == 1.0 else ratio_change(r) for r in ticks]}
    layout["yaxis"] |= rows_axis(labels)
    return Figure(
        key=f"{comparisons[0].workload}-effects",
        workload=comparisons[0].workload,
        title="How much less, or more, than the baseline",
        caption=EFFECTS,
        data=data,
        layout=layout,
        height=110 + 46 * len(labels),
    )


def _ratios(comparison: Comparison) -> Iterator[float]:
    yield from (pair.effect for pair in comparison.pairs)
    if comparison.interval is not None and comparison.effect is not None:
        yield from (comparison.interval.low, comparison.interval.high, comparison.effect.estimate)


def _lanes(seeds: Sequence[int]) -> dict[int, float]:
    """Give each seed its own height within a row: evaluations are steps apart, so many seeds have the same time."""
    distinct = sorted(set(seeds))
    return {seed: 0.4 * ((place + 0.5) / len(distinct) - 0.5) for place, seed in enumerate(distinct)}


def _points(study: StudyReport, colour: str, metric: str, edge: float, row: int, lane: dict[int, float]) -> list[Trace]:
    runs = [run for run in (study.best.confirm if study.best else ()) if run.is_answer]
    hits = [(run, getattr(run, metric)) for run in runs if getattr(run, metric) is not None]
    gone = [run for run in runs if getattr(run, metric) is None]
    heights = [row + lane[run.seed] for run, _ in hits]
    text = [f"{study.arm}, seed {run.seed}: {number(float(value), 4)}" for run, value in hits]
    marker: dict[str, object] = {"color": colour, "size": 9, "opacity": 0.75}
    traces = [trace("markers", study.arm, [value for _, value in hits], heights, text=text, marker=marker)]
    if gone:
        heights = [row + lane[run.seed] for run in gone]
        text = [f"{study.arm}, seed {run.seed}: {run.outcome}" for run in gone]
        marker = {"color": colour, "size": 11, "symbol": "x-thin", "line": {"color": colour, "width": 2}}
        traces.append(trace("markers", "missed", [edge] * len(gone), heights, text=text, marker=marker))
    median = getattr(study.best, f"median_{metric}", None)
    if median is not None and math.isfinite(median):
        text = [f"{study.arm}, median: {number(median, 4)}"]
        marker = {"color": colour, "size": 34, "symbol": "line-ns", "line": {"color": colour, "width": 3}}
        traces.append(trace("markers", "median", [median], [row], text=text, marker=marker))
    return traces


def _pair_lines(
    comparisons: Sequence[Comparison], metric: str, rows: dict[str, int], edge: float, lane: dict[int, float]
) -> Trace:
    pairs = next((c.pairs for c in comparisons if c.metric == metric), ())
    first, second = rows.values()
    xs: list[float | None] = []
    ys: list[float | None] = []
    for pair in pairs:
        xs += [min(pair.baseline, edge), min(pair.arm, edge), None]
        ys += [first + lane[pair.seed], second + lane[pair.seed], None]
    return trace("lines", "pairs", xs, ys, line={"color": MUTED[0], "width": 1}, opacity=0.5)


def _effect_traces(comparison: Comparison, colour: str, row: int, reach: float) -> list[Trace]:
    found, effect = comparison.interval, comparison.effect
    assert found is not None
    assert effect is not None
    told = f"{comparison.arm}: {ratio_change(effect.estimate)} {interval(comparison)}"
    least, most = 1 / reach, reach
    ends = [min(max(end, least), most) for end in (found.low, found.high)]
    # Where misses prevail the estimate is 0 or infinite, and the arrow of the interval alone says which way.
    estimate = [effect.estimate] if least <= effect.estimate <= most else []
    beyond = [(least, "triangle-left")] * (found.low < least) + [(most, "triangle-right")] * (found.high > most)
    diamond = {"color": colour, "size": 13, "symbol": "diamond"}
    arrow = {"color": colour, "size": 12, "symbol": [symbol for _, symbol in beyond]}
    edges = [end for end, _ in beyond]
    return [
        _seed_points(comparison, colour, row, reach),
        trace("lines", "interval", ends, [row, row], text=[told, told], line={"color": colour, "width": 4}),
        trace("markers", "estimate", estimate, [row] * len(estimate), text=[told] * len(estimate), marker=diamond),
        trace("markers", "beyond", edges, [row] * len(edges), text=[told] * len(edges), marker=arrow),
    ]


def _seed_points(comparison: Comparison, colour: str, row: int, reach: float) -> Trace:
    lane = _lanes([pair.seed for pair in comparison.pairs])
    xs = [min(max(pair.effect, 1 / reach), reach) for pair in comparison.pairs]
    ys = [row + 0.3 + 0.4 * lane[pair.seed] for pair in comparison.pairs]
    text = [f"seed {pair.seed}: {ratio_change(pair.effect)}" for pair in comparison.pairs]
    return trace("markers", "seeds", xs, ys, text=text, marker={"color": colour, "size": 6, "opacity": 0.55})


def _ratio_ticks(reach: float) -> list[float]:
    """Choose round changes within reach, none so close to the one before that their labels meet on a phone."""
    ticks = [1.0]
    for candidates in ((1.1, 1.25, 1.5, 2.0, 4.0, 8.0), (0.9, 0.8, 0.67, 0.5, 0.25, 0.125)):
        last = 1.0
        for ratio in candidates:
            if 1 / reach <= ratio <= reach and abs(math.log(ratio / last)) >= math.log(reach) / 3.5:
                ticks.append(ratio)
                last = ratio
    return sorted(ticks)


def matrix_figures(reports: Sequence[Report], colours: dict[str, str]) -> list[Figure]:
    """Draw each arm's effect on each workload, one below the other; there is no figure for one workload alone."""
    if sum(len(report.workloads) for report in reports) < 2:
        return []
    made = (_matrix(reports, colours, metric) for metric in TIME_METRICS)
    return [figure for figure in made if figure is not None]


def _matrix(reports: Sequence[Report], colours: dict[str, str], metric: str) -> Figure | None:
    found = [(report, each) for report in reports for each in report.comparisons if _is_shown(each, metric)]
    if not found:
        return None
    places = [f"{report.sweep.name}/{each.workload}" if len(reports) > 1 else each.workload for report, each in found]
    several = len({each.arm for _, each in found}) > 1
    labels = [f"{place} · {each.arm}" if several else place for place, (_, each) in zip(places, found, strict=True)]
    return replace(
        effect_figure([each for _, each in found], colours, labels),
        key=f"matrix-{metric}",
        workload="",
        title="Effects over all workloads",
        caption=f"Each row compares an arm with the baseline of the same workload. {EFFECTS}",
        group="matrix",
        option=TIME_METRICS[metric][0],
    )


def _is_shown(comparison: Comparison, metric: str) -> bool:
    return comparison.metric == metric and comparison.against == BASELINE and comparison.interval is not None
