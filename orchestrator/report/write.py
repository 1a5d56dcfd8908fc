"""The report's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator.paths import SweepPaths, atomic_write
from orchestrator.report.html import render_html
from orchestrator.report.markdown import render_markdown
from orchestrator.report.schema import Report
from orchestrator.report.summarise import summarise
from orchestrator.results import SweepRecord


def render_json(report: Report) -> str:
    """Write the report as JSON; :class:`Report` documents its schema.

    Args:
        report: of a sweep.

    Returns:
        The text; infinities are the strings ``"Infinity"`` and ``"-Infinity"``.
    """
    return report.model_dump_json(indent=1) + "\n"


RENDERERS: dict[str, Callable[[Report], str]] = {
    "html": render_html,
    "md": render_markdown,
    "json": render_json,
}


def write_report(
    record: SweepRecord,
    paths: SweepPaths,
    lints: Iterable[str] = (),
    *,
    directory: Path | None = None,
    formats: Iterable[str] = tuple(RENDERERS),
) -> Report:
    """Write ``report.html``, ``report.md`` and ``report.json``, and each arm's best configuration.

    Args:
        record: the sweep, with histories where there are to be curves.
        paths: of its files.
        lints: what others object to, a sentence each.
        directory: where to instead of the sweep's own ``report/``; the sweep's files then stay as they are.
        formats: names of :data:`RENDERERS`.

    Returns:
        The report.
    """
    report = summarise(record, lints)
    where = paths.report if directory is None else directory
    for name in formats:
        atomic_write(where / f"report.{name}", RENDERERS[name](report))
    if where == paths.report:
        for study in report.studies:
            if study.best is not None:
                atomic_write(paths.best_config(study.workload, study.arm), study.best.yaml)
    return report
