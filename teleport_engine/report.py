"""What a teleport tells about itself."""

import enum
from dataclasses import dataclass, field
from typing import final

__all__ = ["LayerReport", "Outcome", "Seconds", "StepTrace", "TeleportReport"]


@final
class Outcome(enum.Enum):
    """How a teleport ended."""

    MOVED = "moved"
    """Every step asked for was taken."""
    NO_MOVABLE_LAYER = "no movable layer"
    """No weight of the model is a trainable linear map and nothing else. Nothing moved."""
    INPUT_FIXED = "input is fixed"
    """The inputs of every movable layer depend on no trainable parameter, so at `tau = 1` none moves."""
    NO_NULL_SPACE = "no null space"
    """The inputs of every layer that could move fill their space. Nothing moved."""
    NO_ASCENT = "no ascent"
    """There is a null space, but the objective is flat in it. The steps taken before it was seen are kept."""
    CAP_REACHED = "cap reached"
    """A step would have passed `grad_norm_cap`, or the start did: it was undone, those before it kept."""
    DRIFT = "drift"
    """A step changed a watched loss by more than allowed: it was undone, those before it kept.

    At `tau = 1` with the objective batch inside the subspace sample, the move is exact, and more than rounding
    (1e-8 relative in float64, 1e-4 in float32) counts as drift even without `max_loss_drift`.
    """
    TARGET_MISSED = "target missed"
    """The step rule found no length that meets its target: that step was undone, those before it kept."""
    NON_FINITE = "non-finite"
    """A loss, an input or a gradient was not finite: all weights are bit for bit as before the teleport."""


@final
@dataclass(frozen=True)
class LayerReport:
    """One module with parameters of its own.

    Args:
        name: of the module, as in `model.named_modules()`.
        d_in: inputs of its weight; None where it has no weight of a linear map.
        rank: dimensions of the inputs' subspace, in the row block with the largest null space; None where nothing
            was factorised.
        null_dim: `d_in - rank` (one more where the bias moves along); None where nothing was factorised.
        moved: whether its weight is different now.
        reason: why it did not move; empty where it did.
        step_length: `||W_after - W_before||` (Frobenius), the bias with it where it moves along.
        num_blocks: row blocks of the weight that have inputs of their own.
    """

    name: str
    d_in: int | None
    rank: int | None = None
    null_dim: int | None = None
    moved: bool = False
    reason: str = ""
    step_length: float = 0.0
    num_blocks: int = 1


@final
@dataclass(frozen=True)
class StepTrace:
    """The state after one step that was kept.

    Args:
        loss: on the objective batch.
        grad_norm: over all trainable parameters.
        eta: step length along the direction.
        probe_loss: on the probe batch; None where none is watched at each step.
        objective: what was climbed.
    """

    loss: float
    grad_norm: float
    eta: float
    probe_loss: float | None = None
    objective: float = 0.0


@final
@dataclass
class Seconds:
    """Wall-clock seconds of a teleport, by part (rough on CUDA, where the parts overlap).

    Args:
        capture: first forward, finding out what each weight multiplies.
        subspace: factorisations.
        direction: gradients, tangents and projections.
        apply: moving weights, and evaluating the loss and gradient where they land.
    """

    capture: float = 0.0
    subspace: float = 0.0
    direction: float = 0.0
    apply: float = 0.0

    @property
    def total(self) -> float:
        """All parts together."""
        return self.capture + self.subspace + self.direction + self.apply


@final
@dataclass(frozen=True)
class TeleportReport:
    """What one call of `Teleporter.teleport` did.

    Args:
        outcome: how it ended.
        loss_before: primary loss on the objective batch.
        loss_after: the same, after.
        grad_norm_before: norm of its gradient over all trainable parameters.
        grad_norm_after: the same, after.
        num_steps: steps taken and kept.
        layers: one entry per module with parameters of its own.
        trace: one entry per step kept.
        objective_before: what is climbed (`teleport_engine.objectives`), before.
        objective_after: the same, after.
        probe_drift: change of the loss on the probe batch; None without a probe.
        num_gradient_evaluations: cost, in gradients of the objective batch (one forward, one backward). A forward
            alone counts 1/3 (times samples over samples of the batch, elsewhere than on it), a forward-mode
            tangent pass 1 (per Linear three products, as a gradient), a second backward through a gradient 2, a
            third through that 4.
        seconds: wall-clock, by part.
        route: "jvp", "double_backward", "triple_backward", or "none" where no direction was taken.
        messages: what else a reader should know, in words.
    """

    outcome: Outcome
    loss_before: float
    loss_after: float
    grad_norm_before: float
    grad_norm_after: float
    num_steps: int
    layers: tuple[LayerReport, ...]
    trace: tuple[StepTrace, ...] = ()
    objective_before: float = 0.0
    objective_after: float = 0.0
    probe_drift: float | None = None
    num_gradient_evaluations: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    route: str = "none"
    messages: tuple[str, ...] = ()

    @property
    def loss_drift(self) -> float:
        """Signed change of the primary loss on the objective batch."""
        return self.loss_after - self.loss_before
