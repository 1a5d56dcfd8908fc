"""What each kind of arm does to a run, each against the run that it must equal where it does nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.home.records import HistoryRow, SeedResult, TrialConfig, TrialState
from orchestrator.spec import Arm
from orchestrator.spec.options import ARMS, ScheduleOptions, TeleportOptions
from orchestrator.trial import arms
from orchestrator.trial.arms import make_arm
from orchestrator.trial.batches import Batches, ExtraBatches
from orchestrator.trial.data.dataset import Split, load_cached
from orchestrator.trial.loop import initial_model, train_seed
from orchestrator.trial.run import run_trial
from orchestrator.trial.running_arm import TrainingContext
from teleport_engine import RandomMove, Teleporter, TeleportReport, WhileItPays
from teleport_engine.compare import SymmetryTeleporter
from tests.orchestrator.trial.tasks import TELEPORT, config, task

# Wide enough that a batch of 32 leaves a null space at tau = 1.
WIDE: dict[str, Any] = {"data": {"name": "digits", "batch_size": 32}, "epochs": 1, "evaluate": {"every": 5}}
EXACT = {"step": {"rule": "growth", "factor": 1.3}, "schedule": {"epochs": 1, "batches": 3, "steps": 2}}
METHODS: dict[str, dict[str, Any]] = {
    "teleport": EXACT,
    "random_move": {"teleport": EXACT},
    "orbit": {"growth": 3.0, "schedule": EXACT["schedule"]},
    "level_set": {"step_size": 0.1, "schedule": EXACT["schedule"]},
    "symmetry": {"schedule": EXACT["schedule"]},
    "lr_scaled": {"teleport": EXACT},
    "init_scaled": {"factor": 1.5},
    "state_reset": {"schedule": EXACT["schedule"]},
}


def run(method: dict[str, Any], **training: Any) -> tuple[SeedResult, list[HistoryRow]]:
    rows: list[HistoryRow] = []
    result = run_trial(config(method, training=WIDE | training), rows.extend)
    assert result.state is TrialState.COMPLETE, result.failure
    return result.seeds[0], rows


def curves(rows: list[HistoryRow]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.metrics.items() if not k.startswith("teleport_")} for row in rows]


@pytest.mark.parametrize("kind", ARMS)
def test_every_kind_changes_the_run_and_runs_again_from_its_file(kind: str) -> None:
    activation = "relu" if kind == "orbit" else "tanh"  # tanh cannot be rescaled
    moving = {
        "model": {"name": "mlp", "widths": [160], "activation": activation},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    }
    method = {kind: METHODS[kind]}
    seed, rows = run(method, **moving)
    _, again = run(json.loads(Arm.model_validate(method).model_dump_json()), **moving)
    assert curves(rows) == curves(again) != curves(run({}, **moving)[1])
    assert (seed.teleports is None) == (kind == "init_scaled")
    if seed.teleports is not None:
        assert seed.teleports.count == 3


def test_auto_tau_moves_a_layer_that_has_no_null_space_and_its_settings_are_heeded(
    reports: list[TeleportReport],
) -> None:
    """Batch 128 fills a layer of 16."""
    narrow = {"model": {"name": "mlp", "widths": [16]}, "data": {"name": "digits", "batch_size": 128}}
    once = EXACT | {"schedule": {"at": [4], "steps": 1}}
    for tau in (1.0, "auto", {"null_share": 0.5, "drift": 1.0, "least": 0.5}):
        run({"teleport": once | {"tau": tau}}, **narrow)
    assert [report.layers[-1].null_dim for report in reports] == [0, 2, 8]


ADAPTIVE: dict[str, Any] = {"adaptive": {"drift": 0.02, "growth": 1.3}, "schedule": {"epochs": 1, "batches": 8}}


def test_the_two_knobs_are_the_engines_and_a_probe_is_drawn_for_them(reports: list[TeleportReport]) -> None:
    """Where it has been trained a little, a layer of 64 that a batch of 128 fills moves within its drift."""
    full = {"model": {"name": "mlp", "widths": [64, 64]}, "data": {"name": "digits", "batch_size": 128}}
    run({"teleport": ADAPTIVE | {"schedule": {"at": [3, 4, 5]}}}, **full)
    assert len(reports) == 3
    for report in reports:
        assert report.num_steps >= 1
        assert report.layers[-1].null_dim
        assert abs(report.loss_drift) <= 0.02 * report.loss_before
        assert report.probe_drift is not None
    single, once = ({"adaptive": knobs, "schedule": {"at": [3]}} for knobs in ({"max_steps": 1}, {"growth": 1.01}))
    run({"teleport": single}, **full)
    run({"teleport": once | {"grad_norm_cap": 1e-9}}, **full)
    assert reports[3].num_steps == 1
    assert reports[4].num_steps == 0, "what is given beside the knobs is heeded"


def test_adaptive_teleports_end_once_they_would_not_be_paid_back() -> None:
    for payback, count in ((1e-3, 3), (None, 8)):
        knobs = {"adaptive": {"payback": payback}, "schedule": {"epochs": 1, "batches": 8}}
        seed, _ = run({"teleport": knobs})
        assert seed.teleports is not None
        assert seed.teleports.count == count


def test_controls_take_adaptive_settings_over(reports: list[TeleportReport]) -> None:
    stopping = TeleportOptions.model_validate(ADAPTIVE)
    random, scaled, reset = (
        Arm.model_validate({kind: {}}).following(stopping) for kind in ("random_move", "lr_scaled", "state_reset")
    )
    assert random.random_move is not None
    assert random.random_move.teleport is not None
    assert random.random_move.teleport.adaptive == stopping.adaptive.model_copy(update={"payback": None})  # type: ignore[union-attr]
    assert scaled.lr_scaled is not None
    assert scaled.lr_scaled.teleport == stopping
    assert reset.schedule == stopping.schedule
    for arm in (random, scaled):
        run(json.loads(arm.model_dump_json()), epochs=1)
        assert all(abs(report.loss_drift) <= 0.02 * report.loss_before for report in reports)
    assert {report.outcome.value for report in reports} >= {"moved", "put back"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {},
            "nothing says how far a step goes: give step: {rule: fixed, lr: ...}, step: {rule: growth, factor: ...}, ",
        ),
        (
            ADAPTIVE | {"tau": 0.9, "max_loss_drift": 1.0, "schedule": {"steps": 3, "patience": 5}},
            "adaptive chooses tau, max_loss_drift, schedule.steps, schedule.patience itself, so they must not be given",
        ),
        (ADAPTIVE | {"step": EXACT["step"]}, "adaptive chooses step itself, so that must not be given beside it"),
        (ADAPTIVE | {"factorisation": "randomised"}, "adaptive chooses among all directions; factorisation must be"),
        ({"adaptive": {"growth": 1.0}}, "greater than 1"),
    ],
)
def test_what_the_knobs_decide_is_not_given_beside_them(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        TeleportOptions.model_validate(settings)


def test_adaptive_settings_run_again_from_their_file_and_leave_other_trials_as_they_were() -> None:
    arm = Arm.model_validate({"teleport": ADAPTIVE})
    assert Arm.model_validate_json(arm.model_dump_json()) == arm
    assert config({"teleport": EXACT}, seeds=(0, 1)).trial_id == "0573bd75b65a", "as it was before there were two knobs"


def test_a_random_move_keeps_the_loss_and_is_as_long_as_the_directed_one(reports: list[TeleportReport]) -> None:
    once = EXACT | {"schedule": {"at": [4], "steps": 1}}
    run({"teleport": once})
    run({"random_move": {"teleport": once}})
    run({"random_move": {"teleport": once, "scale": 0.5}})
    directed, random, shorter = reports
    assert abs(random.loss_drift) < 1e-5
    for one, other, half in zip(directed.layers, random.layers, shorter.layers, strict=True):
        assert other.step_length == pytest.approx(one.step_length, rel=1e-4)
        assert half.step_length == pytest.approx(0.5 * one.step_length, rel=1e-4)
    assert random.grad_norm_after < directed.grad_norm_after


def test_random_moves_follow_from_the_trials_seed_and_differ_from_seed_to_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def recorded(seed: int, scale: float) -> RandomMove:
        seeds.append(seed)
        return RandomMove(seed, scale)

    monkeypatch.setattr(arms, "RandomMove", recorded)
    once = {"random_move": {"teleport": EXACT | {"schedule": {"at": [0], "steps": 1}}}}
    for seed in (0, 1, 0):
        run_trial(config(once, seeds=(seed,), training=WIDE), lambda rows: None)
    assert seeds[0] == seeds[2] != seeds[1]


def test_a_ratio_of_one_is_the_baseline_bit_for_bit() -> None:
    """Batch 128 fills a layer of 16: nothing can move, so every measured ratio is 1."""
    narrow = {"model": {"name": "mlp", "widths": [16]}, "data": {"name": "digits", "batch_size": 128}}
    seed, rows = run({"lr_scaled": {"teleport": EXACT}}, **narrow)
    assert curves(rows) == curves(run({}, **narrow)[1])
    assert seed.gradient_evaluations > seed.num_steps


def test_the_learning_rate_is_scaled_by_the_measured_ratio_for_one_step(
    reports: list[TeleportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def watching(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watching)
    at = EXACT | {"schedule": {"at": [1, 5], "steps": 2}}
    seed, rows = run({"lr_scaled": {"teleport": at, "scale": 2.0}})
    ratios = [report.grad_norm_ratio for report in reports]
    assert all(ratio > 1.1 for ratio in ratios)
    expected = {1: 0.2 * ratios[0] ** 2, 5: 0.2 * ratios[1] ** 2}
    assert rates == pytest.approx([expected.get(index, 0.2) for index in range(len(rates))])
    assert seed.teleports is not None
    assert (seed.teleports.outcomes, seed.teleports.max_loss_drift) == ({"put back": 2}, None)
    assert seed.teleports.mean_gain == pytest.approx(ratios[0] * ratios[1])
    assert rows[-1].num_teleports == 0


def test_resetting_plain_sgd_is_the_baseline_and_resetting_momentum_is_not() -> None:
    reset = {"state_reset": {"schedule": {"at": [3, 9]}}}
    assert curves(run(reset)[1]) == curves(run({})[1])
    momentum = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}
    seed, rows = run(reset, **momentum)
    assert curves(rows) != curves(run({}, **momentum)[1])
    assert seed.teleports is not None
    assert (seed.teleports.count, seed.teleports.outcomes) == (2, {"state reset": 2})
    assert seed.gradient_evaluations == seed.num_steps


def test_initial_weights_times_one_are_the_baseline_and_times_two_are_twice_as_large() -> None:
    assert curves(run({"init_scaled": {"factor": 1.0}})[1]) == curves(run({})[1])
    seen: list[dict[str, Tensor]] = []

    def scaling(factor: float) -> Callable[[TrainingContext], None]:
        def make(context: TrainingContext) -> None:
            make_arm(Arm.model_validate({"init_scaled": {"factor": factor}}), context)
            seen.append({name: p.detach().clone() for name, p in context.model.named_parameters()})

        return make

    for factor in (1.0, 2.0):
        train_seed(task(epochs=1), scaling(factor), lambda row: None)
    once, twice = seen
    for name, value in once.items():
        assert torch.equal(twice[name], value if name.endswith("bias") else 2.0 * value), name
    assert run({"init_scaled": {"factor": 2.0}})[0].teleports is None


def test_a_follower_without_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="this lr_scaled arm has no settings yet"):
        make_arm(Arm.model_validate({"lr_scaled": {"of": "teleport"}}), None)  # type: ignore[arg-type]


def test_own_batches_are_drawn_from_the_training_split_and_outside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    real = Teleporter.teleport

    def watching(self: Teleporter, inputs: Tensor, targets: Tensor, **more: Any) -> TeleportReport:
        seen.append({"inputs": inputs, **more})
        return real(self, inputs, targets, **more)

    monkeypatch.setattr(Teleporter, "teleport", watching)
    apart = EXACT | {"batch_size": 24, "subspace_size": 40, "probe_size": 900, "schedule": {"at": [0, 2]}}
    seed, rows = run({"teleport": apart})
    first, second = seen
    assert (len(first["inputs"]), len(first["subspace"]), len(first["probe"][0])) == (24, 40, 900)
    assert not torch.equal(first["inputs"], second["inputs"])
    order = Batches(load_cached(task(**WIDE).workload.data, torch.device("cpu")).train, 32, seed=0)
    for step, given in ((0, first), (2, second)):
        trained = next(islice(order, 0 if step == 0 else 1, None))[0]
        inside = {bytes(row.numpy()) for row in torch.cat([trained, given["inputs"], given["subspace"]])}
        assert not inside & {bytes(row.numpy()) for row in given["probe"][0]}, f"probe of step {step}"
    assert seed.teleports is not None
    assert seed.teleports.max_probe_drift is not None
    assert max(row.metrics.get("teleport_probe_drift", 0.0) for row in rows) == seed.teleports.max_probe_drift
    seen.clear()
    run({"teleport": EXACT | {"max_probe_drift": 10.0, "schedule": {"at": [0]}}})
    assert (seen[0]["subspace"], len(seen[0]["probe"][0])) == (None, 32)


def split(num: int = 20) -> Split:
    return Split(torch.arange(float(num)).unsqueeze(1), torch.arange(num))


def test_extra_batches_know_what_the_training_batches_hold_and_do_not_move_them() -> None:
    extra, order = ExtraBatches(split(), 6, seed=3), Batches(split(), 6, seed=3)
    for step in range(8):
        targets = next(order)[1]
        if step % 3 == 2:
            assert torch.equal(extra.batch(step), targets)
            drawn = extra.indices(9, [targets])
            assert not set(drawn.tolist()) & set(targets.tolist())
            assert len(set(drawn.tolist())) == 9
            assert torch.equal(extra.samples(drawn)[1], drawn)


def test_extra_batches_follow_from_the_seed_and_take_what_is_there() -> None:
    one, same, other = (ExtraBatches(split(), 6, seed=seed).indices(20).tolist() for seed in (0, 0, 1))
    assert one == same != other
    assert sorted(ExtraBatches(split(), 6, 0).indices(99).tolist()) == list(range(20))
    with pytest.raises(ValueError, match="the batches hold all 20 training samples, so none is left for a probe"):
        ExtraBatches(split(), 6, 0).indices(1, [torch.arange(20)])


@pytest.mark.parametrize("objective", arms.OBJECTIVES)
def test_every_objective_can_be_climbed(objective: str, reports: list[TeleportReport]) -> None:
    little = {"step": {"rule": "growth", "factor": 1.02}, "schedule": {"at": [1], "steps": 1}}
    run({"teleport": little | {"objective": objective}})
    (report,) = reports
    assert report.objective_after > report.objective_before


def test_the_options_name_every_objective() -> None:
    annotation = TeleportOptions.model_fields["objective"].annotation
    assert set(annotation.__args__) == arms.OBJECTIVES.keys()  # type: ignore[union-attr]


def test_further_options_reach_the_engine() -> None:
    more = {"move_bias": True, "max_relative_step": 0.1, "factorisation": "auto", "max_probe_drift": 0.5}
    options = arms.engine_options(TeleportOptions.model_validate(EXACT | more))
    assert (options.move_bias, options.factorisation) == (True, "auto")
    assert (options.limits.max_relative_step, options.limits.max_probe_drift) == (0.1, 0.5)


def test_teleports_that_do_not_pay_come_to_an_end() -> None:
    dear = EXACT | {"schedule": {"epochs": 1, "batches": 32, "steps": 1, "stop_below_gain": 1e3, "patience": 2}}
    seed, _ = run({"teleport": dear})
    assert seed.teleports is not None
    assert seed.teleports.count == 2


def test_a_schedule_of_given_steps_stands_alone() -> None:
    assert ScheduleOptions(at=(1, 5), steps=2).at == (1, 5)
    with pytest.raises(ValueError, match="at says which steps have teleports, so batches, every must not be given"):
        ScheduleOptions(at=(1,), batches=2, every=3)


def test_a_control_that_follows_leaves_out_what_only_the_teleport_can_answer() -> None:
    stopping = TeleportOptions.model_validate(
        EXACT | {"schedule": {"epochs": 2, "batches": 4, "stop_below_gain": 0.1, "patience": 7}}
    )
    plain = stopping.schedule.model_copy(update={"stop_below_gain": None, "patience": 3})
    random, scaled, reset = (
        Arm.model_validate({kind: {}}).following(stopping) for kind in ("random_move", "lr_scaled", "state_reset")
    )
    assert random.schedule == reset.schedule == plain
    assert scaled.schedule == stopping.schedule
    assert not any(arm.follows for arm in (random, scaled, reset))
    assert random.following(stopping) is random


def test_a_gain_that_ends_the_schedule_is_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[WhileItPays] = []

    def recorded(*arguments: Any) -> WhileItPays:
        made.append(WhileItPays(*arguments))
        return made[-1]

    monkeypatch.setattr(arms, "WhileItPays", recorded)
    run({"level_set": METHODS["level_set"] | {"schedule": {"at": [0, 1, 2], "stop_below_gain": 1e9, "patience": 2}}})
    assert made[0].has_ended


def test_a_rival_may_have_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = SymmetryTeleporter.teleport

    def watching(self: Any, inputs: Tensor, targets: Tensor) -> TeleportReport:
        sizes.append(len(inputs))
        return real(self, inputs, targets)

    monkeypatch.setattr(SymmetryTeleporter, "teleport", watching)
    run({"symmetry": METHODS["symmetry"] | {"batch_size": 16}})
    assert sizes == [16, 16, 16]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_ids_of_older_configurations_stay_as_they_were() -> None:
    """Of a home made before there were other kinds of arm, and before a teleport had further options."""
    assert config(TELEPORT).trial_id == TrialConfig.model_validate_json(config(TELEPORT).model_dump_json()).trial_id
    assert config(TELEPORT, seeds=(0, 1)).trial_id == "7679a836472e"


def test_steps_are_summed_up_over_the_teleports(reports: list[TeleportReport]) -> None:
    seed, _ = run({"teleport": EXACT | {"probe_size": 64}})
    assert seed.teleports is not None
    first, last = seed.teleports.steps
    assert (first.step, last.step, first.count, last.count) == (1, 2, 3, 3)
    for index, step in enumerate((first, last)):
        gains = [(report.trace[index].grad_norm / report.grad_norm_before) ** 2 for report in reports]
        assert step.gain == pytest.approx(math.prod(gains) ** (1 / 3))
        assert step.loss_drift == pytest.approx(sum(abs(r.trace[index].loss_drift) for r in reports) / 3)
    assert last.gain == pytest.approx(1.3**2, rel=0.2)
    assert first.probe_drift is None
    assert last.probe_drift == pytest.approx(sum(abs(r.probe_drift or 0.0) for r in reports) / 3)


def test_the_spectrum_is_that_of_the_first_teleport_and_changes_nothing() -> None:
    seed, rows = run({"teleport": EXACT | {"spectrum": True}})
    plain, without = run({"teleport": EXACT})
    assert curves(rows) == curves(without)
    assert seed.teleports is not None
    assert plain.teleports is not None
    assert plain.teleports.spectra == ()
    names = {spectrum.name: spectrum for spectrum in seed.teleports.spectra}
    assert {layer.name for layer in seed.teleports.layers} == set(names)
    work = task(**WIDE)
    data = load_cached(work.workload.data, work.device)
    inputs, _ = next(Batches(data.train, 32, work.seed))
    # The first teleport is before the first step, so its weights are the initial ones.
    initial = initial_model(work, data)
    activations = [inputs.flatten(1)]
    for layer in [each for each in initial.modules() if isinstance(each, nn.Linear)][:-1]:
        activations.append(layer(activations[-1]).relu())
    for spectrum, values in zip(seed.teleports.spectra, activations, strict=True):
        energy = torch.linalg.svdvals(values.detach().double()).square()
        curve = energy.cumsum(0) / energy.sum()
        assert spectrum.d_in == values.shape[1]
        assert spectrum.shares == pytest.approx([float(curve[number - 1]) for number in spectrum.directions], abs=1e-6)
        assert spectrum.directions[0] == 1
        assert spectrum.directions[-1] == 32
        assert len(spectrum.directions) <= 64


@pytest.mark.parametrize("tau", [0.99, 1.0])
def test_a_teleport_under_dropout_keeps_the_loss_that_the_next_step_takes(tau: float) -> None:
    model = {"name": "vit", "patch_size": 4, "d_model": 64, "num_heads": 2, "num_layers": 1, "dropout": 0.2}
    data = {"name": "digits", "batch_size": 8}
    seed, rows = run(
        {"teleport": TELEPORT["teleport"] | {"tau": tau}},
        model=model,
        data=data,
        optimizer={"name": "adam", "lr": 0.01},
    )
    assert seed.outcome == "completed"
    assert seed.teleports is not None
    assert seed.teleports.outcomes.get("moved", 0) > 0
    assert seed.teleports.mean_gain is not None
    assert seed.teleports.mean_gain > 1.0
    if tau == 1.0:
        assert seed.teleports.max_loss_drift is not None
        assert seed.teleports.max_loss_drift < 1e-4
    assert rows[-1].metrics["train_loss"] < rows[0].metrics["train_loss"]


@pytest.mark.parametrize("kind", ["teleport", "random_move", "lr_scaled"])
def test_the_step_takes_its_gradient_from_where_the_teleport_landed(
    kind: str, reports: list[TeleportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same training, for one gradient less a teleport."""
    seed, rows = run({kind: METHODS[kind]})
    spent = sum(report.num_gradient_evaluations for report in reports)
    assert seed.gradient_evaluations == pytest.approx(seed.num_steps - len(reports) + spent)
    assert len(reports) == 3
    reports.clear()
    monkeypatch.setattr(Teleporter, "reuse_gradient", lambda teleporter, inputs, targets: None)
    without, its_rows = run({kind: METHODS[kind]})
    assert without.gradient_evaluations == pytest.approx(seed.gradient_evaluations + 3)
    assert curves(rows) == curves(its_rows)


@pytest.mark.parametrize(
    ("arm", "training"),
    [
        ({"batch_size": 40}, {}),  # another batch than the step's
        ({}, {"precision": "bfloat16"}),
    ],
    ids=["a batch of its own", "bfloat16"],
)
def test_the_step_computes_a_gradient_that_the_teleport_has_not(
    arm: dict[str, Any], training: dict[str, Any], reports: list[TeleportReport]
) -> None:
    seed, _ = run({"teleport": EXACT | arm}, **training)
    spent = sum(report.num_gradient_evaluations for report in reports)
    assert seed.gradient_evaluations == pytest.approx(seed.num_steps + spent)


def test_a_diverging_teleport_ends_the_seed_where_its_gradient_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Teleporter, "reuse_gradient", lambda teleporter, inputs, targets: math.nan)
    result = run_trial(config({"teleport": EXACT}, training=WIDE), lambda rows: None)
    assert result.seeds[0].outcome == "diverged"
    assert result.seeds[0].num_steps == 0
