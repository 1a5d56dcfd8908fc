"""What the page says of one sweep, section by section, as plain values for its template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from orchestrator.report.figures import Figure, figures, search_figures
from orchestrator.report.figures.effects import mark_of
from orchestrator.report.headline import headline
from orchestrator.report.schema import Report, SharedSearch, StudyReport, Verdict
from orchestrator.report.sections import Section, best_sections, sections, trial_section
from orchestrator.report.sections.effects import verdicts
from orchestrator.report.wording import number
from orchestrator.spec import dump_yaml

# A sweep in which every trial crashes would show the same traceback a thousand times.
MAX_FAILURES = 100
TONES = {Verdict.FASTER: "good", Verdict.BETTER: "good", Verdict.SLOWER: "bad", Verdict.WORSE: "bad"}


@final
@dataclass(frozen=True)
class Group:
    """Figures that share a place on the page, of which the reader sees one at a time.

    Args:
        prefix: begins the keys of the figures where several sweeps are on the page; else empty.
        figures: at least one.
    """

    prefix: str
    figures: tuple[Figure, ...]

    @property
    def title(self) -> str:
        """What its figures have in common, as a title."""
        return self.figures[0].title.split(" against optimizer steps")[0]

    @property
    def height(self) -> int:
        """The height in pixels of its tallest figure."""
        return max(figure.height for figure in self.figures)


def groups_of(made: Sequence[Figure], prefix: str = "") -> list[Group]:
    """Put figures that share a place together, in the order of their first figures."""
    places: dict[str, list[Figure]] = {}
    for figure in made:
        places.setdefault(figure.group or figure.key, []).append(figure)
    return [Group(prefix, tuple(found)) for found in places.values()]


def tone_of(verdict: Verdict) -> str:
    """Tell whether a verdict is good or bad news for the arm; empty for neither."""
    return TONES.get(verdict, "")


def content_of(report: Report, colours: dict[str, str], prefix: str) -> dict[str, Any]:
    """Gather what the page says of a sweep, by the names that the template uses; ``prefix`` begins its ids and keys."""
    workloads = [_workload(report, workload, colours, prefix) for workload in report.workloads]
    chapters: dict[str, list[Section]] = {"exploratory": [], "cost": [], "search": []}
    for section in sections(report):
        chapters[section.chapter].append(section)
    return {
        "prefix": prefix,
        "sweep": report.sweep,
        "has_confirm": bool(report.sweep.confirm_seeds),
        "has_search": _has_search(report),
        "question": report.sweep.description.strip(),
        "headline": headline(report),
        "tone": tone_of_all(comparison.verdict for comparison in report.comparisons if comparison.is_primary),
        "answers": report.answers,
        "chapters": chapters,
        "workloads": workloads,
        "groups": [each[phase] for each in workloads for phase in ("confirm", "search")],
        "failures": list(_failures(report)),
        "num_more_failures": max(0, len(report.failures) - MAX_FAILURES),
        "lints": report.lints,
        "provenance": report.provenance,
        "facts": list(_facts(report)),
        "spec": dump_yaml(report.sweep.spec),
        "links": list(_links(report, chapters)),
    }


def _has_search(report: Report) -> bool:
    return any(study.num_planned for study in report.studies)


def _workload(report: Report, workload: str, colours: dict[str, str], prefix: str) -> dict[str, Any]:
    """Gather what the page says of one workload."""
    studies = [study for study in report.studies if study.workload == workload]
    claims = [each for each in verdicts(report) if each.workload == workload and each.is_primary]
    return {
        "name": workload,
        "claims": [(tone_of(each.verdict), mark_of(each)[2], f"{each.arm} {each.verdict}") for each in claims],
        "best": next((each for each in best_sections(report) if each.key == f"best-{workload}"), None),
        "bests": list(_bests(report, studies)),
        "confirm": groups_of(figures(report, workload, colours), prefix),
        "search": groups_of(search_figures(report, workload, colours), prefix),
        "searches": [_search(report, study) for study in studies],
    }


def tone_of_all(found: Iterable[Verdict]) -> str:
    """Tell whether verdicts together are good or bad news; empty where some are neither, or they differ."""
    tones = {tone_of(verdict) for verdict in found}
    return tones.pop() if len(tones) == 1 else ""


def _bests(report: Report, studies: Sequence[StudyReport]) -> Iterator[dict[str, str]]:
    metric = report.sweep.objective.metric
    for study in studies:
        if study.best is not None:
            summary = f"search trial #{study.best.number}, {metric} {number(study.best.value)} in search"
            if study.best.number is None:
                summary = "as the spec has it; nothing was searched"
            if study.best.aggregate is not None:
                summary += f", {number(study.best.aggregate)} times the baselines' cost over all workloads"
            yield {"arm": study.arm, "yaml": study.best.yaml, "summary": summary}


def _search(report: Report, study: StudyReport) -> dict[str, Any]:
    counts = {
        "complete": study.num_complete,
        "pruned": study.num_pruned,
        "diverged": study.num_diverged,
        "timed out": study.num_timeout,
        "without a value of an expression": study.num_undefined,
        "crashed or lost": study.num_crashed,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    summary = f"{study.num_trials} of {study.num_wanted} trials" + f": {told}" * bool(told)
    if study.shared is not None:
        summary += f"; {_shared_summary(study.shared)}"
    return {"workload": study.workload, "arm": study.arm, "summary": summary, "trials": trial_section(report, study)}


def _shared_summary(shared: SharedSearch) -> str:
    named = {"geometric_mean": "geometric mean of all workloads", "worst": "the worst workload"}[shared.aggregation]
    chosen = f"the chosen one costs {number(shared.value)} times what the tuned baselines do ({named})"
    return (
        f"one search over all workloads: {shared.num_settings} candidates, {shared.num_pruned} given up early, "
        f"{shared.num_units} runs, {shared.num_saved} saved; {'none ran in full' if shared.value is None else chosen}"
    )


def _failures(report: Report) -> Iterator[dict[str, str]]:
    for failure in report.failures[:MAX_FAILURES]:
        place = f"#{failure.number}" if failure.phase == "search" else f"seed {failure.seeds[0]}"
        yield failure.model_dump(include={"kind", "workload", "arm", "message", "traceback"}) | {
            "where": f"{failure.phase} {place}, trial {failure.trial_id}"
        }


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    provenance = report.provenance
    yield "code", provenance.code_in_words
    yield "began", datetime.fromtimestamp(provenance.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield "driver", provenance.host
    for machine in report.machines:
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        yield "trials ran on", f"{machine.host}: {machine.device}, {machine.num_threads} thread(s); {versions}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    if _has_search(report):
        yield "search seeds", ", ".join(map(str, report.sweep.search_seeds))
    if report.sweep.confirm_seeds:
        yield "confirm seeds", ", ".join(map(str, report.sweep.confirm_seeds))
    for workload, target in report.sweep.targets.items():
        yield f"target of {workload}", f"{target.metric} {target.value:g}"


def _links(report: Report, chapters: dict[str, list[Section]]) -> Iterator[tuple[str, str]]:
    yield "best", "Best configurations"
    if report.sweep.confirm_seeds:
        yield "curves", "Curves"
    if chapters["exploratory"]:
        yield "exploratory", "Exploratory"
    if report.sweep.confirm_seeds:
        yield "cost", "Cost"
    if _has_search(report):
        yield "search", "Search"
    if report.failures:
        yield "failures", f"Failures ({len(report.failures)})"
    if report.lints:
        yield "lints", f"Objections ({len(report.lints)})"
    yield "provenance", "Provenance"
