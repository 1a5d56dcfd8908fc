"""The program as a user types it: results on stdout, faults on stderr, exit codes as promised."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.cli.show import draw
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepOutcome, TrialResult
from orchestrator.spec import load_spec
from orchestrator.spec.options import DATASETS
from tests.orchestrator.specs import TINY
from tests.orchestrator.trial.data.idx_files import write

COMMANDS = (
    *(
        "plan",
        "run",
        "resume",
        "extend",
        "stop",
        "delete",
        "logs",
        "train",
        "status",
        "list",
        "report",
        "export",
        "ui",
        "dashboard",
        "doctor",
    ),
    "transfer",
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished sweep, run by the program itself."""
    home = tmp_path_factory.mktemp("home")
    path = home / "tiny.yaml"
    path.write_text(TINY)
    assert exit_code(["run", str(path), "--home", str(home / "runs"), "--launcher", "inline"]) == 0
    return home / "runs"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert exit_code(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    assert f"Example: teleport {command}" in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_plan_says_what_will_happen_and_starts_nothing(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "runs"
    assert exit_code(["plan", str(spec), "--home", str(home)]) == 0
    out = capsys.readouterr().out
    assert "10 trials" in out
    assert "power: not enough seeds: 2 pairs cannot go below p = 0.5" in out
    assert not home.exists()


def test_plan_counts_every_primary_comparison(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each teleport arm is one: a family of four, though there is one workload; a control is none."""
    arm = "{teleport: {tau: 0.9, step: {rule: fixed, lr: 0.01}}}"
    more = [f"--set=arms.again{index}={arm}" for index in range(3)]
    control = "--set=arms.init={init_scaled: {factor: 2.0}}"
    assert exit_code(["plan", str(spec), "--set", "confirm.seeds=8", *more, control]) == 0
    assert "8 seeds can reach p = 0.0312 with 4 primary comparisons (at least 8 needed)" in capsys.readouterr().out


def test_plan_warns_of_what_this_machine_lacks(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", str(spec), "--set", "resources={cpu: 1000, gpu: 64}"]) == 0
    err = capsys.readouterr().err
    assert "warning: search: a trial asks for 1000 CPU, 64 GPU on one node; this machine has" in err
    assert "warning: confirm: a trial asks for 1000 CPU, 64 GPU on one node" in err


def test_plan_as_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", str(spec), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["num_trials"], plan["num_steps"]) == (10, 90)
    assert [study["arm"] for study in plan["studies"]] == ["baseline", "teleport"]


def test_plan_knows_the_pace_of_earlier_trials(spec: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", str(spec), "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] > 0


def test_plan_pilot_times_an_epoch(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", str(spec), "--home", str(tmp_path / "none"), "--pilot", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] > 0


def test_run_prints_the_verdict_and_the_report(spec: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["run", str(spec), "--home", str(home), "--launcher", "inline"]) == 0
    out = capsys.readouterr().out
    assert "not enough seeds" in out
    assert f"report: {home / 'tiny' / 'report' / 'report.html'}" in out
    assert exit_code(["report", "tiny", "--home", str(home), "--out", str(home.parent / "again")]) == 0
    last = {text.rstrip("\n").rpartition("\n")[2] for text in (out, capsys.readouterr().out)}
    begin = (home / "tiny" / "report" / "report.md").read_text(encoding="utf-8").split("\n")[2].replace("\\", "")
    assert {f"**{line}**" for line in last} == {begin}
    assert "has too few seeds to tell on digits" in begin


def test_status_and_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["status", "tiny", "--home", str(home)]) == 0
    assert capsys.readouterr().out.startswith("tiny: finished")
    assert exit_code(["status", "tiny", "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    assert exit_code(["list", "--home", str(home), "--json"]) == 0
    assert [sweep["name"] for sweep in json.loads(capsys.readouterr().out)] == ["tiny"]


def test_plan_warns_of_budgets_that_will_not_do_and_hooks_that_cannot_be_called(
    spec: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_HOOK", raising=False)
    budget = "budget={wall_clock: 0.001, trials: 8, gpu_hours: 1.0e-9, per_trial: 0.001}"
    hooks = "hooks={trial_failed: {command: [no-such-program]}, sweep_finished: {webhook: $NO_HOOK}}"
    sets = ["--set", budget, "--set", hooks, "--set", "resources.gpu=0.5"]
    assert exit_code(["plan", str(spec), "--home", str(home), *sets]) == 0
    err = capsys.readouterr().err
    assert "warning: budget.wall_clock is 0.001s and the estimate is" in err
    assert "warning: budget.gpu_hours is 1e-09 and the estimate is" in err
    told = "the spec plans 6 search and 4 confirm trials, so confirm will not be complete"
    assert f"warning: budget.trials is 8 and {told}" in err
    assert "warning: budget.per_trial is 0.001s and the longest trial may take" in err
    assert (
        "warning: hooks.trial_failed cannot be called from here: this machine has no program 'no-such-program'" in err
    )
    assert "warning: hooks.sweep_finished cannot be called from here: $NO_HOOK is not set in the environment" in err


def test_status_list_and_report_say_that_a_budget_ended_the_sweep(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home, tmp_path / "runs")
    paths = SweepPaths(tmp_path / "runs", "tiny")
    with (paths.root / "spec.yaml").open("a") as spec:
        spec.write("budget: {trials: 10}\n")
    paths.index.unlink()
    sentence = "the trials budget of 10 is used up: 10 of 12 trials ended"
    paths.write_outcome(SweepOutcome(status="FINISHED", ended_early=sentence))
    place = ["--home", str(paths.home)]
    assert exit_code(["status", "tiny", *place]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"tiny: ended early\n{sentence}\n")
    assert "budget: 10 of the trials budget of 10 used (100%)" in out
    assert exit_code(["list", *place]) == 0
    assert "ended early" in capsys.readouterr().out
    assert exit_code(["report", "tiny", *place, "--format", "md", "--out", str(tmp_path / "out")]) == 0
    assert f"Sweep `tiny`: ended early: {sentence}." in (tmp_path / "out" / "report.md").read_text()


def test_an_empty_home_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["list", "--home", str(tmp_path / "none")]) == 0
    assert "start one: teleport run" in capsys.readouterr().err


def test_report_writes_every_format_but_the_one_that_lacks_its_program(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "r"
    message = refused(
        capsys, "report", "tiny", "--home", str(home), "--out", str(out), "--format", "pdf,html,md,json,csv,tex"
    )
    assert "pdf takes Chromium or Chrome" in message
    assert {path.suffix for path in out.iterdir()} == {".html", ".md", ".json", ".csv", ".tex"}


def test_report_as_json_is_the_file(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    assert exit_code(["report", "tiny", "--home", str(home), "--out", str(out), "--format", "json", "--json"]) == 0
    assert capsys.readouterr().out == (out / "report.json").read_text(encoding="utf-8")


def test_report_of_two_sweeps_is_one_page(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = tmp_path / "home"
    shutil.copytree(home / "tiny", both / "tiny")
    shutil.copytree(home / "tiny", both / "other")
    spec = both / "other" / "spec.yaml"
    spec.write_text(spec.read_text().replace("name: tiny", "name: other", 1))
    (both / "other" / "index.jsonl").unlink()
    assert exit_code(["report", "tiny", "other", "--home", str(both)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[0] == "sweep"
    assert "lint: other: " in out
    page = (both / "tiny+other" / "report.html").read_text(encoding="utf-8")
    assert 'id="s1-sweep"' in page
    assert exit_code(["list", "--home", str(both), "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["other", "tiny"]


def test_report_tells_everything_that_is_wrong_with_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    place = ["--home", str(home), "--out", str(tmp_path / "file")]
    message = refused(capsys, "report", "tiny", "tiny", "tinny", *place, "--format", "htm,cvs")
    for fault in (
        "--format: 'htm' is not known; did you mean 'html'?",
        "--format: 'cvs' is not known; did you mean 'csv'?",
        "NAME: 'tiny' is named 2 times",
        "no sweep 'tinny'",
        "is a file; name a directory",
    ):
        assert fault in message


def test_report_writes_elsewhere_and_leaves_the_sweep_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (home / "tiny" / "report" / "report.json").stat().st_mtime_ns
    assert exit_code(["report", "tiny", "--home", str(home), "--out", str(tmp_path / "r"), "--format", "md,json"]) == 0
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["report.json", "report.md"]
    assert (home / "tiny" / "report" / "report.json").stat().st_mtime_ns == before
    assert str(tmp_path / "r" / "report.md") in capsys.readouterr().out


def test_the_exported_configuration_runs(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "best.yaml"
    assert exit_code(["export", "tiny", "--home", str(home), "--arm", "teleport", "--out", str(out)]) == 0
    capsys.readouterr()
    exported = load_spec(out)
    assert not any(template.distributions() for template in [*exported.workloads.values(), *exported.arms.values()])
    assert exit_code(["run", str(out), "--home", str(tmp_path / "runs"), "--launcher", "inline"]) == 0
    assert "report:" in capsys.readouterr().out


def test_export_prints_a_spec(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["export", "tiny", "--home", str(home)]) == 0
    assert "version: 1" in capsys.readouterr().out


def test_train_prints_curves(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = [
        "workloads.digits.optimizer.lr=0.2",
        "arms.teleport.teleport.tau=1.0",
        "arms.teleport.teleport.step={rule: growth, factor: 1.2}",
    ]
    settings = [word for setting in fixed for word in ("--set", setting)]
    assert exit_code(["train", str(spec), "--home", str(tmp_path), *settings]) == 0
    out = capsys.readouterr().out
    assert out.startswith("digits/teleport, seed 0\n")
    assert "target " in out
    assert list((tmp_path / "tiny.train" / "trials").glob("*/result.json"))


def test_train_runs_another_model_optimizer_and_schedule(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = [
        "workloads.digits.model={name: cnn, channels: [4, 8]}",
        "workloads.digits.optimizer={name: adam, lr: 0.01, betas: [0.8, 0.99]}",
        "workloads.digits.lr_schedule={name: cosine, warmup: 3}",
        "arms.teleport.teleport.tau=0.99",
        "arms.teleport.teleport.step={rule: growth, factor: 1.2}",
    ]
    settings = [word for setting in fixed for word in ("--set", setting)]
    assert exit_code(["train", str(spec), "--home", str(tmp_path), *settings]) == 0
    assert "target " in capsys.readouterr().out
    (path,) = (tmp_path / "tiny.train" / "trials").glob("*/result.json")
    result = TrialResult.model_validate_json(path.read_bytes())
    (seed,) = result.seeds
    assert seed.outcome == "completed"
    assert seed.teleports is not None
    assert {layer.name: layer.moved for layer in seed.teleports.layers}.keys() == {"conv1", "conv2", "output"}


def test_train_says_that_a_distribution_in_a_list_is_open(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    betas = "workloads.digits.optimizer={name: adam, lr: 0.1, betas: [{uniform: [0.8, 0.9]}, {uniform: [0.9, 0.99]}]}"
    err = refused(capsys, "train", str(spec), "--arm", "baseline", "--set", betas)
    assert err.count("workloads.digits.optimizer.betas: is a distribution; fix it with --set KEY=VALUE") == 1


def test_train_says_what_is_still_open(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, "train", str(spec), "--arm", "baseline")
    assert "workloads.digits.optimizer.lr: is a distribution; fix it with --set KEY=VALUE" in err
    assert "did you mean 'baseline'?" in refused(capsys, "train", str(spec), "--arm", "baselin")


def test_data_list_says_of_every_set_where_it_is_or_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The root is handed on to workers by the environment.
    monkeypatch.setenv("TELEPORT_DATA", str(tmp_path))
    folder = write(tmp_path / "MNIST" / "raw")
    assert exit_code(["data", "list", "--data-root", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == DATASETS.keys()
    assert found["mnist"]["folder"] == found["seq_mnist"]["folder"] == str(folder)
    assert "teleport data fetch cifar10" in found["cifar10"]["reason"]
    assert exit_code(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "drawn here from its seed" in out
    assert "python_reference in " in out


def test_data_fetch_says_where_it_lies_and_refuses_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "MNIST" / "raw")
    assert exit_code(["data", "fetch", "mnist", "--data-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"")
    err = refused(capsys, "data", "fetch", "mnist", "--data-root", str(tmp_path))
    assert "found an empty one; mend it by removing" in err


def test_credentials_stay_out_of_what_is_kept(spec: Path, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    uri = "http://me:hunter2@127.0.0.1:9"
    arguments = ["run", str(spec), "--home", str(home), "--launcher", "inline", "--tracking-uri", uri]
    # The command is read from the process's own arguments.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["teleport", *arguments])
        assert exit_code(arguments) == 0
    kept = [path for path in home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == []
    assert "http://***@127.0.0.1:9" in (home / "tiny" / "provenance.json").read_text()


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"- 1\n", "must be a YAML mapping"),
        (b"\x00\xff\xfe", "is not UTF-8"),
        (b"a: !!python/object/apply:os.system ['true']\n", "tag"),
        (b"version: 1\nversion: 1\n", "duplicate key"),
        (b"version: 1\nname: a/b\n", "is no valid name"),
        (TINY.replace("tau:", "tua:").encode(), "did you mean 'tau'?"),
        (TINY.replace("name: mlp", "name: mpl").encode(), "did you mean 'mlp'?"),
        (TINY.replace("[0.01, 0.5]", "[0.5, 0.01]").encode(), "low must not be above high"),
    ],
)
def test_bad_specs_exit_2_and_nothing_is_started_or_written(
    command: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    err = refused(capsys, command, str(path), "--home", str(tmp_path / "runs"))
    assert message in err
    assert str(path) in err
    assert not (tmp_path / "runs").exists()


def test_another_spec_under_the_same_name_is_refused(
    spec: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, "run", str(spec), "--home", str(home), "--launcher", "inline", "--set", "search.trials=4")
    assert "-  trials: 3" in err
    assert "+  trials: 4" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "SPEC", "--launcher", "rya"], "did you mean 'ray'?"),
        (["run", "SPEC", "--launcher", "inline", "--address", "auto"], "only the ray launcher runs on a cluster"),
        (["run", "SPEC", "--name", "../x"], "is no valid name"),
        (["run", "missing.yaml"], "missing.yaml: cannot be read: No such file"),
        (["run"], "Missing parameter: spec"),
        (["run", "SPEC", "--frobnicate"], "No such option"),
        (["frobnicate"], "No such command"),
        (["status", "nothing"], "no sweep 'nothing'"),
        (["resume", "nothing"], "no sweep 'nothing'"),
        (["export", "nothing"], "no sweep 'nothing'"),
        (["report", "nothing"], "no sweep 'nothing'"),
    ],
)
def test_mistyped_commands_exit_2(
    arguments: list[str], message: str, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(spec) if word == "SPEC" else word for word in arguments]
    home = ["--home", str(tmp_path / "runs")] if arguments[0] != "frobnicate" and len(arguments) > 1 else []
    assert message in refused(capsys, *given, *home)
    assert not (tmp_path / "runs").exists()


def test_unknown_formats_arms_and_workloads_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'html'?" in refused(capsys, "report", "tiny", "--home", str(home), "--format", "htm")
    assert "did you mean 'teleport'?" in refused(capsys, "export", "tiny", "--home", str(home), "--arm", "teleprt")
    assert "is not in the sweep" in refused(capsys, "export", "tiny", "--home", str(home), "--workload", "x")


def test_an_unwritable_home_is_told(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    err = refused(capsys, "run", str(spec), "--home", str(blocked), "--launcher", "inline")
    assert "Not a directory" in err


def test_failed_trials_beyond_tolerance_exit_1(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "workloads.digits.data={name: fashion_mnist, batch_size: 8, root: /nowhere}"]
    assert exit_code(["run", str(spec), "--home", str(tmp_path), "--launcher", "inline", *settings]) == 1
    err = capsys.readouterr().err
    assert "failed: 8 of 8 search trials crashed" in err  # one of each arm was replaced
    assert "Traceback" not in err


@pytest.mark.parametrize("width", [30, 78, 200])
def test_tables_break_no_word_however_narrow_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    header = ("workload", "arm", "verdict", "95 % interval")
    draw(header, [("mlp_digits", "teleport", "no detectable difference", "[−4.9 %, +3.1 %]")])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for word in ("mlp_digits", "teleport", "detectable", "difference"):
        assert word in out
    assert all(len(line) <= width for line in out.splitlines())


def test_a_full_disk_stops_the_sweep_and_says_how_to_go_on(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "runs"
    write_result = SweepPaths.write_result
    left = iter([True, True, False])

    def until_full(paths: SweepPaths, result: TrialResult) -> None:
        if not next(left):
            raise OSError(28, "No space left on device")
        write_result(paths, result)

    arguments = ["run", str(spec), "--home", str(home), "--launcher", "inline"]
    with monkeypatch.context() as patch:
        patch.setattr(SweepPaths, "write_result", until_full)
        assert exit_code(arguments) == 2
    err = capsys.readouterr().err
    assert f"No space left on device); go on with: teleport resume tiny --home {home} --launcher inline" in err
    assert "Traceback" not in err
    assert exit_code(["resume", "tiny", "--home", str(home), "--launcher", "inline"]) == 0
