r"""The report's tables as LaTeX (booktabs), for a paper: a file to ``\input``, and one that compiles by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from orchestrator.report.evidence_tables import further_rows, profile_rows
from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.search_tables import fate_rows, importance_rows
from orchestrator.report.tables import (
    Header,
    Rows,
    control_rows,
    exploratory_rows,
    layer_rows,
    matrix_rows,
    phase_rows,
    price_rows,
    verdict_rows,
)
from orchestrator.report.transfer_tables import transfer_blocks

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
# What every engine's default fonts have: Latin letters. The rest is named by its code point, and so stays text.
_LAST_LATIN = 0x17F


def render_latex(report: Report | JointReport) -> dict[str, str]:
    r"""Write the report's tables as LaTeX.

    Args:
        report: of one sweep or of several.

    Returns:
        ``tables.tex`` to ``\input`` where ``booktabs`` and ``graphicx`` are loaded, and ``report.tex``, a document
        around it for any engine.
    """
    return {"tables.tex": "\n".join(_lines(report)), "report.tex": _document(report)}


def escape(text: str, limit: int = MAX_TEXT) -> str:
    r"""Write a text so that LaTeX sets it as text.

    Args:
        text: anything.
        limit: characters after which it is cut.

    Returns:
        The text on one line; what is no Latin letter and has no command is written as its code point.

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
    reports = reports_of(report)
    yield from _table("Steps to target over all workloads, change from the baseline", *matrix_rows(reports))
    for transfer in report.transfers:
        for block in transfer_blocks(transfer):
            yield from _table(f"{transfer.arm}: {block.title}", block.header, block.rows)
    for each in reports:
        name = each.sweep.name
        yield from _table(f"{name}: verdicts on steps to target, p by Holm", *verdict_rows(each))
        yield from _table(f"{name}: exploratory comparisons, p not adjusted", *exploratory_rows(each))
        yield from _table(f"{name}: how often better, and on average, exploratory", *further_rows(each))
        yield from _table(f"{name}: over all workloads, exploratory", *profile_rows(each))
        yield from _table(f"{name}: teleport against its controls and rivals, exploratory", *control_rows(each))
        yield from _table(f"{name}: cost", *price_rows(each))
        yield from _table(f"{name}: what the teleports' time goes into", *phase_rows(each))
        yield from _table(f"{name}: null space by layer", *layer_rows(each))
        yield from _table(f"{name}: importance of the parameters in search", *importance_rows(each))
        yield from _table(f"{name}: what became of the trials", *fate_rows(each))


def _table(caption: str, header: Header, rows: Rows) -> Iterator[str]:
    """A table, or several where it would not fit a page; shrunk where it is wider than the text."""
    for start in range(0, len(rows), MAX_ROWS):
        yield ""
        yield r"\begin{table}[htbp]"
        yield r"\centering"
        yield rf"\caption{{{escape(caption)}{' (continued)' if start else ''}}}"
        yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
        yield rf"\begin{{tabular}}{{{'l' * len(header)}}}"
        yield r"\toprule"
        yield _row(header)
        yield r"\midrule"
        yield from map(_row, rows[start : start + MAX_ROWS])
        yield r"\bottomrule"
        yield r"\end{tabular}}"
        yield r"\end{table}"


def _row(cells: Sequence[str]) -> str:
    # A bracket at the start of a row would be taken for the optional argument of the row before it.
    return " & ".join(re.sub(r"^(?=[\[*])", "{}", escape(cell)) for cell in cells) + r" \\"
