"""Arithmetic as text: a small grammar, read without running anything, evaluated step by step.

Numbers, names, ``+ - * / **``, unary minus, parentheses, and the functions of :data:`FUNCTIONS`, with Python's
precedence. Every number is a float, and every step must give a finite one: no expression can take long, grow large, or
do anything but give a finite number or raise :class:`ExpressionError`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import final

from orchestrator.errors import nearest

MAX_LENGTH = 200
MAX_DEPTH = 20

_ALLOWED = re.compile(r"[A-Za-z0-9_.+\-*/(), ]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.USub: "-x",
}
_APPLY: dict[str, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": math.pow,
    "-x": operator.neg,
    "abs": abs,
    "exp": math.exp,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}

FUNCTIONS: dict[str, tuple[int, int]] = {
    "abs": (1, 1),
    "exp": (1, 1),
    "log": (1, 1),
    "max": (2, 8),
    "min": (2, 8),
    "sqrt": (1, 1),
}
"""Function -> fewest and most numbers it takes; ``log`` is the natural logarithm."""

_UNDEFINED = {
    "**": "this power is no real number: 0 to a negative power, or a negative number to a power that is not whole",
    "log": "the logarithm of a number that is not above 0",
    "sqrt": "the square root of a negative number",
}


@final
class ExpressionError(ValueError):
    """An expression that cannot be read, or that has no value that can be used.

    Args:
        text: the expression.
        faults: a column, from 1, and what is wrong there; column 0 stands for the whole expression.
        values: the values of the names when it was evaluated.
        place: what the value was wanted for; empty for an expression that is read, whose place the spec's fault names.
    """

    def __init__(
        self, text: str, *faults: tuple[int, str], values: Mapping[str, float] | None = None, place: str = ""
    ) -> None:
        self.text, self.faults, self.values = text, faults, dict(values or {})
        told = "; ".join(f"column {column}: {said}" if column else said for column, said in faults)
        known = ", ".join(f"{name} = {value:.6g}" for name, value in self.values.items())
        shown = text if len(text) <= MAX_LENGTH else f"{text[:40]}…"
        message = f"expression {shown!r}: {told}" + f", with {known}" * bool(known)
        super().__init__(f"{place}: {message}" if place else message)


@final
@dataclass(frozen=True)
class _Node:
    """A number, a name, or an operation on parts.

    Args:
        operation: a key of ``_APPLY``; empty for a number or a name.
        parts: what the operation acts on.
        number: the value of a number.
        name: a name, else empty.
        column: where the node stands, from 1.
        text: how the node was written.
    """

    operation: str = ""
    parts: tuple[_Node, ...] = ()
    number: float = 0.0
    name: str = ""
    column: int = 1
    text: str = ""


@final
@dataclass(frozen=True)
class Expression:
    """An expression that :func:`read` has read.

    Args:
        text: the expression as it was written.
        names: each name in it, with the column where it first stands.
        root: the operation at the top.
    """

    text: str
    names: Mapping[str, int]
    root: _Node

    def value(self, values: Mapping[str, float]) -> float:
        """Evaluate the expression to a finite number, given a value for each of its names.

        Raises:
            ExpressionError: a step has no finite value; the message holds the values that led to it.
        """
        found = self.known_value(values)
        assert found is not None, f"{self.text!r} needs {set(self.names) - set(values)}"
        return found

    def known_value(self, values: Mapping[str, float]) -> float | None:
        """Evaluate the expression when some names have no value yet; None: it depends on one of them.

        Raises:
            ExpressionError: a step has no finite value whatever the other names are.
        """
        own = {name: float(values[name]) for name in self.names if name in values}
        return _known(self.root, own, self.text)


@lru_cache(maxsize=1024)
def read(text: str) -> Expression:
    """Read an expression, for example ``0.1 * fan_in ** -0.5``; its names are not checked here.

    Raises:
        ExpressionError: the text is not of this grammar; every fault with its column.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text, (0, f"has {len(text)} characters; at most {MAX_LENGTH} are allowed"))
    stripped = text.strip(" ")
    if not stripped:
        raise ExpressionError(text, (0, "is empty"))
    lead = text.index(stripped)
    strange = [(i + 1, f"{c!r} is not allowed in an expression") for i, c in enumerate(text) if not _ALLOWED.match(c)]
    if strange:
        raise ExpressionError(text, strange[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(stripped, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        offset = getattr(error, "offset", None) or 0
        column = lead + offset if 0 < offset <= len(stripped) else 0
        raise ExpressionError(
            text, (column, "is not arithmetic: a number, a name or an operator is missing here")
        ) from None
    reader = _TreeReader(stripped, lead)
    root = reader.node(tree.body, 1)
    if reader.faults:
        raise ExpressionError(text, *reader.faults)
    names: dict[str, int] = {}
    for node in _walk(root):
        if node.name:
            names.setdefault(node.name, node.column)
    return Expression(text, names, root)


def is_name(text: str) -> bool:
    """Tell whether a text may be the name of a number."""
    return _NAME.match(text) is not None and text not in FUNCTIONS


def _walk(node: _Node) -> Iterator[_Node]:
    yield node
    for part in node.parts:
        yield from _walk(part)


@final
class _TreeReader:
    """Turns Python's syntax tree into nodes and collects every fault."""

    def __init__(self, text: str, lead: int) -> None:
        self.text = text
        self.lead = lead
        self.faults: list[tuple[int, str]] = []

    def node(self, tree: ast.expr, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            return self._fault(tree, f"is nested deeper than {MAX_DEPTH} levels")
        match tree:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(tree, value)
            case ast.Name(id=name):
                return replace(self._bare(tree), name=name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._applied(tree, _OPERATORS[type(op)], (left, right), depth)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._applied(tree, "-x", (operand,), depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(tree, name, args, depth)
            case _:
                return self._fault(tree, "is not allowed; numbers, names, + - * / ** and functions are")

    def _bare(self, tree: ast.expr) -> _Node:
        return _Node(column=self.lead + tree.col_offset + 1, text=ast.get_source_segment(self.text, tree) or self.text)

    def _applied(self, tree: ast.expr, operation: str, parts: Sequence[ast.expr], depth: int) -> _Node:
        return replace(self._bare(tree), operation=operation, parts=tuple(self.node(one, depth + 1) for one in parts))

    def _number(self, tree: ast.expr, value: float) -> _Node:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            return self._fault(tree, "is too large a number")
        return replace(self._bare(tree), number=number)

    def _call(self, tree: ast.expr, name: str, args: Sequence[ast.expr], depth: int) -> _Node:
        if name not in FUNCTIONS:
            return self._note(tree, f"there is no function {name!r}; {nearest(name, FUNCTIONS)}")
        fewest, most = FUNCTIONS[name]
        if not fewest <= len(args) <= most:
            wanted = "1 number" if most == 1 else f"{fewest} to {most} numbers"
            return self._note(tree, f"{name} takes {wanted}, got {len(args)}")
        return self._applied(tree, name, args, depth)

    def _fault(self, tree: ast.expr, said: str) -> _Node:
        return self._note(tree, f"{self._bare(tree).text!r} {said}")

    def _note(self, tree: ast.expr, said: str) -> _Node:
        self.faults.append((self.lead + tree.col_offset + 1, said))
        return _Node()


def _known(node: _Node, values: Mapping[str, float], text: str) -> float | None:
    if node.name:
        return values.get(node.name)
    if not node.operation:
        return node.number
    parts = [_known(part, values, text) for part in node.parts]
    if node.operation == "/" and parts[1] == 0.0:
        raise _fault(text, node, f"division by zero in {node.text!r}", node.parts[1], values)
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    try:
        found = _APPLY[node.operation](*known)
    except ValueError:
        raise _fault(text, node, f"{node.text!r}: {_UNDEFINED[node.operation]}", node, values) from None
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise _fault(text, node, f"{node.text!r} is too large a number", node, values)
    return found


def _fault(text: str, node: _Node, said: str, cause: _Node, values: Mapping[str, float]) -> ExpressionError:
    """Describe what is wrong at a node, with the values of the names in ``cause``."""
    own = {one.name: values[one.name] for one in _walk(cause) if one.name}
    return ExpressionError(text, (node.column, said), values=own)
