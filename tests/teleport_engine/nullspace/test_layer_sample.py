"""One layer's inputs over all batches: read no longer than needed, trusted no further than seen."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import FixedStep, GrowthStep, Outcome, Teleporter
from teleport_engine.model.convolution import ConvUse, Window
from teleport_engine.model.linear_maps import LinearUse, Use
from teleport_engine.nullspace.factorise import Settings
from teleport_engine.nullspace.gram import Gram
from teleport_engine.nullspace.layer_sample import LayerSample, leak
from tests.teleport_engine import dense
from tests.teleport_engine.cases import make, moved_names, outputs_of
from tests.teleport_engine.nullspace.test_subspace import rows_of_rank


def linear(rows: Tensor, blocks: slice = slice(0, 1)) -> Use:
    return LinearUse(rows, None, blocks)


def subspaces_of(batches: list[list[Use]], num_blocks: int, dim: int, tau: float = 1.0) -> tuple[Any, bool]:
    sample = LayerSample(num_blocks, dim, Settings(tau), len(batches))
    for uses in batches:
        sample.add(uses)
    assert sample.is_finite
    is_settled = sample.settle(tau)
    if not is_settled:
        for uses in batches:
            sample.add_again(uses)
        sample.settle_again()
    return sample.subspaces, is_settled


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    real = Gram.add

    def count(self: Gram, chunk: Tensor) -> None:
        read.append(chunk.shape[1])
        real(self, chunk)

    monkeypatch.setattr(Gram, "add", count)
    return read


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reading_ends_where_full_rank_is_proven(dtype: torch.dtype, rows_read: list[int]) -> None:
    images = torch.randn(64, 8, 32, 32, dtype=dtype)
    window = Window.of_call((3, 3), padding=1)
    use = ConvUse(images, None, slice(0, 1), window=window)
    (found,), is_settled = subspaces_of([[use]], 1, 72)
    assert (found.rank, is_settled) == (72, True)
    assert sum(rows_read) <= 64 * 32 * 32 // 8
    rows_read.clear()
    (found,), _ = subspaces_of([[use]], 1, 72, tau=0.9)
    assert sum(rows_read) == 64 * 32 * 32, "the spectrum is wanted: all rows are read"


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
def test_what_a_gram_matrix_cannot_see_is_looked_at_again(condition: float) -> None:
    rows = rows_of_rank(200, 40, 30, condition, seed=1)
    (found,), is_settled = subspaces_of([[linear(rows[:120])], [linear(rows[120:])]], 1, 40)
    assert not is_settled
    assert found.rank == 30
    assert found.leak(rows) <= 1e-10
    (found,), is_settled = subspaces_of([[linear(rows.float())]], 1, 40)
    assert is_settled, "below the rounding of float32 there is nothing to see"
    assert found.leak(rows.float()) <= 5e-7


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9])
def test_a_proof_that_a_later_batch_makes_void_is_not_used(scale: float) -> None:
    first = rows_of_rank(60, 12, 12, 3.0, seed=0)
    second = scale * rows_of_rank(60, 12, 1, 1.0, seed=1)
    (found,), is_settled = subspaces_of([[linear(first)], [linear(second)]], 1, 12)
    assert is_settled == (scale < 1e6)
    assert found.rank == 12
    assert found.leak(torch.cat([first, second])) <= 1e-10


def test_blocks_that_share_their_rows_share_a_subspace_and_others_do_not() -> None:
    x, memory = torch.randn(5, 8).double(), torch.randn(3, 8).double()
    own, _ = subspaces_of([[linear(x, slice(0, 3))]], 3, 8)
    assert own[0] is own[1] is own[2]
    crossed, _ = subspaces_of([[linear(x, slice(0, 1)), linear(memory, slice(1, 3))]], 3, 8)
    assert [one.rank for one in crossed] == [5, 3, 3]
    assert crossed[1] is crossed[2]
    assert leak(crossed, [linear(x, slice(0, 1)), linear(memory, slice(1, 3))]) <= 1e-12
    assert leak(crossed, [linear(x, slice(0, 3))]) > 0.1
    assert leak(own, [linear(x[:2], slice(0, 1)), linear(x[2:], slice(1, 3))]) <= 1e-12
    sample = LayerSample(3, 8, Settings(1.0), 2)
    sample.add([linear(x, slice(0, 3))])
    with pytest.raises(ValueError, match="must run through the model alike"):
        sample.add([linear(x, slice(0, 1)), linear(memory, slice(1, 3))])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_values_that_are_not_finite_or_whose_squares_are_not_are_seen(value: float) -> None:
    for n in (3, 30):
        rows = torch.ones(n, 8, dtype=torch.float64)
        rows[1, 2] = value
        sample = LayerSample(1, 8, Settings(1.0))
        sample.add([linear(rows)])
        assert not sample.is_finite


def test_no_rows_at_all_are_no_directions() -> None:
    (found,), _ = subspaces_of([[linear(torch.zeros(0, 8))]], 1, 8)
    assert (found.rank, found.null_dim) == (0, 8)


class TestSeveralBatches:
    def test_each_keeps_its_own_outputs_with_batch_norm_in_train_mode(self) -> None:
        case = make("batch_norm_in_train_mode")
        other = torch.randn(6, 6).double()
        before = [outputs_of(case.model, x) for x in (case.inputs, other)]
        buffers = copy.deepcopy(dict(case.model.named_buffers()))
        teleporter = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.3), num_steps=3)
        report = teleporter.teleport(case.inputs, case.targets, subspace=[case.inputs, other])
        assert (report.outcome, report.route) == (Outcome.MOVED, "jvp")
        assert report.layers[0].reason == "input is fixed"
        for x, outputs in zip((case.inputs, other), before, strict=True):
            assert float((outputs_of(case.model, x) - outputs).abs().max()) <= 1e-10
        assert all(torch.equal(value, buffers[key]) for key, value in case.model.named_buffers())

    def test_one_batch_with_the_rows_of_both_does_not_hold_them_there(self) -> None:
        case = make("batch_norm_in_train_mode")
        joined = torch.cat([case.inputs, torch.randn(6, 6).double()])
        report = Teleporter(case.model, case.loss_fn, step=FixedStep(1e-4), num_steps=1).teleport(
            case.inputs, case.targets, subspace=joined
        )
        assert report.route == "double_backward", "other statistics, other inputs: nothing exact is claimed"

    def test_their_direction_is_that_of_all_rows(self) -> None:
        case = make("tanh")
        batches: list[Any] = [torch.randn(5, 6).double(), torch.randn(4, 6).double()]
        found = Teleporter(case.model, case.loss_fn).direction(case.inputs, case.targets, subspace=batches)
        parts = [dense.linear_rows(case.model, batch) for batch in batches]
        parameters = dict(case.model.named_parameters())
        wanted: list[Any] = [parameters[f"{layer}.weight"] for layer in parts[0]]
        full = dense.half_square_norm_gradient(case.model, case.loss_fn, case.inputs, case.targets, wanted)
        for layer, part in zip(parts[0], full, strict=True):
            rows = torch.cat([of_batch[layer] for of_batch in parts])
            expected = part @ dense.projector(rows, 1.0)
            got = found.get(f"{layer}.weight", torch.zeros_like(part))
            assert float((got - expected).norm()) <= 1e-10 * float(part.norm())

    def test_an_empty_list_is_refused(self) -> None:
        case = make("tanh")
        with pytest.raises(ValueError, match="subspace must hold at least one batch"):
            Teleporter(case.model, case.loss_fn).teleport(case.inputs, case.targets, subspace=[])
        with pytest.raises(ValueError, match="inputs must hold at least one batch"):
            Teleporter(case.model, case.loss_fn).spectrum([])


def test_a_depthwise_convolution_has_no_null_space_but_where_a_channel_is_dead() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3, groups=40), nn.Flatten(), nn.Linear(640, 4)
    )
    model = model.double()
    with torch.no_grad():
        model.get_parameter("0.bias")[7] = -1e3
    inputs, targets = torch.randn(5, 2, 8, 8).double(), torch.arange(5) % 4
    before = outputs_of(model, inputs)
    report = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.2)).teleport(inputs, targets)
    assert (report.layers[1].num_blocks, report.layers[1].rank, report.layers[1].null_dim) == (40, 0, 9)
    assert moved_names(report) == {"4"}, "the dead channel's tangent is zero too"
    assert float((outputs_of(model, inputs) - before).abs().max()) <= 1e-10
    spectrum = Teleporter(model, nn.functional.cross_entropy).spectrum(inputs)["2.weight"]
    assert [one.rank for one in spectrum] == [9] * 7 + [0] + [9] * 32


@pytest.mark.parametrize("num_rows", [5, 40])
def test_a_stable_rank_is_taken_by_another_algorithm_where_lapack_gives_up(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_up(_: Tensor) -> Tensor:
        raise RuntimeError("linalg.eigvalsh: The algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "eigvalsh", gives_up)
    inputs = torch.randn(num_rows, 2, 9, generator=torch.Generator().manual_seed(0)).double()
    inputs[:, 1] *= torch.arange(9)
    sample = LayerSample(2, 9, Settings(0.9, with_energies=True))
    sample.add([linear(rows, slice(block, block + 1)) for block, rows in enumerate(inputs.unbind(1))])
    energies = [dense.energies(rows) for rows in inputs.unbind(1)]
    expected = sum(float(each.sum() / each[0]) for each in energies) / 2
    assert sample.stable_rank() == pytest.approx(expected, rel=1e-9)
