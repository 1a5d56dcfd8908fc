"""The best-config report: pure, results in, bytes out. Imports no plotting, torch, ray or mlflow."""

from orchestrator.report.best import best_spec
from orchestrator.report.html import render_html
from orchestrator.report.importance import with_importance
from orchestrator.report.joint import join
from orchestrator.report.latex import render_latex
from orchestrator.report.markdown import render_markdown
from orchestrator.report.pdf import PrintingError
from orchestrator.report.schema import JointReport, Report, Verdict, reports_of
from orchestrator.report.summarise import summarise
from orchestrator.report.tables import page_verdict_rows, verdict_rows
from orchestrator.report.tidy import render_csv, tidy_tables
from orchestrator.report.transfer import transfers_of
from orchestrator.report.write import (
    DEFAULT_FORMATS,
    FORMATS,
    full_report,
    render_json,
    write_best,
    write_formats,
    write_report,
)

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "JointReport",
    "PrintingError",
    "Report",
    "Verdict",
    "best_spec",
    "full_report",
    "join",
    "page_verdict_rows",
    "render_csv",
    "render_html",
    "render_json",
    "render_latex",
    "render_markdown",
    "reports_of",
    "summarise",
    "tidy_tables",
    "transfers_of",
    "verdict_rows",
    "with_importance",
    "write_best",
    "write_formats",
    "write_report",
]
