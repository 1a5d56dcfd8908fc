"""The report as one self-contained HTML page: no network, light and dark, phone and paper."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from orchestrator.report.content import Group, content_of, groups_of, tone_of
from orchestrator.report.figures import across_figures, answer_figures, colours_of, transfer_figures
from orchestrator.report.palette import dark_of
from orchestrator.report.schema import JointReport, Report, reports_of
from orchestrator.report.sections import page_sections
from orchestrator.report.sections.effects import verdicts

# plotly.js with scatter, bar and pie alone (MIT licence), from the npm package plotly.js-basic-dist-min. With all of
# plotly.js, as its Python package brings it, a page would have 5 MB.
PLOTLY = "plotly-basic.min.js.gz"


def render_html(report: Report | JointReport) -> str:
    """Write the report as a page that needs nothing but a browser.

    A page with figures carries the part of plotly.js that draws them, half a megabyte when packed, and unpacks it in
    the browser. Every number on it is in the report.
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
    answered = groups_of(answer_figures(report))
    across = groups_of(across_figures(report, shades))
    carried = groups_of(transfer_figures(report.transfers))
    drawn = _drawn([answered, across, carried, *(groups for part in parts for groups in part["groups"])])
    found = page_sections(report)
    return {
        "title": ", ".join(each.sweep.name for each in reports),
        "parts": parts,
        "answered_figures": answered,
        "verdicts": next((section for section in found if section.key == "verdicts"), None),
        "answers": [section for section in found if section.chapter == "answer" and section.key != "verdicts"],
        "tones": [tone_of(c.verdict) for each in reports for c in verdicts(each)],
        "across": across,
        "transfers": [section for section in found if section.chapter == "transfer"],
        "num_missing": sum(len(each.missing) for each in report.transfers),
        "carried": carried,
        "colours": {arm: (colour, dark[colour]) for arm, colour in shades.items()},
        "style": Markup(_file("style.css")),
        "script": Markup(_file("page.js")),
        "plotly": _base64(_resource(PLOTLY).read_bytes()) if drawn else "",
        "packed": _base64(_packed(_json({"figures": drawn, "dark_of": dark}))),
    }


def _drawn(groups: Iterable[Sequence[Group]]) -> dict[str, Any]:
    return {
        f"{group.prefix}{figure.key}": figure.to_plotly()
        for made in groups
        for group in made
        for figure in group.figures
    }


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def _base64(packed: bytes) -> str:
    """Write bytes with letters that mean nothing to HTML."""
    return base64.b64encode(packed).decode("ascii")


def _nobreak(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r" (?=%|points\b|s\b)|(?<=\bp) (?=[=<])|(?<==) (?=[\d<])", "\u00a0", text)


def _resource(name: str) -> Traversable:
    return resources.files("orchestrator.report.page").joinpath(name)


def _file(name: str) -> str:
    return _resource(name).read_text(encoding="utf-8")
