"""``transfer`` as a user types it: a sweep, one that runs its settings elsewhere, both read together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import exit_code
from orchestrator.spec import dump_yaml

WORKLOAD = """
    model: {{name: mlp, widths: [{width}]}}
    data: {{name: digits, batch_size: 128}}
    optimizer: {{name: sgd, lr: {{loguniform: [0.05, 0.5]}}}}
    epochs: 1
    evaluate: {{every: 1}}
    target: {{metric: train_loss, value: 2.2}}
"""
SPEC = f"""
version: 1
name: pair
workloads:
  narrow:{WORKLOAD.format(width=8)}
  wide:{WORKLOAD.format(width=16)}
arms:
  teleport:
    teleport: {{step: {{rule: fixed, lr: {{loguniform: [0.001, 0.1]}}}}, schedule: {{epochs: 1, batches: 1}}}}
search: {{sampler: random, seed: 0, trials: 2, seeds: [0], objective: {{metric: steps_to_target}}}}
confirm: {{seeds: 2, grid: none}}
"""


def run(home: Path, spec: Path, *more: str) -> int:
    return exit_code(["run", str(spec), "--home", str(home), "--launcher", "inline", *more])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a sweep of two workloads."""
    directory = tmp_path_factory.mktemp("transfer")
    spec = directory / "pair.yaml"
    spec.write_text(SPEC)
    assert run(directory / "runs", spec) == 0
    return directory / "runs"


def refused(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> str:
    assert exit_code([*arguments, "--home", str(home)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_settings_run_elsewhere_and_both_sweeps_are_read(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["transfer", "pair", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    assert "chosen without it" not in captured.out
    assert "not confirmed: 4: from narrow on narrow, from wide on narrow" in captured.err

    file = tmp_path / "carried.yaml"
    file.write_text(carried(home, capsys))
    assert run(home, file) == 0
    capsys.readouterr()
    assert exit_code(["transfer", "pair", "pair_transfer", "--home", str(home), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    made = json.loads(captured.out)
    assert (made["version"], made["sweeps"], made["missing"]) == (1, ["pair", "pair_transfer"], [])
    assert {(cell["evidence"], tuple(cell["seeds"])) for cell in made["cells"]} == {("confirmed", (2000, 2001))}
    assert len(made["cells"]) == 4
    for cell in made["cells"]:
        results = runs_of(home / "pair_transfer", cell["workload"], made, cell["setting"])
        own = runs_of(home / "pair_transfer", cell["workload"], made, own_of(made, cell["workload"]))
        ratios = [results[seed] / own[seed] for seed in (2000, 2001)]
        assert cell["regret"] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)

    assert exit_code(["transfer", "pair", "pair_transfer", "--home", str(home)]) == 0
    out = capsys.readouterr().out
    assert "Transfer matrix" in out
    assert "One setting for all" in out
    assert "chosen without it" in out
    assert exit_code(["report", "pair", "pair_transfer", "--home", str(home), "--format", "html,md,json,csv"]) == 0
    page = (home / "pair+pair_transfer" / "report.html").read_text()
    assert "Does one setting serve all?" in page


def carried(home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A sweep of the user's own, on fresh seeds: the best setting of each workload on every workload."""
    workloads, arms = {}, {}
    for label in ("narrow", "wide"):
        best = [yaml.safe_load(exported(home, label, arm, capsys)) for arm in ("baseline", "teleport")]
        workloads[label] = best[0]["workloads"][label]
        arms[f"from_{label}"] = best[1]["arms"]["teleport"]
    search = {"sampler": "random", "trials": 1, "seeds": [0], "objective": {"metric": "steps_to_target"}}
    confirm = {"seeds": [2000, 2001]}
    plain = {"version": 1, "name": "pair_transfer", "workloads": workloads, "arms": arms}
    return dump_yaml({**plain, "search": search, "confirm": confirm})


def exported(home: Path, workload: str, arm: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert exit_code(["export", "pair", "--home", str(home), "--workload", workload, "--arm", arm]) == 0
    return capsys.readouterr().out


def own_of(made: dict[str, list[dict[str, str]]], workload: str) -> str:
    return next(each["setting"] for each in made["own"] if each["workload"] == workload)


def runs_of(sweep: Path, workload: str, made: dict[str, list[dict[str, object]]], setting: str) -> dict[int, float]:
    """Steps to target by seed, read from the files alone."""
    label = next(str(each["label"]) for each in made["settings"] if each["key"] == setting)
    found = {}
    for file in sweep.glob("trials/*/config.json"):
        config = json.loads(file.read_text())
        is_it = (config["workload"], config["arm"], config["phase"]) == (workload, label.replace(" ", "_"), "confirm")
        if is_it:
            seed = json.loads((file.parent / "result.json").read_text())["seeds"][0]
            steps = seed["steps_to_target"]
            found[seed["seed"]] = float(2 * seed["budget_steps"] if steps is None else steps)
    return found


def test_faults_are_told_all_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, home, "transfer", "pair", "pair", "pear", "--metric", "steps")
    assert "'pair' is named 2 times" in err
    assert "pear" in err
    assert "did you mean 'pair'" in err
    assert "'steps' is no cost that compares; did you mean 'steps_to_target'?" in err


def test_what_cannot_be_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, home, "transfer", "pair", "--leave", "architectures")
    assert "'architectures' cannot be left out; did you mean 'architecture'?" in told
    told = refused(capsys, home, "transfer", "pair", "--leave", "architecture")
    assert "all workloads are mlp; --leave workload leaves out one" in told


def test_an_arm_that_is_not_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'teleprot' is in none of these sweeps; did you mean 'teleport'?" in refused(
        capsys, home, "transfer", "pair", "--arm", "teleprot"
    )
    assert "the baseline has no setting" in refused(capsys, home, "transfer", "pair", "--arm", "baseline")


def test_one_workload_is_too_few(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home / "pair", tmp_path / "one")
    stored = tmp_path / "one" / "spec.yaml"
    data = yaml.safe_load(stored.read_text())
    del data["workloads"]["wide"]
    stored.write_text(yaml.safe_dump(data))
    assert "teleport was tuned on 1 workload (narrow), and to carry a setting over takes two" in refused(
        capsys, tmp_path, "transfer", "one"
    )
