"""The one list of tables: every format shows all of it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from dashboards import compare
from orchestrator.cli import exit_code
from orchestrator.home.records import SweepRecord
from orchestrator.report import (
    Report,
    Section,
    full_report,
    page_sections,
    render_html,
    render_latex,
    render_markdown,
    summarise,
)
from orchestrator.report import sections as sections_of
from orchestrator.report.latex import escape
from orchestrator.report.markdown import plain
from orchestrator.report.sections import OF_SWEEP
from orchestrator.search.candidates import Candidates
from orchestrator.spec import spec_from_text
from tests.dashboards.homes import write_sweep
from tests.orchestrator.report.build import Effects, sweep
from tests.orchestrator.report.test_evidence import TWO_WORKLOADS
from tests.orchestrator.report.test_transfer import together, together_spec

CONTROL = "arms.random={random_move: {of: teleport}}"
ANSWERS = {"verdicts", "matrix"}


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """Two sweeps that have every table between them."""
    overrides = ["search.trials=12", "confirm.top_k=2", "confirm.grid={}", CONTROL]
    own = sweep(spec_from_text(TWO_WORKLOADS, overrides=overrides), Effects(factor={"teleport": 0.8}))
    return [full_report(own), full_report(together(together_spec()))]


def shown_in_markdown(report: Report) -> Callable[[Section], bool]:
    text = render_markdown(report).splitlines()
    return lambda section: f"## {plain(section.title)}" in text


def shown_in_latex(report: Report) -> Callable[[Section], bool]:
    text = render_latex(report)["tables.tex"]
    return lambda section: f"{escape(section.title)}}}\\label{{tab:" in text


def shown_on_the_page(report: Report) -> Callable[[Section], bool]:
    text = render_html(report)

    def is_shown(section: Section) -> bool:
        title = re.escape(html.escape(section.title).replace("&#x27;", "&#39;"))
        return re.search(f'id="{section.key}"[^>]*>(<summary>)?{title}</(h3|summary)>', text) is not None

    return is_shown


def shown_on_the_live_page(report: Report) -> Callable[[Section], bool]:
    with patch.object(compare, "st") as page:
        compare.draw_sections([*page_sections(report), *sections_of(report)])
    titles = [call.args[0] for call in page.expander.call_args_list]
    return lambda section: section.title in titles


FORMATS = [shown_in_markdown, shown_in_latex, shown_on_the_page, shown_on_the_live_page]


def test_two_sweeps_have_every_table_that_there_is(reports: list[Report]) -> None:
    found = {section.key for report in reports for section in sections_of(report)}
    assert found == {make(reports[0]).key for make in OF_SWEEP}
    on_page = {section.key for report in reports for section in page_sections(report)}
    tables = {f"teleport-transfer-{name}" for name in ("matrix", "workloads", "shared", "ranks", "bands")}
    assert on_page == ANSWERS | tables


@pytest.mark.parametrize("shown_in", FORMATS)
def test_every_section_is_in_every_format(
    shown_in: Callable[[Report], Callable[[Section], bool]], reports: list[Report]
) -> None:
    for report in reports:
        is_shown = shown_in(report)
        missing = [s.key for s in [*page_sections(report), *sections_of(report)] if not is_shown(s)]
        assert missing == []


def test_the_candidates_of_a_sweep_are_gathered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One report, of a shared sweep too, makes one table of candidates for each sweep that it reads."""
    gathered: list[str] = []
    of = Candidates.of.__func__  # type: ignore[attr-defined]

    def counting(cls: type[Candidates], record: SweepRecord) -> Candidates:
        gathered.append(record.spec.name)
        made: Candidates = of(cls, record)
        return made

    shared, other = together(together_spec()), sweep()
    write_sweep(tmp_path, shared)
    write_sweep(tmp_path, other)
    monkeypatch.setattr(Candidates, "of", classmethod(counting))
    summarise(shared)
    assert gathered == ["together"]
    gathered.clear()
    assert exit_code(["report", "together", "--home", str(tmp_path)]) == 0
    assert gathered == ["together"]
    gathered.clear()
    assert exit_code(["report", "together", "quickstart", "--home", str(tmp_path)]) == 0
    assert sorted(gathered) == ["quickstart", "together"]


def test_columns_of_numbers_are_set_to_the_right() -> None:
    rows = [("a", "1,234", "−12 %", "1 → 2", "–", ""), ("b", "0.5", "×3", "3 → 4", "< 0.001", "")]
    made = Section("key", "cost", "title", "", tuple("abcdef"), rows)
    assert made.right == (1, 2, 4)
