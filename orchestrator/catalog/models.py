"""The models a spec may name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from orchestrator.catalog.entry import Entry, NamedOptions


class MlpOptions(NamedOptions):
    """A multilayer perceptron on flattened inputs.

    Args:
        widths: sizes of the hidden layers; ``[128, 128]`` makes three linear layers.
        activation: the nonlinearity between layers.
        bias: whether linear layers have one (the paper's predecessor has none).
    """

    name: Literal["mlp"]
    widths: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1, max_length=64)]
    activation: Literal["relu", "leaky_relu", "tanh", "gelu"] = "relu"
    bias: bool = True


MODELS: dict[str, Entry] = {
    "mlp": Entry(MlpOptions, "orchestrator.workloads.models.mlp:build"),
}
