"""Each architecture against what it is said to be."""

from __future__ import annotations

import warnings
from typing import Any, final

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from orchestrator.errors import UserError
from orchestrator.spec.options import MODELS
from orchestrator.spec.options.models import TORCHVISION_ARCHITECTURES
from orchestrator.trial.isolation import seed_everything
from orchestrator.trial.models.activations import ACTIVATIONS
from orchestrator.trial.tasks import cross_entropy
from teleport_engine import FixedStep, Teleporter

# Of each family of torchvision its smallest, or one that is built in a way of its own.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "regnet_x_400mf": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vit_b_32": 32,
}


@final
class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that reads a random generator, on a device without storage too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def build(name: str, input_shape: tuple[int, ...], **more: Any) -> nn.Module:
    seed_everything(0)
    options = MODELS[name].options.model_validate({"name": name, **more})
    model: nn.Module = MODELS[name].load()(options, input_shape, 5)
    return model


def test_the_default_cnn_is_the_papers() -> None:
    model = build("cnn", (3, 32, 32))
    assert [tuple(part.weight.shape) for part in model.children() if isinstance(part, nn.Conv2d)] == [
        (16, 3, 3, 3),
        (32, 16, 3, 3),
        (64, 32, 3, 3),
    ]
    assert tuple(model.get_parameter("output.weight").shape) == (5, 64 * 4 * 4)


def test_a_cnns_options_are_what_is_built() -> None:
    model = build("cnn", (1, 9, 9), channels=[2, 3], activation="tanh", bias=False, pool="average")
    assert [name for name, _ in model.named_parameters()] == ["conv1.weight", "conv2.weight", "output.weight"]
    assert isinstance(model.get_submodule("activation2"), nn.Tanh)
    assert isinstance(model.get_submodule("pool1"), nn.AvgPool2d)
    assert model(torch.zeros(2, 1, 9, 9)).shape == (2, 5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_a_cnn_is_there(activation: str) -> None:
    model = build("cnn", (1, 8, 8), channels=[2], activation=activation)
    assert type(model.get_submodule("activation1")) is type(ACTIVATIONS[activation]())


def test_resnet18_at_full_width_is_torchvisions_with_another_stem() -> None:
    """The same parameters by name, and with the same values the same outputs."""
    model = build("resnet18", (3, 32, 32))
    twin = torchvision.models.resnet18(num_classes=5)
    twin.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    twin.maxpool = nn.Identity()
    twin.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), twin(images))


def test_resnet18_starts_from_torchvisions_distribution() -> None:
    weight = build("resnet18", (3, 32, 32)).get_parameter("layer3.0.conv1.weight")
    twin = torchvision.models.resnet18().layer3[0].conv1.weight
    assert weight.std().item() == pytest.approx(twin.std().item(), rel=0.01)


def test_a_narrow_resnet18_is_small() -> None:
    num_parameters = sum(parameter.numel() for parameter in build("resnet18", (1, 28, 28), width=8).parameters())
    assert num_parameters < 200_000


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_is_torchs_encoder_on_tokens_with_positions(norm_first: bool) -> None:
    sizes = {"d_model": 8, "num_heads": 2, "num_layers": 3, "d_ff": 12}
    model = build("transformer", (6, 4), **sizes, norm_first=norm_first)
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=norm_first)
    twin = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8) if norm_first else None, enable_nested_tensor=False)
    state = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    positions = state.pop("positions")
    twin.load_state_dict(state)
    inputs = torch.randn(3, 6, 4)
    tokens = nn.functional.linear(inputs, model.get_parameter("tokens.weight"), model.get_parameter("tokens.bias"))
    pooled = twin(tokens + positions).mean(dim=1)
    expected = nn.functional.linear(pooled, model.get_parameter("output.weight"), model.get_parameter("output.bias"))
    assert torch.allclose(model(inputs), expected, atol=1e-6)


def test_a_transformers_layers_begin_with_weights_of_their_own() -> None:
    model = build("transformer", (6, 4), num_layers=2)
    first, second = (model.get_parameter(f"encoder.layers.{index}.linear1.weight") for index in (0, 1))
    assert first.shape == (256, 64)
    assert not torch.equal(first, second)


def test_a_class_token_is_one_more_and_is_read() -> None:
    model = build("transformer", (6, 4), pooling="cls")
    assert model.get_parameter("encoder.positions").shape == (7, 64)
    scores = model(torch.randn(2, 6, 4))
    (gradient,) = torch.autograd.grad(scores.sum(), [model.get_parameter("cls")])
    assert gradient.abs().sum() > 0


def test_positions_tell_tokens_apart() -> None:
    model = build("transformer", (6, 4))
    inputs = torch.randn(1, 6, 4)
    assert not torch.allclose(model(inputs), model(inputs.flip(1)), atol=1e-6)


def test_a_vits_tokens_are_the_patches_row_by_row() -> None:
    model = build("vit", (1, 8, 12), patch_size=4, d_model=16)
    assert model.get_parameter("encoder.positions").shape == (6, 16)
    images = torch.randn(2, 1, 8, 12)
    tokens = model.get_submodule("tokens")(images)
    weight, bias = model.get_parameter("tokens.patches.weight"), model.get_parameter("tokens.patches.bias")
    fourth = images[:, 0, 4:8, 0:4].reshape(2, 16)
    assert torch.allclose(tokens[:, 3], nn.functional.linear(fourth, weight.reshape(16, 16), bias), atol=1e-6)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["language_model", "lstm"])
def test_scores_at_a_token_know_nothing_of_later_ones(name: str, mode: str) -> None:
    model = build(name, (9,)).train(mode == "train")
    tokens = torch.randint(5, (3, 9))
    changed = tokens.clone()
    changed[:, 6:] = (tokens[:, 6:] + 1) % 5
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert before.shape == (3, 9, 5)
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-3)


def test_the_causal_mask_is_no_weight() -> None:
    assert not any("mask" in key for key in build("language_model", (9,)).state_dict())


def test_an_lstms_classes_are_read_from_its_last_state() -> None:
    model = build("lstm", (6, 4), num_layers=2)
    inputs = torch.randn(2, 6, 4)
    _, (state, _) = model.get_submodule("lstm")(inputs)
    assert torch.allclose(model(inputs), model.get_submodule("output")(state[-1]), atol=1e-6)


def test_the_known_architectures_are_torchvisions() -> None:
    assert list(TORCHVISION_ARCHITECTURES) == torchvision.models.list_models(module=torchvision.models)


def test_mobilenet_with_three_channels_is_torchvisions_bit_for_bit() -> None:
    model = build("torchvision", (3, 32, 32), architecture="mobilenet_v3_small")
    seed_everything(0)
    twin = torchvision.models.mobilenet_v3_small(num_classes=5)
    pairs = zip(model.state_dict().items(), twin.state_dict().items(), strict=True)
    assert all(mine[0] == torchs[0] and torch.equal(mine[1], torchs[1]) for mine, torchs in pairs)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_of_torchvision_takes_one_channel_and_draws_nothing(architecture: str) -> None:
    side = FAMILIES[architecture]
    # Without storage, weights cost no time; regnet alone computes its sizes with tensors.
    with torch.device("cpu" if "regnet" in architecture else "meta"):
        model = build("torchvision", (1, side, side), architecture=architecture)
        with Draws() as draws:
            scores = model(torch.zeros(2, 1, side, side))
    assert model.training
    assert scores.shape == (2, 5)
    assert draws.seen == []


def test_a_draw_is_seen() -> None:
    with torch.device("meta"), Draws() as draws:
        build("torchvision", (1, 64, 64), architecture="alexnet", dropout=0.5)(torch.zeros(2, 1, 64, 64))
    assert "aten.bernoulli_.float" in draws.seen


def test_small_images_are_scaled_where_that_is_asked_for() -> None:
    with torch.device("meta"):
        model = build("torchvision", (3, 28, 28), architecture="alexnet", resize=64, dropout=0.25)
        assert model(torch.zeros(2, 3, 28, 28)).shape == (2, 5)
    rates = [part.p for part in model.modules() if isinstance(part, nn.Dropout)]
    assert rates == [0.25, 0.25]
    image = torch.rand(1, 3, 28, 28)
    scaled = model.get_submodule("resize")(image)
    assert scaled.shape == (1, 3, 64, 64)
    assert scaled.mean().item() == pytest.approx(image.mean().item(), abs=0.01)


@pytest.mark.parametrize("architecture", ["alexnet", "maxvit_t"])
def test_an_architecture_that_needs_larger_images_says_so(architecture: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=r"images of 32 × 32 pixels .*; set resize to the side"):
        build("torchvision", (3, 32, 32), architecture=architecture)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"widths": []}, "at least 1 item"),
        ("cnn", {"channels": [0]}, "greater than 0"),
        ("cnn", {"pool": "min"}, "'max' or 'average'"),
        ("resnet18", {"width": 0}, "greater than 0"),
        ("transformer", {"d_model": 10, "num_heads": 4}, "d_model must be a multiple of num_heads; they are 10 and 4"),
        ("vit", {"dropout": 1.0}, "less than 1"),
        ("language_model", {"pooling": "cls"}, "Extra inputs are not permitted"),
        ("lstm", {"dropout": 0.1}, r"dropout acts between layers, so 0\.1 needs num_layers above 1"),
        ("torchvision", {"architecture": "resnet81"}, "torchvision has no .* 'resnet81'; did you mean 'resnet18'"),
        ("torchvision", {}, "Field required"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MODELS[name].options.model_validate({"name": name, **options})


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_dropout_that_was_asked_for_is_there_and_a_teleport_holds_its_masks_fixed(name: str) -> None:
    model = build(name, (6, 4), dropout=0.5, num_layers=2)
    inputs, targets = torch.randn(4, 6, 4), torch.arange(4)
    assert not torch.equal(model(inputs), model(inputs))
    state = torch.get_rng_state()
    report = Teleporter(model, cross_entropy, tau=0.99, step=FixedStep(0.01)).teleport(inputs, targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert report.loss_after == pytest.approx(cross_entropy(model(inputs), targets).item(), rel=1e-5)


def test_models_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, shape in [("transformer", (6, 4)), ("language_model", (6,)), ("lstm", (6, 4))]:
            model = build(name, shape)
            inputs = torch.randn(2, *shape) if len(shape) > 1 else torch.randint(5, (2, *shape))
            for is_training in (True, False):
                with torch.set_grad_enabled(is_training):
                    model.train(is_training)(inputs)
