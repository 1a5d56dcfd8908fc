"""Whole models of torchvision and of torch: what moves is exact, what does not is named with its reason."""

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from teleport_engine import GrowthStep, LayerReport, Outcome, Teleporter
from tests.teleport_engine import dense

NORM = "not a linear layer: frozen"
UNSEEN = "not seen as a linear map in the forward: frozen"
ELSEWHERE = "its weight is used outside its linear map: frozen"
FIXED, FULL, FLAT = "input is fixed", "no null space", "no gradient in its null space"


class Entry(NamedTuple):
    """A model, what it takes, what must not move there and why, and the layer to compare with its dense twin."""

    model: nn.Module
    inputs: Any
    frozen: dict[str, str]
    sampled: str


def _images(n: int, size: int) -> Tensor:
    return torch.randn(n, 3, size, size)


def _resnet18() -> Entry:
    frozen = {"conv1": FIXED, "layer1.0.bn1": NORM, "layer4.0.downsample.1": NORM}
    return Entry(models.resnet18(num_classes=4).eval(), _images(2, 32), frozen, "layer2.0.downsample.0")


def _resnet_in_train_mode() -> Entry:
    model = models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4)
    return Entry(model, _images(2, 64), {"conv1": FIXED, "bn1": NORM, "layer1.0.conv1": ""}, "layer3.0.conv1")


def _mobilenet_v3_small() -> Entry:
    model = models.mobilenet_v3_small(num_classes=4).eval()
    frozen = {"features.0.0": FIXED, "features.1.block.0.0": FULL}
    return Entry(model, _images(2, 64), frozen, "features.11.block.1.0")


def _vision_transformer() -> Entry:
    model = models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=4).eval()
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero, where no gradient comes through
    tokens = ["class_token", "encoder"]
    return Entry(
        model,
        _images(1, 32),
        {"conv_proj": FIXED, **dict.fromkeys(tokens, UNSEEN), "encoder.ln": NORM},
        "encoder.layers.encoder_layer_1.self_attention",
    )


def _convnext_tiny() -> Entry:
    frozen = {"features.0.0": FIXED, "features.0.1": NORM, "features.1.0": UNSEEN}
    return Entry(models.convnext_tiny(num_classes=4).eval(), _images(1, 32), frozen, "features.3.0.block.0")


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 24), nn.Parameter(torch.randn(5, 24))
        self.transformer = nn.Transformer(24, 4, 2, 2, 48)
        self.head = nn.Linear(24, 4)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        embedded = [self.words(x) + self.places[: x.shape[1]] for x in (source, target)]
        logits: Tensor = self.head(self.transformer(*(x.transpose(0, 1) for x in embedded))[-1])
        return logits


def _transformer() -> Entry:
    inputs = torch.arange(10).reshape(2, 5) % 11, torch.arange(8).reshape(2, 4) % 7
    frozen = {"words": "an embedding: frozen", "places": UNSEEN, "transformer.decoder.norm": NORM}
    return Entry(Translator().eval(), inputs, frozen, "transformer.decoder.layers.1.multihead_attn")


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(7, 12, padding_idx=0), nn.LSTM(12, 16, 2, bidirectional=True)
        self.hidden, self.head = nn.Linear(32, 24), nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        states, _ = self.rnn(self.words(words).transpose(0, 1))
        logits: Tensor = self.head(torch.relu(self.hidden(states.mean(0))))
        return logits


def _lstm() -> Entry:
    frozen = {
        "words": "an embedding: frozen",
        "rnn": "a recurrent layer, whose products are not seen one by one: frozen",
    }
    return Entry(Reads(), torch.arange(18).reshape(3, 6) % 7, frozen, "hidden")


class Tied(nn.Module):
    """A language model with its output tied to the embedding, and one block's weights used by the next."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 24)
        self.blocks = nn.ModuleList([nn.Linear(24, 24), nn.Linear(24, 24)])
        self.blocks[1].weight = self.blocks[0].weight
        self.up = nn.Linear(24, 24)
        self.out = nn.Linear(24, 9, bias=False)
        self.out.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words).mean(1)
        x = torch.tanh(self.up(x))
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        logits: Tensor = self.out(x)
        return logits


def _tied() -> Entry:
    frozen = {
        "words": "an embedding: frozen",
        "blocks.1": "shares its weight with 'blocks.0', under whose name it is reported",
        "out": ELSEWHERE,
    }
    return Entry(Tied(), torch.arange(12).reshape(3, 4) % 9, frozen, "up")


ZOO: dict[str, Callable[[], Entry]] = {
    "resnet18": _resnet18,
    "resnet with BatchNorm in train mode": _resnet_in_train_mode,
    "mobilenet_v3_small": _mobilenet_v3_small,
    "vision transformer": _vision_transformer,
    "convnext_tiny": _convnext_tiny,
    "nn.Transformer": _transformer,
    "LSTM classifier": _lstm,
    "tied weights": _tied,
}


class HardSigmoid(nn.Module):
    """As nn.Hardsigmoid, whose backward torch cannot differentiate."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3.0).clamp(0.0, 6.0) / 6.0


def _twice_differentiable(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Hardsigmoid):
                setattr(module, name, HardSigmoid())
    return model


def enter(name: str) -> tuple[Entry, Tensor]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
        entry = ZOO[name]()
    inputs = entry.inputs.double() if isinstance(entry.inputs, Tensor) and entry.inputs.ndim == 4 else entry.inputs
    first = inputs[0] if isinstance(inputs, tuple) else inputs
    return entry._replace(model=entry.model.double(), inputs=inputs), torch.arange(len(first)) % 4


def layers_by_parameter(model: nn.Module, layers: tuple[LayerReport, ...]) -> dict[str, LayerReport]:
    """Each parameter name with the entry that its weight is reported under."""
    entries = {layer.name: layer for layer in layers}
    assert len(entries) == len(layers), "no name twice"
    found = {}
    for module_name, module in model.named_modules():
        for key in (key for key, parameter in module._parameters.items() if parameter is not None):
            full = f"{module_name}.{key}" if module_name else key
            if full in entries or module_name in entries:
                found[full] = entries[full] if full in entries else entries[module_name]
    return found


@pytest.mark.parametrize("name", ZOO)
def test_whole_models(name: str) -> None:
    entry, targets = enter(name)
    model = entry.model
    before = copy.deepcopy(model.state_dict())
    teleporter = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.2), num_steps=2)
    report = teleporter.teleport(entry.inputs, targets)
    assert (report.outcome, report.route, report.messages) == (Outcome.MOVED, "jvp", ())
    assert abs(report.loss_drift) <= 1e-12
    reported = layers_by_parameter(model, report.layers)
    assert reported.keys() == {n for n, _ in model.named_parameters(remove_duplicate=False)}
    assert all(layer.moved == (layer.reason == "") for layer in report.layers)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    moved = {layer.name for layer in report.layers if layer.moved}
    tied = {"blocks.1.weight"} if name == "tied weights" else set()
    assert {reported[key].name for key in changed - tied} == moved
    assert len(changed - tied) == len(moved), "biases, norms and buffers stay"
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert {layer: reasons[layer] for layer in entry.frozen} == entry.frozen
    assert len(moved) >= 2
    assert reported[next(key for key in reported if key.startswith(entry.sampled))].moved


@pytest.mark.parametrize("name", ZOO)
def test_directions_below_tau_1(name: str) -> None:
    entry, targets = enter(name)
    before = copy.deepcopy(entry.model.state_dict())
    loss_fn = nn.functional.cross_entropy
    directions = Teleporter(entry.model, loss_fn, tau=0.9).direction(entry.inputs, targets)
    assert all(torch.equal(value, before[key]) for key, value in entry.model.state_dict().items())
    twin = _twice_differentiable(copy.deepcopy(entry.model))
    rows = dense.map_rows(copy.deepcopy(entry.model), entry.inputs, entry.sampled)
    parameters = dict(twin.named_parameters())
    full = dense.half_square_norm_gradient(twin, loss_fn, entry.inputs, targets, [parameters[key] for key in rows])
    for (key, of_blocks), part in zip(rows.items(), full, strict=True):
        expected = dense.projected(part, of_blocks, 0.9)
        assert float((directions[key] - expected).norm()) <= 1e-10 * float(part.norm()), key
        assert float(expected.norm()) > 1e-6 * float(part.norm()), "something is left to compare"
