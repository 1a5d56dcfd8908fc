"""The models a spec may name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from orchestrator.errors import nearest
from orchestrator.spec.options.entry import Entry, InputKind, NamedOptions

Activation = Literal["relu", "leaky_relu", "tanh", "gelu"]
# Dropout is off unless it is asked for. A teleport holds its masks fixed, and the step after it draws the same ones.
DropoutRate = Annotated[float, Field(ge=0.0, lt=1.0)]


class ModelOptions(NamedOptions, ABC):
    """Settings that every model has; ``input_kinds`` are the kinds of input that it takes."""

    input_kinds: ClassVar[frozenset[InputKind]]

    @abstractmethod
    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Say why a sample of this shape, of a kind that the model takes, cannot be its input; None: it can."""


class MlpOptions(ModelOptions):
    """A multilayer perceptron on flattened inputs.

    Args:
        widths: sizes of the hidden layers; ``[128, 128]`` makes three linear layers.
        activation: the nonlinearity between layers.
        bias: whether linear layers have a bias (the paper's predecessor has none).
    """

    input_kinds = frozenset({"image", "sequence"})

    name: Literal["mlp"]
    widths: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1, max_length=64)]
    activation: Activation = "relu"
    bias: bool = True

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Every shape fits."""
        return None


class CnnOptions(ModelOptions):
    """Convolutions of 3 × 3, each followed by an activation and 2 × 2 pooling, and a linear layer.

    Args:
        channels: output channels of each convolution; the paper has ``[16, 32, 64]``.
        activation: the nonlinearity after each convolution.
        bias: whether convolutions and the linear layer have a bias.
        pool: whether pooling takes the maximum of each 2 × 2 pixels or their mean.
    """

    input_kinds = frozenset({"image"})

    name: Literal["cnn"]
    channels: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1, max_length=16)] = (16, 32, 64)
    activation: Activation = "relu"
    bias: bool = True
    pool: Literal["max", "average"] = "max"

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Check that something is left of the image, which each pooling halves."""
        most = min(sample_shape[1:]).bit_length() - 1
        if len(self.channels) <= most:
            return None
        return (
            f"{len(self.channels)} convolutions halve the image as often, and {_size(sample_shape)} allows {most} times"
        )


class Resnet18Options(ModelOptions):
    """ResNet-18 with the stem for small images: a 3 × 3 convolution of stride 1, no pooling.

    Args:
        width: channels of the first stage, doubled in each of the other three; ResNet-18 has 64.
    """

    input_kinds = frozenset({"image"})

    name: Literal["resnet18"]
    width: PositiveInt = 64

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Every image fits: convolutions pad, and the last pooling takes what there is."""
        return None


class EncoderOptions(ModelOptions, ABC):
    """Settings that every transformer has; the layers are ``torch.nn.TransformerEncoderLayer``.

    Args:
        d_model: size of a token.
        num_heads: number of attention heads; it must divide ``d_model``.
        num_layers: number of encoder layers.
        d_ff: width of each layer's hidden layer; None: four times ``d_model``.
        dropout: share of values zeroed in training.
        activation: the hidden layer's nonlinearity.
        norm_first: whether norms come before attention and hidden layer; torch's default and the paper's is after.
    """

    d_model: PositiveInt = 64
    num_heads: PositiveInt = 4
    num_layers: PositiveInt = 2
    d_ff: PositiveInt | None = None
    dropout: DropoutRate = 0.0
    activation: Literal["relu", "gelu"] = "relu"
    norm_first: bool = False

    @model_validator(mode="after")
    def _heads_share_the_token(self) -> Self:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model must be a multiple of num_heads; they are {self.d_model} and {self.num_heads}")
        return self


class TransformerOptions(EncoderOptions):
    """A transformer that classifies sequences, each element a token, with learned positions.

    Args:
        pooling: what the classes are read from: the mean over the tokens, or a token of its own (``cls``).
    """

    input_kinds = frozenset({"sequence"})

    name: Literal["transformer"]
    pooling: Literal["mean", "cls"] = "mean"

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Every sequence fits."""
        return None


class VitOptions(EncoderOptions):
    """A vision transformer: square patches of an image are the tokens, with learned positions.

    Args:
        patch_size: pixels along the side of a patch; it must divide the image's sides.
        pooling: what the classes are read from: the mean over the patches, or a token of its own (``cls``).
    """

    input_kinds = frozenset({"image"})

    name: Literal["vit"]
    patch_size: PositiveInt = 4
    pooling: Literal["mean", "cls"] = "mean"

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Check that patches tile the image."""
        if all(side % self.patch_size == 0 for side in sample_shape[1:]):
            return None
        return f"patch_size must divide the image's sides; it is {self.patch_size}, they are {_size(sample_shape)}"


class LanguageModelOptions(EncoderOptions):
    """A causal transformer: it scores the next token at each token."""

    input_kinds = frozenset({"tokens"})

    name: Literal["language_model"]

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Every length fits."""
        return None


class LstmOptions(ModelOptions):
    """A long short-term memory. It scores classes at the last state of a sequence, or the next token at each token.

    Args:
        d_hidden: size of the state, and of a token's embedding.
        num_layers: how many layers are stacked.
        dropout: share of values zeroed between layers in training.
    """

    input_kinds = frozenset({"sequence", "tokens"})

    name: Literal["lstm"]
    d_hidden: PositiveInt = 64
    num_layers: PositiveInt = 1
    dropout: DropoutRate = 0.0

    @model_validator(mode="after")
    def _dropout_is_between_layers(self) -> Self:
        if self.dropout > 0 and self.num_layers == 1:
            raise ValueError(f"dropout acts between layers, so {self.dropout} needs num_layers above 1")
        return self

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Every length fits."""
        return None


# Listed here so that torchvision need not be imported; a test compares the list with torchvision's.
TORCHVISION_ARCHITECTURES = (
    *("alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121", "densenet161"),
    *("densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l"),
    *("efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet0_75"),
    *("mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_16gf"),
    *("regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf"),
    *("regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf"),
    *("regnet_y_800mf", "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50"),
    *("resnext101_32x8d", "resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0"),
    *("shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0", "squeezenet1_1", "swin_b", "swin_s", "swin_t"),
    *("swin_v2_b", "swin_v2_s", "swin_v2_t", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19"),
    *("vgg19_bn", "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "wide_resnet101_2", "wide_resnet50_2"),
)


def _check_architecture(name: str) -> str:
    if name not in TORCHVISION_ARCHITECTURES:
        raise ValueError(
            f"torchvision has no classification model {name!r}; {nearest(name, TORCHVISION_ARCHITECTURES)}"
        )
    return name


class TorchvisionOptions(ModelOptions):
    """A classification model of torchvision with fresh weights; its first convolution takes the images' channels.

    Args:
        architecture: torchvision's name for the model.
        resize: side in pixels to which images are scaled first; None: they are not scaled. Most of these models are
            made for 224 and shrink small images to nothing.
        dropout: rate of the model's dropout layers, in place of torchvision's.
            Stochastic depth is off.
    """

    input_kinds = frozenset({"image"})

    name: Literal["torchvision"]
    architecture: Annotated[str, AfterValidator(_check_architecture)]
    resize: PositiveInt | None = None
    dropout: DropoutRate = 0.0

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Check what vision transformers need; of the other models, torchvision tells when they are built."""
        if not self.architecture.startswith("vit_"):
            return None
        patch = int(self.architecture.rpartition("_")[2])
        height, width = (self.resize, self.resize) if self.resize else sample_shape[1:]
        if height == width and height % patch == 0:
            return None
        return f"{self.architecture} takes squares of a multiple of {patch} pixels, not {height} × {width}; set resize"


def _size(sample_shape: Sequence[int]) -> str:
    return " × ".join(map(str, sample_shape[1:]))


MODELS: dict[str, Entry] = {
    "mlp": Entry(MlpOptions, "orchestrator.trial.models.mlp:build"),
    "cnn": Entry(CnnOptions, "orchestrator.trial.models.cnn:build"),
    "resnet18": Entry(Resnet18Options, "orchestrator.trial.models.resnet18:build"),
    "transformer": Entry(TransformerOptions, "orchestrator.trial.models.transformer:build"),
    "vit": Entry(VitOptions, "orchestrator.trial.models.vit:build"),
    "language_model": Entry(LanguageModelOptions, "orchestrator.trial.models.language_model:build"),
    "lstm": Entry(LstmOptions, "orchestrator.trial.models.lstm:build"),
    "torchvision": Entry(TorchvisionOptions, "orchestrator.trial.models.torchvision:build"),
}


def models_for(kind: InputKind) -> list[str]:
    """List the names of the models that take a kind of input, sorted."""
    options = {name: entry.options for name, entry in MODELS.items()}
    return sorted(name for name, own in options.items() if issubclass(own, ModelOptions) and kind in own.input_kinds)
