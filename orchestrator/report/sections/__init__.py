"""The one list of the report's tables, which Markdown, LaTeX, the page and the live page all render."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.sections.best import best_sections
from orchestrator.report.sections.cost import layer_section, phase_section, price_section
from orchestrator.report.sections.effects import (
    control_section,
    earlier_section,
    exploratory_section,
    further_section,
    matrix_section,
    profile_section,
    rate_section,
    verdict_section,
)
from orchestrator.report.sections.search import (
    candidate_section,
    fate_section,
    importance_section,
    shared_section,
    trial_section,
    value_text,
)
from orchestrator.report.sections.section import Section
from orchestrator.report.sections.transfer import transfer_sections

# The tables of one sweep in the order of the page, chapter by chapter.
OF_SWEEP: tuple[Callable[[Report], Section], ...] = (
    rate_section,
    exploratory_section,
    further_section,
    profile_section,
    control_section,
    price_section,
    phase_section,
    layer_section,
    importance_section,
    shared_section,
    candidate_section,
    fate_section,
)


def sections(report: Report) -> list[Section]:
    """List the tables of one sweep that have rows."""
    return [section for make in OF_SWEEP if (section := make(report)).rows]


def page_sections(report: Report | JointReport) -> list[Section]:
    """List the tables of a whole page that have rows: verdicts, arms by workloads, settings on other workloads."""
    reports = reports_of(report)
    found = [verdict_section(report), *map(earlier_section, reports), matrix_section(reports)]
    for transfer in report.transfers:
        of_arm = f"{transfer.arm}: " * (len(report.transfers) > 1)
        found += [
            replace(section, key=f"{transfer.arm}-{section.key}", title=f"{of_arm}{section.title}")
            for section in transfer_sections(transfer)
        ]
    return [section for section in found if section.rows]


__all__ = [
    "OF_SWEEP",
    "Section",
    "best_sections",
    "page_sections",
    "sections",
    "transfer_sections",
    "trial_section",
    "value_text",
    "verdict_section",
]
