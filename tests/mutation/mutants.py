"""The faults: one changed operator, number, condition or call at a time, made on the syntax tree of a module."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil", "isinf": "isfinite"}
WORDS = {"left": "right", "right": "left"}


@final
@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Args:
        line: where the fault is.
        name: ``function: before -> after``, which does not change when lines move.
        tree: the syntax tree of the module with the fault.
    """

    line: int
    name: str
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Make all mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    for place, scope in _places(tree, ()):
        for before, after in _changes(place):
            changed = copy.deepcopy(tree, {id(before): after})
            name = f"{'.'.join(scope)}: {_told(before)} -> {_told(after)}"
            yield Mutant(before.lineno, name, ast.fix_missing_locations(changed))


def _places(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Walk over what runs; annotations, imports and the list of names for export are left out."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        scope = (*scope, node.name)
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_out(child):
                yield child, scope
                yield from _places(child, scope)


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Raise():
            return True
        case ast.keyword(arg="strict") | ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="warnings")))):
            # `strict=True` guards against faults of our own, and a warning that is hidden changes no result.
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            # An alias of a type, and what a package exports.
            return name == "__all__" or (name[0].isupper() and isinstance(value, ast.Subscript))
        case _:
            return False


def _changes(node: Any) -> Iterator[tuple[Any, ast.AST]]:
    """Yield what can be changed at a node: an old part of the tree and the new one."""
    match node:
        case ast.Compare():
            for place, op in enumerate(node.ops):
                for other in COMPARISONS[type(op)]:
                    yield node, _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            yield node, _with(node, op=OPERATORS[type(node.op)]())
        case ast.BoolOp():
            yield node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for place in range(len(node.values)):
                rest = node.values[:place] + node.values[place + 1 :]
                yield node, rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, node.operand
        case ast.If() | ast.While() | ast.IfExp():
            yield node.test, ast.UnaryOp(ast.Not(), node.test)
        case ast.comprehension():
            for condition in node.ifs:
                yield condition, ast.Constant(True)
        case ast.Constant(value=bool()):
            yield node, ast.Constant(not node.value)
        case ast.Constant(value=int() | float() as number):
            yield node, ast.Constant(number + 1)
        case ast.Constant(value="left" | "right" as word):
            yield node, ast.Constant(WORDS[word])
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield node, _with(node, func=ast.Name(NAMES[name], ast.Load()))
        case ast.Call(func=ast.Attribute(attr=name)) if name in NAMES:
            yield node, _with(node, func=_with(node.func, attr=NAMES[name]))
        case ast.Expr(value=ast.Call()):
            yield node, ast.Pass()
        case _:
            return


def _with(node: Any, **changes: object) -> Any:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _told(node: ast.AST) -> str:
    """Write a part of the tree in one line."""
    return " ".join(ast.unparse(node).split())
