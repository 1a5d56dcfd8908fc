"""The report as Markdown: for a repository, a chat, or the description of an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from orchestrator.report.evidence_tables import further_rows, interval_note, profile_rows
from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.search_tables import fate_rows, importance_rows
from orchestrator.report.shared_search import shared_rows
from orchestrator.report.tables import (
    control_rows,
    exploratory_rows,
    matrix_rows,
    page_verdict_rows,
    phase_rows,
    price_rows,
)
from orchestrator.report.transfer_tables import transfer_blocks

MAX_TEXT = 300
MAX_FAILURES = 100
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def plain(text: str, limit: int = MAX_TEXT) -> str:
    r"""Write a user's text so that Markdown shows it as text, on one line.

    Args:
        text: anything.
        limit: characters after which it is cut.

    Returns:
        The text with whitespace and control characters as single spaces, and every sign that Markdown or HTML
        might read escaped.

    >>> plain("<b>a|b</b>")
    '&lt;b&gt;a\\|b&lt;/b&gt;'
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    cut = line if len(line) <= limit else f"{line[: limit - 1]}…"
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return _SPECIAL.sub(lambda match: entities.get(match[1], f"\\{match[1]}"), cut)


def render_markdown(report: Report | JointReport) -> str:
    """Write the report as Markdown.

    Args:
        report: of one sweep or of several.

    Returns:
        GitHub-flavoured Markdown: question, answers, verdicts, arms by workloads; then for each sweep the exploratory
        comparisons, price, best configurations, what became of its trials, lints, provenance.
    """
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report | JointReport) -> Iterator[str]:
    reports = reports_of(report)
    if isinstance(report, JointReport):
        yield f"# {len(reports)} sweeps: {', '.join(plain(each.sweep.name) for each in reports)}"
        yield ""
    for each in reports:
        yield f"{'##' if len(reports) > 1 else '#'} {plain(each.sweep.description) or plain(each.sweep.name)}"
        yield ""
        yield from _answers(each)
    yield from _section("Verdicts", *page_verdict_rows(reports))
    if note := interval_note(reports):
        yield plain(note, 2_000)
        yield ""
    if isinstance(report, JointReport):
        yield f"p by Holm over all {report.num_primary} primary comparisons of these sweeps."
        yield ""
    yield from _section("Arms by workloads: steps to target, change from the baseline", *matrix_rows(reports))
    yield from _transfers(report)
    for each in reports:
        if len(reports) > 1:
            yield f"# Sweep {plain(each.sweep.name)}"
            yield ""
        yield from _sweep(each)


def _transfers(report: Report | JointReport) -> Iterator[str]:
    for transfer in report.transfers:
        of_arm = f" ({transfer.arm})" if len(report.transfers) > 1 else ""
        for block in transfer_blocks(transfer):
            yield from _section(f"Does one setting serve all?{of_arm} {block.title}", block.header, block.rows)
            yield plain(block.note, 2_000)
            yield ""


def _answers(report: Report) -> Iterator[str]:
    for answer in report.answers:
        yield f"**{plain(answer.workload)}**: {plain(answer.sentence, 2_000)}"
        yield ""
    why = f": {plain(report.sweep.ended_early)}" if report.sweep.ended_early else ""
    yield f"Sweep `{report.sweep.name}`: {report.sweep.standing}{why}."
    yield ""


def _sweep(report: Report) -> Iterator[str]:
    yield from _section("Exploratory: no claims, p not adjusted", *exploratory_rows(report))
    yield from _section("Exploratory: how often better, and on average", *further_rows(report))
    yield from _section("Exploratory: over all workloads", *profile_rows(report))
    yield from _section("Exploratory: teleport against its controls and rivals", *control_rows(report))
    yield from _section("What it cost", *price_rows(report))
    yield from _section("What the teleports' time goes into", *phase_rows(report))
    yield from _best(report)
    yield from _section("Which parameters mattered in search", *importance_rows(report))
    yield from _section("Searches over all workloads", *shared_rows(report))
    yield from _section("What became of the trials", *fate_rows(report))
    yield from _failures(report)
    if report.lints:
        yield "## Objections"
        yield ""
        yield from (f"- {plain(lint, 1_000)}" for lint in report.lints)
        yield ""
    yield from _provenance(report)


def _failures(report: Report) -> Iterator[str]:
    if not report.failures:
        return
    yield "## Failed trials"
    yield ""
    for failure in report.failures[:MAX_FAILURES]:
        where = f"{failure.workload}/{failure.arm} {failure.phase}"
        yield f"- {plain(where)} `{failure.trial_id}`: {failure.kind}: {plain(failure.message)}"
    if len(report.failures) > MAX_FAILURES:
        yield f"- and {len(report.failures) - MAX_FAILURES:,} more, which are in report.json"
    yield ""


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"## {title}"
    yield ""
    yield f"| {' | '.join(map(plain, header))} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(plain(cell, 1_000) for cell in row)} |" for row in rows)
    yield ""


def _best(report: Report) -> Iterator[str]:
    for study in report.studies:
        if study.best is not None:
            yield f"## Best configuration: {plain(study.workload)}, {plain(study.arm)}"
            yield ""
            yield from code_block(study.best.yaml, "yaml")
            yield ""


def code_block(text: str, language: str = "") -> list[str]:
    """Fence a text with more backticks than it has in a row.

    Args:
        text: anything.
        language: for highlighting.

    Returns:
        The lines.
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text.rstrip("\n"), fence]


def _provenance(report: Report) -> Iterator[str]:
    provenance = report.provenance
    started = datetime.fromtimestamp(provenance.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = provenance.git_commit or "unknown"
    dirty = " with uncommitted changes" if provenance.git_dirty else ""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    yield "## Where it comes from"
    yield ""
    yield f"Commit {plain(commit)}{dirty}; {plain(versions, 1_000)}; {plain(provenance.host)}; {started}."
    yield ""
    yield "To run it again:"
    yield ""
    yield from code_block(provenance.command, "sh")
