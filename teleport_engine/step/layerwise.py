"""Numbers per layer, or per step, by a rule of what is measured there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from teleport_engine.nullspace import LayerFacts, LayerRule, ModelFacts, checked_number
from teleport_engine.step.rules import FixedStep, GrowthStep, Line, StepRule

__all__ = ["LayerwiseStep", "MeasuredGrowth"]

_AS_SCALED = FixedStep(1.0)


@final
@dataclass(frozen=True)
class LayerwiseStep:
    """The direction of each layer is scaled by a rule, `D_l <- s_l D_l`; then a step rule goes along what comes out.

    With the default the scale is the layer's teleport learning rate: `W_l <- W_l + s_l (grad F)_l P_l`. A multiple of
    a move in a null space is one, so at `tau = 1` the batch is left alone as exactly as without scales. The rule is
    asked at the start of each step, for the layers that the step would move. A control moves each layer as far as the
    scaled direction would have.

    Args:
        scale: gives `s_l`, finite and above zero.
        rule: how far along the scaled direction; a ValueError where it is itself one of layers.

    Examples:
        >>> LayerwiseStep(lambda layer: 0.1 / layer.fan_in).rule
        FixedStep(eta=1.0)
    """

    scale: LayerRule
    rule: StepRule = _AS_SCALED

    def __post_init__(self) -> None:
        if isinstance(self.rule, LayerwiseStep):
            raise ValueError(f"LayerwiseStep: rule must be one of the whole line, got {self.rule!r}")

    def length(self, line: Line) -> float | None:
        """Asks the step rule for the length along the scaled direction."""
        return self.rule.length(line)

    def scaled(
        self, facts: Sequence[LayerFacts | None], directions: Sequence[Tensor | None]
    ) -> tuple[list[Tensor | None], float]:
        """Scales the directions.

        Args:
            facts: per live layer; None where it stays.
            directions: per live layer, `D_l = (grad F)_l P_l`; None where it stays.

        Returns:
            Per live layer `s_l D_l`; and the slope of the objective along them, `sum s_l ||D_l||^2`.

        Raises:
            RuleError: if the rule gives no finite number above zero.
        """
        found: list[Tensor | None] = []
        rates = []
        for of_layer, part in zip(facts, directions, strict=True):
            if of_layer is None or part is None:
                found.append(None)
                continue
            scale = checked_number(f"scale of layer {of_layer.name!r}", self.scale(of_layer), 0.0)
            found.append(part * scale)
            rates.append(part.to(torch.float64).square().sum() * scale)
        return found, float(torch.stack(rates).sum()) if rates else 0.0


@final
@dataclass(frozen=True)
class MeasuredGrowth:
    """`GrowthStep` by a factor that a rule gives at the start of each step.

    Args:
        rho: gives the factor of the objective per teleport step, finite and > 1.
    """

    rho: Callable[[ModelFacts], float]

    def length(self, line: Line) -> float | None:
        """Asks the rule, and searches the line for that growth, as `GrowthStep` does.

        Raises:
            RuleError: if the rule gives no finite number above 1.
        """
        return GrowthStep(checked_number("growth factor", self.rho(line.facts), 1.0)).length(line)
