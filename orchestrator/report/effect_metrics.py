"""The few numbers of a report by which a list of sweeps is sorted."""

from __future__ import annotations

from orchestrator.report.metrics import PRIMARY_METRIC
from orchestrator.report.schema import Report
from orchestrator.spec import BASELINE


def effect_metrics(report: Report) -> dict[str, float]:
    """Name what was found of each arm on each workload: its effect on steps to target against the baseline.

    Returns:
        ``WORKLOAD/ARM/effect`` (arm / baseline), ``…/low`` and ``…/high`` (its interval), and ``…/p``: the p that the
        verdict follows, which is the adjusted one for a claim. What is not known yet is left out.
    """
    found: dict[str, float | None] = {}
    for each in report.comparisons:
        if each.metric == PRIMARY_METRIC and each.against == BASELINE:
            name = f"{each.workload}/{each.arm}"
            found[f"{name}/effect"] = None if each.effect is None else each.effect.estimate
            found[f"{name}/low"] = None if each.interval is None else each.interval.low
            found[f"{name}/high"] = None if each.interval is None else each.interval.high
            found[f"{name}/p"] = each.p_adjusted if each.is_primary else each.p
    return {name: value for name, value in found.items() if value is not None}
