"""A sweep's home is made from MLflow with the same record, and is put in place whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import random
import sys
import tarfile
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.errors import FileUnreadable, PluginError, SweepConflict, UserError
from orchestrator.home.archive import pack, unpack
from orchestrator.home.files import left_parts
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.launch import InlineLauncher
from orchestrator.spec import HookOptions, HooksOptions
from orchestrator.sweep.run import run
from orchestrator.sweep.standing import standing
from orchestrator.track import Destination, MlflowTracker
from orchestrator.track.fetch import fetch
from tests.orchestrator.specs import tiny_spec
from tests.waiting import PATIENCE


def uri_of(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished sweep and its store."""
    home = tmp_path_factory.mktemp("there")
    sweep(home)
    return home


def sweep(home: Path, uri: str = "") -> None:
    paths, spec = SweepPaths(home, "tiny"), tiny_spec("search.trials=1", "confirm.seeds=1")
    done = run(
        spec,
        paths,
        InlineLauncher(),
        MlflowTracker(uri or uri_of(home), close_seconds=PATIENCE),
        command="teleport run",
        observe=lambda _: None,
    )
    assert done.num_untracked == 0


def test_the_home_is_the_same_in_all_that_is_the_sweep(home: Path, tmp_path: Path) -> None:
    there, here = SweepPaths(home, "tiny"), SweepPaths(tmp_path / "new" / "home", "tiny")
    fetched = fetch("tiny", Destination(uri_of(home)), here.home)
    assert (fetched.num_trials, fetched.num_shown, fetched.is_new) == (4, 4, True)
    assert read_record(here) == read_record(there)
    assert here.journal.read_bytes() == there.journal.read_bytes()
    assert standing(here) == standing(there)
    assert os.listdir(here.home) == ["tiny"]
    assert not here.log.exists()
    assert not here.report.exists()


def test_everything_that_reads_a_home_works_on_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--home", str(tmp_path))
    assert exit_code(["track", "fetch", "tiny", *where, "--tracking-uri", uri_of(home)]) == 0
    assert f"{tmp_path}/tiny: 4 trials\n" in capsys.readouterr().out
    assert exit_code(["report", "tiny", *where, "--format", "json,md"]) == 0
    there, here = SweepPaths(home, "tiny"), SweepPaths(tmp_path, "tiny")
    assert (here.report / "report.md").read_text() == (there.report / "report.md").read_text()
    for command in (["status", "tiny"], ["export", "tiny", "--arm", "baseline"]):
        assert exit_code([*command, *where]) == 0


def test_fetching_again_changes_nothing(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch("tiny", Destination(uri_of(home)), tmp_path)
    marked = SweepPaths(tmp_path, "tiny").root / "mine.txt"
    marked.write_text("mine")
    arguments = ["track", "fetch", "tiny", "--home", str(tmp_path), "--tracking-uri", uri_of(home)]
    assert exit_code(arguments) == 0
    assert "4 trials, all of them here before" in capsys.readouterr().out
    assert marked.read_text() == "mine"


def test_what_is_here_is_never_overwritten(home: Path, tmp_path: Path) -> None:
    fetch("tiny", Destination(uri_of(home)), tmp_path)
    result = next(SweepPaths(tmp_path, "tiny").trials.glob("*/result.json"))
    result.unlink()
    with pytest.raises(SweepConflict, match="lacks 1 trials of the archive; give another --home, or move it away"):
        fetch("tiny", Destination(uri_of(home)), tmp_path)
    assert not result.exists()
    other = tmp_path / "other"
    sweep(other)
    with pytest.raises(SweepConflict, match=f"another sweep 'tiny' is in {other}"):
        fetch("tiny", Destination(uri_of(home)), other)
    (tmp_path / "third" / "tiny").mkdir(parents=True)
    with pytest.raises(SweepConflict, match="is there and is no sweep"):
        fetch("tiny", Destination(uri_of(home)), tmp_path / "third")


def test_of_several_sweeps_of_a_name_one_must_be_chosen(home: Path, tmp_path: Path) -> None:
    uri = uri_of(tmp_path / "one")
    sweep(tmp_path / "one")
    sweep(tmp_path / "two", uri)
    with pytest.raises(
        UserError, match=r"2 sweeps 'tiny' are in .*; say which with --run-id:\n  run [0-9a-f]{32}"
    ) as told:
        fetch("tiny", Destination(uri), tmp_path / "here")
    run_ids = [line.split()[1].strip(",") for line in str(told.value).splitlines()[1:]]
    fetched = [fetch("tiny", Destination(uri), tmp_path / run_id, run_id).paths for run_id in run_ids]
    found = {paths.read_provenance().started_at for paths in fetched}
    assert len(found) == 2
    with pytest.raises(UserError, match="--run-id: abc is no run of a sweep 'tiny'"):
        fetch("tiny", Destination(uri), tmp_path / "here", "abc")
    with pytest.raises(UserError, match=r"no sweep 'tyni' in .*; did you mean 'tiny'"):
        fetch("tyni", Destination(uri), tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mlflow\.db is not there"):
        fetch("tiny", Destination(uri_of(tmp_path)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_an_archive_it_says_where_one_comes_from(tmp_path: Path) -> None:
    sweep(tmp_path / "own")
    for archive in (tmp_path / "own" / "mlartifacts").rglob("record.tar.gz"):
        archive.unlink()
    with pytest.raises(UserError, match=r"has no archive of sweep 'tiny' .*it is stored when the sweep ends"):
        fetch("tiny", Destination(uri_of(tmp_path / "own")), tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "own")
    (archive,) = (tmp_path / "own" / "mlartifacts").rglob("record.tar.gz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileUnreadable, match="is no archive of a sweep, or is damaged"):
        fetch("tiny", Destination(uri_of(tmp_path / "own")), tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))
    assert not left_parts(tmp_path / "here")


def test_no_flipped_bit_of_an_archive_is_fetched(home: Path, tmp_path: Path) -> None:
    """Flips that leave the unpacked files as they are may pass; every other one is refused."""
    draw, whole = random.Random(3), pack(SweepPaths(home, "tiny")).read_bytes()
    archive = tmp_path / "record.tar.gz"
    archive.write_bytes(whole)
    unpack(archive, tmp_path / "whole")
    for number in range(200):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        archive.write_bytes(content)
        root = tmp_path / str(number)
        try:
            unpack(archive, root)
        except FileUnreadable:
            continue
        assert files_of(root) == files_of(tmp_path / "whole"), f"the flip of number {number} was not seen"


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_header_that_claims_to_be_huge_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    archive = tmp_path / "record.tar.gz"
    header = tarfile.TarInfo("spec.yaml")
    header.type, header.size = tarfile.XHDTYPE, 2**32
    with gzip.open(archive, "wb") as packed:
        packed.write(header.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(FileUnreadable, match="a header claims 4,294,967,"):
        unpack(archive, tmp_path / "root")


def test_hooks_that_came_from_a_store_run_only_where_they_are_trusted(tmp_path: Path) -> None:
    marker = tmp_path / "called"
    command = [sys.executable, "-c", f"open({str(marker)!r}, 'w').close()"]
    there = SweepPaths(tmp_path / "there", "tiny")
    hooks = HooksOptions(sweep_finished=HookOptions(command=tuple(command)))
    spec = tiny_spec("search.trials=1", "confirm.seeds=1").model_copy(update={"hooks": hooks})
    tracker = MlflowTracker(uri_of(there.home), close_seconds=PATIENCE)
    run(spec, there, InlineLauncher(), tracker, command="teleport run", observe=lambda _: None)
    assert marker.exists(), "its own home runs them"
    marker.unlink()
    fetch("tiny", Destination(uri_of(there.home)), tmp_path / "here")
    where = ("resume", "tiny", "--home", str(tmp_path / "here"), "--launcher", "inline")
    assert exit_code(where) == 0
    assert not marker.exists()
    assert "no hook is called, because the sweep was fetched" in SweepPaths(tmp_path / "here", "tiny").log.read_text()
    assert exit_code([*where, "--trust-hooks"]) == 0
    assert marker.exists()


def test_a_store_does_not_decide_what_is_imported_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    sweep(own)
    paths = SweepPaths(own, "tiny")
    paths.plugins.write_text('["of_a_stranger"]')
    (stored,) = (own / "mlartifacts").rglob("record.tar.gz")
    stored.write_bytes(pack(paths).read_bytes())
    marker = tmp_path / "imported"
    (tmp_path / "of_a_stranger.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="give --plugin of_a_stranger if you trust them"):
        fetch("tiny", Destination(uri_of(own)), tmp_path / "here")
    assert not marker.exists()
    assert not list((tmp_path / "here").glob("*"))


def test_what_a_killed_fetch_left_goes_with_the_next(home: Path, tmp_path: Path) -> None:
    left = tmp_path / ".tiny.999999999.0123abcd"
    (left / "tiny").mkdir(parents=True)
    fetch("tiny", Destination(uri_of(home)), tmp_path)
    assert os.listdir(tmp_path) == ["tiny"]


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", b"not an archive at all", b"\x1f\x8b\x08" + bytes(range(200))])
def test_bytes_that_are_no_archive_are_told_in_a_line(damage: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "record.tar.gz"
    archive.write_bytes(damage)
    with pytest.raises(FileUnreadable, match="is no archive of a sweep, or is damaged"):
        unpack(archive, tmp_path / "root")


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "trials/ab/checkpoint.pt", "trials/../../x/config.json", "log.txt", "trials/ab"]
)
def test_an_archive_of_anything_else_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "record.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.addfile(tarfile.TarInfo("spec.yaml"), io.BytesIO())
        opened.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(FileUnreadable, match="which is no part of a sweep"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "evil").exists()


def test_a_link_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "record.tar.gz"
    link = tarfile.TarInfo("spec.yaml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as opened:
        opened.addfile(link)
    with pytest.raises(FileUnreadable, match=r"'spec\.yaml', which is no part of a sweep"):
        unpack(archive, tmp_path / "root")


def test_the_same_record_gives_the_same_bytes(home: Path) -> None:
    paths = SweepPaths(home, "tiny")
    first = pack(paths).read_bytes()
    for path in paths.root.rglob("*.json"):
        os.utime(path, (1, 1))
    assert pack(paths).read_bytes() == first
