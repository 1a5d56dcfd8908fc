"""Sweeps with every kind of arm: what waits for what, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import Interrupted, SpecError, UserError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import Trial, TrialConfig
from orchestrator.launch import InlineLauncher, TrialSource
from orchestrator.report import best_spec
from orchestrator.report.sections.effects import control_section
from orchestrator.search.candidates import Candidates
from orchestrator.search.journal import open_journal
from orchestrator.search.selection import champions
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec, Workload, load_spec, spec_from_text
from orchestrator.sweep.plan import make_plan, pilot_pace
from orchestrator.sweep.run import Outcome
from orchestrator.sweep.single import single_config
from orchestrator.trial.run import run_trial
from tests.orchestrator import trials
from tests.orchestrator.launchers import ReadyLauncher
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.sweep.test_run import Cut, Simulated, go, outcomes
from tests.orchestrator.trials import complete, failed

# The controls stand before their teleport arm: order in the spec must not matter.
EVERY_KIND = """
version: 1
name: every
workloads:
  digits:
    model: {name: mlp, widths: [48], activation: tanh}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}, momentum: 0.5}
    epochs: 1
    evaluate: {every: 10}
    target: {metric: train_loss, value: 2.0}
arms:
  random: {random_move: {scale: {uniform: [0.5, 2.0]}}}
  scaled: {lr_scaled: {of: teleport}}
  reset: {state_reset: {}}
  init: {init_scaled: {factor: {loguniform: [0.5, 4]}}}
  level_set: {level_set: {step_size: {loguniform: [0.01, 1]}, schedule: {epochs: 1, batches: 2, steps: 1}}}
  symmetry: {symmetry: {schedule: {epochs: 1, batches: 2, steps: 1}}}
  teleport:
    teleport:
      tau: {choice: [1.0, 0.99]}
      step: {rule: growth, factor: {uniform: [1.1, 2.0]}}
      schedule: {epochs: 1, batches: 2, steps: 1}
search: {trials: 2, seeds: [0]}
confirm: {seeds: 2, grid: none}
"""
CONTROLS = ("random", "scaled", "reset")
TWO = "arms.gentle={teleport: {step: {rule: growth, factor: 1.1}}}"


def every_kind(*overrides: str) -> SweepSpec:
    return spec_from_text(EVERY_KIND, "every.yaml", overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(every_kind(), tmp_path_factory.mktemp("home"))


def test_every_kind_ends_and_stands_in_the_report(finished: Outcome) -> None:
    assert not finished.failures
    report = finished.report
    assert report.arms == tuple(every_kind().arms)
    for arm in report.arms:
        best = report.study("digits", arm).best
        assert best is not None
        assert len(best.confirm) == 2
    text = (finished.paths.report / "report.md").read_text()
    assert "Teleport against its controls and rivals" in text
    assert {row[2] for row in control_section(report).rows} == set(report.arms) - {"baseline", "teleport"}
    assert [c.arm for c in report.comparisons if c.is_primary] == ["teleport"]


def test_controls_run_the_settings_that_the_teleport_search_chose(finished: Outcome) -> None:
    record = read_record(finished.paths)
    chosen = champions(Candidates.of(record))["digits", "teleport"][0].config.method.teleport
    assert chosen is not None
    of = {arm: [t.config for t in record.trials if t.config.arm == arm] for arm in CONTROLS}
    assert all(c.method.random_move and c.method.random_move.teleport == chosen for c in of["random"])
    assert all(c.method.lr_scaled and c.method.lr_scaled.teleport == chosen for c in of["scaled"])
    assert all(c.method.state_reset and c.method.state_reset.schedule == chosen.schedule for c in of["reset"])
    search = [config for config in of["random"] if config.phase == "search"]
    assert len({config.training.optimizer.model_dump()["lr"] for config in search}) == len(search) == 2
    assert {key for config in search for key in config.values} == {"optimizer.lr", "random_move.scale"}


@pytest.mark.parametrize("arm", CONTROLS)
def test_an_exported_control_runs_again_with_the_same_result(finished: Outcome, tmp_path: Path, arm: str) -> None:
    record = read_record(finished.paths)
    exported = tmp_path / "best.yaml"
    exported.write_text(best_spec(record, "digits", arm))
    champion = champions(Candidates.of(record))["digits", arm][0]
    config = single_config(load_spec(exported), None, arm, None)
    assert config.trial_id == champion.trial_id
    assert champion.result is not None
    assert run_trial(config, lambda rows: None).value == champion.result.value


@pytest.mark.parametrize("after", [11, *(pytest.param(after, marks=pytest.mark.slow) for after in (0, 13))])
def test_a_sweep_cut_off_while_controls_run_goes_on_as_if_it_had_not_been(
    finished: Outcome, tmp_path: Path, after: int
) -> None:
    with pytest.raises(Interrupted, match="sweep 'every' was interrupted"):
        go(every_kind(), tmp_path, Cut(after))
    begun = read_record(SweepPaths(tmp_path, "every"), with_history=False)
    counted = _Counting()
    go(every_kind(), tmp_path, counted)
    again = read_record(SweepPaths(tmp_path, "every"))
    assert outcomes(again) == outcomes(read_record(finished.paths))
    assert counted.num_run == len(again.trials) - sum(trial.result is not None for trial in begun.trials)


class _Counting(ReadyLauncher):
    """Runs inline and counts what it is handed."""

    num_run = 0

    def launch(self, source: TrialSource) -> None:
        handed = source.propose

        def propose() -> TrialConfig | None:
            self.num_run += 1
            return handed()

        source.propose = propose  # type: ignore[method-assign]
        InlineLauncher().launch(source)


def test_controls_wait_until_every_trial_of_their_teleport_arm_has_ended(tmp_path: Path) -> None:
    class Greedy(ReadyLauncher):
        """Takes all it is offered before it ends anything, the last begun first."""

        def launch(self, source: TrialSource) -> None:
            running: list[TrialConfig] = []
            ended: list[str] = []
            while not source.is_exhausted or running:
                while (config := source.propose()) is not None:
                    if config.arm in CONTROLS and config.phase == "search":
                        assert ended.count("teleport") == 2, "a control's trial came before the settings were chosen"
                    source.on_started(config)
                    running.append(config)
                last = running.pop()
                ended.append(last.arm)
                source.on_ended(last, complete(last))

    outcome = go(every_kind(), tmp_path, Greedy())
    assert not outcome.failures


def test_a_control_whose_teleport_arm_found_nothing_ends_empty_with_a_reason(tmp_path: Path) -> None:
    class NoTeleport(ReadyLauncher):
        def launch(self, source: TrialSource) -> None:
            while not source.is_exhausted:
                config = source.propose()
                assert config is not None
                source.on_started(config)
                ends: Callable[[TrialConfig], object] = failed if config.arm == "teleport" else complete
                source.on_ended(config, ends(config))  # type: ignore[arg-type]

    outcome = go(every_kind(), tmp_path, NoTeleport())
    record = read_record(outcome.paths, with_history=False)
    assert not [trial for trial in record.trials if trial.config.arm in CONTROLS]
    assert {f"digits/{arm} has no trial that ended well" for arm in (*CONTROLS, "teleport")} == set(outcome.failures)
    reasons = {c.arm: c.reason for c in outcome.report.comparisons if c.against == "baseline"}
    assert reasons["random"] == "no search trial of teleport ended well, so random has no settings to take"
    assert "digits/random has no settings to take" in outcome.paths.log.read_text()
    simulated = Simulated()
    go(every_kind(), tmp_path, simulated)
    assert simulated.num_run == 0


def test_a_teleport_search_that_runs_out_early_lets_its_controls_go(tmp_path: Path) -> None:
    """Two ways to write one schedule: the search has one configuration, and sees it only when asked for a second."""
    same = "{choice: [{epochs: 5, batches: 1}, {batches: 1}]}"
    spec = tiny_spec(
        "workloads.digits.optimizer.lr=0.1",
        f"arms={{t: {{teleport: {{step: {{rule: fixed, lr: 0.1}}, schedule: {same}}}}}, r: {{random_move: {{}}}}}}",
    )
    outcome = go(spec, tmp_path, Simulated())
    assert not outcome.failures
    search = [t.config.arm for t in read_record(outcome.paths).trials if t.config.phase == "search"]
    assert sorted(search) == ["baseline", "r", "t"]


def test_a_waiting_study_hands_out_nothing_and_is_not_exhausted(tmp_path: Path) -> None:
    spec = every_kind()
    waiting = Study(spec, "digits", "random", open_journal(tmp_path / "study.journal"), {})
    assert (waiting.propose(), waiting.is_exhausted, waiting.is_over) == (None, False, False)
    settings = spec.example_of("teleport").teleport
    best = trials.config(arm="teleport", method={"teleport": settings})
    assert waiting.begin({("digits", "teleport"): [Trial(config=best)]}) == ""
    config = waiting.propose()
    assert config is not None
    assert config.method.random_move is not None
    assert config.method.random_move.teleport == settings
    ended = Study(spec, "digits", "scaled", open_journal(tmp_path / "study.journal"), {})
    assert "has no settings to take" in ended.begin({("digits", "teleport"): []})
    assert (ended.propose(), ended.is_over) == (None, True)


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SpecError, match=r"tiny\.yaml") as caught:
        tiny_spec(*overrides)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["arms.r={random_move: {of: telport}}"],
            "arms.r: of: the spec has no arm 'telport'; did you mean 'teleport'? (known: teleport)",
        ),
        (
            ["arms.r={random_move: {of: i}}", "arms.i={init_scaled: {factor: 2.0}}"],
            "arms.r: of: 'i' is of kind init_scaled and must be a teleport arm; (known: teleport)",
        ),
        (
            ["arms.r={lr_scaled: {}}", TWO],
            "arms.r: the spec has several teleport arms (teleport, gentle): name with of the one whose settings it "
            "takes",
        ),
        (["arms={r: {state_reset: {}}}"], "arms.r: takes its settings from a teleport arm, and the spec has none"),
        (
            ["arms.r={random_move: {of: {choice: [teleport, gentle]}}}", TWO],
            "arms.r: of must be one arm for the whole search, not a distribution",
        ),
        (
            ["arms.r={random_move: {of: teleport, teleport: {step: {rule: fixed, lr: 0.1}}}}"],
            "must take its settings from the arm 'teleport' (of) or have its own, not both",
        ),
        (["arms.r={init_scaled: {}}"], "arms.r.init_scaled.factor: missing: this key is required"),
        (["arms.r={random_move: {scale: 0}}"], "scale: must be greater than 0, is 0"),
        (
            ["arms.teleport.teleport.schedule={at: [1], every: 2}"],
            "at says which steps have teleports, so every must not be given beside it",
        ),
    ],
)
def test_a_mistake_about_an_arm_is_told_with_its_place(overrides: list[str], message: str) -> None:
    found = faults(*overrides)
    assert any(message in fault for fault in found), found


def test_of_is_needed_only_where_several_could_be_meant() -> None:
    spec = tiny_spec("arms.a={lr_scaled: {of: gentle}}", "arms.b={random_move: {of: teleport}}", TWO)
    assert spec.sources == {"a": "gentle", "b": "teleport"}
    assert tiny_spec("arms.a={lr_scaled: {}}").sources == {"a": "teleport"}
    own = "arms={a: {lr_scaled: {teleport: {step: {rule: fixed, lr: 0.1}}}}}"
    assert tiny_spec(own).sources == {}
    assert spec_from_text(spec.to_yaml()).sources == spec.sources


def test_training_a_control_needs_the_settings_of_its_teleport_arm_fixed() -> None:
    fixed = ["workloads.digits.optimizer.lr=0.1", "arms.a={lr_scaled: {}}"]
    with pytest.raises(UserError, match=r"arms\.teleport\.teleport\.tau: is a distribution; fix it with --set"):
        single_config(tiny_spec(*fixed), None, "a", None)
    fixed += ["arms.teleport.teleport.tau=0.99", "arms.teleport.teleport.step={rule: fixed, lr: 0.1}"]
    method = single_config(tiny_spec(*fixed), None, "a", None).method
    assert method.lr_scaled is not None
    assert method.lr_scaled.teleport is not None
    assert method.lr_scaled.teleport.tau == 0.99


def test_the_plan_knows_every_kind() -> None:
    spec = every_kind("arms.level_set.level_set.schedule={at: [0, 3]}")
    plan = make_plan(spec)
    assert [study.num_search for study in plan.studies] == [2] * 8
    small = Workload.model_validate(spec.workloads["digits"].concretise({"optimizer.lr": 0.1}))
    assert (pilot_pace(small, spec.example_of("scaled")).seconds_per_step or 0) > 0
    assert (pilot_pace(small, spec.example_of("level_set")).seconds_per_step or 0) > 0


def test_two_teleport_arms_each_have_their_own_controls_in_the_report(tmp_path: Path) -> None:
    spec = tiny_spec(
        "arms.a={lr_scaled: {of: gentle}}",
        "arms.b={random_move: {of: teleport}}",
        "arms.gentle={teleport: {step: {rule: growth, factor: 1.1}, schedule: {epochs: 1, batches: 1, steps: 1}}}",
        "arms.init={init_scaled: {factor: {uniform: [1, 3]}}}",
    )
    report = go(spec, tmp_path, Simulated()).report
    pairs = {(c.arm, c.against) for c in report.comparisons if c.against != "baseline"}
    assert pairs == {("gentle", "a"), ("gentle", "init"), ("teleport", "b"), ("teleport", "init")}
    assert not any(c.is_primary for c in report.comparisons if c.against != "baseline")
