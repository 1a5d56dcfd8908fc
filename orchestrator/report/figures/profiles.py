"""Every arm over the workloads of a sweep: how often it is within a factor of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, band_edges, layout_of
from orchestrator.report.schema import Profile, Report, TimeMetric
from orchestrator.report.wording import number, percent

WIDEST, THINNEST = 5.0, 2.0


def profile_figures(reports: Sequence[Report], colours: Mapping[str, str]) -> list[Figure]:
    """Draw the performance profiles of each sweep, against steps, seconds and gradient evaluations.

    Args:
        reports: of the sweeps on the page.
        colours: by arm.

    Returns:
        A figure for each metric, in one place per sweep; none for a sweep of one workload or one arm.
    """
    return [
        _figure(found, colours, metric, report.sweep.name if len(reports) > 1 else "")
        for report in reports
        for metric in get_args(TimeMetric)
        if (found := [profile for profile in report.profiles if profile.metric == metric])
    ]


def _figure(profiles: Sequence[Profile], colours: Mapping[str, str], metric: TimeMetric, sweep: str) -> Figure:
    group = f"{sweep}-profiles" if sweep else "profiles"
    layout = layout_of("factor of the best arm's median", "share of workloads")
    layout["xaxis"] |= {"range": [0.97, profiles[0].factors[-1]], "tickvals": [1, 1.5, 2, 2.5, 3, 3.5, 4]}
    layout["xaxis"] |= {"ticktext": ["1", "1.5", "2", "2.5", "3", "3.5", "4"]}
    layout["yaxis"] |= {"range": [-0.03, 1.05], "tickformat": ".0%"}
    # Arms that are all within a factor lie on each other: those drawn first are wider, and so seen below the others.
    widths = [WIDEST - (WIDEST - THINNEST) * place / (len(profiles) - 1) for place in range(len(profiles))]
    is_banded = any(profile.low for profile in profiles)
    count = len(profiles[0].workloads)
    return Figure(
        key=f"{group}-{TIME_METRICS[metric][0]}",
        workload="",
        title="Performance profiles" + f": {sweep}" * bool(sweep),
        caption=f"The arm whose line is higher is more often close to the best, over {count} workloads; at factor 1 is "
        f"how often it is the best itself ({TIME_METRICS[metric][1]}; Dolan and Moré). Exploratory."
        + " Band: 95 % interval by bootstrap over the seeds."
        * is_banded,
        data=[
            trace
            for profile, width in zip(profiles, widths, strict=True)
            for trace in _traces(profile, colours[profile.arm], width)
        ],
        layout=layout,
        group=group,
        option=TIME_METRICS[metric][0],
    )


def _traces(profile: Profile, colour: str, width: float) -> list[Trace]:
    xs = list(profile.factors)
    ratios = zip(profile.workloads, profile.ratios, strict=True)
    told = "<br>".join(f"{workload}: ×{number(ratio)}" for workload, ratio in ratios)
    line: Trace = {
        "type": "scatter",
        "mode": "lines",
        "name": profile.arm,
        "legendgroup": profile.arm,
        "x": xs,
        "y": list(profile.share),
        "line": {"color": colour, "width": width, "shape": "hv"},
        "hovertemplate": f"{profile.arm}, within ×%{{x:.3g}}: %{{y:.0%}}<br>score {percent(profile.score)}<br>{told}"
        "<extra></extra>",
    }
    band = band_edges(profile.arm, xs, profile.low, profile.high, colour, shape="hv") if profile.low else []
    return [*band, line]
