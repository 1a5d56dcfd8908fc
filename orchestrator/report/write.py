"""The report's files: each format, what it needs, and all of them written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.errors import Fault, UserError
from orchestrator.home import SweepPaths, SweepRecord, atomic_write
from orchestrator.report.html import render_html
from orchestrator.report.importance import with_importance
from orchestrator.report.joint import join
from orchestrator.report.latex import render_latex
from orchestrator.report.markdown import render_markdown
from orchestrator.report.pdf import PrintingError, render_pdf
from orchestrator.report.schema import JointReport, Report
from orchestrator.report.summarise import summarise
from orchestrator.report.tidy import render_csv
from orchestrator.report.transfer import transfers_of
from orchestrator.search import Candidates


def render_json(report: Report | JointReport) -> str:
    """Write a report as JSON; infinities are the strings ``"Infinity"`` and ``"-Infinity"``."""
    return report.model_dump_json(indent=1) + "\n"


Render = Callable[[Report | JointReport], Mapping[str, str | bytes]]

# Format -> what renders it: file name -> content, the file that people open first.
FORMATS: dict[str, Render] = {
    "html": lambda report: {"report.html": render_html(report)},
    "md": lambda report: {"report.md": render_markdown(report)},
    "json": lambda report: {"report.json": render_json(report)},
    "csv": render_csv,
    "tex": render_latex,
    "pdf": lambda report: {"report.pdf": render_pdf(report)},
}
# Every sweep ends with these formats: they need no other program, and each of them is quick.
DEFAULT_FORMATS = ("html", "md", "json")


def write_formats(report: Report | JointReport, directory: Path, formats: Iterable[str]) -> list[Path]:
    """Write a report in several formats, all of which are rendered before the first file is written.

    Args:
        report: the report.
        directory: where the files go; it is made where it is missing.
        formats: names of :data:`FORMATS`.

    Raises:
        UserError: a format needs a program that is not here, or that fails; the other formats are written all the same.
    """
    content: dict[str, str | bytes] = {}
    faults = []
    for name in dict.fromkeys(formats):
        try:
            content |= FORMATS[name](report)
        except PrintingError as error:
            faults.append(Fault("--format", str(error)))
    for file, text in content.items():
        atomic_write(directory / file, text)
    if faults:
        raise UserError(*faults)
    return [directory / file for file in content]


def write_report(
    record: SweepRecord,
    paths: SweepPaths,
    *,
    directory: Path | None = None,
    formats: Iterable[str] = DEFAULT_FORMATS,
) -> Report:
    """Write a sweep's report, and each arm's best configuration.

    The record has histories where there are to be curves. With a ``directory`` the report goes there instead of the
    sweep's own ``report/``, and the sweep's files stay as they are.
    """
    report = full_report(record)
    where = paths.report if directory is None else directory
    if where == paths.report:
        write_best(report, paths)
    write_formats(report, where, formats)
    return report


def write_best(report: Report, paths: SweepPaths) -> None:
    """Write each arm's best configuration: a spec that runs."""
    for study in report.studies:
        if study.best is not None:
            atomic_write(paths.best_config(study.workload, study.arm), study.best.yaml)


def full_report(record: SweepRecord, candidates: Candidates | None = None) -> Report:
    """Summarise a sweep, importances included, which take a second and import optuna.

    The candidates are those of the record; they are gathered here unless they are given.
    """
    return with_importance(summarise(record, candidates), record.spec)


def joint_report(records: Sequence[SweepRecord]) -> JointReport:
    """Summarise several sweeps on one page, importances included."""
    candidates = [Candidates.of(record) for record in records]
    return join(list(map(full_report, records, candidates)), transfers_of(candidates))
