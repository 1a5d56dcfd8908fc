"""The report as Markdown: for a repository, a chat, or the description of an MLflow run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from orchestrator.report.schema import Report
from orchestrator.report.tables import control_rows, exploratory_rows, price_rows, verdict_rows

MAX_TEXT = 300
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


def render_markdown(report: Report) -> str:
    """Write the report as Markdown.

    Args:
        report: of a sweep.

    Returns:
        GitHub-flavoured Markdown: question, answers, verdicts, exploratory comparisons, price, best
        configurations, lints, provenance.
    """
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterator[str]:
    sweep = report.sweep
    yield f"# {plain(sweep.description) or plain(sweep.name)}"
    yield ""
    for answer in report.answers:
        yield f"**{plain(answer.workload)}**: {plain(answer.sentence, 2_000)}"
        yield ""
    why = f": {plain(sweep.ended_early)}" if sweep.ended_early else ""
    yield f"Sweep `{sweep.name}`: {sweep.standing}{why}."
    yield ""
    yield from _section("Verdicts", *verdict_rows(report))
    yield from _section("Exploratory: no claims, p not adjusted", *exploratory_rows(report))
    yield from _section("Exploratory: teleport against its controls and rivals", *control_rows(report))
    yield from _section("What it cost", *price_rows(report))
    yield from _best(report)
    if report.failures:
        yield "## Failed trials"
        yield ""
        for failure in report.failures:
            where = f"{failure.workload}/{failure.arm} {failure.phase}"
            yield f"- {plain(where)} `{failure.trial_id}`: {failure.kind}: {plain(failure.message)}"
        yield ""
    if report.lints:
        yield "## Objections"
        yield ""
        yield from (f"- {plain(lint, 1_000)}" for lint in report.lints)
        yield ""
    yield from _provenance(report)


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
