"""Times to target and effects, each interval beside the seeds it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from orchestrator.report.figures.axes import numeric_axis, ratio_axis
from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, layout_of, rows_axis, trace
from orchestrator.report.palette import BAD, GOOD, MUTED
from orchestrator.report.schema import Comparison, Report, StudyReport, Verdict
from orchestrator.report.wording import interval, number, ratio_change
from orchestrator.spec import BASELINE

# Verdict -> the colour and the shape of its mark, and the same shape in the name of its row.
MARKS: dict[Verdict, tuple[str, str, str]] = {
    Verdict.FASTER: (GOOD[0], "triangle-down", "▼"),
    Verdict.SLOWER: (BAD[0], "triangle-up", "▲"),
    Verdict.NO_DIFFERENCE: (MUTED[0], "circle", "●"),
    Verdict.LEARNING_RATE: (MUTED[0], "diamond", "◆"),
}
UNDECIDED = (MUTED[0], "x-thin", "×")
SHORT = {Verdict.NO_DIFFERENCE: "no difference seen", Verdict.LEARNING_RATE: "only the learning rate's"}
# With more rows than these the figure has the claims alone.
MAX_ROWS = 12
EFFECTS = (
    "The mark is the estimate, the line its 95 % interval, each small point a seed; left is better. ▼ faster, "
    "▲ slower, ● no difference seen, ◆ none beyond the learning rate, × undecided. A hollow mark is no claim. An arrow "
    "goes beyond the edge."
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
    layout["xaxis"] |= numeric_axis([edge], is_integer=metric != "seconds_to_target", from_zero=True)
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


def effect_figures(reports: Sequence[Report]) -> list[Figure]:
    """Draw each arm's effect on each workload, one below the other, with its verdict: in steps, seconds, gradients."""
    made = (_effect_figure(reports, metric) for metric in TIME_METRICS)
    return [figure for figure in made if figure is not None]


def _effect_figure(reports: Sequence[Report], metric: str) -> Figure | None:
    found = [(report, each) for report in reports for each in report.comparisons if _is_shown(each, metric)]
    claimed = {(report.sweep.name, c.workload, c.arm) for report in reports for c in report.comparisons if c.is_primary}
    is_cut = len(found) > MAX_ROWS and bool(claimed)
    if is_cut:
        found = [(report, c) for report, c in found if (report.sweep.name, c.workload, c.arm) in claimed]
    if not found:
        return None
    shown = [each for _, each in found]
    axis = ratio_axis(ratio for each in shown for ratio in _ratios(each))
    ends = (axis["tickvals"][0], axis["tickvals"][-1])
    none = {"color": MUTED[0], "width": 1.5, "dash": "dash"}
    data = [trace("lines", "no change", [1.0, 1.0], [-0.5, len(shown) - 0.5], line=none)]
    for place, comparison in enumerate(shown):
        data += _effect_traces(comparison, place, ends)
    option, _ = TIME_METRICS[metric]
    layout = layout_of(f"change in {option} to target (log scale)", "") | {"showlegend": False}
    layout["xaxis"] |= axis | {"tickangle": 0}
    layout["yaxis"] |= rows_axis(_row_names(found))
    return Figure(
        key=f"effects-{metric}",
        workload="",
        title="How much less, or more, than the baseline",
        caption=EFFECTS + " Arms without a claim are in the table alone." * is_cut,
        data=data,
        layout=layout,
        height=90 + 44 * len(shown),
        group="effects",
        option=option,
    )


def _is_shown(comparison: Comparison, metric: str) -> bool:
    return comparison.metric == metric and comparison.against == BASELINE and comparison.interval is not None


def _row_names(found: Sequence[tuple[Report, Comparison]]) -> list[str]:
    """Name each row by what tells it apart, with its verdict below."""
    places = [(report.sweep.name, each.workload, each.arm) for report, each in found]
    # A column in which all rows are alike tells nothing; the arm is always named.
    is_told = [len({place[column] for place in places}) > 1 for column in range(2)]
    names = [" · ".join(part for part, told in zip(place, [*is_told, True], strict=True) if told) for place in places]
    return [
        f"{name}<br>{mark_of(each)[2]} {SHORT.get(each.verdict, each.verdict)}"
        for name, (_, each) in zip(names, found, strict=True)
    ]


def mark_of(comparison: Comparison) -> tuple[str, str, str]:
    """Give colour, shape and sign of a verdict; the shape is hollow where no claim is made."""
    colour, symbol, sign = MARKS.get(comparison.verdict, UNDECIDED)
    return colour, symbol if comparison.is_primary or symbol == UNDECIDED[1] else f"{symbol}-open", sign


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


def _effect_traces(comparison: Comparison, row: int, ends: tuple[float, float]) -> list[Trace]:
    found, effect = comparison.interval, comparison.effect
    assert found is not None
    assert effect is not None
    colour, symbol, _ = mark_of(comparison)
    told = f"{comparison.arm}: {ratio_change(effect.estimate)} {interval(comparison)}, {comparison.verdict}"
    least, most = ends
    line = [min(max(end, least), most) for end in (found.low, found.high)]
    # Where misses prevail the estimate is 0 or infinite, and the arrow of the interval alone says which way.
    estimate = [effect.estimate] if least <= effect.estimate <= most else []
    beyond = [(least, "triangle-left")] * (found.low < least) + [(most, "triangle-right")] * (found.high > most)
    mark = {"color": colour, "size": 15, "symbol": symbol, "opacity": 1.0, "line": {"color": colour, "width": 2}}
    arrow = {"color": colour, "size": 12, "symbol": [symbol for _, symbol in beyond]}
    edges = [end for end, _ in beyond]
    width = 4 if comparison.is_primary else 2
    return [
        _seed_points(comparison, row, ends),
        trace("lines", "interval", line, [row, row], text=[told, told], line={"color": colour, "width": width}),
        trace("markers", "estimate", estimate, [row] * len(estimate), text=[told] * len(estimate), marker=mark),
        trace("markers", "beyond", edges, [row] * len(edges), text=[told] * len(edges), marker=arrow),
    ]


def _seed_points(comparison: Comparison, row: int, ends: tuple[float, float]) -> Trace:
    lane = _lanes([pair.seed for pair in comparison.pairs])
    xs = [min(max(pair.effect, ends[0]), ends[1]) for pair in comparison.pairs]
    ys = [row + 0.3 + 0.4 * lane[pair.seed] for pair in comparison.pairs]
    text = [f"seed {pair.seed}: {ratio_change(pair.effect)}" for pair in comparison.pairs]
    return trace("markers", "seeds", xs, ys, text=text, marker={"color": MUTED[0], "size": 5, "opacity": 0.55})
