"""Files that are damaged, or of another version: each command names the file, what is wrong and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import WarmStart
from tests.orchestrator.specs import TINY

Damage = Callable[[SweepPaths], Path]


def first(paths: SweepPaths, name: str) -> Path:
    return sorted(paths.trials.glob(f"*/{name}"))[0]


def changed(file: Path, **values: object) -> Path:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return file


def result_of_a_newer_version(paths: SweepPaths) -> Path:
    return changed(first(paths, "result.json"), version=2)


def config_with_an_unknown_key(paths: SweepPaths) -> Path:
    return changed(first(paths, "config.json"), lr=0.1)


def provenance_without_anything(paths: SweepPaths) -> Path:
    paths.provenance.write_text("{}")
    return paths.provenance


def outcome_without_anything(paths: SweepPaths) -> Path:
    paths.outcome.write_text("{}")
    return paths.outcome


def result_cut_short(paths: SweepPaths) -> Path:
    file = first(paths, "result.json")
    file.write_bytes(file.read_bytes()[:100])
    return file


def plugins_of_bytes(paths: SweepPaths) -> Path:
    paths.plugins.write_bytes(b"\xe2\x28")
    return paths.plugins


def warm_start_without_anything(paths: SweepPaths) -> Path:
    paths.warm_start.write_text("{}")
    return paths.warm_start


def journal_of_bytes(paths: SweepPaths) -> Path:
    paths.journal.write_bytes(b"\xe2\x28\n" * 3)
    return paths.journal


def journal_of_objects(paths: SweepPaths) -> Path:
    paths.journal.write_text("{}\n")
    return paths.journal


def history_with_a_line_of_prose(paths: SweepPaths) -> Path:
    file = first(paths, "history.jsonl")
    file.write_text("once upon a time\n" + file.read_text())
    return file


def no_files_of_a_trial(paths: SweepPaths) -> Path:
    gone = first(paths, "result.json")
    shutil.rmtree(gone.parent)
    return gone


OF_A_TRIAL: list[tuple[Damage, str]] = [
    (result_of_a_newer_version, "version: Input should be 1, is '2'"),
    (result_cut_short, "Invalid JSON"),
    (config_with_an_unknown_key, "lr: Extra inputs are not permitted, is '0.1'"),
]
PROVENANCE: list[tuple[Damage, str]] = [(provenance_without_anything, "command: Field required (and 3 more)")]
PLUGINS: list[tuple[Damage, str]] = [(plugins_of_bytes, "Invalid JSON")]
EVERYWHERE = [*OF_A_TRIAL, *PROVENANCE, *PLUGINS]
AT_A_RESUME: list[tuple[Damage, str]] = [
    *PLUGINS,
    (provenance_without_anything, "is not as it was stored"),
    (warm_start_without_anything, "sweep: Field required (and 1 more)"),
    (journal_of_bytes, "is not as it was stored"),
    (journal_of_objects, "is not as it was stored"),
]
WHEN_ENDED: list[tuple[Damage, str]] = [(outcome_without_anything, "status: Field required")]

CASES = [
    *(("status", *each) for each in (*EVERYWHERE, *WHEN_ENDED)),
    *((command, *each) for command in ("report", "export") for each in (*PROVENANCE, *PLUGINS, *WHEN_ENDED)),
    *((command, *each) for command in ("resume", "run") for each in AT_A_RESUME),
]
HEALED: list[Damage] = [*(damage for damage, _ in OF_A_TRIAL), history_with_a_line_of_prose, no_files_of_a_trial]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    (root / "tiny.yaml").write_text(TINY)
    run = ["run", str(root / "tiny.yaml"), "--home", str(root / "runs"), "--launcher", "inline"]
    assert exit_code([*run, "--set", "search.trials=1"]) == 0
    return root


@pytest.fixture
def paths(finished: Path, tmp_path: Path) -> SweepPaths:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return SweepPaths(tmp_path / "runs", "tiny")


@pytest.mark.parametrize(
    ("command", "damage", "message"), CASES, ids=[f"{command}-{damage.__name__}" for command, damage, _ in CASES]
)
def test_a_command_names_the_file(
    command: str,
    damage: Damage,
    message: str,
    finished: Path,
    paths: SweepPaths,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = damage(paths)
    before = file.read_bytes()
    capsys.readouterr()
    what = [str(finished / "tiny.yaml"), "--set", "search.trials=1"] if command == "run" else ["tiny"]
    inline = ["--launcher", "inline"] if command in ("run", "resume") else []
    assert exit_code([command, *what, "--home", str(paths.home), *inline]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {file}: " in captured.err
    assert message in captured.err
    assert "put back a copy of it, go on with that version" in captured.err
    assert "Traceback" not in captured.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("damage", HEALED)
def test_a_damaged_trial_is_named_by_every_reader_and_runs_again_at_a_resume(
    damage: Damage, paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    def values() -> dict[str, object]:
        return {file.parent.name: json.loads(file.read_text())["value"] for file in paths.trials.glob("*/result.json")}

    before = values()
    file = damage(paths)
    named = f"damaged: tiny: trials/{file.parent.name}/{file.name} is "
    for command in ("report", "export"):
        capsys.readouterr()
        assert exit_code([command, "tiny", "--home", str(paths.home)]) == 1
        assert named in capsys.readouterr().err
    assert "refused" in paths.report.joinpath("report.md").read_text()
    assert exit_code(["resume", "tiny", "--home", str(paths.home), "--launcher", "inline"]) == 0
    told = capsys.readouterr().err
    assert f"damaged: trials/{file.parent.name}/{file.name} is " in told
    assert "the trial runs again" in told
    assert values() == before
    assert exit_code(["report", "tiny", "--home", str(paths.home)]) == 0
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("damage", [damage for damage, _ in EVERYWHERE])
def test_list_shows_what_cannot_be_read_and_all_others(
    damage: Damage, paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(paths.root, paths.home / "zweite")
    file = damage(paths)
    assert exit_code(["list", "--home", str(paths.home)]) == 0
    captured = capsys.readouterr()
    told = [line.split() for line in captured.out.splitlines() if line.strip()]
    assert ["tiny", "unreadable"] in told
    assert ["zweite", "finished", "6/6", "0"] in told
    assert f"warning: {file}: " in captured.err
    assert exit_code(["list", "--home", str(paths.home), "--json"]) == 0
    unread, read = json.loads(capsys.readouterr().out)
    assert (unread["name"], unread["state"]) == ("tiny", "unreadable")
    assert str(file) in unread["reason"]
    assert read["state"] == "finished"


def test_a_spec_that_cannot_be_read_is_listed_too(paths: SweepPaths, capsys: pytest.CaptureFixture[str]) -> None:
    paths.spec.write_bytes(b"\xe2\x28")
    assert exit_code(["list", "--home", str(paths.home)]) == 0
    captured = capsys.readouterr()
    assert "unreadable" in captured.out
    assert f"warning: {paths.spec}" in captured.err


def test_plan_estimates_without_what_cannot_be_read_and_says_so(
    finished: Path, paths: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(paths.root, paths.home / "zweite")
    file = result_of_a_newer_version(paths)
    plan = ["plan", str(finished / "tiny.yaml"), "--home", str(paths.home), "--json"]
    assert exit_code(plan) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] > 0
    [warning] = told["warnings"]
    assert warning.startswith(f"the estimate of seconds leaves out sweep 'tiny': {file}: version: ")
    shutil.rmtree(paths.home / "zweite")
    assert exit_code(plan) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] is None


def test_orders_and_points_come_back_equal(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "tiny")
    paths.write_warm_start(WarmStart(sweep="other", points={"digits/baseline": [{"lr": 0.1, "kind": "sgd"}]}))
    assert paths.read_warm_start() == {"digits/baseline": [{"lr": 0.1, "kind": "sgd"}]}
