"""A sweep that another version of teleport wrote: every command says so and what to do, and touches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.home.archive import pack, unpack
from orchestrator.home.paths import FORMAT, SweepPaths
from tests.orchestrator.specs import TINY
from tests.orchestrator.track.stories import ended, on_file

TOLD = (
    f"sweep 'tiny' was written by another version of teleport (its format is {{}}, this version's is {FORMAT}): use "
    "that version, which provenance.json names, or run the spec again under a new name (teleport run SPEC --name NEW)"
)


@pytest.fixture(params=["none", "2", "\xff"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[SweepPaths, str]:
    """A sweep from before there were formats, one of a later version, and one whose format is no number."""
    paths = on_file(tmp_path, ended(0))
    if request.param == "none":
        paths.format.unlink()
    else:
        paths.format.write_text(f"{request.param}\n", encoding="utf-8")
    return paths, request.param


def state(paths: SweepPaths) -> dict[Path, object]:
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths.home.rglob("*")}


@pytest.mark.parametrize(
    "command",
    [
        ["status", "tiny"],
        ["report", "tiny"],
        ["resume", "tiny", "--launcher", "inline"],
        ["export", "tiny"],
        ["track", "sync", "tiny"],
        ["run", "SPEC", "--launcher", "inline"],
    ],
    ids=" ".join,
)
def test_a_command_refuses_it(
    command: list[str], other: tuple[SweepPaths, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, found = other
    spec = tmp_path / "tiny.yaml"
    spec.write_text(TINY, encoding="utf-8")
    before = state(paths)
    given = [str(spec) if word == "SPEC" else word for word in command]
    assert exit_code([*given, "--home", str(paths.home)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {paths.format}: {TOLD.format(found)}" in captured.err
    assert state(paths) == before


def test_list_names_it_beside_the_others(
    other: tuple[SweepPaths, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, found = other
    on_file(tmp_path, ended(0)).root.rename(paths.home / "zweite")
    before = state(paths)
    assert exit_code(["list", "--home", str(paths.home), "--json"]) == 0
    captured = capsys.readouterr()
    assert [each["state"] for each in json.loads(captured.out)] == ["unreadable", "interrupted"]
    assert f"warning: {paths.format}: {TOLD.format(found)}" in captured.err
    assert state(paths) == before


def test_an_archive_keeps_the_format(tmp_path: Path) -> None:
    paths = on_file(tmp_path, ended(0))
    unpack(pack(paths), tmp_path / "there" / "tiny")
    SweepPaths(tmp_path / "there", "tiny").check_format()
