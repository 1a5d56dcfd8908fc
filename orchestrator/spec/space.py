"""A configuration in which any leaf may be a distribution.

A :class:`Template` is parsed once from plain data. It can be made concrete by choosing a value for each
distribution, and it can list the corner configurations whose validity implies that of all others: every bound
and every choice, one at a time. So the options of the catalogue stay concrete, and nothing else in the project
knows that a leaf may be searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from orchestrator.spec.identity import Json
from orchestrator.spec.yaml_text import KeyPath


@final
@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included.

    Args:
        name: the parameter's name: its dotted path, with the choices it depends on.
        low: smallest value.
        high: largest value.
        is_integer: whole numbers only.
        is_log: uniform in the logarithm.
        step: distance between neighbours; None: every number.
    """

    name: str
    low: float
    high: float
    is_integer: bool
    is_log: bool
    step: float | None


@final
@dataclass(frozen=True)
class Choice:
    """One of several values, each of which may hold distributions of its own.

    Args:
        name: the parameter's name.
        labels: a unique name for each option, which samplers, files and MLflow see.
        options: what each label stands for.
    """

    name: str
    labels: tuple[Json, ...]
    options: tuple[Node, ...]


@final
@dataclass(frozen=True)
class Branch:
    """A mapping: its keys and what stands under them."""

    items: tuple[tuple[str, Node], ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """What stands under the keys, in order."""
        return tuple(child for _, child in self.items)


@final
@dataclass(frozen=True)
class Items:
    """A list: its items in order."""

    children: tuple[Node, ...]


@final
@dataclass(frozen=True)
class Fixed:
    """A value that is not searched."""

    value: bool | int | float | str | None


@final
@dataclass(frozen=True)
class Located:
    """A node and where in the document it stands."""

    node: Range | Choice | Branch | Items | Fixed
    path: KeyPath


Node = Located
Distribution = Range | Choice


@final
@dataclass(frozen=True)
class Template:
    """A tree of plain values and distributions, and the plain data that it was parsed from (``raw``)."""

    root: Node
    raw: Json

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_raw = core_schema.plain_serializer_function_ser_schema(lambda template: template.raw)
        return core_schema.is_instance_schema(cls, serialization=as_raw)

    def distributions(self) -> list[Distribution]:
        """List every distribution, those under a choice after it, in the order of the document."""
        return list(_walk(self.root))

    def choose(self, pick: Callable[[Distribution], Json], values: dict[str, Json]) -> None:
        """Choose a value for each distribution that the choices before it make relevant.

        Args:
            pick: returns the value, for a choice its label.
            values: is filled with parameter name -> value.
        """
        _choose(self.root, pick, values)

    def num_configurations(self) -> float:
        """Count the different configurations; infinite where a distribution is continuous."""
        return _count(self.root)

    def concretise(self, values: Mapping[str, Json]) -> Any:
        """Fix every distribution and return plain data.

        Args:
            values: parameter name -> value, a label for a choice; distributions under options that were not chosen need
                none.
        """
        return _concretise(self.root, values, {}, ())

    def trace(self, values: Mapping[str, Json]) -> tuple[Any, dict[KeyPath, KeyPath]]:
        """Fix every distribution; also return, for each path in the data, the path in the document it came from."""
        origins: dict[KeyPath, KeyPath] = {}
        return _concretise(self.root, values, origins, ()), origins

    def corners(self) -> list[dict[str, Json]]:
        """List the value assignments to check: all distributions at their first, then each bound and option in turn."""
        return list(_corners(self.root))


def _walk(located: Node) -> Iterator[Distribution]:
    match located.node:
        case Range() as distribution:
            yield distribution
        case Choice(options=options) as distribution:
            yield distribution
            for option in options:
                yield from _walk(option)
        case Branch(children=children) | Items(children=children):
            for child in children:
                yield from _walk(child)
        case Fixed():
            pass


def _choose(located: Node, pick: Callable[[Distribution], Json], values: dict[str, Json]) -> None:
    match located.node:
        case Fixed():
            pass
        case Range() as distribution:
            values[distribution.name] = pick(distribution)
        case Choice() as distribution:
            label = pick(distribution)
            values[distribution.name] = label
            _choose(_option(distribution, label), pick, values)
        case Branch(children=children) | Items(children=children):
            for child in children:
                _choose(child, pick, values)


def _count(located: Node) -> float:
    match located.node:
        case Fixed():
            return 1
        case Range(low=low, high=high, is_integer=is_integer, step=step):
            if low == high:
                return 1
            spacing = step or (1 if is_integer else None)
            return math.inf if spacing is None else math.floor((high - low) / spacing + 1e-9) + 1
        case Choice(options=options):
            return sum(_count(option) for option in options)
        case Branch(children=children) | Items(children=children):
            return math.prod(_count(child) for child in children)


def _option(choice: Choice, label: Json) -> Node:
    return choice.options[choice.labels.index(label)]


def _concretise(located: Node, values: Mapping[str, Json], origins: dict[KeyPath, KeyPath], path: KeyPath) -> Any:
    origins[path] = located.path
    match located.node:
        case Fixed(value):
            return value
        case Range(name=name):
            return values[name]
        case Choice() as choice:
            return _concretise(_option(choice, values[choice.name]), values, origins, path)
        case Branch(items):
            return {key: _concretise(child, values, origins, (*path, key)) for key, child in items}
        case Items(children):
            return [_concretise(child, values, origins, (*path, i)) for i, child in enumerate(children)]


def _corners(located: Node) -> Iterator[dict[str, Json]]:
    match located.node:
        case Fixed():
            yield {}
        case Range(name=name, low=low, high=high):
            yield {name: low}
            if high != low:
                yield {name: high}
        case Choice(name=name, labels=labels, options=options):
            for label, option in zip(labels, options, strict=True):
                for corner in _corners(option):
                    yield {name: label, **corner}
        case Branch(children=children) | Items(children=children):
            yield from _one_at_a_time(children)


def _one_at_a_time(children: Sequence[Node]) -> Iterator[dict[str, Json]]:
    parts = [list(_corners(child)) for child in children]
    first = {name: value for part in parts for name, value in part[0].items()}
    yield first
    for part in parts:
        for corner in part[1:]:
            rest = {name: value for name, value in first.items() if name not in part[0]}
            yield {**rest, **corner}


def path_of(origins: Mapping[KeyPath, KeyPath], path: KeyPath) -> KeyPath:
    """Find where in the document a path of concrete data came from, by its longest known part."""
    for length in range(len(path), -1, -1):
        if path[:length] in origins:
            return (*origins[path[:length]], *path[length:])
    return path
