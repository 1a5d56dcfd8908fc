"""The audit sees every kind of damage: a good sweep is damaged, one thing at a time."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import Trial, TrialState
from orchestrator.launch import InlineLauncher
from orchestrator.search.journal import open_journal
from orchestrator.sweep.run import run
from orchestrator.track import MlflowTracker
from orchestrator.track.projection import TRIAL_ID
from tests.orchestrator.chaos.audit import audit, differences
from tests.orchestrator.chaos.killer import Cut
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.specs import tiny_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def good_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("good")
    paths = SweepPaths(home, "tiny")
    spec = tiny_spec("checkpoint={every: 0.001}", "search.trials=2")
    tracker = MlflowTracker(f"sqlite:///{home}/mlflow.db")
    run(spec, paths, InlineLauncher(), tracker, command="teleport run", observe=lambda progress: None)
    return home


class Sweep:
    """A copy of the good sweep, to be damaged."""

    def __init__(self, home: Path) -> None:
        self.paths = SweepPaths(home, "tiny")
        self.client = MlflowClient(f"sqlite:///{home}/mlflow.db")
        self.cuts: list[Cut] = []
        search = [trial for trial in read_record(self.paths).trials if trial.config.phase == "search"]
        self.trial: Trial = search[0]

    def audit(self) -> list[str]:
        return audit(self.paths, self.client, self.cuts)

    @property
    def runs(self) -> list[Run]:
        return list(self.client.search_runs([e.experiment_id for e in self.client.search_experiments()]))

    @property
    def run(self) -> Run:
        [found] = [run for run in self.runs if run.data.tags.get(TRIAL_ID) == self.trial.trial_id]
        return found

    def log(self, text: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 5))
        with open(self.paths.log, "a", encoding="utf-8") as file:
            file.write(f"{now}.000Z INFO {text.format(id=self.trial.trial_id)}\n")


@pytest.fixture
def sweep(good_home: Path, tmp_path: Path) -> Sweep:
    shutil.copytree(good_home, tmp_path / "home")
    return Sweep(tmp_path / "home")


def drop_result(sweep: Sweep) -> None:
    sweep.paths.result(sweep.trial.trial_id).unlink()


def drop_trial(sweep: Sweep) -> None:
    shutil.rmtree(sweep.paths.trials / sweep.trial.trial_id)


def drop_report(sweep: Sweep) -> None:
    (sweep.paths.report / "report.json").unlink()


def keep_checkpoint(sweep: Sweep) -> None:
    sweep.paths.write_checkpoint(sweep.trial.trial_id, b"left")


def leave_a_part(sweep: Sweep) -> None:
    # A process of that number was never there: Linux ends at 2 ** 22.
    sweep.paths.report.joinpath(".report.html.99999999.0123abcd").write_text("half")


def double_rows(sweep: Sweep) -> None:
    sweep.paths.append_history(sweep.trial.trial_id, sweep.trial.history[-1:])


def lose_row(sweep: Sweep) -> None:
    sweep.paths.start_history(sweep.trial.trial_id, len(sweep.trial.history) - 1)


def give_up(sweep: Sweep) -> None:
    trial_id = sweep.trial.trial_id
    lost = type(sweep.trial.result).lost(trial_id, "the worker died", 1.0, 2.0)  # type: ignore[union-attr]
    sweep.paths.write_result(lost)


def drop_run(sweep: Sweep) -> None:
    sweep.client.delete_run(sweep.run.info.run_id)


def double_run(sweep: Sweep) -> None:
    run = sweep.run
    copy = sweep.client.create_run(run.info.experiment_id, tags=dict(run.data.tags))
    sweep.client.set_terminated(copy.info.run_id)


def double_parent(sweep: Sweep) -> None:
    [parent] = [run for run in sweep.runs if TRIAL_ID not in run.data.tags]
    copy = sweep.client.create_run(parent.info.experiment_id, tags=dict(parent.data.tags))
    sweep.client.set_terminated(copy.info.run_id)


def leave_running(sweep: Sweep) -> None:
    sweep.client.update_run(sweep.run.info.run_id, status="RUNNING")


def fail_run(sweep: Sweep) -> None:
    sweep.client.set_terminated(sweep.run.info.run_id, "FAILED")


def log_another_point(sweep: Sweep) -> None:
    sweep.client.log_metric(sweep.run.info.run_id, "train_loss", 0.25, timestamp=7, step=10_000)


def propose_another(sweep: Sweep) -> None:
    optuna.load_study(study_name=sweep.trial.config.study, storage=open_journal(sweep.paths.journal)).ask()


def give_up_a_proposal(sweep: Sweep) -> None:
    study = optuna.load_study(study_name="digits/baseline", storage=open_journal(sweep.paths.journal))
    trial = study.ask()
    trial.suggest_float("optimizer.lr", 0.01, 0.5, log=True)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)


def change_the_value(sweep: Sweep) -> None:
    result = sweep.trial.result
    assert result is not None
    sweep.paths.write_result(result.model_copy(update={"value": 0.125}))


def change_the_number(sweep: Sweep) -> None:
    sweep.paths.write_config(sweep.trial.config.model_copy(update={"number": 77}))


def begin_again(sweep: Sweep) -> None:
    sweep.log("started digits/baseline search #0 ({id})")


def end_twice(sweep: Sweep) -> None:
    sweep.log("ended digits/baseline search #0 ({id}): COMPLETE, value 0.5")


DAMAGE: dict[str, tuple[Callable[[Sweep], None], str]] = {
    "a result is dropped": (drop_result, "has no result.json"),
    "a trial is dropped": (drop_trial, "1 candidates on file, 2 were planned"),
    "the report is dropped": (drop_report, "no report/report.json"),
    "a checkpoint is left": (keep_checkpoint, "has a checkpoint left"),
    "a part of a file is left": (leave_a_part, r"report/\.report\.html\..* is left of a write that was cut off"),
    "a row is doubled": (double_rows, "the steps of seed 0 do not rise"),
    "a row is lost": (lose_row, "the last row of seed 0 is not its result"),
    "a trial is given up": (give_up, "was given up: the worker died"),
    "a run is deleted": (drop_run, "MLflow has 0 runs of trial"),
    "a run is doubled": (double_run, "MLflow has 2 runs of trial"),
    "the sweep's run is doubled": (double_parent, "MLflow has 2 runs of the sweep itself"),
    "a run is left running": (leave_running, "is still RUNNING"),
    "a run has the wrong status": (fail_run, "is FAILED, its result COMPLETE"),
    "a run has a point more": (log_another_point, "points of train_loss of trial"),
    "a proposal is left": (propose_another, "is RUNNING in the journal, and not on file"),
    "a proposal is given up": (give_up_a_proposal, "is FAIL in the journal, and not on file"),
    "a value is another": (change_the_value, r"is Told.* in the journal, and Told\(.*value=0\.125,.* on file"),
    "a number is another": (change_the_number, "#77 is on file, not in the journal"),
    "a trial runs on": (begin_again, "ran after it had a result"),
    "a trial ends twice": (end_twice, "ended more than once"),
}


def test_a_good_sweep_has_no_violation(sweep: Sweep) -> None:
    assert sweep.audit() == []
    assert all(trial.result is not None for trial in read_record(sweep.paths).trials)


@pytest.mark.parametrize("name", DAMAGE)
def test_every_damage_is_seen(sweep: Sweep, name: str) -> None:
    damage, seen = DAMAGE[name]
    damage(sweep)
    found = sweep.audit()
    assert any(re.search(seen, violation) for violation in found), found


def test_training_that_is_repeated_is_seen(sweep: Sweep) -> None:
    """The log is told of a second start after the trial had come to its last row, with no checkpoint used."""
    lines = sweep.paths.log.read_text().splitlines()
    [begin] = [i for i, line in enumerate(lines) if f"({sweep.trial.trial_id})" in line and "started" in line]
    lines.insert(begin + 1, lines[begin])
    sweep.paths.log.write_text("\n".join(lines) + "\n")
    assert any("was started again, though nothing had been killed" in violation for violation in sweep.audit())
    at = datetime.fromisoformat(lines[begin].split()[0]).timestamp()
    rows = [row.model_copy(update={"seconds": row.step * 1.0}) for row in sweep.trial.history]
    # Long as the gaps between rows are, ten of them are more than an interval and one gap.
    sweep.cuts.append(Cut(sweep.trial.trial_id, at, tuple(rows)))
    assert any("s of training after it was cut off" in violation for violation in sweep.audit())
    sweep.cuts[0] = Cut(sweep.trial.trial_id, at, tuple(rows[:1]))
    assert sweep.audit() == []


def test_other_metrics_than_the_undisturbed_sweeps_are_seen(sweep: Sweep, good_home: Path) -> None:
    good = SweepPaths(good_home, "tiny")
    assert differences(sweep.paths, good) == []
    file = sweep.paths.history(sweep.trial.trial_id)
    first, *others = file.read_text().splitlines(keepends=True)
    row = json.loads(first)
    row["metrics"]["train_loss"] += 1e-15
    file.write_text("".join([json.dumps(row) + "\n", *others]))
    assert differences(sweep.paths, good) == [
        f"trial {sweep.trial.trial_id} has other metrics than the undisturbed one"
    ]
    drop_trial(sweep)
    assert differences(sweep.paths, good) == [f"trial {sweep.trial.trial_id} is in one sweep only"]


@pytest.fixture(scope="module")
def good_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("shared")
    spec = shared_spec("search.trials=2", "confirm.seeds=1")
    tracker = MlflowTracker(f"sqlite:///{home}/mlflow.db")
    run(spec, SweepPaths(home, "shared"), InlineLauncher(), tracker, command="teleport run", observe=lambda _: None)
    return home


def without_a_run(paths: SweepPaths, runs: list[Trial]) -> None:
    shutil.rmtree(paths.result(runs[0].trial_id).parent)


def without_a_candidate(paths: SweepPaths, runs: list[Trial]) -> None:
    for run_ in runs:
        shutil.rmtree(paths.result(run_.trial_id).parent)


def with_another_cost(paths: SweepPaths, runs: list[Trial]) -> None:
    file = paths.result(runs[0].trial_id)
    result = json.loads(file.read_text())
    result["seeds"][0]["steps_to_target"] = 1 + (result["seeds"][0]["steps_to_target"] or 0)
    file.write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (without_a_run, [r"\*/teleport #1 has not ended", r"\*/teleport #1 is Told.* in the journal, and Told"]),
        (without_a_candidate, [r"1 candidates on file, 2 were planned", r"#1 is COMPLETE in the journal, and not on"]),
        (with_another_cost, [r"\*/teleport #1 is Told.* in the journal, and Told"]),
    ],
)
def test_damage_to_a_shared_search_is_seen(
    good_shared: Path, tmp_path: Path, damage: Callable[[SweepPaths, list[Trial]], None], seen: list[str]
) -> None:
    home = shutil.copytree(good_shared, tmp_path / "home")
    paths, client = SweepPaths(home, "shared"), MlflowClient(f"sqlite:///{home}/mlflow.db")
    assert audit(paths, client) == []
    trials = read_record(paths).trials
    damage(paths, [trial for trial in trials if trial.config.arm == "teleport" and trial.config.number == 1])
    found = audit(paths, client)
    assert all(any(re.search(each, violation) for violation in found) for each in seen), found


def test_states_have_the_status_that_the_store_gives_them() -> None:
    from orchestrator.track.projection import STATUS_OF as THEIRS
    from tests.orchestrator.chaos.audit import STATUS_OF

    assert STATUS_OF == THEIRS
    assert set(STATUS_OF) == set(TrialState)
