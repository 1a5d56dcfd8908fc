"""Below tau = 1: what a move may do to the loss (A10), and how few directions hold almost all inputs (B2)."""

import itertools
import math
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from teleport_engine import FixedStep, Subspace, Teleporter
from tests.teleport_engine import dense
from tests.teleport_engine.cases import Case, make


def deltas(model: nn.Module, loss_fn: Any, inputs: Any, targets: Any) -> dict[str, list[Tensor]]:
    """dL/dZ of each nn.Linear, one per call, by hooks."""
    outputs: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def note(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
                outputs.setdefault(name, []).append(output)

            hooks.append(module.register_forward_hook(note))
    loss = loss_fn(model(inputs), targets)
    for hook in hooks:
        hook.remove()
    flat = [output for of_layer in outputs.values() for output in of_layer]
    found = iter(torch.autograd.grad(loss, flat))
    return {name: [next(found).detach() for _ in of_layer] for name, of_layer in outputs.items()}


def square(tensors: list[Tensor]) -> float:
    return sum(float(tensor.square().sum()) for tensor in tensors)


def rate_and_bound(case: Case, moves: dict[str, Tensor], reach: dict[str, float] | float) -> tuple[float, float]:
    """dL along moves, and sum ||delta|| ||D||_2 r ||X||, with r given per layer or for all."""
    named = {key: value for key, value in case.model.named_parameters() if key in moves}
    grads = torch.autograd.grad(case.loss_fn(case.model(case.inputs), case.targets), list(named.values()))
    rows, errors = dense.linear_rows(case.model, case.inputs), deltas(*case[:4])
    rate = bound = 0.0
    for key, grad in zip(named, grads, strict=True):
        layer = key.removesuffix(".weight")
        twins = ["again", "twin"] if layer == "again" else [layer]
        inputs = torch.cat([rows[twin] for twin in twins])
        error = math.sqrt(square([delta for twin in twins for delta in errors[twin]]))
        length = float(torch.linalg.matrix_norm(moves[key], 2))
        rate += float((grad * moves[key]).sum())
        bound += error * length * (reach if isinstance(reach, float) else reach[key]) * float(inputs.norm())
    return rate, bound


@pytest.mark.parametrize(
    ("name", "tau"),
    [
        *itertools.product(["attention_and_layer_norm", "called_several_times_and_tied"], [0.999, 0.99, 0.9]),
        *itertools.product(["tanh"], [0.99, 0.9]),
    ],
)
def test_the_first_order_change_of_the_loss_is_bounded(name: str, tau: float) -> None:
    case = make(name)
    teleporter = Teleporter(case.model, case.loss_fn, tau=tau, step=FixedStep(1e-2), num_steps=3)
    kept = {key: parts[0] for key, parts in teleporter.spectrum(case.inputs).items()}
    rate, bound = rate_and_bound(case, teleporter.direction(case.inputs, case.targets), math.sqrt(1.0 - tau))
    assert 1e-12 < abs(rate) <= bound

    # A basis of the weights before: its own tau says nothing of the inputs as they are now, ||P X|| does.
    teleporter.teleport(case.inputs, case.targets)
    parameters = dict(case.model.named_parameters())
    wanted = list(kept)
    full = dense.half_square_norm_gradient(
        case.model, case.loss_fn, case.inputs, case.targets, [parameters[key] for key in wanted]
    )
    moves = {key: part - part @ kept[key].basis @ kept[key].basis.T for key, part in zip(wanted, full, strict=True)}
    rows = dense.linear_rows(case.model, case.inputs)
    stacked = {key: rows[key.removesuffix(".weight")] for key in wanted}
    if "again.weight" in stacked:
        stacked["again.weight"] = torch.cat([rows["again"], rows["twin"]])
    rate, bound = rate_and_bound(case, moves, {key: kept[key].leak(stacked[key]) for key in wanted})
    assert 1e-12 < abs(rate) <= bound


class Reader(nn.Module):
    """Two blocks of attention over the eight rows of a digit."""

    def __init__(self, d: int = 256) -> None:
        super().__init__()
        self.embed = nn.Linear(8, d)
        self.place = nn.Parameter(0.1 * torch.randn(8, d))
        block = nn.TransformerEncoderLayer(d, 4, 2 * d, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.embed(images) + self.place).mean(1))
        return logits


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(16.0)
    targets = torch.from_numpy(digits.target).long()
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(2):
        for part in torch.split(torch.randperm(len(images)), 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[part]), targets[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        accuracy = float((model(images).argmax(1) == targets).float().mean())
    assert accuracy > 0.9, "it has learned something"
    return model, images, targets


def test_few_directions_hold_99_percent_in_a_trained_transformer(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, images, _ = trained
    found = Teleporter(model, nn.functional.cross_entropy, tau=0.99).spectrum(list(torch.split(images[:1024], 256)))
    hidden = {name: parts for name, parts in found.items() if name != "embed.weight"}
    assert set(hidden) == {
        *(
            f"blocks.layers.{index}.self_attn.{part}"
            for index in (0, 1)
            for part in ("in_proj_weight", "out_proj.weight")
        ),
        *(f"blocks.layers.{index}.linear{part}.weight" for index in (0, 1) for part in (1, 2)),
        "head.weight",
    }
    shares = {name: parts[0].rank / parts[0].dim for name, parts in hidden.items()}
    for name, parts in hidden.items():
        curve = parts[0].energy_curve()
        assert float(curve[parts[0].rank - 1]) >= 0.99 > float(curve[parts[0].rank - 2])
        assert float(curve[-1]) == pytest.approx(1.0)
        assert bool((curve.diff() >= 0.0).all())
        assert len(curve) == parts[0].dim
        # What a ReLU of twice the width lets through is spread wider than the paper says of all hidden layers.
        assert shares[name] <= (0.4 if "linear2" in name else 0.25), shares
    dims = [(parts[0].rank, parts[0].dim) for parts in hidden.values()]
    assert sum(rank for rank, _ in dims) <= 0.25 * sum(dim for _, dim in dims), "of all hidden dimensions together"
    assert len({id(part) for part in hidden["blocks.layers.0.self_attn.in_proj_weight"]}) == 1


def test_the_spectrum_is_that_of_the_dense_twin_and_leaves_no_trace() -> None:
    case = make("convolutions")
    before = {key: value.clone() for key, value in case.model.state_dict().items()}
    found = Teleporter(case.model, case.loss_fn, tau=0.9).spectrum(case.inputs)
    assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
    rows = dense.map_rows(case.model, case.inputs)
    assert set(found) == set(rows)
    for name, parts in found.items():
        for part, of_block in zip(parts, rows[name], strict=True):
            assert part.rank == dense.rank(of_block, 0.9)
            expected = torch.from_numpy(dense.energies(of_block))[: part.energies.numel()]
            assert torch.allclose(part.energies, expected, atol=1e-10 * float(expected[0]))


def test_inputs_that_are_not_finite_have_no_spectrum() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        Teleporter(nn.Linear(3, 2), nn.functional.cross_entropy).spectrum(torch.full((2, 3), math.nan))


def test_a_subspace_is_the_whole_space_without_holding_it() -> None:
    found = Subspace.full(1000, torch.zeros(0, dtype=torch.float64), 1.0)
    assert (found.rank, found.null_dim, found.captured) == (1000, 0, 1.0)
    assert found.basis.untyped_storage().nbytes() < 17_000
    assert torch.equal(found.basis.T @ found.basis, torch.eye(1000, dtype=torch.float64))
    assert found.leak(torch.randn(3, 1000)) == 0.0
