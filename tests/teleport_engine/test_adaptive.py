"""Two knobs: a drift budget as a share of the loss, and growth within it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from teleport_engine import DriftTau, GrowthStep, Outcome, Teleporter, TeleportReport
from teleport_engine.eigen import eigenpairs, eigenvalues
from tests.teleport_engine import dense
from tests.teleport_engine.cases import Case
from tests.teleport_engine.test_lowering import REACH, full_rank, gradients


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
    probe = torch.randn(64, 6, generator=torch.Generator().manual_seed(1)).double(), torch.arange(64) % 4
    before = case.loss_fn(case.model(probe[0]), probe[1]).item()
    teleporter = Teleporter.adaptive(case.model, case.loss_fn, drift=drift)
    report = teleporter.teleport(case.inputs, case.targets, probe=probe)
    assert report.num_steps > 0
    assert abs(report.loss_drift) <= drift * report.loss_before
    assert report.probe_drift is not None
    assert abs(report.probe_drift) <= 0.25 * drift * before


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
    every = Teleporter(copy.deepcopy(case.model), case.loss_fn, step=Fading(), **options)  # type: ignore[arg-type]
    fewer = Teleporter(case.model, case.loss_fn, step=Fading(), while_it_pays=True, **options)  # type: ignore[arg-type]
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
