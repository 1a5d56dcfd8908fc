"""Each command says that another version of teleport wrote a sweep and what to do, and touches nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboards.reader import SweepReader, Unreadable
from orchestrator.cli import exit_code
from orchestrator.errors import FileUnreadable
from orchestrator.home.archive import pack, unpack
from orchestrator.home.paths import FORMAT, SweepPaths
from orchestrator.track import Destination, MlflowTracker
from orchestrator.track.fetch import fetch
from tests.orchestrator.specs import TINY
from tests.orchestrator.track.stories import ended, on_file

TOLD = (
    f"sweep 'tiny' was written by another version of teleport (its format is {{}}, this version's is {FORMAT}): use "
    "that version, which provenance.json names, or run the spec again under a new name (teleport run SPEC --name NEW)"
)


@pytest.fixture(params=["none", "1", "\xff"])
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
        ["report", "tiny", "zweite"],
        ["export", "tiny"],
        ["transfer", "tiny"],
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


def test_the_live_page_says_so(other: tuple[SweepPaths, str]) -> None:
    paths, found = other
    before = state(paths)
    with pytest.raises(Unreadable, match="was written by another version of teleport") as told:
        SweepReader(paths).read()
    assert TOLD.format(found) in str(told.value)
    assert state(paths) == before


def test_a_plan_makes_no_use_of_it_and_says_so(
    other: tuple[SweepPaths, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, found = other
    spec = tmp_path / "next.yaml"
    spec.write_text(TINY.replace("name: tiny", "name: next"), encoding="utf-8")
    before = state(paths)
    assert exit_code(["plan", str(spec), "--home", str(paths.home), "--json"]) == 0
    (warning,) = [line for line in json.loads(capsys.readouterr().out)["warnings"] if "format" in line]
    assert warning == (f"the estimate of seconds leaves out sweep 'tiny': {paths.format}: {TOLD.format(found)}")
    assert state(paths) == before


def test_a_search_that_would_begin_with_its_points_is_not_begun(
    other: tuple[SweepPaths, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, found = other
    spec = tmp_path / "next.yaml"
    spec.write_text(TINY.replace("name: tiny", "name: next"), encoding="utf-8")
    before = state(paths)
    run = ["run", str(spec), "--set", "search.warm_start={sweep: tiny}", "--launcher", "inline"]
    assert exit_code([*run, "--home", str(paths.home)]) == 2
    assert f"error: {paths.format}: {TOLD.format(found)}" in capsys.readouterr().err
    assert state(paths) == before, "not even a directory for the new sweep"


@pytest.mark.slow
def test_an_archive_of_it_is_not_made_a_home(other: tuple[SweepPaths, str], tmp_path: Path) -> None:
    paths, found = other
    archive, uri = pack(paths), f"sqlite:///{tmp_path}/mlflow.db"
    paths.format.write_text(f"{FORMAT}\n", encoding="utf-8")  # so that this version sends it in place of that one
    assert MlflowTracker(uri).sync(paths, "FINISHED", artifacts=[archive]) == 0
    with pytest.raises(FileUnreadable, match=r"^record\.tar\.gz: sweep 'tiny' was written by another version") as told:
        fetch("tiny", Destination(uri), tmp_path / "here")
    assert TOLD.format(found) in str(told.value)
    assert not list((tmp_path / "here").iterdir())


def test_an_archive_keeps_the_format(tmp_path: Path) -> None:
    paths = on_file(tmp_path, ended(0))
    unpack(pack(paths), tmp_path / "there" / "tiny")
    SweepPaths(tmp_path / "there", "tiny").check_format()
