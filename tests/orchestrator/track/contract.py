"""What every tracker promises, whatever stands behind it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.home.lock import locked
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SeedResult, Trial, TrialFailure, TrialState
from orchestrator.track import RunStatus, Tracker, writer
from orchestrator.track.projection import NOTE
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.stories import (
    Seen,
    ended,
    kill,
    on_file,
    pruned,
    put,
    rows_of,
    running,
    search_config,
    sweep_run,
    trial_runs,
)
from tests.orchestrator.trials import complete, config, failed
from tests.waiting import wait_until

HOSTILE = "<script>alert('x')</script> \"'`; DROP\0TABLE\n\u202eevil\u202c \N{PILE OF POO} \ud800 " + "x" * 10_000


class TrackerContract(ABC):
    """The suite; a subclass says how to make a tracker and how to read its store."""

    @pytest.fixture(autouse=True)
    def _looks_often(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(writer, "LOOK_SECONDS", 0.02)
        self.home = tmp_path

    @abstractmethod
    def tracker(self) -> Tracker:
        """Make a new tracker on this test's store, as a new process would."""

    @abstractmethod
    def seen(self, paths: SweepPaths) -> list[Seen]:
        """Read the runs of a sweep back from the store."""

    @abstractmethod
    def wait_for_running(self, paths: SweepPaths, num_trials: int) -> None:
        """Return once the store shows that many trials as running, with all rows that are on file."""

    @abstractmethod
    def delete_sweep_run(self, paths: SweepPaths) -> None:
        """Delete the sweep's own run and no other, as a user of the store can."""

    def follow(self, paths: SweepPaths) -> Tracker:
        tracker = self.tracker()
        tracker.follow(paths)
        return tracker

    def shown(self, *trials: Trial, status: RunStatus = "FINISHED") -> list[Seen]:
        """Follow a new sweep from its beginning to its end, and read its runs back."""
        paths = on_file(self.home)
        tracker = self.follow(paths)
        for trial in trials:
            put(paths, trial)
        assert tracker.close(status) == 0
        return self.seen(paths)

    def test_a_sweep_is_one_run_and_each_trial_one_under_it(self, tmp_path: Path) -> None:
        report = tmp_path / "report"
        report.mkdir()
        (report / "report.md").write_text("all", encoding="utf-8")
        (tmp_path / "spec.yaml").write_text("version: 1", encoding="utf-8")
        paths, trials = on_file(self.home), [ended(0), ended(1, fails=True)]
        tracker = self.follow(paths)
        for trial in trials:
            put(paths, trial)
        artifacts = [report, tmp_path / "spec.yaml", tmp_path / "no"]
        assert tracker.close("FINISHED", description="| arm | verdict |", artifacts=artifacts) == 0
        seen = self.seen(paths)
        sweep, runs = sweep_run(seen), trial_runs(seen)
        assert (sweep.name, sweep.status) == ("tiny", "FINISHED")
        assert sweep.tags[NOTE] == "| arm | verdict |"
        assert sorted(sweep.artifacts) == ["report", "spec.yaml"]
        assert sweep.params["workloads.digits.optimizer.lr.loguniform"] == "[0.01, 0.5]"
        assert sweep.params["search.trials"] == "3"
        assert runs.keys() == {trial.trial_id for trial in trials}
        assert all(run.is_whole for run in runs.values())
        assert {run.name: run.status for run in runs.values()} == {
            "digits/baseline #0": "FINISHED",
            "digits/baseline #1": "FAILED",
        }

    def test_a_trial_shows_its_configuration_as_the_yaml_has_it(self) -> None:
        of = config(arm="teleport", phase="confirm", seeds=(1003,), number=None, origin="abc123")
        seen = self.shown(Trial(config=of, result=complete(of), history=tuple(rows_of(of))))
        run = trial_runs(seen)[of.trial_id]
        assert run.name == "digits/teleport confirm seed 1003"
        expected = {"model.widths": "[16]", "optimizer.lr": "0.1", "teleport.step.factor": "1.5", "epochs": "1"}
        assert expected.items() <= run.params.items()
        tags = {
            "sweep": "tiny",
            "workload": "digits",
            "arm": "teleport",
            "arm_kind": "teleport",
            "phase": "confirm",
            "seed": "1003",
            "trial_id": of.trial_id,
            "git_commit": "0123abcd",
            "mlflow.source.git.commit": "0123abcd",
            "git_dirty": "true",
            "version.torch": "2.14.1",
            "state": "COMPLETE",
            "target": "reached",
        }
        assert tags.items() <= run.tags.items()

    def test_curves_lie_on_the_optimizer_clock(self) -> None:
        trial = ended(0)
        run = trial_runs(self.shown(trial))[trial.trial_id]
        expected = [(r.step, r.metrics["train_loss"], round(r.seconds * 1000)) for r in trial.history]
        assert run.curves["train_loss"] == expected
        assert run.last("gradient_evaluations") == 3.0
        assert run.last("value") == 0.5
        assert run.last("off_clock_seconds") == pytest.approx(0.9)
        assert run.last("steps_to_target") == 4.0
        assert "teleport_seconds" not in run.curves, "no teleport, no curve of zeros"

    def test_a_trial_that_missed_its_target_says_so_and_has_no_number_for_it(self) -> None:
        of = search_config(0)
        result = complete(of)
        missed = result.seeds[0].model_copy(update={"steps_to_target": None, "seconds_to_target": None})
        result = result.model_copy(update={"seeds": (missed,)})
        run = trial_runs(self.shown(Trial(config=of, result=result)))[of.trial_id]
        assert run.tags["target"] == "not reached"
        assert run.last("target_reached") == 0.0
        assert not {"steps_to_target", "seconds_to_target"} & run.curves.keys(), "a miss is censored"

    def test_states_become_statuses_that_are_true(self) -> None:
        configs = [search_config(number) for number in range(4)]
        results = (complete(configs[0]), failed(configs[1], "crashed"), pruned(configs[2]), None)
        seen = self.shown(
            *(Trial(config=of, result=result) for of, result in zip(configs, results, strict=True)), status="FAILED"
        )
        runs = trial_runs(seen)
        found = [(runs[of.trial_id].status, runs[of.trial_id].tags["state"]) for of in configs]
        assert found == [("FINISHED", "COMPLETE"), ("FAILED", "FAIL"), ("FINISHED", "PRUNED"), ("KILLED", "cut off")]
        assert runs[configs[1].trial_id].tags["failure"] == "crashed"
        assert sweep_run(seen).status == "FAILED"

    def test_a_divergence_is_a_word_and_never_a_number_that_is_none(self) -> None:
        of = search_config(0)
        seed = complete(of).seeds[0].model_dump()
        diverged = SeedResult.model_validate({**seed, "outcome": "diverged", "metrics": {}, "steps_to_target": None})
        run = trial_runs(self.shown(Trial(config=of, result=failed(of).model_copy(update={"seeds": (diverged,)}))))[
            of.trial_id
        ]
        assert (run.status, run.tags["failure"], run.tags["diverged"]) == ("FAILED", "diverged", "true")
        assert run.last("diverged") == 1.0
        assert not {"train_loss", "steps_to_target"} & run.curves.keys()

    def test_whatever_people_write_is_stored_as_text_and_holds_no_password(self) -> None:
        secret = "postgresql://me:hunter2@db/x?password=hunter2"
        hostile = HOSTILE.replace("\ud800", "")  # no file holds half a character
        spec = tiny_spec().model_copy(update={"description": f"{hostile} {secret}"})
        of = search_config(0)
        failure = TrialFailure(kind="crashed", message=f"{secret} {hostile}", traceback=hostile)
        trial = Trial(config=of, result=failed(of).model_copy(update={"failure": failure}))
        paths = on_file(self.home, trial, spec=spec, command=f"teleport run --tracking-uri {secret}")
        assert self.follow(paths).close("FINISHED", description=HOSTILE) == 0
        seen = self.seen(paths)
        assert trial_runs(seen)[of.trial_id].tags["failure_message"].startswith("postgresql://***@db/x?password=***")
        assert "<script>alert('x')</script>" in sweep_run(seen).tags[NOTE]
        assert "hunter2" not in repr(seen)

    def test_rows_are_shown_while_their_trial_runs(self) -> None:
        paths, trial = on_file(self.home), ended(0)
        tracker = self.follow(paths)
        put(paths, running(trial).model_copy(update={"history": trial.history[:2]}))
        self.wait_for_running(paths, 1)
        paths.append_history(trial.trial_id, trial.history[2:])
        self.wait_for_running(paths, 1)
        assert trial.result is not None
        paths.write_result(trial.result)
        assert tracker.close("FINISHED") == 0
        assert _steps(trial_runs(self.seen(paths))[trial.trial_id]) == [0, 1, 2, 3], "every row once"

    def test_what_a_killed_driver_left_is_made_whole_from_the_files(self) -> None:
        trials = [ended(number) for number in range(3)]
        paths = on_file(self.home, trials[0], *map(running, trials[1:]))
        first = self.follow(paths)
        self.wait_for_running(paths, 2)
        kill(first)
        put(paths, trials[1])  # it ended just before the kill, which the store has not seen
        for _ in range(2):
            assert self.tracker().sync(paths) == 0
            seen = self.seen(paths)
            runs = trial_runs(seen)
            assert sweep_run(seen).status == "KILLED"
            assert [runs[trial.trial_id].status for trial in trials] == ["FINISHED", "FINISHED", "KILLED"]
            assert all(_steps(runs[trial.trial_id]) == [0, 1, 2, 3] for trial in trials), "every row once"

    def test_a_resumed_sweep_goes_on_in_the_same_runs_and_leaves_no_orphan(self) -> None:
        trials = [ended(0), ended(1), ended(2)]
        paths = on_file(self.home, trials[0], *map(running, trials[1:]))
        first = self.follow(paths)
        self.wait_for_running(paths, 2)
        kill(first)
        with locked(paths):
            second = self.follow(paths)
            put(paths, trials[1])
            assert second.close("KILLED") == 0, "interrupted again, before the last trial had its turn"
        seen = self.seen(paths)
        runs = trial_runs(seen)
        assert sweep_run(seen).status == "KILLED"
        assert [runs[trial.trial_id].status for trial in trials] == ["FINISHED", "FINISHED", "KILLED"]
        assert runs[trials[2].trial_id].tags["state"] == "cut off"

    def test_a_trial_that_waits_to_be_resumed_does_not_show_as_running(self) -> None:
        trials = [ended(0), ended(1)]
        paths = on_file(self.home, *map(running, trials))
        first = self.follow(paths)
        self.wait_for_running(paths, 2)
        kill(first)
        with locked(paths):
            second = self.follow(paths)
            put(paths, running(trials[0]))
            self.wait_for_running(paths, 1)
            assert trial_runs(self.seen(paths))[trials[1].trial_id].status == "KILLED"
            assert second.close("KILLED") == 0

    def test_what_the_store_missed_is_sent_while_the_sweep_goes_on(self) -> None:
        trial, other = ended(0), ended(1)
        paths = on_file(self.home, trial)
        tracker = self.follow(paths)
        put(paths, running(other))
        self.wait_for_running(paths, 1)
        # The trial that runs comes first, so the one that was missed may still be on its way.
        wait_until(
            lambda: (
                [
                    _steps(run)
                    for trial_id, run in trial_runs(self.seen(paths)).items()
                    if trial_id == trial.trial_id and "train_loss" in run.curves
                ]
                == [[0, 1, 2, 3]]
            )
        )
        assert tracker.close("FINISHED") == 0

    def test_another_start_of_a_trial_takes_the_place_of_the_last(self) -> None:
        paths, trial = on_file(self.home), ended(0)
        tracker = self.follow(paths)
        put(paths, running(trial))
        self.wait_for_running(paths, 1)
        again = complete(trial.config, value=0.25).model_copy(update={"started_at": 5.0, "ended_at": 6.0})
        put(paths, trial.model_copy(update={"result": again, "history": trial.history[:2]}))
        assert tracker.close("FINISHED") == 0
        run = trial_runs(self.seen(paths))[trial.trial_id]
        assert [value for _, value, _ in run.curves["value"]] == [0.25]
        assert _steps(run) == [0, 1]

    def test_a_trial_names_the_data_that_it_trained_on_and_the_digests_of_its_files(self) -> None:
        wide = config().training.model_dump(mode="json", exclude_none=True)
        wide["data"] = {**wide["data"], "batch_size": 7}
        fashion = {**wide, "data": {"name": "fashion_mnist", "batch_size": 7}}
        configs = [search_config(0), config(training=wide, number=1), config(training=fashion, number=2)]
        trials = [Trial(config=of, result=complete(of), history=tuple(rows_of(of))) for of in configs]
        paths = on_file(self.home, *trials)
        assert self.tracker().sync(paths, "FINISHED") == 0
        runs = trial_runs(self.seen(paths))
        data = [runs[of.trial_id].data for of in configs]
        assert [[name for name, _ in each] for each in data] == [["digits"], ["digits"], ["fashion_mnist"]]
        assert data[0] == data[1] != data[2], "the same samples whatever the batches"
        for of in configs:
            for path in (paths.config(of.trial_id), paths.history(of.trial_id)):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                assert runs[of.trial_id].tags[f"sha256.{path.name}"] == digest

    def test_the_sweep_shows_what_it_found_as_numbers_and_later_ones_take_their_place(self) -> None:
        paths = on_file(self.home, ended(0))
        found = {"digits/teleport/effect": 0.8, "digits/teleport/high": float("inf")}
        tracker = self.follow(paths)
        assert tracker.close("FINISHED", metrics=found) == 0
        run = sweep_run(self.seen(paths))
        assert {key: run.last(key) for key in run.curves} == {"digits/teleport/effect": 0.8}
        of = search_config(1)
        later = complete(of).model_copy(update={"ended_at": complete(of).ended_at + 1.0})
        put(paths, Trial(config=of, result=later))
        for _ in range(2):
            assert self.tracker().sync(paths, "FINISHED", metrics={"digits/teleport/effect": 0.7}) == 0
        curve = sweep_run(self.seen(paths)).curves["digits/teleport/effect"]
        assert [value for _, value, _ in curve] == [0.8, 0.7]

    def test_a_sweeps_run_that_was_deleted_is_made_again_and_its_trials_lie_under_it(self) -> None:
        trials = [ended(0), ended(1, fails=True)]
        paths = on_file(self.home, *trials)
        assert self.tracker().sync(paths, "FINISHED", description="found") == 0
        self.delete_sweep_run(paths)
        assert {run.parent for run in self.seen(paths)} == {""}, "nothing to lie under"
        for _ in range(2):
            assert self.tracker().sync(paths, "FINISHED", description="found") == 0
            seen = self.seen(paths)
            assert (sweep_run(seen).status, sweep_run(seen).tags[NOTE]) == ("FINISHED", "found")
            assert trial_runs(seen).keys() == {trial.trial_id for trial in trials}
            assert {run.parent for run in trial_runs(seen).values()} == {sweep_run(seen).name}

    def test_sweeps_of_one_name_in_two_homes_do_not_mix(self) -> None:
        sweeps = [on_file(self.home, ended(0)), on_file(self.home, ended(0), ended(1))]
        for paths in sweeps:
            assert self.follow(paths).close("FINISHED") == 0
        assert [len(trial_runs(self.seen(paths))) for paths in sweeps] == [1, 2]

    @pytest.mark.parametrize("state", list(TrialState))
    def test_a_trial_looks_the_same_whether_it_was_followed_or_sent_later(self, state: TrialState) -> None:
        of = search_config(0)
        result = {"COMPLETE": complete(of), "PRUNED": pruned(of), "FAIL": failed(of)}[state.value]
        trial = Trial(config=of, result=result, history=tuple(rows_of(of)))
        followed, sent = on_file(self.home), on_file(self.home, trial)
        tracker = self.follow(followed)
        put(followed, running(trial))
        self.wait_for_running(followed, 1)
        followed.write_result(result)
        assert tracker.close("FINISHED") == 0
        assert self.tracker().sync(sent, "FINISHED") == 0
        one, other = (trial_runs(self.seen(paths))[of.trial_id] for paths in (followed, sent))
        assert _comparable(one) == _comparable(other)


def _steps(run: Seen) -> Sequence[int]:
    return [step for step, _, _ in run.curves["train_loss"]]


def _comparable(run: Seen) -> Seen:
    """Leave out what tells two sweeps apart."""
    tags = {key: value for key, value in run.tags.items() if key not in ("teleport.sweep_id", "mlflow.parentRunId")}
    return Seen(run.name, run.trial_id, run.status, run.params, tags, run.curves)
