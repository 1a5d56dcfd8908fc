"""How the source is built: rooms, floors, faces, names and sizes, read from the files alone."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.timing import row

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FUNCTION = 50
MOST_ARGUMENTS = 8
PRODUCT = ("orchestrator", "teleport_engine", "dashboards")


def modules(*packages: str) -> dict[str, Path]:
    """Find the modules of some packages: dotted name -> file."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def parse(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def num_lines(package: str) -> int:
    """Count the lines of a package's modules."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules(package).values())


def loose_modules() -> list[str]:
    """List what lies beside the packages of the orchestrator."""
    return [path.stem for path in sorted((ROOT / "orchestrator").glob("*.py")) if not path.stem.startswith("__")]


def floors() -> list[str]:
    """List the floors of the orchestrator, as ``pyproject.toml`` has them."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if "orchestrator.cli | dashboards" in each.get("layers", ())]
    return list(layers)


def imports_past_faces() -> list[str]:
    """List imports of a module inside another package, where the package itself is to be imported.

    A package may hold packages; each is a face too. ``TYPE_CHECKING`` is no way round.
    """
    known = modules(*PRODUCT)
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    found = []
    for name, path in known.items():
        for imported in set(_imported(parse(path), known)) & known.keys() - packages:
            room = ".".join(imported.split(".")[:2])
            # What lies at a root belongs to nobody's package.
            if room in packages and not f"{name}.".startswith(f"{room}."):
                found.append(f"{name} imports {imported}")
    return sorted(found)


def _imported(tree: ast.Module, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that a module imports; a name that a face exports counts as the face."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module in known:
            exported = _exported(parse(known[node.module]))
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known and alias.name not in exported else node.module


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def class_owners(package: str) -> dict[str, list[str]]:
    """Find the classes of a package that have the same name: name -> modules, at least two."""
    owners: dict[str, list[str]] = defaultdict(list)
    for name, path in modules(package).items():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                owners[node.name].append(name)
    return {name: of for name, of in owners.items() if len(of) > 1}


def long_functions(package: str) -> list[str]:
    """List the functions of more than 50 lines."""
    return [
        f"{name}.{node.name} ({length})"
        for name, path in modules(package).items()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for length in [(node.end_lineno or node.lineno) - node.lineno + 1]
        if length > LONGEST_FUNCTION
    ]


def wide_constructors(package: str) -> list[str]:
    """List the constructors that take more than 8 arguments."""
    return [
        f"{name} ({count})"
        for name, path in modules(package).items()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for count in [len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1]
        if count > MOST_ARGUMENTS
    ]


def rows() -> list[dict[str, Any]]:
    """Measure."""
    both = ("orchestrator", "teleport_engine")
    return [
        row("loose modules in orchestrator/", len(loose_modules()), "modules", 1),
        row("floors of the contract", len(floors()), "floors", 7),
        row("imports past a package's face", len(imports_past_faces()), "imports", 0),
        row("class names with two owners in orchestrator/", len(class_owners("orchestrator")), "names", 0),
        row("lines of orchestrator/", num_lines("orchestrator"), "lines", 25_000),
        row("lines of teleport_engine/", num_lines("teleport_engine"), "lines", 7_500),
        row("functions over 50 lines", sum(len(long_functions(one)) for one in both), "functions", 4),
        row("constructors over 8 arguments", sum(len(wide_constructors(one)) for one in both), "constructors", 2),
    ]
