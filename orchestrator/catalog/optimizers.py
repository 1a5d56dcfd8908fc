"""The optimizers a spec may name, with torch's own names for their arguments."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from orchestrator.catalog.entry import Entry, NamedOptions


class SgdOptions(NamedOptions):
    """Stochastic gradient descent; arguments as in ``torch.optim.SGD``."""

    name: Literal["sgd"]
    lr: PositiveFloat
    momentum: NonNegativeFloat = 0.0
    dampening: float = 0.0
    weight_decay: NonNegativeFloat = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"nesterov needs momentum above 0 and no dampening, has {self.momentum} and {self.dampening}"
            )
        return self


OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(SgdOptions, "torch.optim:SGD"),
}
