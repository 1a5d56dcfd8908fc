"""The report as Markdown: for a repository, a chat, or the description of an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from orchestrator.report.headline import headline
from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.sections import Section, best_sections, page_sections, sections

MAX_TEXT = 300
MAX_FAILURES = 100
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def plain(text: str, limit: int = MAX_TEXT) -> str:
    r"""Write a user's text on one line so that Markdown shows it as text.

    Whitespace and control characters become single spaces; signs that Markdown or HTML might read are escaped.

    >>> plain("<b>a|b</b>")
    '&lt;b&gt;a\\|b&lt;/b&gt;'
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    cut = line if len(line) <= limit else f"{line[: limit - 1]}…"
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return _SPECIAL.sub(lambda match: entities.get(match[1], f"\\{match[1]}"), cut)


def render_markdown(report: Report | JointReport) -> str:
    """Write a report as GitHub-flavoured Markdown: questions and answers, then every section, sweep by sweep."""
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
    for section in page_sections(report):
        yield from _section(section)
    for each in reports:
        if len(reports) > 1:
            yield f"# Sweep {plain(each.sweep.name)}"
            yield ""
        yield from _sweep(each)


def _answers(report: Report) -> Iterator[str]:
    yield from (f"**{plain(headline(report), 2_000)}**", "")
    for answer in report.answers:
        yield f"{plain(answer.workload)}: {plain(answer.sentence, 2_000)}"
        yield ""
    why = f": {plain(report.sweep.ended_early)}" if report.sweep.ended_early else ""
    yield f"Sweep `{report.sweep.name}`: {report.sweep.standing}{why}."
    yield ""


def _sweep(report: Report) -> Iterator[str]:
    for section in sections(report):
        yield from _section(section)
    for section in best_sections(report):
        yield from _section(section)
    for study in report.studies:
        if study.best is not None:
            yield f"## Best configuration: {plain(study.workload)}, {plain(study.arm)}"
            yield from ("", *code_block(study.best.yaml, "yaml"), "")
    yield from _failures(report)
    if report.lints:
        yield from ("## Objections", "", *(f"- {plain(lint, 1_000)}" for lint in report.lints), "")
    yield from _provenance(report)


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {plain(section.title)}", "")
    yield f"| {' | '.join(map(plain, section.header))} |"
    yield f"|{'|'.join('---:' if place in section.right else '---' for place in range(len(section.header)))}|"
    yield from (f"| {' | '.join(plain(cell, 1_000) for cell in row)} |" for row in section.rows)
    yield ""
    if section.note:
        yield from (plain(section.note, 2_000), "")


def _failures(report: Report) -> Iterator[str]:
    if not report.failures:
        return
    yield from ("## Failed trials", "")
    for failure in report.failures[:MAX_FAILURES]:
        where = f"{failure.workload}/{failure.arm} {failure.phase}"
        yield f"- {plain(where)} `{failure.trial_id}`: {failure.kind}: {plain(failure.message)}"
    if len(report.failures) > MAX_FAILURES:
        yield f"- and {len(report.failures) - MAX_FAILURES:,} more, which are in report.json"
    yield ""


def code_block(text: str, language: str = "") -> list[str]:
    """Fence a text with more backticks than it has in a row."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", text.rstrip("\n"), fence]


def _provenance(report: Report) -> Iterator[str]:
    provenance = report.provenance
    started = datetime.fromtimestamp(provenance.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    code = provenance.code_in_words
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    yield "## Where it comes from"
    yield ""
    yield f"Code: {plain(code, 1_000)}; {plain(versions, 1_000)}; {plain(provenance.host)}; {started}."
    yield ""
    yield "To run it again:"
    yield ""
    yield from code_block(provenance.command, "sh")
