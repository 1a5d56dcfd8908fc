"""Turns a stored sweep into pages and tables."""

from orchestrator.report.best import best_spec
from orchestrator.report.effect_metrics import effect_metrics
from orchestrator.report.headline import headline
from orchestrator.report.html import render_html
from orchestrator.report.importance import with_importance
from orchestrator.report.joint import join
from orchestrator.report.latex import render_latex
from orchestrator.report.markdown import render_markdown
from orchestrator.report.palette import LAYERS, arm_colours, dark_of
from orchestrator.report.schema import JointReport, Report, Verdict, reports_of
from orchestrator.report.sections import (
    Section,
    page_sections,
    sections,
    transfer_sections,
    value_text,
    verdict_section,
)
from orchestrator.report.sources import mismatches, sources_of
from orchestrator.report.summarise import summarise
from orchestrator.report.tidy import render_csv
from orchestrator.report.transfer import architectures_of, transfer_of, transfers_of
from orchestrator.report.wording import number
from orchestrator.report.write import (
    FORMATS,
    full_report,
    joint_report,
    render_json,
    write_best,
    write_formats,
    write_report,
)

__all__ = [
    "FORMATS",
    "LAYERS",
    "JointReport",
    "Report",
    "Section",
    "Verdict",
    "architectures_of",
    "arm_colours",
    "best_spec",
    "dark_of",
    "effect_metrics",
    "full_report",
    "headline",
    "join",
    "joint_report",
    "mismatches",
    "number",
    "page_sections",
    "render_csv",
    "render_html",
    "render_json",
    "render_latex",
    "render_markdown",
    "reports_of",
    "sections",
    "sources_of",
    "summarise",
    "transfer_of",
    "transfer_sections",
    "transfers_of",
    "value_text",
    "verdict_section",
    "with_importance",
    "write_best",
    "write_formats",
    "write_report",
]
