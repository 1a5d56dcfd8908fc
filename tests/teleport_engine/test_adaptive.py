"""Two knobs: a drift budget as a share of the loss, and growth within it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from teleport_engine import DriftTau, GrowthStep, Limits, Outcome, RandomMove, Teleporter, TeleportReport
from teleport_engine.nullspace.gram import eigenpairs, eigenvalues
from teleport_engine.objective.problem import Problem
from teleport_engine.options import PROBE_MARGIN
from tests.teleport_engine import dense
from tests.teleport_engine.cases import Case, teleporter_of
from tests.teleport_engine.nullspace.test_tau import REACH, full_rank, gradients


def climb(case: Case, **options: Any) -> TeleportReport:
    return Teleporter.adaptive(case.model, case.loss_fn, **options).teleport(case.inputs, case.targets)


@pytest.mark.parametrize("rule", [DriftTau(), DriftTau(0.001), DriftTau(0.3, least=0.5), DriftTau(1e-9)])
def test_the_null_spaces_are_those_of_the_dense_twin(rule: DriftTau) -> None:
    case = full_rank()
    rows, slopes = dense.linear_rows(case.model, case.inputs), gradients(case)
    weights = {name: weight.detach() for name, weight in case.model.named_parameters()}
    loss = case.loss_fn(case.model(case.inputs), case.targets).item()
    expected = {}
    for name in ("2", "4"):
        weight, slope = weights[f"{name}.weight"], slopes[f"{name}.weight"]
        allowance = rule.drift * loss / (2 * REACH * float(weight.norm()))
        expected[name] = dense.lowered_null_dim(rows[name], slope, 24, rule.least, allowance)
    report = climb(case, tau=rule)
    assert {layer.name: layer.null_dim for layer in report.layers[1:]} == expected


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_choice_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    case = full_rank()
    plain = climb(copy.deepcopy(case))

    def scaled(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return scale * nn.functional.cross_entropy(outputs, targets)

    report = Teleporter.adaptive(case.model, scaled).teleport(case.inputs, case.targets)
    assert [layer.null_dim for layer in report.layers] == [layer.null_dim for layer in plain.layers]
    assert report.num_steps == plain.num_steps
    assert report.grad_norm_ratio == pytest.approx(plain.grad_norm_ratio, rel=1e-9)


@pytest.mark.parametrize("drift", [1e-4, 1e-3, 1e-2])
def test_the_loss_keeps_within_its_share_on_the_batch_and_a_part_of_it_on_the_probe(drift: float) -> None:
    case = full_rank()
    probe = other_batch(case)
    before = case.loss_fn(case.model(probe[0]), probe[1]).item()
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, drift=drift)
    report = teleporter.teleport(case.inputs, case.targets, probe=probe)
    assert report.num_steps > 0
    assert abs(report.loss_drift) <= drift * report.loss_before
    assert report.probe_drift is not None
    assert abs(report.probe_drift) <= PROBE_MARGIN * drift * before


def test_a_budget_of_next_to_nothing_leaves_full_layers_where_they_are() -> None:
    report = climb(full_rank(), drift=1e-14)
    assert report.outcome is Outcome.NO_NULL_SPACE


def test_steps_end_where_one_gains_less_than_the_teleport_on_average() -> None:
    """Every step here is a fraction of the one before, so that some step is the last that pays."""

    class Fading:
        length_ = 0.02

        def length(self, line: Any) -> float:
            self.length_ *= 0.2
            return self.length_

    options = {"tau": DriftTau(0.1), "num_steps": 8, "max_drift_share": 0.5}
    case = full_rank()
    every = teleporter_of(copy.deepcopy(case.model), case.loss_fn, step=Fading(), **options)
    fewer = teleporter_of(case.model, case.loss_fn, step=Fading(), while_it_pays=True, **options)
    assert every.teleport(case.inputs, case.targets).num_steps == 8
    report = fewer.teleport(case.inputs, case.targets)
    assert report.outcome is Outcome.MOVED
    assert 1 < report.num_steps < 8
    gains = [2.0 * (step.grad_norm / report.grad_norm_before - 1.0) for step in report.trace]
    last = (gains[-1] - gains[-2]) / report.trace[-1].num_gradient_evaluations
    assert last < gains[-1] / report.num_gradient_evaluations


def test_a_guard_that_holds_a_step_back_ends_the_teleport() -> None:
    report = climb(full_rank(), growth=50.0)
    assert report.num_steps == 1
    assert [event.guard for event in report.events][:1] == ["relative_step"]


def test_where_a_search_begins_is_part_of_the_state() -> None:
    case = full_rank()
    first = Teleporter.adaptive(case.model, case.loss_fn)
    first.teleport(case.inputs, case.targets)
    second = Teleporter.adaptive(copy.deepcopy(case.model), case.loss_fn)
    second.load_state_dict(first.state_dict())
    reports = [one.teleport(case.inputs, case.targets) for one in (first, second)]
    assert reports[0].trace[0].eta == reports[1].trace[0].eta
    assert reports[0].num_gradient_evaluations == reports[1].num_gradient_evaluations
    assert first.state_dict()["hint"] != 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drift": 0.0}, "drift must be finite and > 0, got 0.0"),
        ({"growth": 1.0}, r"rho must be finite and > 1, got 1"),
    ],
)
def test_knobs_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    case = full_rank()
    with pytest.raises(ValueError, match=message):
        Teleporter.adaptive(case.model, case.loss_fn, **options)
    with pytest.raises(ValueError, match=r"least must lie in \(0, 1\), got 1"):
        DriftTau(0.01, 1)


def test_any_option_may_be_given_in_place_of_what_is_chosen() -> None:
    case = full_rank()
    report = climb(case, step=GrowthStep(1.01), num_steps=1)
    assert report.grad_norm_ratio**2 == pytest.approx(1.01, abs=1e-3)


def test_what_lapack_gives_up_on_is_factorised_by_another_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(24, 9, generator=torch.Generator().manual_seed(0)).double()
    gram = rows @ rows.mT
    values, vectors = torch.linalg.eigh(gram)

    def gives_up(_: torch.Tensor) -> Any:
        raise RuntimeError("linalg.eigh: The algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", gives_up)
    monkeypatch.setattr(torch.linalg, "eigvalsh", gives_up)
    found, other = eigenpairs(gram)
    torch.testing.assert_close(found, values, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(eigenvalues(gram), values, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(other[:, 15:] @ other[:, 15:].mT, vectors[:, 15:] @ vectors[:, 15:].mT)
    assert float((gram @ other[:, :15]).norm()) < 1e-10


@pytest.fixture
def gradients_taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each gradient of a teleport, whether it is kept ready to be differentiated again."""
    taken: list[bool] = []
    real = Problem.differentiate

    def recorded(self: Problem, record: Any, *, with_graph: bool = False, with_deltas: bool = False) -> Any:
        taken.append(with_graph or with_deltas)
        return real(self, record, with_graph=with_graph, with_deltas=with_deltas)

    monkeypatch.setattr(Problem, "differentiate", recorded)
    return taken


def other_batch(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Data on which the same move does something else."""
    drawn = torch.randn(64, 6, generator=torch.Generator().manual_seed(1)).to(case.inputs.dtype)
    return drawn, torch.arange(64) % 4


def test_the_probe_is_looked_at_before_a_gradient_is_taken(gradients_taken: list[bool]) -> None:
    """Tried at several lengths; one gradient to begin with, one where it lands, and nothing is asked for from there."""
    case = full_rank()
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, limits=Limits(max_probe_drift_share=1e-5))
    report = teleporter.teleport(case.inputs, case.targets, probe=other_batch(case))
    assert report.num_steps == 1
    assert sum(event.guard == "probe_drift" for event in report.events) >= 1
    assert gradients_taken == [True, False]
    assert report.probe_drift is not None
    assert 0.0 < abs(report.probe_drift) <= 1e-5 * 2.0
    assert report.trace[0].probe_drift == report.probe_drift


def test_a_step_that_no_guard_holds_back_is_kept_ready_for_the_next(gradients_taken: list[bool]) -> None:
    case = full_rank()
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, growth=1.001, drift=0.5)
    report = teleporter.teleport(case.inputs, case.targets, probe=other_batch(case))
    assert report.num_steps == 8
    assert not report.events
    assert gradients_taken == [True] * 8 + [False], "the eighth is the last"


def test_where_no_length_does_the_probe_no_harm_nothing_moves(gradients_taken: list[bool]) -> None:
    case = full_rank()
    origin = [weight.detach().clone() for weight in case.model.parameters()]
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, limits=Limits(max_probe_drift_share=1e-15))
    report = teleporter.teleport(case.inputs, case.targets, probe=other_batch(case))
    assert (report.outcome, report.num_steps) == (Outcome.DRIFT, 0)
    assert [event.action for event in report.events if event.guard == "probe_drift"][-1] == "undone"
    assert gradients_taken == [True]
    assert all(torch.equal(weight, old) for weight, old in zip(case.model.parameters(), origin, strict=True))


def test_a_random_move_of_an_adaptive_teleport_is_looked_at_on_its_own_path() -> None:
    case = full_rank()
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, move=RandomMove(0), drift=0.001)
    probe = other_batch(case)
    before = case.loss_fn(case.model(probe[0]), probe[1]).item()
    report = teleporter.teleport(case.inputs, case.targets, probe=probe)
    assert report.num_steps >= 1
    assert report.probe_drift is not None
    assert abs(report.probe_drift) <= PROBE_MARGIN * 0.001 * before
