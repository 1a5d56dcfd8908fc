"""The data sets a spec may name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field, PositiveInt

from orchestrator.catalog.entry import Entry, InputKind, NamedOptions


class DataOptions(NamedOptions, ABC):
    """What every data set has.

    Args:
        batch_size: samples per optimizer step.
        root: directory to look in first; where the data lies is no part of a trial's identity.
    """

    batch_size: PositiveInt
    root: str | None = None

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Samples in the training split, known without loading them: what the dry run counts steps by."""

    @property
    def input_kind(self) -> InputKind:
        """What a sample is."""
        return "image"

    @property
    @abstractmethod
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, known without loading it."""


class DigitsOptions(DataOptions):
    """scikit-learn's 1,797 handwritten digits of 8 × 8 pixels; embedded, no download."""

    name: Literal["digits"]

    @property
    def train_size(self) -> int:
        """1,257: what 360 test and 180 validation images leave."""
        return 1_257

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """One channel of 8 × 8 pixels."""
        return (1, 8, 8)


class FashionMnistOptions(DataOptions):
    """FashionMNIST: 60,000 + 10,000 images of 28 × 28 pixels in IDX files.

    Args:
        num_train: how many training images to use; None: all that are not in the validation split.
    """

    name: Literal["fashion_mnist"]
    num_train: PositiveInt | None = Field(default=None, le=55_000)

    @property
    def train_size(self) -> int:
        """55,000, or as many as were asked for."""
        return self.num_train or 55_000

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """One channel of 28 × 28 pixels."""
        return (1, 28, 28)


DATASETS: dict[str, Entry] = {
    "digits": Entry(DigitsOptions, "orchestrator.workloads.data.digits:load"),
    "fashion_mnist": Entry(FashionMnistOptions, "orchestrator.workloads.data.fashion_mnist:load"),
}
