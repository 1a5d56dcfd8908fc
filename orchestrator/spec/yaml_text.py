"""Reads YAML as plain data with line numbers; it runs nothing and bounds what aliases expand to.

The text is composed to nodes with PyYAML's safe loader and converted here, because the stock constructor keeps
the last of two equal keys, reads ``1e-3`` as a string and ``on`` as true (YAML 1.1), and expands aliases
without bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from orchestrator.errors import Fault, SpecError

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 32
LARGEST_INT = 2**53
LARGEST_FLOAT = 3.4e38

KeyPath = tuple[str | int, ...]

# YAML 1.2's core schema, which people expect: 1e-3 is a float, `on` and `no` are words.
_SCALARS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"(?:~|null|Null|NULL|)\Z"), lambda text: None),
    (re.compile(r"(?:true|True|TRUE)\Z"), lambda text: True),
    (re.compile(r"(?:false|False|FALSE)\Z"), lambda text: False),
    (re.compile(r"[-+]?[0-9]{1,300}\Z"), int),
    (re.compile(r"0x[0-9a-fA-F]{1,64}\Z"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"), float),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(?:nan|NaN|NAN)\Z"), lambda text: float("nan")),
)


@final
@dataclass(frozen=True)
class Document:
    """A YAML text as plain data.

    Args:
        source: the file, as the user named it.
        data: dicts, lists and scalars.
        lines: the line of each key and item, by its path.
        overridden: paths of what the command line put in place of what the file says.
    """

    source: str
    data: Any
    lines: dict[KeyPath, int]
    overridden: set[KeyPath] = field(default_factory=set)

    def place(self, path: KeyPath, *, is_key: bool = False) -> str:
        """Say where a path is: the file, the line of the nearest known part, and the keys; or ``--set`` and the keys.

        ``is_key`` says that a key is meant and not its value; in a document both are in one place.
        """
        if any(path[:n] in self.overridden for n in range(1, len(path) + 1)):
            return f"{self.source}: --set {dotted(path)}"
        line = next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
        where = self.source if line is None else f"{self.source}:{line}"
        return f"{where}: {dotted(path)}" if path else where


def dotted(path: KeyPath) -> str:
    """Write a path as people do: ``arms.teleport.tau.choice[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else shorten(part)
    return text


def shorten(value: object, limit: int = 60) -> str:
    """Write a value for a message: its repr on one line, cut off where it is long."""
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]}… ({len(text)} characters)"


def out_of_reach(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Find numbers that nothing here can mean: whole ones that a float does not hold, others beyond float32."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from out_of_reach(value, (*path, key))
    elif isinstance(data, int) and abs(data) > LARGEST_INT:
        yield path, f"must be at most 2^53, is {shorten(data, 30)}"
    elif isinstance(data, float) and LARGEST_FLOAT < abs(data) < math.inf:
        yield path, f"must be at most 3.4e38, the largest float32, is {data}"


def read_file(path: Path) -> Document:
    """Read a YAML file as plain data with line numbers.

    Raises:
        SpecError: the file cannot be read or is no YAML mapping; every fault found, with its place.
    """
    source = str(path)
    try:
        if path.is_dir():
            raise SpecError(Fault(source, "is a directory; a spec is a YAML file"))
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(Fault(source, f"cannot be read: {error.strerror or error}")) from None
    if len(raw) > MAX_BYTES:
        raise SpecError(Fault(source, f"is larger than {MAX_BYTES // 1024} KiB; a spec is a short YAML file"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(Fault(source, f"is not UTF-8 text (byte {error.start}); a spec is a YAML file")) from None
    return read_text(text, source)


def read_text(text: str, source: str = "<text>") -> Document:
    """Read YAML text as plain data with line numbers; faults call the text ``source``.

    Raises:
        SpecError: it is no YAML mapping; every fault found, with its place.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise SpecError(Fault(place, f"is not YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:
        raise SpecError(Fault(source, f"is not YAML: {str(error).splitlines()[0]}")) from None
    except RecursionError:
        raise SpecError(Fault(source, f"is nested deeper than {MAX_DEPTH} levels")) from None
    if root is None:
        raise SpecError(Fault(source, "is empty; a spec is a YAML mapping that begins with `version: 1`"))
    reader = _NodeReader(source)
    data = reader.convert(root, ())
    if not isinstance(data, dict) and not reader.faults:
        reader.faults.append(Fault(source, f"must be a YAML mapping of keys to values, is {_kind(data)}"))
    if reader.faults:
        raise SpecError(*reader.faults)
    return Document(source, data, reader.lines)


def read_value(text: str) -> Any:
    """Read a value given on the command line as YAML, for example ``[0, 1]``; a text that is no YAML stands for itself.

    Raises:
        SpecError: a key is there twice, or the value has YAML tags.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text
    reader = _NodeReader("--set")
    data = None if root is None else reader.convert(root, ())
    if reader.faults:
        raise SpecError(*reader.faults)
    return data


def _kind(data: object) -> str:
    names = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
    return names.get(type(data), "nothing")


@final
class _NodeReader:
    """Converts composed nodes, collecting line numbers and faults."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self.num_nodes = 0

    def convert(self, node: yaml.Node, path: KeyPath) -> Any:
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES:
            if self.num_nodes == MAX_NODES + 1:
                message = f"has more than {MAX_NODES} values once its aliases are expanded"
                self.faults.append(Fault(self.source, message))
            return None
        self.lines[path] = node.start_mark.line + 1
        if len(path) > MAX_DEPTH:
            self._fault(path[:3], f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self._fault(path, f"the tag {shorten(node.tag)} is not allowed; a spec holds plain values only")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        return self._mapping(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(path, f"line {key_node.start_mark.line + 1}: a key must be a plain word")
                continue
            key = key_node.value
            if key in result:
                first = self.lines[*path, key]
                self._fault((*path, key), f"duplicate key; first set on line {first}", key_node)
                continue
            result[key] = self.convert(value_node, (*path, key))
            self.lines[*path, key] = key_node.start_mark.line + 1
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        standard = node.tag.startswith("tag:yaml.org,2002:") and "python" not in node.tag
        if not standard or node.tag.endswith((":binary", ":set", ":omap", ":pairs")):
            self._fault(path, f"the tag {shorten(node.tag)} is not allowed; a spec holds plain values only")
            return None
        if node.style is not None:
            return node.value
        for pattern, convert in _SCALARS:
            if pattern.match(node.value):
                return convert(node.value)
        return node.value

    def _fault(self, path: KeyPath, message: str, node: yaml.Node | None = None) -> None:
        line = node.start_mark.line + 1 if node else self.lines.get(path)
        where = f"{self.source}:{line}" if line else self.source
        self.faults.append(Fault(f"{where}: {dotted(path)}" if path else where, message))
