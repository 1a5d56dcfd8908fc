r"""The report's tables as LaTeX (booktabs), for a paper: a file to ``\input``, and one that compiles by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.sections import Section, page_sections, sections

MAX_TEXT = 300
MAX_ROWS = 38
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": "-{}",  # two in a row would become a dash
    "−": "$-$",
    "→": r"$\to$",
    "←": r"$\leftarrow$",
    "∞": r"$\infty$",
    "×": r"$\times$",
    "‖": r"$\Vert$",
    "²": r"\textsuperscript{2}",
    "·": r"\textperiodcentered{}",
    "–": "--",
    "…": r"\ldots{}",
    "τ": r"$\tau$",
    "η": r"$\eta$",
    "ρ": r"$\rho$",
}
# The default fonts of every engine have Latin letters. Other characters are written as their code points.
_LAST_LATIN = 0x17F


def render_latex(report: Report | JointReport) -> dict[str, str]:
    r"""Write the report's tables as LaTeX.

    ``tables.tex`` is for ``\input`` where ``booktabs`` and ``graphicx`` are loaded; ``report.tex`` is a document
    around it for any engine.
    """
    return {"tables.tex": "\n".join(_lines(report)), "report.tex": _document(report)}


def escape(text: str, limit: int = MAX_TEXT) -> str:
    r"""Write a text on one line so that LaTeX sets it as text.

    What is no Latin letter and has no command is written as its code point.

    >>> escape("50 % of a_b, {x} \\ y")
    '50 \\% of a\\_b, \\{x\\} \\textbackslash{} y'
    """
    line = " ".join(text.split())
    cut = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return "".join(map(_character, cut))


def _character(one: str) -> str:
    if one in _SPECIAL:
        return _SPECIAL[one]
    if one.isprintable() and ord(one) <= _LAST_LATIN:
        return one
    return f"[U+{ord(one):04X}]"


def _document(report: Report | JointReport) -> str:
    names = ", ".join(escape(each.sweep.name) for each in reports_of(report))
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[T1]{fontenc}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage{textcomp}",
            r"\usepackage{booktabs}",
            r"\usepackage{graphicx}",
            r"\usepackage[margin=2cm]{geometry}",
            r"\begin{document}",
            rf"\section*{{{names}}}",
            *_answers(report),
            r"\input{tables}",
            r"\end{document}",
            "",
        ]
    )


def _answers(report: Report | JointReport) -> Iterator[str]:
    for each in reports_of(report):
        yield rf"\noindent {escape(each.sweep.description or each.sweep.name)}\par"
        for answer in each.answers:
            yield rf"\noindent \textbf{{{escape(answer.workload)}}}: {escape(answer.sentence, 2_000)}\par"


def _lines(report: Report | JointReport) -> Iterator[str]:
    yield r"% Needs \usepackage{booktabs,graphicx,textcomp} and \usepackage[T1]{fontenc}."
    for section in page_sections(report):
        yield from _table(section)
    for each in reports_of(report):
        for section in sections(each):
            yield from _table(section, each.sweep.name)


def _table(section: Section, sweep: str = "") -> Iterator[str]:
    """Write a table, or several where it would not fit a page; one wider than the text is shrunk."""
    caption = escape(": ".join(filter(None, [sweep, section.title])))
    columns = "".join("r" if place in section.right else "l" for place in range(len(section.header)))
    label = re.sub(r"[^a-zA-Z0-9]+", "-", "-".join(filter(None, [sweep, section.key])))
    for start in range(0, len(section.rows), MAX_ROWS):
        yield ""
        yield r"\begin{table}[htbp]"
        yield r"\centering"
        yield rf"\caption{{{caption} (continued)}}" if start else rf"\caption{{{caption}}}\label{{tab:{label}}}"
        yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
        yield rf"\begin{{tabular}}{{{columns}}}"
        yield r"\toprule"
        yield _row(section.header)
        yield r"\midrule"
        yield from map(_row, section.rows[start : start + MAX_ROWS])
        yield r"\bottomrule"
        yield r"\end{tabular}}"
        if start + MAX_ROWS >= len(section.rows) and section.note:
            yield rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape(section.note, 2_000)}}}"
        yield r"\end{table}"


def _row(cells: Sequence[str]) -> str:
    # A bracket at the start of a row would be taken for the optional argument of the row before it.
    return " & ".join(re.sub(r"^(?=[\[*])", "{}", escape(cell)) for cell in cells) + r" \\"
