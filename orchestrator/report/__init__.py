"""The best-config report: pure, results in, bytes out. Imports no plotting, torch, ray or mlflow."""

from orchestrator.report.best import best_spec
from orchestrator.report.champions import Champions, champions, ranked
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.schema import Report, Verdict
from orchestrator.report.summarise import summarise
from orchestrator.report.tables import verdict_rows
from orchestrator.report.write import RENDERERS, render_json, write_report

__all__ = [
    "RENDERERS",
    "Champions",
    "Report",
    "Verdict",
    "best_spec",
    "champions",
    "ranked",
    "render_html",
    "render_json",
    "render_markdown",
    "summarise",
    "verdict_rows",
    "write_report",
]
