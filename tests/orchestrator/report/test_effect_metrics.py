"""The numbers by which sweeps are sorted are those of the report's claims."""

from __future__ import annotations

from orchestrator.report import effect_metrics, summarise
from tests.orchestrator.report.build import Effects, sweep


def test_an_arm_on_a_workload_has_its_effect_bounds_and_p() -> None:
    report = summarise(sweep(effects=Effects(steps=380.0, noise=0.1, factor={"teleport": 0.5})))
    found = effect_metrics(report)
    (claim,) = [c for c in report.comparisons if c.is_primary]
    assert claim.effect is not None
    assert claim.interval is not None
    name = f"{claim.workload}/{claim.arm}"
    assert found[f"{name}/effect"] == claim.effect.estimate
    assert (found[f"{name}/low"], found[f"{name}/high"]) == (claim.interval.low, claim.interval.high)
    assert found[f"{name}/p"] == claim.p_adjusted
    shown = {(c.workload, c.arm) for c in report.comparisons if c.against == "baseline" and c.effect is not None}
    assert {key.rpartition("/")[0] for key in found} == {"/".join(each) for each in shown}


def test_before_confirm_there_is_nothing_to_sort_by() -> None:
    record = sweep()
    search = [trial for trial in record.trials if trial.config.phase == "search"]
    assert effect_metrics(summarise(type(record)(record.spec, record.provenance, tuple(search)))) == {}
