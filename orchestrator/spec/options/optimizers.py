"""The optimizers a spec may name, with torch's own names for their arguments."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from orchestrator.spec.options.entry import Entry, NamedOptions

# How much of a running mean is kept at each step.
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Betas = Annotated[tuple[Decay, Decay], Field(strict=False)]


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
                f"nesterov needs momentum above 0 and dampening 0; they are {self.momentum} and {self.dampening}"
            )
        return self


class MomentumOptions(NamedOptions):
    """``torch.optim.SGD`` with momentum, which is 0.9 where it is not written."""

    name: Literal["momentum"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(gt=0.0)] = 0.9
    dampening: float = 0.0
    weight_decay: NonNegativeFloat = 0.0


class NesterovOptions(NamedOptions):
    """``torch.optim.SGD`` with Nesterov's momentum, which is 0.9 where it is not written."""

    name: Literal["nesterov"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(gt=0.0)] = 0.9
    weight_decay: NonNegativeFloat = 0.0


class AdagradOptions(NamedOptions):
    """Adagrad; arguments as in ``torch.optim.Adagrad``."""

    name: Literal["adagrad"]
    lr: PositiveFloat
    lr_decay: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    initial_accumulator_value: NonNegativeFloat = 0.0
    eps: NonNegativeFloat = 1e-10


class AdamOptions(NamedOptions):
    """Adam; arguments as in ``torch.optim.Adam``."""

    name: Literal["adam"]
    lr: PositiveFloat
    betas: Betas = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    amsgrad: bool = False


class AdamWOptions(NamedOptions):
    """Adam with decoupled weight decay; arguments as in ``torch.optim.AdamW``."""

    name: Literal["adamw"]
    lr: PositiveFloat
    betas: Betas = (0.9, 0.999)
    eps: NonNegativeFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    amsgrad: bool = False


class RmspropOptions(NamedOptions):
    """RMSprop; arguments as in ``torch.optim.RMSprop``."""

    name: Literal["rmsprop"]
    lr: PositiveFloat
    alpha: Decay = 0.99
    eps: NonNegativeFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    momentum: NonNegativeFloat = 0.0
    centered: bool = False


OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(SgdOptions, "torch.optim:SGD"),
    "momentum": Entry(MomentumOptions, "orchestrator.trial.optimizers:momentum"),
    "nesterov": Entry(NesterovOptions, "orchestrator.trial.optimizers:nesterov"),
    "adagrad": Entry(AdagradOptions, "torch.optim:Adagrad"),
    "adam": Entry(AdamOptions, "torch.optim:Adam"),
    "adamw": Entry(AdamWOptions, "torch.optim:AdamW"),
    "rmsprop": Entry(RmspropOptions, "torch.optim:RMSprop"),
}
