"""The report as one self-contained HTML page: no network, light and dark, phone and paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from orchestrator.report.content import Group, content_of, groups_of, tone_of
from orchestrator.report.figures import across_figures, colours_of, transfer_figures
from orchestrator.report.palette import dark_of
from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.sections import page_sections
from orchestrator.report.sections.effects import verdicts


def render_html(report: Report | JointReport) -> str:
    """Write the report as a page that needs nothing but a browser.

    A page with figures has about 5 MB, nearly all of them plotly.js. Every number on it is in the report.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["nobreak"] = _nobreak
    template = environment.from_string(_file("report.html.j2"))
    return template.render(**_page(report))


def _page(report: Report | JointReport) -> dict[str, Any]:
    from markupsafe import Markup

    reports = reports_of(report)
    shades, dark = colours_of(report), dark_of()
    parts = [
        content_of(each, shades, prefix=f"s{place}-" if len(reports) > 1 else "") for place, each in enumerate(reports)
    ]
    across = groups_of(across_figures(report, shades))
    carried = groups_of(transfer_figures(report.transfers))
    drawn = _drawn([across, carried, *(groups for part in parts for groups in part["groups"])])
    found = page_sections(report)
    return {
        "title": ", ".join(each.sweep.name for each in reports),
        "parts": parts,
        "answers": [section for section in found if section.chapter == "answer"],
        "tones": [tone_of(c.verdict) for each in reports for c in verdicts(each)],
        "across": across,
        "transfers": [section for section in found if section.chapter == "transfer"],
        "num_missing": sum(len(each.missing) for each in report.transfers),
        "carried": carried,
        "colours": {arm: (colour, dark[colour]) for arm, colour in shades.items()},
        "style": Markup(_file("style.css")),
        "script": Markup(_file("page.js")),
        "plotly": Markup(_plotly()) if drawn else "",
        "figures_json": Markup(script_json({"figures": drawn, "dark_of": dark})),
    }


def _drawn(groups: Iterable[Sequence[Group]]) -> dict[str, Any]:
    return {
        f"{group.prefix}{figure.key}": figure.to_plotly()
        for made in groups
        for group in made
        for figure in group.figures
    }


def script_json(value: object) -> str:
    r"""Write plain data with finite numbers as JSON in which nothing can end a ``script`` element.

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
    """Read plotly.js from plotly's wheel as a file, since importing plotly takes a second."""
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
