"""What the package carries to begin with, the version, the completion of names, and what the program lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.cli.ready import ready_files
from orchestrator.home.paths import SweepPaths
from orchestrator.spec import load_spec
from tests.orchestrator.specs import TINY

ROOT = Path(__file__).parents[3]


def test_the_package_carries_every_ready_sweep_every_cluster_file_and_the_constraints() -> None:
    sweeps = {path.relative_to(ROOT / "sweeps").with_suffix("").as_posix() for path in ROOT.glob("sweeps/**/*.yaml")}
    clusters = {f"cluster/{path.name}" for path in ROOT.glob("cluster/*")}
    assert sweeps | clusters | {"constraints.txt"} == ready_files().keys()


def test_each_file_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(ready_files())
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.parametrize("name", ["quickstart", "paper/mlp_mnist", "cluster/slurm.sh"])
def test_a_file_is_written_once_and_never_over_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["init", name]) == 0
    assert exit_code(["init", name]) == 0, "the same file again is no harm"
    file = Path(capsys.readouterr().out.splitlines()[0])
    assert file.read_bytes() == ready_files()[name].read_bytes()
    if file.suffix == ".yaml":
        assert load_spec(file).workloads
    file.write_text("mine")
    assert exit_code(["init", name]) == 2
    assert "is there already and is another file; move it away" in capsys.readouterr().err
    assert file.read_text() == "mine"


def test_an_unknown_name_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["init", "quikstart"]) == 2
    assert "no ready-made file has the name 'quikstart'; did you mean 'quickstart'?" in capsys.readouterr().err


def test_the_version_is_the_packages_and_names_the_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"teleport {version('teleport')} (")


def completions(*words: str, home: Path) -> list[str]:
    """What a shell would offer for the last word."""
    environment = {
        **os.environ,
        "_TELEPORT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "TELEPORT_HOME": str(home),
    }
    program = Path(sys.executable).with_name("teleport")
    return subprocess.run([program], env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_a_shell_completes_commands_ready_sweeps_and_sweeps_of_the_home(tmp_path: Path) -> None:
    for name in ("tiny", "tall", "other"):
        paths = SweepPaths(tmp_path, name)
        paths.root.mkdir()
        paths.spec.write_text(TINY)
    assert completions("teleport", "re", home=tmp_path) == ["resume", "report"]
    assert completions("teleport", "status", "t", home=tmp_path) == ["tall", "tiny"]
    assert completions("teleport", "init", "paper/w", home=tmp_path) == ["paper/width"]


def run_without(package: str, system: str = "linux") -> subprocess.CompletedProcess[str]:
    """Run the program where a package is not installed."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.platform = {system!r}; sys.argv = ['teleport', 'list']\n"
        "from orchestrator.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_missing_package_is_named_in_one_line() -> None:
    done = run_without("typer")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: the package typer is missing; install teleport with what it needs: pip install teleport\n"
    )


def test_another_system_is_refused_in_words() -> None:
    done = run_without("nothing", "win32")
    assert done.returncode == 2
    assert done.stderr.startswith("error: teleport runs on Linux and macOS")


def test_a_report_has_every_format_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text(TINY)
    home = str(tmp_path / "runs")
    few = ["--set", "search.trials=1", "--set", "confirm.seeds=1", "--launcher", "inline", "--home", home]
    assert exit_code(["run", str(spec), *few]) == 0
    out = tmp_path / "out"
    formats = ["--format", "md", "--format", "json,csv", "--format", "md"]
    assert exit_code(["report", "tiny", "--home", home, "--out", str(out), *formats]) == 0
    assert {file.suffix for file in out.iterdir()} == {".md", ".json", ".csv"}
    assert json.loads((out / "report.json").read_text())["sweep"]["name"] == "tiny"
    capsys.readouterr()
    assert exit_code(["report", "tiny", "--home", home, "--format", "md", "--format", "jsn"]) == 2
    assert "--format: 'jsn' is not known; did you mean 'json'?" in capsys.readouterr().err
