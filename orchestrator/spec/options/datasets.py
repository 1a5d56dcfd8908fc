"""The data sets a spec may name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from orchestrator.spec.options.entry import Entry, InputKind, NamedOptions
from orchestrator.spec.options.places import num_characters, text_path

EMBEDDED_TEXT = "python_reference"
# Python's reference grows from release to release; only its first characters, this many, are used.
EMBEDDED_CHARACTERS = 400_000


class DataOptions(NamedOptions, ABC):
    """Settings that every data set has.

    Args:
        batch_size: samples per optimizer step.
        root: directory to look in first; it is no part of a trial's identity.
    """

    batch_size: PositiveInt
    root: str | None = None

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Samples in the training split, known without loading them, so that a dry run can count steps."""

    @property
    def input_kind(self) -> InputKind:
        """What one input is: an image ``[C, H, W]``, a sequence ``[T, d]``, or tokens ``[T]``, int64."""
        return "image"

    @property
    def target_kind(self) -> str:
        """What one target is, by the name that tasks know it by.

        ``class``: a whole number; ``token``: one for each token; ``number``: one or more floats; ``labels``: zeros and
        ones, as floats. A plug-in may name a kind of its own.
        """
        return "class"

    @property
    @abstractmethod
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, known without loading it."""


class DigitsOptions(DataOptions):
    """scikit-learn's 1,797 handwritten digits of 8 × 8 pixels; embedded, no download."""

    name: Literal["digits"]
    # What 360 test and 180 validation images leave.
    train_size: ClassVar[int] = 1_257
    sample_shape: ClassVar[tuple[int, ...]] = (1, 8, 8)


class DiabetesOptions(DataOptions):
    """scikit-learn's 442 patients with ten measurements each, and how a disease went on; embedded, no download."""

    name: Literal["diabetes"]
    # What a fifth for the test and a tenth for validation leave.
    train_size: ClassVar[int] = 310
    sample_shape: ClassVar[tuple[int, ...]] = (1, 1, 10)
    target_kind: ClassVar[str] = "number"


class IdxOptions(DataOptions):
    """60,000 + 10,000 images of 28 × 28 pixels in IDX files.

    Args:
        num_train: how many training images to use; None: all that are not in the validation split.
    """

    num_train: PositiveInt | None = Field(default=None, le=55_000)
    sample_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)

    @property
    def train_size(self) -> int:
        """55,000, or as many as were asked for."""
        return self.num_train or 55_000


class MnistOptions(IdxOptions):
    """MNIST: handwritten digits."""

    name: Literal["mnist"]


class FashionMnistOptions(IdxOptions):
    """FashionMNIST: pieces of clothing."""

    name: Literal["fashion_mnist"]


class CifarOptions(DataOptions):
    """50,000 + 10,000 colour images of 32 × 32 pixels.

    Args:
        num_train: how many training images to use; None: all that are not in the validation split.
    """

    num_train: PositiveInt | None = Field(default=None, le=45_000)
    sample_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    @property
    def train_size(self) -> int:
        """45,000, or as many as were asked for."""
        return self.num_train or 45_000


class Cifar10Options(CifarOptions):
    """CIFAR-10: ten classes."""

    name: Literal["cifar10"]


class Cifar100Options(CifarOptions):
    """CIFAR-100 with its hundred fine classes."""

    name: Literal["cifar100"]


class SequenceOptions(DataOptions):
    """A set of images read as sequences.

    Args:
        tokens: ``rows``: each row is a token, T = height and d = width; ``pixels``: each pixel is a token of one
            number.
    """

    tokens: Literal["rows", "pixels"] = "rows"
    input_kind: ClassVar[InputKind] = "sequence"

    @property
    def images(self) -> DataOptions:
        """The set of images that the sequences are read from: ``digits`` for ``seq_digits``."""
        name = self.name.removeprefix("seq_")
        made = DATASETS[name].options.model_validate(self.model_dump(exclude={"tokens"}) | {"name": name})
        assert isinstance(made, DataOptions)
        return made

    @property
    def train_size(self) -> int:
        """As many as there are images."""
        return self.images.train_size

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Tokens, and numbers in each."""
        _, height, width = self.images.sample_shape
        return (height, width) if self.tokens == "rows" else (height * width, 1)


class SeqDigitsOptions(SequenceOptions):
    """scikit-learn's digits, row by row or pixel by pixel."""

    name: Literal["seq_digits"]


class SeqMnistOptions(SequenceOptions):
    """Sequential MNIST.

    Args:
        num_train: how many training images to use; None: all that are not in the validation split.
    """

    name: Literal["seq_mnist"]
    num_train: PositiveInt | None = Field(default=None, le=55_000)


class SeqFashionMnistOptions(SequenceOptions):
    """Sequential FashionMNIST.

    Args:
        num_train: how many training images to use; None: all that are not in the validation split.
    """

    name: Literal["seq_fashion_mnist"]
    num_train: PositiveInt | None = Field(default=None, le=55_000)


class SyntheticOptions(DataOptions):
    """Clusters on a curved surface, drawn on this machine; no two classes are linearly separable.

    Args:
        num_train: training samples; validation and test have a fifth as many each, at least 500.
        shape: shape of one input: ``[C, H, W]`` for an image, ``[T, d]`` for a sequence, ``[d]`` for the image ``[1, 1,
            d]``.
        num_classes: number of classes, all equally likely.
        noise: standard deviation of the noise on every value, where the signal's is 1.
        seed: the data's own seed; it has nothing to do with a trial's seed.
    """

    name: Literal["synthetic"]
    num_train: PositiveInt = 10_000
    shape: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1, max_length=3)] = (64,)
    num_classes: Annotated[int, Field(ge=2, le=10_000)] = 10
    noise: NonNegativeFloat = 0.5
    seed: Annotated[NonNegativeInt, Field(lt=2**32)] = 0

    @property
    def train_size(self) -> int:
        """As many as were asked for."""
        return self.num_train

    @property
    def input_kind(self) -> InputKind:
        """By the number of axes of ``shape``."""
        return "sequence" if len(self.shape) == 2 else "image"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """``shape``, with the axes of an image."""
        return (1, 1, *self.shape) if len(self.shape) == 1 else self.shape


class TextOptions(DataOptions):
    """Characters of a text, each to be predicted from those before it.

    Args:
        file: ``python_reference``, which comes with Python, or NAME for ``ROOT/text/NAME.txt``.
        context: characters in a window.
        stride: characters from the start of one window to the start of the next; None: ``context``, no overlap.
        num_train: how many training windows to use, from the start; None: all.
    """

    name: Literal["text"]
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] = EMBEDDED_TEXT
    context: PositiveInt = 64
    stride: PositiveInt | None = None
    num_train: PositiveInt | None = None
    input_kind: ClassVar[InputKind] = "tokens"
    target_kind: ClassVar[str] = "token"

    @model_validator(mode="after")
    def _embedded_text_is_long_enough(self) -> Self:
        if self.file == EMBEDDED_TEXT and self.context >= EMBEDDED_CHARACTERS // 20:
            raise ValueError(
                f"context must be below {EMBEDDED_CHARACTERS // 20:,}, the length of {EMBEDDED_TEXT}'s validation "
                f"part; it is {self.context:,}"
            )
        return self

    @property
    def train_size(self) -> int:
        """Training windows: as many as were asked for, else all; to count them, a text of the user's is read."""
        if self.num_train is not None:
            return self.num_train
        length = EMBEDDED_CHARACTERS if self.file == EMBEDDED_TEXT else num_characters(text_path(self.file, self.root))
        return max(1, self.num_windows(length * 9 // 10))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """A window of tokens."""
        return (self.context,)

    def num_windows(self, length: int) -> int:
        """Count the windows in ``length`` characters of a text; each needs one character more, its last target."""
        return max(0, (length - self.context - 1) // (self.stride or self.context) + 1)


DATASETS: dict[str, Entry] = {
    "digits": Entry(DigitsOptions, "orchestrator.trial.data.digits:load"),
    "diabetes": Entry(DiabetesOptions, "orchestrator.trial.data.diabetes:load"),
    "mnist": Entry(MnistOptions, "orchestrator.trial.data.mnist:load"),
    "fashion_mnist": Entry(FashionMnistOptions, "orchestrator.trial.data.mnist:load"),
    "cifar10": Entry(Cifar10Options, "orchestrator.trial.data.cifar:load"),
    "cifar100": Entry(Cifar100Options, "orchestrator.trial.data.cifar:load"),
    "seq_digits": Entry(SeqDigitsOptions, "orchestrator.trial.data.sequence:load"),
    "seq_mnist": Entry(SeqMnistOptions, "orchestrator.trial.data.sequence:load"),
    "seq_fashion_mnist": Entry(SeqFashionMnistOptions, "orchestrator.trial.data.sequence:load"),
    "synthetic": Entry(SyntheticOptions, "orchestrator.trial.data.synthetic:load"),
    "text": Entry(TextOptions, "orchestrator.trial.data.text:load"),
}
