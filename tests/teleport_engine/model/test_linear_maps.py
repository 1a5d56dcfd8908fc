"""Linear maps as row blocks: the rows and products of each call, against loops over patches (A3, A9)."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import GrowthStep, Options, Outcome, Teleporter
from teleport_engine.model.layer_calls import Watch
from teleport_engine.model.layers import FrozenModule, WeightLayer, find_layers
from teleport_engine.model.linear_maps import LinearUse, Use
from tests.teleport_engine import dense
from tests.teleport_engine.cases import CASES, make, outputs_of, stacked_rows

CONVOLUTIONS: dict[int, type[Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def watched(model: nn.Module, *inputs: Tensor, move_bias: bool = False) -> tuple[list[WeightLayer], list[list[Use]]]:
    layers = [layer for layer in find_layers(model, move_bias=move_bias) if isinstance(layer, WeightLayer)]
    watch = Watch(layers, is_census=True)
    with watch:
        model(*inputs)
    assert watch.num_other_uses == [0] * len(layers)
    return layers, watch.uses


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(5, 7), min_size=1, max_size=3),
    kernel=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    stride=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    padding=st.one_of(st.sampled_from(["same", "valid"]), st.lists(st.integers(0, 2), min_size=3, max_size=3)),
    dilation=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    groups=st.sampled_from([1, 2, 4]),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    is_batched=st.booleans(),
    max_elements=st.sampled_from([1, 40, 300, 1 << 62]),
)
def test_a_convolution_multiplies_its_patches(
    sizes: list[int],
    kernel: list[int],
    stride: list[int],
    padding: Any,
    dilation: list[int],
    groups: int,
    mode: Any,
    is_batched: bool,
    max_elements: int,
) -> None:
    num_dims = len(sizes)
    stride = [1] * num_dims if padding == "same" else stride[:num_dims]
    sliding: list[Any] = [kernel[:num_dims], stride, padding if isinstance(padding, str) else padding[:num_dims]]
    sliding += [dilation[:num_dims], groups]
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    options: dict[str, Any] = dict(zip(names, sliding, strict=True))
    model = CONVOLUTIONS[num_dims](4, 8, padding_mode=mode, **options).double()
    inputs = torch.randn(*([2] if is_batched else []), 4, *sizes, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using padding='same' with even kernel lengths")
        ((layer,), ((use,),)) = watched(model, inputs)
        outputs = model(inputs)
    batch = inputs if is_batched else inputs[None]
    expected = torch.stack(dense.conv_rows(batch, *[*sliding, mode]))
    parts = list(use.chunks(max_elements))
    assert torch.equal(torch.cat(parts, 1), expected)
    one_line = expected.numel() // len(batch) // outputs.shape[-num_dims]
    assert max(part.numel() for part in parts) <= max(max_elements, one_line)
    products = expected @ layer.matrix([model.weight]).mT  # [g, N, o]
    places = outputs.reshape(len(batch), 8, -1) - model.bias[:, None]
    assert torch.allclose(products, places.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2), atol=1e-12)

    tangent, delta = torch.randn_like(use.inputs), torch.randn_like(outputs)
    of_tangent = type(use)(tangent, None, use.blocks, window=use.window)  # type: ignore[call-arg, attr-defined]
    left = delta.reshape(len(batch), groups, 8 // groups, -1).permute(1, 0, 3, 2).flatten(1, 2)
    twin = left.mT @ torch.cat(list(of_tangent.chunks(1 << 62)), 1)
    assert torch.allclose(use.product(tangent, delta).matrix(), twin, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.9])
def test_biases_that_move_along_are_augmented_inputs(name: str, tau: float) -> None:
    case = make(name)
    directions = Teleporter(case.model, case.loss_fn, Options(tau=tau, move_bias=True)).direction(
        case.inputs, case.targets
    )
    rows = dense.map_rows(case.model, case.inputs)
    parameters = dict(case.model.named_parameters())
    num_biases = 0
    for weight_name, of_blocks in rows.items():
        bias_name = weight_name.replace("weight", "bias")
        weight = parameters[weight_name]
        is_moving = bias_name in parameters and (name, weight_name) != ("called_several_times_and_tied", "again.weight")
        wanted = [weight, parameters[bias_name]] if is_moving else [weight]
        full = dense.half_square_norm_gradient(case.model, case.loss_fn, case.inputs, case.targets, wanted)
        matrix = full[0].reshape(len(of_blocks), -1, of_blocks[0].shape[1])
        if is_moving:
            matrix = torch.cat([matrix, full[1].reshape(len(of_blocks), -1, 1)], 2)
            of_blocks = dense.with_ones({"": of_blocks})[""]
            num_biases += 1
        expected = dense.projected(matrix, of_blocks, tau)
        mine = [
            directions.get(one, torch.zeros_like(parameters[one])) for one in (weight_name, bias_name)[: len(wanted)]
        ]
        found = torch.cat([part.reshape(*matrix.shape[:2], -1) for part in mine], 2)
        assert float((found - expected).norm()) <= 1e-10 * float(matrix.norm()), weight_name
        assert is_moving or bias_name not in directions
    assert num_biases >= 2


@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_while_biases_move_too(name: str) -> None:
    case = make(name)
    biases = {key: value.detach().clone() for key, value in case.model.named_parameters() if key.endswith("bias")}
    before = outputs_of(case.model, case.inputs)
    teleporter = Teleporter(case.model, case.loss_fn, Options(step=GrowthStep(1.3), num_steps=4, move_bias=True))
    report = teleporter.teleport(case.inputs, case.targets)
    assert (report.outcome, report.route) == (Outcome.MOVED, "jvp")
    assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= 1e-10
    assert abs(report.loss_drift) <= 1e-12
    assert any(not torch.equal(value, biases[key]) for key, value in case.model.named_parameters() if key in biases)
    for layer in report.layers:
        if layer.rank is not None and layer.d_in is not None and layer.null_dim is not None:
            assert layer.rank + layer.null_dim - layer.d_in in (0, 1)


BIAS_USES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "in a penalty": lambda net, h: torch.tanh(net.mid(h)) * net.mid.bias.norm(),
    "of another layer too": lambda net, h: nn.functional.linear(net.mid(h), torch.eye(24).double(), net.mid.bias),
    "left out once": lambda net, h: net.mid(h) + nn.functional.linear(h, net.mid.weight),
    "another bias once": lambda net, h: net.mid(h) + nn.functional.linear(h, net.mid.weight, net.first.bias),
}


class TestBiasesThatStay:
    """A bias that is more than the constant of its own linear map stays where it is, the weight moves alone."""

    class Net(nn.Module):
        def __init__(self, extra: Callable[[Any, Tensor], Tensor]) -> None:
            super().__init__()
            self.first, self.mid, self.out = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 3)
            self.extra = extra

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x))
            logits: Tensor = self.out(self.extra(self, h))
            return logits

    @pytest.mark.parametrize("extra", BIAS_USES.values(), ids=BIAS_USES.keys())
    def test_it(self, extra: Callable[[Any, Tensor], Tensor]) -> None:
        model = self.Net(extra).double()
        before = model.mid.bias.detach().clone()
        teleporter = Teleporter(
            model, nn.functional.cross_entropy, Options(step=GrowthStep(1.2), num_steps=2, move_bias=True)
        )
        report = teleporter.teleport(torch.randn(6, 5).double(), torch.arange(6) % 3)
        layers = {layer.name: layer for layer in report.layers}
        assert layers["mid"].moved
        assert layers["mid"].rank == 6 == 24 - (layers["mid"].null_dim or 0)
        assert layers["out"].rank == 6 == 25 - (layers["out"].null_dim or 0)
        assert torch.equal(model.mid.bias, before)
        assert abs(report.loss_drift) <= 1e-12

    def test_a_frozen_or_shared_one(self) -> None:
        model = self.Net(lambda net, h: torch.tanh(net.mid(h)))
        model.mid.bias = model.first.bias
        model.out.bias.requires_grad_(False)
        assert [
            layer.parameters[1:] for layer in find_layers(model, move_bias=True) if isinstance(layer, WeightLayer)
        ] == [
            (model.first.bias,),
            (),
            (),
        ]


def test_matrices_of_parameters_there_and_back() -> None:
    layers, _ = watched(nn.Conv2d(4, 6, 3, groups=2), torch.randn(1, 4, 3, 3), move_bias=True)
    (layer,) = layers
    assert (layer.num_blocks, layer.d_in) == (2, 18)
    tensors = [torch.randn_like(parameter) for parameter in layer.parameters]
    matrix = layer.matrix(tensors)
    assert matrix.shape == (2, 3, 19)
    assert torch.equal(matrix[1, 2, :18], tensors[0][5].flatten())
    assert torch.equal(matrix[:, :, 18].flatten(), tensors[1])
    assert all(torch.equal(there, back) for there, back in zip(tensors, layer.unpack(matrix), strict=True))


def test_rows_of_a_linear_come_in_parts_and_are_one_for_all_blocks() -> None:
    use = LinearUse(torch.randn(2, 5, 3), None, slice(1, 3), is_augmented=True)
    parts = list(use.chunks(12))
    assert [tuple(part.shape) for part in parts] == [(2, 4, 4), (2, 4, 4), (2, 2, 4)]
    rows = torch.cat([use.inputs.reshape(10, 3), torch.ones(10, 1)], 1)
    assert all(torch.equal(torch.cat(parts, 1)[block], rows) for block in (0, 1))
    other = LinearUse(torch.randn(4, 3), None, slice(0, 1), is_augmented=True)
    stacks = stacked_rows([use, other], 3)
    assert [len(stack) for stack in stacks] == [4, 10, 10]
    assert stacks[1] is stacks[2]


class TestKernelsOfOnesOwn:
    """Weights of modules that are not torch's own are found at work, too."""

    class Net(nn.Module):
        def __init__(self, groups: int) -> None:
            super().__init__()
            self.first = nn.Conv1d(2, 8, 3)
            self.kernel = nn.Parameter(torch.randn(6, 8 // groups, 3))
            self.scale = nn.Parameter(torch.ones(6, 1))
            self.groups = groups

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x))
            return (nn.functional.conv1d(h, weight=self.kernel, groups=self.groups, padding=1) * self.scale).mean(2)

    def reasons(self, model: nn.Module) -> dict[str, str]:
        inputs, targets = torch.randn(2, 2, 7).double(), torch.arange(2)
        report = Teleporter(model.double(), nn.functional.cross_entropy).teleport(inputs, targets)
        assert abs(report.loss_drift) <= 1e-12
        return {layer.name: layer.reason for layer in report.layers}

    def test_a_convolution_moves(self) -> None:
        unseen = "not seen as a linear map in the forward: frozen"
        assert self.reasons(self.Net(1)) == {"kernel": "", "scale": unseen, "first": "input is fixed"}

    def test_one_whose_groups_nobody_told_is_frozen(self) -> None:
        assert self.reasons(self.Net(2))["kernel"] == "not seen as a linear map in the forward: frozen"


FROZEN: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, str]]] = {
    "embedding": (lambda: nn.Embedding(5, 4), torch.arange(3), {"": "an embedding: frozen"}),
    "embedding bag": (lambda: nn.EmbeddingBag(5, 4), torch.arange(4)[None], {"": "an embedding: frozen"}),
    "transposed convolution": (
        lambda: nn.ConvTranspose2d(2, 3, 2),
        torch.randn(1, 2, 3, 3),
        {"": "a transposed convolution, not supported: frozen"},
    ),
    "recurrent": (
        lambda: nn.LSTM(2, 3),
        torch.randn(4, 2),
        {"": "a recurrent layer, whose products are not seen one by one: frozen"},
    ),
    "recurrent cell": (
        lambda: nn.GRUCell(2, 3),
        torch.randn(4, 2),
        {"": "a recurrent layer, whose products are not seen one by one: frozen"},
    ),
}


@pytest.mark.parametrize(("build", "inputs", "reasons"), FROZEN.values(), ids=FROZEN.keys())
def test_other_layers_are_frozen_with_a_reason(
    build: Callable[[], nn.Module], inputs: Tensor, reasons: dict[str, str]
) -> None:
    model = build()
    (found,) = find_layers(nn.Sequential(model))
    assert isinstance(found, FrozenModule)
    assert {"": found.reason} == reasons
    watch = Watch([], is_census=True)
    with watch:
        model(inputs)
    assert watch.uses == []
