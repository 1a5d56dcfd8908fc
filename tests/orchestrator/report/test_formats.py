"""CSV, LaTeX, PDF and how all formats are written: complete, escaped, and none at the cost of another."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pandas
import pytest

from orchestrator.errors import UserError
from orchestrator.report import (
    FORMATS,
    Section,
    join,
    render_csv,
    render_latex,
    summarise,
    write_formats,
)
from orchestrator.report import pdf as printing
from orchestrator.report.latex import escape
from orchestrator.report.pdf import PrintingError
from orchestrator.report.tidy import safe_cell
from tests.orchestrator.report.build import Effects, failing, sweep, sweep_spec
from tests.orchestrator.report.test_pages import HOSTILE, hostile

FORMULAS = ("=HYPERLINK(1)", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_each_table_has_a_row_for_each_thing_and_numbers_in_full() -> None:
    report = summarise(sweep(effects=Effects(factor={"teleport": 0.88})))
    tables = {name: read(text) for name, text in render_csv(report).items()}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "studies.csv": 2,
        "trials.csv": 12,
        "confirm.csv": 16,
        "comparisons.csv": len(report.comparisons),
        "arrivals.csv": sum(len(curve.x) for study in report.studies for curve in study.arrivals),
        "tuning.csv": 2 * (6 + 32),
    }
    trial = report.studies[0].search[0]
    assert float(tables["trials.csv"][0]["param.optimizer.lr"]) == trial.values["optimizer.lr"]
    assert float(tables["trials.csv"][0]["value"]) == trial.value
    effect = report.comparisons[0].effect
    assert effect is not None
    assert effect.probability_interval is not None
    row = tables["comparisons.csv"][0]
    assert float(row["effect.estimate"]) == effect.estimate
    assert float(row["effect.probability_interval.low"]) == effect.probability_interval.low
    assert {row["sweep"] for rows in tables.values() for row in rows} == {"quickstart"}


def test_pandas_reads_every_table_in_one_call() -> None:
    joint = join([summarise(sweep(sweep_spec(f"name={name}"))) for name in ("one", "two")])
    for text in render_csv(joint).values():
        frame = pandas.read_csv(io.StringIO(text))
        assert set(frame["sweep"]) == {"one", "two"}


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert safe_cell([text]).startswith("[")


@pytest.mark.parametrize("text", [*HOSTILE, *FORMULAS])
def test_a_hostile_text_is_one_cell(text: str) -> None:
    from orchestrator.report.tidy import _written

    [row] = read(_written([{"a": text, "b": -0.5}]))
    assert (row["a"].removeprefix("'"), row["b"]) == (text, "-0.5")


def balanced(latex: str) -> bool:
    plain = re.sub(r"\\[\\{}%$]", "", re.sub(r"(?<!\\)%.*", "", latex))
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", plain) for word in ("begin", "end"))
    return depth == 0 and sorted(begun) == sorted(ended) and plain.count("$") % 2 == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_what_users_write_is_text_in_the_latex(text: str) -> None:
    made = render_latex(summarise(hostile(text)))
    for latex in made.values():
        assert balanced(latex)
        assert latex.isascii() or all(ord(character) <= 0x17F for character in latex)
    escaped = escape(text, 20_000)
    commands = set(re.findall(r"\\[a-zA-Z]+", escaped))
    assert all(command.startswith(r"\text") or command in {r"\ldots", r"\times"} for command in commands)
    assert not re.search(r"(?<!\\)[#%&_^~]", escaped)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 50 %", r"a\_b \& 50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("−12 % → ∞", r"$-$12 \% $\to$ $\infty$"),
        ("--x", "-{}-{}x"),
        ("\u202e😀", "[U+202E][U+1F600]"),
        ("a\nb", "a b"),
    ],
)
def test_signs_of_latex_are_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_every_row_of_a_latex_table_has_its_columns() -> None:
    tables = render_latex(summarise(sweep()))["tables.tex"]
    for columns, body in re.findall(r"\\begin{tabular}{([lr]+)}(.*?)\\end{tabular}", tables, flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}


def test_a_long_table_is_continued_on_another_page() -> None:
    from orchestrator.report.latex import MAX_ROWS, _table

    rows = [(str(row),) for row in range(MAX_ROWS + 1)]
    lines = list(_table(Section("many", "cost", "many", "", ("a",), rows)))
    assert sum(line == r"\toprule" for line in lines) == 2
    assert r"\caption{many (continued)}" in lines


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine is here; escaping is tested without one")
def test_the_latex_compiles(tmp_path: Path) -> None:
    for name, text in render_latex(summarise(hostile(" ".join(HOSTILE[:-1])))).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_it_writes_what_is_asked_for_in_that_order(tmp_path: Path) -> None:
    files = write_formats(summarise(sweep()), tmp_path / "new", ["csv", "tex", "md", "md"])
    tables = ["studies", "trials", "confirm", "comparisons", "arrivals", "tuning"]
    names = [*(f"{table}.csv" for table in tables), "tables.tex", "report.tex", "report.md"]
    assert [file.name for file in files] == names
    assert sorted(names) == sorted(path.name for path in (tmp_path / "new").iterdir())


def test_without_a_browser_the_other_formats_are_written_and_the_pdf_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--format: pdf takes Chromium or Chrome, and none of chromium"):
        write_formats(summarise(sweep()), tmp_path / "out", ["pdf", "md"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.md"]


def test_a_browser_that_fails_is_told_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho 'no display' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(printing, "PROGRAMS", (str(program),))
    with pytest.raises(PrintingError, match="did not print the report: no display"):
        printing.render_pdf(summarise(sweep()))


def test_a_format_that_breaks_leaves_no_file_of_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> dict[str, str]:
        raise RuntimeError("a bug")

    monkeypatch.setitem(FORMATS, "tex", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        write_formats(summarise(sweep()), tmp_path / "out", ["md", "tex"])
    assert not (tmp_path / "out").exists()


def test_a_failure_is_told_by_its_kind_in_the_table_of_trials() -> None:
    report = summarise(sweep(change=lambda t: failing(t, "memory") if t.config.number == 0 else t))
    rows = read(render_csv(report)["trials.csv"])
    assert [row["failure"] for row in rows if row["number"] == "0"] == ["memory", "memory"]
    assert [study.num_crashed for study in report.studies] == [1, 1], "no memory is no answer"
