"""The house: what stands where, whom it imports, and that a name has one owner."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks import house

PACKAGES = ("statistics", "spec", "home", "search", "trial", "track", "launch", "report", "sweep", "cli")


def test_the_root_of_the_orchestrator_holds_packages_and_the_errors() -> None:
    assert house.loose_modules() == ["errors"]
    found = {path.parent.name for path in (house.ROOT / "orchestrator").glob("*/__init__.py")}
    assert found == set(PACKAGES)


def test_the_contract_has_seven_floors_and_every_package_is_on_one() -> None:
    found = house.floors()
    assert len(found) == 7
    named = {name.strip() for floor in found for name in floor.split("|")}
    assert named == {*(f"orchestrator.{name}" for name in PACKAGES), "orchestrator.errors", "dashboards"}


def test_a_package_is_imported_through_its_face_alone() -> None:
    assert house.imports_past_faces() == []


def test_the_check_of_faces_sees_each_way_to_import_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "ROOT", tmp_path)
    for package in (
        "orchestrator",
        "orchestrator/home",
        "orchestrator/search",
        "orchestrator/search/inner",
        "dashboards",
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "orchestrator/home/files.py").touch()
    (tmp_path / "orchestrator/search/inner/deep.py").write_text("import orchestrator.home.files\n")
    (tmp_path / "orchestrator/search/study.py").write_text(
        "def late() -> None:\n    from orchestrator.home.files import read\n"
        "from orchestrator.search.inner.deep import own\nfrom orchestrator.home import files\n"
    )
    (tmp_path / "dashboards/app.py").write_text(
        "if TYPE_CHECKING:\n    from orchestrator.search.study import Study\nfrom orchestrator.search.inner import x\n"
    )
    assert sorted(house.imports_past_faces()) == [
        "dashboards.app imports orchestrator.search.study",
        "orchestrator.search.inner.deep imports orchestrator.home.files",
        "orchestrator.search.study imports orchestrator.home.files",
    ]


@pytest.mark.parametrize("package", ["orchestrator", "teleport_engine"])
def test_a_class_name_has_one_owner(package: str) -> None:
    assert house.class_owners(package) == {}


def test_few_functions_are_long_and_few_constructors_are_wide() -> None:
    both = ("orchestrator", "teleport_engine")
    assert len([one for package in both for one in house.long_functions(package)]) <= 4
    assert len([one for package in both for one in house.wide_constructors(package)]) <= 2


@pytest.mark.parametrize("name", PACKAGES)
def test_contributing_says_of_a_package_what_the_package_says_of_itself(name: str) -> None:
    text = ast.get_docstring(house.parse(house.ROOT / "orchestrator" / name / "__init__.py"))
    assert text is not None
    table = (house.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [told] = re.findall(rf"^\| `{name}/` \| (.*?) \|$", table, re.MULTILINE)
    assert text.splitlines()[0] == told


@pytest.mark.parametrize("name", ["model", "objective", "nullspace", "step", "compare", "integrations"])
def test_contributing_says_of_an_engine_package_what_the_package_says_of_itself(name: str) -> None:
    text = ast.get_docstring(house.parse(house.ROOT / "teleport_engine" / name / "__init__.py"))
    assert text is not None
    table = (house.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [told] = re.findall(rf"^\| `teleport_engine/{name}/` \| (.*?) \|$", table, re.MULTILINE)
    assert text.splitlines()[0] == told
