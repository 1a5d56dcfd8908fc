"""Every arm over the workloads of a sweep: how often it is within a factor of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.figures.axes import numeric_axis, share_axis
from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, band_edges, layout_of, trace
from orchestrator.report.schema import Profile, Report
from orchestrator.report.wording import number, percent

WIDEST, THINNEST = 5.0, 2.0


def profile_figures(reports: Sequence[Report], colours: Mapping[str, str]) -> list[Figure]:
    """Draw the performance profiles of each sweep, against steps, seconds and gradient evaluations.

    There is no figure for a sweep of one workload or one arm.
    """
    return [
        _figure(found, colours, metric, report.sweep.name if len(reports) > 1 else "")
        for report in reports
        for metric in TIME_METRICS
        if (found := [profile for profile in report.profiles if profile.metric == metric])
    ]


def _figure(profiles: Sequence[Profile], colours: Mapping[str, str], metric: str, sweep: str) -> Figure:
    group = f"{sweep}-profiles" if sweep else "profiles"
    layout = layout_of("factor of the best arm's median", "share of workloads")
    layout["xaxis"] |= numeric_axis(profiles[0].factors)
    layout["yaxis"] |= share_axis()
    # Lines of arms that are equally close to the best cover each other: those drawn first are wider, and so stay seen.
    widths = [WIDEST - (WIDEST - THINNEST) * place / (len(profiles) - 1) for place in range(len(profiles))]
    caption = (
        f"The height of a line is the share of {len(profiles[0].workloads)} workloads on which the arm is within the "
        f"factor of the best arm; at factor 1 it is itself the best. Higher is better ({TIME_METRICS[metric][1]}; "
        "Dolan and Moré 2002). Exploratory."
    )
    if any(profile.low for profile in profiles):
        caption += " The band is the 95 % interval by bootstrap over the seeds."
    data: list[Trace] = []
    for profile, width in zip(profiles, widths, strict=True):
        data += _traces(profile, colours[profile.arm], width)
    return Figure(
        key=f"{group}-{TIME_METRICS[metric][0]}",
        workload="",
        title="Performance profiles" + f": {sweep}" * bool(sweep),
        caption=caption,
        data=data,
        layout=layout,
        group=group,
        option=TIME_METRICS[metric][0],
    )


def _traces(profile: Profile, colour: str, width: float) -> list[Trace]:
    ratios = zip(profile.workloads, profile.ratios, strict=True)
    told = "<br>".join(f"{workload}: ×{number(ratio)}" for workload, ratio in ratios)
    hover = f"{profile.arm}, within ×%{{x:.3g}}: %{{y:.0%}}<br>score {percent(profile.score)}<br>{told}"
    line = {"color": colour, "width": width, "shape": "hv"}
    arm, xs = profile.arm, profile.factors
    band = band_edges(arm, xs, profile.low, profile.high, colour, shape="hv") if profile.low else []
    return [*band, trace("lines", arm, xs, profile.share, hover=hover, line=line, legendgroup=arm)]
