"""What every tracker promises, whatever stands behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from orchestrator.home.records import SeedResult, SweepRecord, Trial, TrialFailure, TrialState
from orchestrator.track import Tracker
from orchestrator.track.projection import NOTE
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.stories import (
    Seen,
    ended,
    new_record,
    pruned,
    rows_of,
    search_config,
    sweep_run,
    tell,
    trial_runs,
)
from tests.orchestrator.trials import complete, config, failed

HOSTILE = "<script>alert('x')</script> \"'`; DROP\0TABLE\n\u202eevil\u202c \N{PILE OF POO} \ud800 " + "x" * 10_000


class TrackerContract(ABC):
    """The suite; a subclass says how to make a tracker and how to read its store."""

    @abstractmethod
    def tracker(self) -> Tracker:
        """Make a new tracker on this test's store, as a new process would."""

    @abstractmethod
    def seen(self, record: SweepRecord) -> list[Seen]:
        """Read the runs of a sweep back from the store."""

    @abstractmethod
    def wait_for_running(self, record: SweepRecord, num_trials: int) -> None:
        """Return once the store shows that many trials as running."""

    def test_a_sweep_is_one_run_and_each_trial_one_under_it(self, tmp_path: Path) -> None:
        report = tmp_path / "report"
        report.mkdir()
        (report / "report.md").write_text("all", encoding="utf-8")
        (tmp_path / "spec.yaml").write_text("version: 1", encoding="utf-8")
        record, trials = new_record(), [ended(0), ended(1, fails=True)]
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tell(tracker, trials)
        tracker.end_sweep(
            "FINISHED", description="| arm | verdict |", artifacts=[report, tmp_path / "spec.yaml", tmp_path / "no"]
        )
        assert tracker.close() == 0
        seen = self.seen(record)
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
        record = new_record()
        of = config(arm="teleport", phase="confirm", seeds=(1003,), number=None, origin="abc123")
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tell(tracker, [Trial(config=of, result=complete(of), history=tuple(rows_of(of)))])
        tracker.end_sweep("FINISHED")
        assert tracker.close() == 0
        run = trial_runs(self.seen(record))[of.trial_id]
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
            "target": "reached by 1 of 1 seeds",
        }
        assert tags.items() <= run.tags.items()

    def test_curves_lie_on_the_optimizer_clock(self) -> None:
        record, trial = new_record(), ended(0)
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tell(tracker, [trial])
        tracker.end_sweep("FINISHED")
        tracker.close()
        run = trial_runs(self.seen(record))[trial.trial_id]
        expected = [(r.step, r.metrics["train_loss"], round(r.seconds * 1000)) for r in trial.history]
        assert run.curves["train_loss"] == expected
        assert run.last("gradient_evaluations") == 3.0
        assert run.last("value") == 0.5
        assert run.last("off_clock_seconds") == pytest.approx(0.9)
        assert run.last("steps_to_target") == 4.0
        assert "teleport_seconds" not in run.curves, "no teleport, no curve of zeros"

    def test_several_seeds_have_their_own_curves_and_a_mean_at_the_end(self) -> None:
        record, of = new_record(), search_config(0, seeds=(0, 1))
        result = complete(of)
        missed = result.seeds[1].model_copy(
            update={"steps_to_target": None, "seconds_to_target": None, "metrics": {"train_loss": 1.5}}
        )
        result = result.model_copy(update={"seeds": (result.seeds[0], missed)})
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tell(tracker, [Trial(config=of, result=result, history=tuple(rows_of(of)))])
        tracker.end_sweep("FINISHED")
        tracker.close()
        run = trial_runs(self.seen(record))[of.trial_id]
        assert len(run.curves["seed_0/train_loss"]) == len(run.curves["seed_1/train_loss"]) == 4
        assert [value for _, value, _ in run.curves["train_loss"]] == [1.0]
        assert run.last("seed_0/steps_to_target") == 4.0
        assert "seed_1/steps_to_target" not in run.curves, "a miss is censored"
        assert "steps_to_target" not in run.curves, "a mean over the hits alone would flatter"
        assert run.last("target_reached") == 0.5
        assert run.tags["target"] == "reached by 1 of 2 seeds"

    def test_states_become_statuses_that_are_true(self) -> None:
        record = new_record()
        configs = [search_config(number) for number in range(4)]
        tracker = self.tracker()
        tracker.begin_sweep(record)
        for of in configs:
            tracker.begin_trial(of)
        tracker.end_trial(complete(configs[0]))
        tracker.end_trial(failed(configs[1], "crashed"))
        tracker.end_trial(pruned(configs[2]))
        tracker.end_sweep("FAILED")
        assert tracker.close() == 0
        seen = self.seen(record)
        runs = trial_runs(seen)
        found = [(runs[of.trial_id].status, runs[of.trial_id].tags["state"]) for of in configs]
        assert found == [("FINISHED", "COMPLETE"), ("FAILED", "FAIL"), ("FINISHED", "PRUNED"), ("KILLED", "cut off")]
        assert runs[configs[1].trial_id].tags["failure"] == "crashed"
        assert sweep_run(seen).status == "FAILED"

    def test_a_divergence_is_a_word_and_never_a_number_that_is_none(self) -> None:
        record, of = new_record(), search_config(0)
        seed = complete(of).seeds[0].model_dump()
        diverged = SeedResult.model_validate({**seed, "outcome": "diverged", "metrics": {}, "steps_to_target": None})
        # The contract refuses what is not finite; a tracker holds the line even where something slips past.
        broken = rows_of(of, 1)[0].model_copy(update={"metrics": {"train_loss": float("nan"), "x": float("inf")}})
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tracker.begin_trial(of)
        tracker.log_history(of.trial_id, [broken])
        tracker.end_trial(failed(of).model_copy(update={"seeds": (diverged,)}))
        tracker.end_sweep("FINISHED")
        assert tracker.close() == 0
        run = trial_runs(self.seen(record))[of.trial_id]
        assert (run.status, run.tags["failure"], run.tags["diverged"]) == ("FAILED", "diverged", "true")
        assert run.last("diverged") == 1.0
        assert not {"train_loss", "x", "steps_to_target"} & run.curves.keys()

    def test_whatever_people_write_is_stored_as_text_and_holds_no_password(self) -> None:
        secret = "postgresql://me:hunter2@db/x?password=hunter2"
        spec = tiny_spec().model_copy(update={"description": f"{HOSTILE} {secret}"})
        record, of = new_record(spec=spec, command=f"teleport run --tracking-uri {secret}"), search_config(0)
        failure = TrialFailure(kind="crashed", message=f"{secret} {HOSTILE}", traceback=HOSTILE)
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tracker.begin_trial(of)
        tracker.end_trial(failed(of).model_copy(update={"failure": failure}))
        tracker.end_sweep("FINISHED", description=HOSTILE)
        assert tracker.close() == 0
        seen = self.seen(record)
        assert trial_runs(seen)[of.trial_id].tags["failure_message"].startswith("postgresql://***@db/x?password=***")
        assert "<script>alert('x')</script>" in sweep_run(seen).tags[NOTE]
        assert "hunter2" not in repr(seen)

    def test_what_a_killed_driver_left_is_made_whole_from_the_files(self) -> None:
        record = new_record()
        trials = [ended(number) for number in range(3)]
        running = [trials[1], trials[2].model_copy(update={"result": None})]
        first = self.tracker()
        first.begin_sweep(record)
        tell(first, trials[:1])
        tell(first, [trial.model_copy(update={"result": None}) for trial in running])
        self.wait_for_running(record, 2)
        del first  # killed: neither ended nor closed; of the two that ran, one has its result on file
        on_file = SweepRecord(record.spec, record.provenance, (trials[0], *running))
        for _ in range(2):
            second = self.tracker()
            second.sync(on_file)
            assert second.close() == 0
            seen = self.seen(record)
            runs = trial_runs(seen)
            assert sweep_run(seen).status == "KILLED"
            assert [runs[trial.trial_id].status for trial in trials] == ["FINISHED", "FINISHED", "KILLED"]
            for trial in trials:
                steps = [step for step, _, _ in runs[trial.trial_id].curves["train_loss"]]
                assert steps == [0, 1, 2, 3], "every row once"

    def test_a_resumed_sweep_goes_on_in_the_same_runs_and_leaves_no_orphan(self) -> None:
        record, trials = new_record(), [ended(0), ended(1), ended(2)]
        first = self.tracker()
        first.begin_sweep(record)
        tell(first, [trials[0], *(trial.model_copy(update={"result": None}) for trial in trials[1:])])
        self.wait_for_running(record, 2)
        del first
        second = self.tracker()
        on_file = (trials[0].model_copy(update={"history": ()}),)
        second.begin_sweep(SweepRecord(record.spec, record.provenance, on_file))
        tell(second, [trials[1]])
        second.end_sweep("KILLED")  # interrupted again, before the last trial had its turn
        assert second.close() == 0
        seen = self.seen(record)
        runs = trial_runs(seen)
        assert sweep_run(seen).status == "KILLED"
        assert [runs[trial.trial_id].status for trial in trials] == ["FINISHED", "FINISHED", "KILLED"]
        assert runs[trials[2].trial_id].tags["state"] == "cut off"

    def test_what_the_store_missed_is_sent_again_while_the_sweep_goes_on(self) -> None:
        trial = ended(0)
        record = new_record(trial.model_copy(update={"history": ()}))
        tracker = self.tracker()
        tracker.begin_sweep(record, {trial.trial_id: trial}.__getitem__)
        tracker.end_sweep("FINISHED")
        assert tracker.close() == 0
        assert len(trial_runs(self.seen(record))[trial.trial_id].curves["train_loss"]) == 4

    def test_what_nobody_can_send_is_counted(self) -> None:
        record = new_record(ended(0).model_copy(update={"history": ()}))
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tracker.end_sweep("FINISHED")
        assert tracker.close() == 1

    def test_another_attempt_at_a_trial_takes_the_place_of_the_last(self) -> None:
        record, trial = new_record(), ended(0)
        again = complete(trial.config, value=0.25).model_copy(update={"started_at": 5.0, "ended_at": 6.0})
        tracker = self.tracker()
        tracker.begin_sweep(record)
        tell(tracker, [trial])
        tell(tracker, [trial.model_copy(update={"result": again, "history": trial.history[:2]})])
        tracker.end_sweep("FINISHED")
        assert tracker.close() == 0
        run = trial_runs(self.seen(record))[trial.trial_id]
        assert [value for _, value, _ in run.curves["value"]] == [0.25]
        assert len(run.curves["train_loss"]) == 2

    def test_sweeps_of_one_name_in_two_homes_do_not_mix(self) -> None:
        records = [new_record(), new_record()]
        for record, number in zip(records, (0, 1), strict=True):
            tracker = self.tracker()
            tracker.begin_sweep(record)
            tell(tracker, [ended(0), ended(1)][: number + 1])
            tracker.end_sweep("FINISHED")
            assert tracker.close() == 0
        assert [len(trial_runs(self.seen(record))) for record in records] == [1, 2]

    @pytest.mark.parametrize("state", list(TrialState))
    def test_every_state_of_a_trial_is_replayed_as_it_was_told(self, state: TrialState) -> None:
        of = search_config(0)
        result = {"COMPLETE": complete(of), "PRUNED": pruned(of), "FAIL": failed(of)}[state.value]
        trial = Trial(config=of, result=result, history=tuple(rows_of(of)))
        told, replayed = new_record(), new_record(trial)
        tracker = self.tracker()
        tracker.begin_sweep(told)
        tell(tracker, [trial])
        tracker.end_sweep("FINISHED")
        tracker.close()
        tracker = self.tracker()
        tracker.sync(replayed, "FINISHED")
        tracker.close()
        one, other = (trial_runs(self.seen(record))[of.trial_id] for record in (told, replayed))
        assert _comparable(one) == _comparable(other)


def _comparable(run: Seen) -> Seen:
    """Leave out what tells two sweeps apart."""
    tags = {key: value for key, value in run.tags.items() if key not in ("teleport.sweep_id", "mlflow.parentRunId")}
    return Seen(run.name, run.trial_id, run.status, run.params, tags, run.curves)
