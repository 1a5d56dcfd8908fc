"""The best-config report: pure, results in, bytes out. Imports no plotting, torch, ray or mlflow."""

from orchestrator.report.best import best_spec
from orchestrator.report.evidence_tables import further_rows, profile_rows
from orchestrator.report.html import render_html
from orchestrator.report.importance import with_importance
from orchestrator.report.joint import join
from orchestrator.report.latex import render_latex
from orchestrator.report.markdown import render_markdown
from orchestrator.report.missing import missing_of_left_out, missing_of_transfer, missing_sweep
from orchestrator.report.palette import LAYERS, arm_colours, dark_of
from orchestrator.report.pdf import PrintingError
from orchestrator.report.schema import JointReport, Report, Verdict, reports_of
from orchestrator.report.search_tables import value_text
from orchestrator.report.settings import Place, Source, mismatches, sources_of
from orchestrator.report.summarise import summarise
from orchestrator.report.tables import (
    control_rows,
    exploratory_rows,
    layer_rows,
    page_verdict_rows,
    price_rows,
    verdict_rows,
)
from orchestrator.report.tidy import render_csv, tidy_tables
from orchestrator.report.transfer import architectures_of, transfer_of, transfers_of
from orchestrator.report.transfer_tables import Block, band_blocks, left_out_blocks, matrix_blocks, stability_blocks
from orchestrator.report.wording import number
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
    "LAYERS",
    "Block",
    "JointReport",
    "Place",
    "PrintingError",
    "Report",
    "Source",
    "Verdict",
    "architectures_of",
    "arm_colours",
    "band_blocks",
    "best_spec",
    "control_rows",
    "dark_of",
    "exploratory_rows",
    "full_report",
    "further_rows",
    "join",
    "layer_rows",
    "left_out_blocks",
    "matrix_blocks",
    "mismatches",
    "missing_of_left_out",
    "missing_of_transfer",
    "missing_sweep",
    "number",
    "page_verdict_rows",
    "price_rows",
    "profile_rows",
    "render_csv",
    "render_html",
    "render_json",
    "render_latex",
    "render_markdown",
    "reports_of",
    "sources_of",
    "stability_blocks",
    "summarise",
    "tidy_tables",
    "transfer_of",
    "transfers_of",
    "value_text",
    "verdict_rows",
    "with_importance",
    "write_best",
    "write_formats",
    "write_report",
]
