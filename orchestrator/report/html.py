"""The report as one self-contained HTML page: no network, light and dark, phone and paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from orchestrator.report.figures import across_figures, figures
from orchestrator.report.palette import arm_colours, dark_of
from orchestrator.report.schema import Report, Study, Verdict
from orchestrator.report.tables import (
    Header,
    Rows,
    control_rows,
    exploratory_rows,
    layer_rows,
    other_rows,
    price_rows,
    search_rows,
    verdict_rows,
    verdicts,
)
from orchestrator.report.wording import number
from orchestrator.spec import dump_yaml

TONES = {Verdict.FASTER: "good", Verdict.BETTER: "good", Verdict.SLOWER: "bad", Verdict.WORSE: "bad"}


def render_html(report: Report) -> str:
    """Write the report as a page that needs nothing but a browser.

    Args:
        report: of a sweep; every number on the page is in it.

    Returns:
        The HTML; about 5 MB where it has figures, nearly all of them plotly.js.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["nobreak"] = _nobreak
    template = environment.from_string(_file("report.html.j2"))
    return template.render(**_content(report))


def _content(report: Report) -> dict[str, Any]:
    from markupsafe import Markup

    by_workload = {workload: figures(report, workload) for workload in report.workloads}
    across = across_figures(report)
    drawn = {figure.key: figure.to_plotly() for made in (*by_workload.values(), across) for figure in made}
    dark = dark_of()
    return {
        "sweep": report.sweep,
        "question": report.sweep.description.strip(),
        "answers": _answers(report),
        "verdicts": _table(verdict_rows(report)) | {"classes": [_tone(c.verdict) for c in verdicts(report)]},
        "exploratory": _table(exploratory_rows(report)),
        "controls": _table(control_rows(report)),
        "price": _table(price_rows(report)),
        "layers": _table(layer_rows(report)),
        "groups": [
            *({"workload": workload, "figures": made} for workload, made in by_workload.items()),
            *([{"workload": "Across workloads", "figures": across}] if across else []),
        ],
        "bests": list(_bests(report)),
        "searches": [_search(report, study) for study in report.studies],
        "failures": list(_failures(report)),
        "lints": report.lints,
        "provenance": report.provenance,
        "facts": list(_facts(report)),
        "spec": dump_yaml(report.sweep.spec),
        "sections": list(_sections(report)),
        "colours": {arm: (colour, dark[colour]) for arm, colour in arm_colours(report.arms).items()},
        "style": Markup(_file("style.css")),
        "script": Markup(_file("page.js")),
        "plotly": Markup(_plotly()) if drawn else "",
        "figures_json": Markup(script_json({"figures": drawn, "dark_of": dark})),
    }


def script_json(value: object) -> str:
    r"""Write JSON that may stand inside a ``script`` element.

    Args:
        value: plain data, all numbers finite.

    Returns:
        JSON in which nothing can end the element.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _nobreak(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r" (?=%|points\b|s\b)|(?<=\bp) (?=[=<])|(?<==) (?=[\d<])", "\u00a0", text)


def _file(name: str) -> str:
    return resources.files("orchestrator.report.page").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly.js as the wheel ships it; read as a file, since importing plotly takes a second."""
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


def _table(made: tuple[Header, Rows]) -> dict[str, Any]:
    header, rows = made
    return {"header": header, "rows": rows}


def _tone(verdict: Verdict) -> str:
    return TONES.get(verdict, "")


def _answers(report: Report) -> list[dict[str, str]]:
    found = []
    for answer in report.answers:
        tones = {_tone(c.verdict) for c in report.comparisons if c.is_primary and c.workload == answer.workload}
        tone = tones.pop() if len(tones) == 1 else ""
        found.append({"workload": answer.workload, "sentence": answer.sentence, "tone": tone})
    return found


def _bests(report: Report) -> Iterator[dict[str, str]]:
    metric = report.sweep.objective.metric
    for study in report.studies:
        if study.best is not None:
            summary = f"search trial #{study.best.number}, {metric} {number(study.best.value)} in search"
            yield {"workload": study.workload, "arm": study.arm, "yaml": study.best.yaml, "summary": summary}


def _search(report: Report, study: Study) -> dict[str, Any]:
    header, rows = search_rows(report, study.workload, study.arm)
    counts = {
        "complete": study.num_complete,
        "pruned": study.num_pruned,
        "diverged": study.num_diverged,
        "timed out": study.num_timeout,
        "crashed or lost": study.num_crashed,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    summary = f"{study.num_trials} of {study.num_wanted} trials" + f": {told}" * bool(told)
    others = _table(other_rows(study)) if len(study.candidates) > 1 else None
    return {
        "workload": study.workload,
        "arm": study.arm,
        "summary": summary,
        "header": header,
        "rows": rows,
        "right": [0, *range(2, len(header) - 1)],
        "others": others,
    }


def _failures(report: Report) -> Iterator[dict[str, str]]:
    for failure in report.failures:
        place = f"#{failure.number}" if failure.phase == "search" else f"seed {failure.seeds[0]}"
        yield failure.model_dump(include={"kind", "workload", "arm", "message", "traceback"}) | {
            "where": f"{failure.phase} {place}, trial {failure.trial_id}"
        }


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    provenance = report.provenance
    dirty = {True: "; with uncommitted changes", False: "; clean", None: ""}[provenance.git_dirty]
    yield "commit", (provenance.git_commit or "unknown: not run from a git repository") + dirty
    yield "began", datetime.fromtimestamp(provenance.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield "driver", provenance.host
    for machine in report.machines:
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        yield "trials ran on", f"{machine.host}: {machine.device}, {machine.num_threads} thread(s); {versions}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    yield "search seeds", ", ".join(map(str, report.sweep.search_seeds))
    yield "confirm seeds", ", ".join(map(str, report.sweep.confirm_seeds))
    for workload, target in report.sweep.targets.items():
        yield f"target of {workload}", f"{target.metric} {target.value:g}"


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    yield "curves", "Curves"
    if exploratory_rows(report)[1]:
        yield "exploratory", "Exploratory"
    yield "price", "Cost"
    yield "best", "Best configurations"
    yield "search", "Search"
    if report.failures:
        yield "failures", f"Failures ({len(report.failures)})"
    if report.lints:
        yield "lints", f"Objections ({len(report.lints)})"
    yield "provenance", "Provenance"
