"""A package of the engine is imported through its face, and a class name has one owner."""

import ast
import re
from pathlib import Path

import pytest

import teleport_engine

ROOT = Path(teleport_engine.__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_outside_a_package_imports_past_its_face(package: str) -> None:
    outside = [path for path in ROOT.rglob("*.py") if path.parent.name != package]
    past = re.compile(rf"^\s*(?:from|import) teleport_engine\.{package}\.", re.MULTILINE)
    assert len(outside) > 6
    assert [str(path) for path in outside if past.search(path.read_text(encoding="utf-8"))] == []


def test_a_class_name_has_one_owner() -> None:
    owners: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                owners.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(owners) > 60
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}
