"""What a teleport tells about itself."""

import enum
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final

__all__ = ["GuardEvent", "LayerReport", "Outcome", "Seconds", "StepTrace", "TeleportReport", "log_growth"]


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
    """A step would have passed `grad_norm_cap`, or the start did: it was undone, those before it kept. Or
    `max_relative_step` left it less than a hundredth of its length: it was not taken."""
    DRIFT = "drift"
    """A step changed a watched loss by more than allowed, halved or not: it was undone, those before it kept.

    At `tau = 1` with the objective batch inside the subspace sample, the move claims to be exact. A loss, or an output
    of the model, that changes by more than rounding (1e-8 of itself in float64, 1e-4 in float32, or what rounding of
    the weights makes) shows that the claim was wrong from the first step: the whole teleport is undone.
    """
    TARGET_MISSED = "target missed"
    """The step rule found no length that meets its target: that step was undone, those before it kept."""
    NON_FINITE = "non-finite"
    """A loss, an input or a gradient was not finite: all weights are bit for bit as before the teleport."""
    PUT_BACK = "put back"
    """Steps were taken and taken back, as `IdentityMove` asks: all weights are bit for bit as before."""


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
        tau: share of the input energy that the move does not touch, as asked for; None where nothing was factorised.
        captured: share that the subspace really holds, in the row block where it holds least; None as well.
    """

    name: str
    d_in: int | None
    rank: int | None = None
    null_dim: int | None = None
    moved: bool = False
    reason: str = ""
    step_length: float = 0.0
    num_blocks: int = 1
    tau: float | None = None
    captured: float | None = None


@final
@dataclass
class Seconds:
    """Wall-clock seconds of a teleport or of one step, by part (rough on CUDA, where the parts overlap).

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

    @contextmanager
    def timed(self, part: Literal["capture", "subspace", "direction", "apply"]) -> Iterator[None]:
        """Adds the time spent inside to a part; nothing is added where an exception leaves it."""
        start = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - start)

    def since(self, mark: "Seconds") -> "Seconds":
        """Gives what was spent since an earlier reading, part by part."""
        return Seconds(
            self.capture - mark.capture,
            self.subspace - mark.subspace,
            self.direction - mark.direction,
            self.apply - mark.apply,
        )


@final
@dataclass(frozen=True)
class StepTrace:
    """The state after one step that was kept, and its cost.

    Args:
        loss: on the objective batch.
        grad_norm: over all trainable parameters.
        eta: step length along the direction.
        loss_drift: change of the loss since the start of the teleport.
        probe_loss: on the probe batch; None where none is watched at each step.
        probe_drift: its change since the start of the teleport; None as well.
        objective: what was climbed.
        seconds: of this step; the basis is taken before the first one, so capture and subspace are zero.
        num_gradient_evaluations: of this step, as in the report.
    """

    loss: float
    grad_norm: float
    eta: float
    loss_drift: float = 0.0
    probe_loss: float | None = None
    probe_drift: float | None = None
    objective: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    num_gradient_evaluations: float = 0.0


@final
@dataclass(frozen=True)
class GuardEvent:
    """A guard that spoke.

    Args:
        step: index of the step in its teleport, from 0.
        guard: which one.
        value: what it saw: gradient norm, absolute drift, length of the step or of the move as a share of `||W||`,
            or the number that is not finite.
        limit: what it allows; `inf` for "finite".
        action: "halved", "shortened" to the limit, "undone" (this step), "rolled back" (the whole teleport), or
            "stopped" before the step.
    """

    step: int
    guard: Literal["non_finite", "grad_norm_cap", "loss_drift", "output_drift", "probe_drift", "relative_step"]
    value: float
    limit: float
    action: Literal["halved", "shortened", "undone", "rolled back", "stopped"]

    def __str__(self) -> str:
        return f"step {self.step}: {self.guard} {self.value:.6g} > {self.limit:.6g}: step {self.action}"


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
        trace: one entry per step kept (or put back at the end, as `IdentityMove` asks).
        objective_before: what is climbed (`teleport_engine.objective`), before.
        objective_after: the same, after.
        probe_drift: change of the loss on the probe batch; None without a probe.
        eval_drift: change of the loss on the objective batch in evaluation mode, where a batch norm of the model is in
            train mode (the move keeps the outputs in the mode at hand, not in the other); else None.
        events: what the guards said, in order.
        num_gradient_evaluations: cost of everything, in gradients of the objective batch (one forward, one backward).
            Passes have fixed prices: a forward alone 1/3 (times samples over samples of the batch, elsewhere than on
            it), a forward-mode tangent pass 1.7, a second backward through a gradient 2.6, a third through that 4.
            Factorisations, projections and what surrounds them are counted by their operations
            (`teleport_engine/model/price.py`), with constants measured on a CPU.
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
    eval_drift: float | None = None
    events: tuple[GuardEvent, ...] = ()
    num_gradient_evaluations: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    route: str = "none"
    messages: tuple[str, ...] = ()

    @property
    def loss_drift(self) -> float:
        """Signed change of the primary loss on the objective batch."""
        return self.loss_after - self.loss_before

    @property
    def grad_norm_ratio(self) -> float:
        """`||g||` after the steps over before: the ratio for `scaled_lr`, also where the steps were then put back."""
        after = self.trace[-1].grad_norm if self.trace else self.grad_norm_after
        return after / self.grad_norm_before if self.grad_norm_before > 0.0 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Gives everything for `json.dumps(..., allow_nan=False)`; numbers that are not finite become None."""
        found: dict[str, Any] = _plain(asdict(self))
        return {
            **found,
            "loss_drift": _plain(self.loss_drift),
            "grad_norm_ratio": _plain(self.grad_norm_ratio),
            "seconds": {**found["seconds"], "total": self.seconds.total},
        }


def log_growth(after: float, before: float = 1.0) -> float:
    """Gives `log ||g||^2` after less before, from the norms or their ratio; 0 where there is no gradient."""
    return 2.0 * math.log(after / before) if after > 0.0 and before > 0.0 else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value
