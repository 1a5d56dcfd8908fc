"""What the search would have found with fewer trials, or in less time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.report.figures.axes import axis_at, linear_ticks, numeric_axis, say_log, tick_text
from orchestrator.report.figures.frame import Figure, Trace, band_edges, layout_of, trace
from orchestrator.report.figures.search import objective_axis
from orchestrator.report.schema import Best, StudyReport
from orchestrator.report.wording import unit_of
from orchestrator.spec import Objective

# The seconds of each unit.
CLOCK = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def tuning_figures(studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective) -> list[Figure]:
    """Draw the expected best of k search trials, and of those that are over after some time, in one place."""
    made = (_figure(studies, colours, objective, is_time) for is_time in (False, True))
    return [figure for figure in made if figure is not None]


def _figure(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective, is_time: bool
) -> Figure | None:
    known = [(study.arm, study.tuning) for study in studies if study.tuning is not None]
    courses = {arm: tuning.by_seconds if is_time else tuning.by_trials for arm, tuning in known}
    if not any(math.isfinite(best.low) for course in courses.values() for best in course):
        return None
    data = [each for arm, course in courses.items() for each in _traces(arm, course, colours[arm])]
    x_title = "time of training in the search" if is_time else "search trials, drawn at random from those made"
    layout = layout_of(x_title, f"best {unit_of(objective.metric)}")
    last = max(best.x for course in courses.values() for best in course)
    layout["xaxis"] |= clock_axis(last) if is_time else numeric_axis([last], is_integer=True, from_zero=True)
    layout["yaxis"] |= objective_axis((y for each in data for y in each["y"]), objective)
    say_log(layout["yaxis"])
    side = "lower" if objective.mode == "min" else "higher"
    workload = studies[0].workload
    return Figure(
        key=f"{workload}-tuning-{'seconds' if is_time else 'trials'}",
        workload=workload,
        title="What less search would have found",
        caption=f"The arm whose line is {side} finds more in as {'much time' if is_time else 'many trials'}. A solid "
        "line is the expected best, a dotted one the median, a band the quartiles. A line begins where a value is sure "
        "to be found. The search chose its winner by these values, so they flatter it.",
        data=data,
        layout=layout,
        group=f"{workload}-tuning",
        option="time" if is_time else "trials",
    )


def _traces(arm: str, course: Sequence[Best], colour: str) -> Iterator[Trace]:
    """Draw one arm; there is no expected best where it is not sure that there is a value."""
    sure = [best for best in course if math.isfinite(best.low) and math.isfinite(best.high)]
    low, high = [best.low for best in sure], [best.high for best in sure]
    yield from band_edges(arm, [best.x for best in sure], low, high, colour)
    for told, values, line in (
        ("median", [best.median for best in course], {"color": colour, "width": 1.5, "dash": "dot"}),
        ("expected", [best.mean for best in course], {"color": colour, "width": 2.5}),
    ):
        finite = [(best.x, value) for best, value in zip(course, values, strict=True) if math.isfinite(value)]
        yield trace(
            "lines+markers" if len(course) == 1 else "lines",
            arm,
            [x for x, _ in finite],
            [value for _, value in finite],
            hover=f"{arm}, {told} best<br>%{{x:.4g}}: %{{y:.4g}}",
            line=line,
            legendgroup=arm,
            showlegend=told == "expected",
        )


def clock_axis(longest: float) -> dict[str, object]:
    """Label an axis of seconds from 0 to ``longest`` or beyond in days, hours, minutes, seconds or milliseconds.

    >>> clock_axis(7_000.0)["ticktext"]
    ['0 min', '50 min', '100 min', '150 min']
    """
    size, unit = next(((size, unit) for size, unit in CLOCK if longest >= 2.0 * size), CLOCK[-1])
    counts = linear_ticks(0.0, longest / size)
    return axis_at([size * count for count in counts], [f"{tick_text(count)} {unit}" for count in counts])
