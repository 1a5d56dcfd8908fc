"""No damage of a sweep's files goes unseen: a flip of a bit or a file that is gone is named, or changes nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted, UserError
from orchestrator.home.index import damages
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.launch import InlineLauncher
from orchestrator.sweep.run import run
from orchestrator.track import NoTracker
from tests.orchestrator.home.test_checkpoint import CutAt
from tests.orchestrator.specs import tiny_spec

NUM_DAMAGES = 300


def go(home: Path, launcher: InlineLauncher | CutAt, *options: str) -> SweepPaths:
    spec = tiny_spec(*options)
    paths = SweepPaths(home, spec.name)
    run(spec, paths, launcher, NoTracker(), command="teleport run tiny.yaml", observe=lambda progress: None)
    return paths


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SweepPaths:
    return go(tmp_path_factory.mktemp("home"), InlineLauncher(), "search.trials=2")


@pytest.fixture
def copy(finished: SweepPaths, tmp_path: Path) -> SweepPaths:
    shutil.copytree(finished.root, tmp_path / finished.name)
    return SweepPaths(tmp_path, finished.name)


def told_of(paths: SweepPaths) -> list[str]:
    return [str(each) for each in damages(paths, with_unfinished=True)]


def what_is_read(paths: SweepPaths) -> object:
    record = read_record(paths)
    return record.spec, record.provenance, record.trials, record.ended_early, paths.read_outcome()


def test_a_finished_sweep_is_whole(finished: SweepPaths) -> None:
    assert told_of(finished) == []
    assert read_record(finished).damage == ()


def spoil(path: Path, draw: random.Random) -> None:
    """Flip one bit of a file, or remove it."""
    content = bytearray(path.read_bytes())
    if not content or draw.random() < 0.1:
        path.unlink()
        return
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def test_no_flip_of_a_bit_and_no_lost_file_changes_what_is_read_in_silence(
    finished: SweepPaths, copy: SweepPaths
) -> None:
    draw = random.Random(5)
    whole = what_is_read(finished)
    of_readers = [finished.index, *finished.of_sweep(), finished.format, *finished.trials.rglob("*")]
    files = [path for path in of_readers if path.is_file()]
    num_told = 0
    for _ in range(NUM_DAMAGES):
        path = draw.choice(files)
        damaged = copy.root / path.relative_to(finished.root)
        spoil(damaged, draw)
        try:
            copy.check_format()
            told = told_of(copy)
            found = what_is_read(copy)
        except UserError as error:
            told, found = [str(error)], whole
        assert told or found == whole, f"{path.name} was changed, and nobody says so"
        num_told += bool(told)
        shutil.copyfile(path, damaged)
    assert num_told > 0.9 * NUM_DAMAGES
    assert told_of(copy) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
@pytest.mark.parametrize("name", ["provenance.json", "outcome.json", "result.json", "history.jsonl"])
def test_what_is_no_file_is_named_and_not_waited_for(copy: SweepPaths, make: object, name: str) -> None:
    path = copy.root / name if (copy.root / name).exists() else next(iter(sorted(copy.trials.rglob(name))))
    path.unlink()
    assert callable(make)
    make(path)
    try:
        told = list(read_record(copy).damage)
        copy.read_outcome()
    except UserError as error:
        told = [str(error)]
    assert any("is no regular file" in each or "must be a regular file" in each for each in told)


@pytest.mark.parametrize("what", ["rows", "configuration"])
def test_a_trial_that_was_cut_off_begins_anew_where_its_files_are_damaged(tmp_path: Path, what: str) -> None:
    often = ("checkpoint.every=1e-9", "search.trials=2")
    with pytest.raises(Interrupted, match="was interrupted"):
        go(tmp_path, CutAt(3), *often)
    paths = SweepPaths(tmp_path, "tiny")
    [checkpoint] = paths.trials.glob("*/checkpoint.pt")
    trial_id = checkpoint.parent.name
    assert told_of(paths) == []
    if what == "rows":
        path = paths.history(trial_id)
        path.write_text(path.read_text().replace('"step":0', '"step":1', 1))
    else:
        path = paths.config(trial_id)
        path.write_text(path.read_text().replace('"lr": 0.', '"lr": 0.1', 1))
    assert [each.trial_id for each in damages(paths, with_unfinished=True)] == [trial_id]
    go(tmp_path, InlineLauncher(), *often)
    assert told_of(paths) == []
    assert [path.name for path in (paths.root / "damaged").iterdir()] == [f"{trial_id}.1"]


@pytest.mark.parametrize("num_lines", [0, 1, 50])
def test_a_torn_last_line_of_the_index_is_no_damage_and_gives_way_to_the_next(copy: SweepPaths, num_lines: int) -> None:
    lines = copy.index.read_text().splitlines(keepends=True)[:num_lines]
    copy.index.write_text("".join(lines) + '{"path": "trials/')
    assert told_of(copy) == []
    copy.index_beginning(copy.journal)
    assert told_of(copy) == []
    *kept, last = copy.index.read_text().splitlines(keepends=True)
    assert (kept, json.loads(last)["path"]) == (lines, "study.journal")
