"""Several sweeps on one page: one family of claims, and each comparison within its own sweep."""

from __future__ import annotations

import json

import pytest

from orchestrator.report import (
    JointReport,
    Report,
    Verdict,
    join,
    render_html,
    render_json,
    render_markdown,
    summarise,
    verdict_section,
)
from orchestrator.report.figures import answer_figures
from orchestrator.report.sections.effects import matrix_section
from orchestrator.statistics import holm
from tests.orchestrator.report.build import Effects, failing, running, sweep, sweep_spec
from tests.orchestrator.report.test_pages import Page


def report_of(name: str, factor: float = 0.8, seeds: int = 8) -> Report:
    spec = sweep_spec(f"name={name}", f"confirm.seeds={seeds}")
    return summarise(sweep(spec, Effects(factor={"teleport": factor})))


def primaries(report: Report | JointReport) -> list[tuple[float | None, float | None, Verdict]]:
    sweeps = report.sweeps if isinstance(report, JointReport) else (report,)
    return [(c.p, c.p_adjusted, c.verdict) for each in sweeps for c in each.comparisons if c.is_primary]


def test_one_sweep_alone_says_what_its_own_report_says() -> None:
    report = report_of("one")
    assert join([report]).sweeps == (report,)


def test_holm_counts_the_claims_of_all_sweeps() -> None:
    joint = join([report_of("one"), report_of("two"), report_of("three", factor=1.0)])
    raw, adjusted, _ = zip(*primaries(joint), strict=True)
    assert joint.num_primary == 3
    assert list(adjusted) == holm(list(raw))


def test_a_claim_that_does_not_stand_among_many_is_lost_and_the_answer_says_so() -> None:
    reports = [report_of(f"sweep{place}", seeds=6) for place in range(2)]
    assert {verdict for *_, verdict in primaries(reports[0])} == {Verdict.FASTER}
    joint = join(reports)
    assert {verdict for *_, verdict in primaries(joint)} == {Verdict.NOT_ENOUGH_SEEDS}
    [answer] = joint.sweeps[0].answers
    assert "6 pairs cannot go below p = 0.0625 with 2 primary comparisons" in answer.sentence


def test_no_claim_is_won_and_no_seed_shows_more_than_alone() -> None:
    alone = [report_of("one", 0.97), report_of("two", 1.0), report_of("three", 0.8)]
    for before, after in zip(alone, join(alone).sweeps, strict=True):
        for one, other in zip(before.comparisons, after.comparisons, strict=True):
            if not one.is_primary:
                assert one == other
            else:
                assert one.effect is not None
                assert other.effect is not None
                assert other.effect.smallest >= one.effect.smallest
                assert (other.p_adjusted or 1.0) >= (one.p_adjusted or 1.0)
                assert other.verdict in {one.verdict, Verdict.NO_DIFFERENCE, Verdict.NOT_ENOUGH_SEEDS}


def test_a_refused_claim_does_not_count_in_the_family() -> None:
    spec = sweep_spec("name=two", "search.max_replaced=0")
    refused = summarise(sweep(spec, change=lambda t: failing(t, "crashed") if t.config.arm == "teleport" else t))
    joint = join([report_of("one"), refused])
    assert joint.num_primary == 1
    (p, adjusted, _), (none, _, verdict) = primaries(joint)
    assert (adjusted, none, verdict) == (p, None, Verdict.REFUSED)


def test_a_comparison_that_has_no_p_yet_counts_in_the_family() -> None:
    waiting = summarise(
        sweep(sweep_spec("name=two"), change=lambda t: running(t) if t.config.phase == "confirm" else t)
    )
    joint = join([report_of("one"), waiting])
    assert joint.num_primary == 2
    (p, adjusted, _), (none, _, pending) = primaries(joint)
    assert p is not None
    assert adjusted == pytest.approx(2 * p)
    assert (none, pending) == (None, Verdict.PENDING)


def test_the_json_has_every_sweep_and_is_read_back() -> None:
    joint = join([report_of("one"), report_of("two")])
    plain = json.loads(render_json(joint))
    assert (plain["version"], [each["sweep"]["name"] for each in plain["sweeps"]]) == (3, ["one", "two"])
    assert JointReport.model_validate_json(render_json(joint)) == joint


def test_the_page_has_one_verdict_table_a_matrix_and_each_sweep_with_its_own_places() -> None:
    joint = join([report_of("one"), report_of("two", 1.3)])
    html = render_html(joint)
    page = Page(html)
    assert page.text.count("Best configurations") == 2
    assert page.tags.count("h1") == 1
    for place in ("s0-best", "s1-best", "s0-sweep", "s1-sweep"):
        assert html.count(f'id="{place}"') == 1
    assert "p is adjusted by Holm over all 2 primary comparisons" in page.text
    section = verdict_section(joint)
    assert section.header[:3] == ("sweep", "workload", "arm")
    assert [row[0] for row in section.rows] == ["one", "two"]
    assert {figure.option for figure in answer_figures(joint)} == {"steps", "seconds", "gradients"}


def test_the_matrix_has_a_column_for_each_workload_and_says_what_is_a_claim() -> None:
    joint = join([report_of("one"), report_of("two", 1.3)])
    section = matrix_section(joint.sweeps)
    [row] = section.rows
    assert section.header == ("arm", "one: mlp_digits", "two: mlp_digits")
    assert row[0] == "teleport"
    assert row[1].endswith("faster")
    assert row[2].endswith("slower")
    assert matrix_section(joint.sweeps[:1]).rows == []


def test_the_markdown_has_both_answers_and_one_verdict_table() -> None:
    markdown = render_markdown(join([report_of("one"), report_of("two")]))
    assert markdown.startswith("# 2 sweeps: one, two")
    assert markdown.count("## Verdicts") == 1
    assert markdown.count("## Where it comes from") == 2
    assert "adjusted by Holm over all 2 primary comparisons of these sweeps" in markdown
