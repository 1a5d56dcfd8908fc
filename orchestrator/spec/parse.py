"""Makes a :class:`Template` of plain data: it recognises distributions and reports every broken one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from orchestrator.errors import Fault, nearest
from orchestrator.spec.identity import Json
from orchestrator.spec.space import Branch, Choice, Distribution, Fixed, Items, Located, Node, Range, Template
from orchestrator.spec.yaml_text import Document, KeyPath, shorten

KINDS = ("uniform", "loguniform", "int", "logint", "choice")
MAX_CORNERS = 2_000


@final
@dataclass(frozen=True)
class Parsed:
    """A parsed part of a document.

    Args:
        template: the tree; a broken distribution in it stands as None.
        faults: what is wrong with its distributions.
        broken: paths of the broken distributions: further faults below them would tell the user nothing new.
    """

    template: Template
    faults: list[Fault]
    broken: list[KeyPath]


def parse(document: Document, path: KeyPath) -> Parsed:
    """Parse the mapping at ``path`` of a document, and collect every fault of its distributions."""
    raw = document.data
    for part in path:
        raw = raw[part]
    parser = _Parser(document)
    template = Template(parser.parse(raw, path, ""), raw)
    if len(template.corners()) > MAX_CORNERS:
        parser.fault(path, f"has {len(template.corners())} bounds and choices; at most {MAX_CORNERS} can be checked")
        template = fixed({})
    return Parsed(template, parser.faults, parser.broken)


@final
class _Parser:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults: list[Fault] = []
        self.broken: list[KeyPath] = []

    def parse(self, raw: Any, path: KeyPath, name: str) -> Node:
        if isinstance(raw, dict):
            kinds = [key for key in raw if key in KINDS]
            if kinds:
                num_faults = len(self.faults)
                located = Located(self._distribution(raw, kinds, path, name), path)
                if len(self.faults) > num_faults:
                    self.broken.append(path)
                return located
            items = tuple(
                (key, self.parse(value, (*path, key), f"{name}.{key}" if name else key)) for key, value in raw.items()
            )
            return Located(Branch(items), path)
        if isinstance(raw, list):
            items_ = tuple(self.parse(v, (*path, i), f"{name}[{i}]") for i, v in enumerate(raw))
            return Located(Items(items_), path)
        return Located(Fixed(raw), path)

    def fault(self, path: KeyPath, message: str) -> None:
        self.faults.append(Fault(self.document.place(path), message))

    def _distribution(self, raw: dict[str, Any], kinds: list[str], path: KeyPath, name: str) -> Distribution | Fixed:
        kind = kinds[0]
        allowed = {kind} if kind in ("choice", "loguniform") else {kind, "step"}
        for key in raw:
            if key not in allowed:
                self.fault((*path, key), f"unknown key beside {kind!r}; {nearest(key, allowed)}")
        if kind == "choice":
            return self._choice(raw[kind], (*path, kind), name)
        return self._range(kind, raw, path, name)

    def _range(self, kind: str, raw: dict[str, Any], path: KeyPath, name: str) -> Distribution | Fixed:
        is_integer, is_log = kind in ("int", "logint"), kind.startswith("log")
        bounds = raw[kind]
        here = (*path, kind)
        good = isinstance(bounds, list) and len(bounds) == 2 and all(_is_number(b, is_integer) for b in bounds)
        if not good:
            numbers = "whole numbers" if is_integer else "finite numbers"
            self.fault(here, f"must be [low, high], two {numbers}, is {shorten(bounds)}")
            return Fixed(None)
        low, high = bounds
        if low > high:
            self.fault(here, f"low must not be above high, is [{low}, {high}]")
        if is_log and low <= 0:
            self.fault(here, f"low must be above 0 on a logarithmic scale, is {low}")
        step = raw.get("step")
        if step is not None and (not _is_number(step, is_integer) or step <= 0):
            self.fault(
                (*path, "step"),
                f"must be a {'whole ' if is_integer else ''}number above 0, is {shorten(step)}",
            )
            step = None
        if step is not None and not is_log and not _is_multiple(high - low, step):
            self.fault((*path, "step"), f"high - low = {high - low:g} must be a multiple of step, is {step}")
        if step is not None and is_log:
            self.fault((*path, "step"), "a logarithmic scale has no step; remove it")
        return Range(name, low, high, is_integer, is_log, step)

    def _choice(self, options: Any, path: KeyPath, name: str) -> Distribution | Fixed:
        if not isinstance(options, list) or not options:
            self.fault(path, f"must be a list with at least one value, is {shorten(options)}")
            return Fixed(None)
        labels = [_label(option) for option in options]
        for index, label in enumerate(labels):
            first = next(i for i, other in enumerate(labels) if other == label)
            if first < index and options[first] == options[index]:
                self.fault((*path, index), f"{shorten(options[index])} is listed twice; first as [{first}]")
            elif first < index:
                labels[index] = f"{label} #{index}"
        nodes = tuple(
            self.parse(option, (*path, index), f"{name}[{labels[index]}]") for index, option in enumerate(options)
        )
        return Choice(name, tuple(labels), nodes)


def _is_number(value: object, is_integer: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (not is_integer and isinstance(value, float) and math.isfinite(value))


def _is_multiple(length: float, step: float) -> bool:
    return abs(length / step - round(length / step)) < 1e-9


def _label(option: Any) -> Json:
    """Name an option of a choice: scalars are their own label, a mapping is named by its plain values."""
    if isinstance(option, dict):
        plain = [f"{k}={v}" for k, v in option.items() if not isinstance(v, dict | list)]
        return ", ".join(plain) or ", ".join(option) or "{}"
    return str(option) if isinstance(option, list) else option


def merged(preset: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings into a preset key by key; a distribution, or settings of another ``name``, replace it whole."""
    both = {key for key in own if _is_refined(preset.get(key), own[key])}
    return {**preset, **own, **{key: merged(preset[key], own[key]) for key in both}}


def _is_refined(preset: object, own: object) -> bool:
    if not (isinstance(preset, Mapping) and isinstance(own, Mapping)):
        return False
    is_plain = not any(kind in settings for kind in KINDS for settings in (preset, own))
    return is_plain and own.get("name", preset.get("name")) == preset.get("name")


def fixed(raw: dict[str, Json]) -> Template:
    """Make a template of data without distributions."""
    return parse(Document("<fixed>", raw, {}), ()).template
