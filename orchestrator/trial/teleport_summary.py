"""Sums up the teleports of a seed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, final

from orchestrator.home import LayerSummary, StepSummary, TeleportSummary
from teleport_engine import LayerReport, Outcome, TeleportReport

# The most steps of a teleport that are summed up one by one, and the largest logarithm of a gain.
MAX_STEPS = 64
MAX_LOG_GAIN = 700.0


def has_moved(report: TeleportReport) -> bool:
    """Tell whether any weight changed."""
    return any(layer.moved for layer in report.layers)


def gain_of(report: TeleportReport) -> float:
    """Return ‖g‖² after the teleport over ‖g‖² before it, even where it was put back; 1 where that has no value."""
    ratio = report.grad_norm_ratio
    return ratio * ratio if math.isfinite(ratio) else 1.0


def null_dim_of(report: TeleportReport) -> float | None:
    """Average the null dimension over the layers that moved in a null space; None: none did, as in a rival."""
    dims = [layer.null_dim for layer in report.layers if layer.moved and layer.null_dim is not None]
    return sum(dims) / len(dims) if dims else None


@final
class TeleportTotals:
    """Adds up the teleports of a seed as they happen, so that no report has to be kept."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._sum_log_gain = 0.0
        self._num_gains = 0
        self._max_loss_drift: float | None = None
        self._max_probe_drift: float | None = None
        self._layers: dict[int, _Layer] = {}
        self._steps: list[_Step] = []
        self._seconds: Counter[str] = Counter()

    def add(self, report: TeleportReport) -> None:
        """Add one teleport."""
        self._outcomes[report.outcome.value] += 1
        self._seconds.update(asdict(report.seconds))
        moved = has_moved(report)
        gain = gain_of(report)
        if (moved or report.outcome is Outcome.PUT_BACK) and 0.0 < gain < math.inf:
            self._sum_log_gain += math.log(gain)
            self._num_gains += 1
        if moved:
            self._max_loss_drift = _larger(self._max_loss_drift, report.loss_drift)
            if report.probe_drift is not None:
                self._max_probe_drift = _larger(self._max_probe_drift, report.probe_drift)
        for index, layer in enumerate(report.layers):
            # Norms and the like, which have no inputs, are left out.
            if layer.d_in is not None:
                self._layers.setdefault(index, _Layer(layer.name, layer.d_in)).add(layer)
        for index in range(min(MAX_STEPS, len(report.trace))):
            if index == len(self._steps):
                self._steps.append(_Step())
            self._steps[index].add(report, index)

    def summary(self) -> TeleportSummary:
        """Sum up; means and largest values are over the teleports that moved weights."""
        return TeleportSummary(
            count=self._outcomes.total(),
            outcomes=dict(self._outcomes),
            mean_gain=math.exp(self._sum_log_gain / self._num_gains) if self._num_gains else None,
            max_loss_drift=self._max_loss_drift,
            layers=tuple(self._layers[index].summary() for index in sorted(self._layers)),
            max_probe_drift=self._max_probe_drift,
            steps=tuple(step.summary(number) for number, step in enumerate(self._steps, start=1) if step.count),
            seconds=dict(self._seconds),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far, as plain values."""
        return {
            "outcomes": dict(self._outcomes),
            "gain": (self._sum_log_gain, self._num_gains),
            "max_drift": (self._max_loss_drift, self._max_probe_drift),
            "layers": {index: asdict(layer) for index, layer in self._layers.items()},
            "steps": [asdict(step) for step in self._steps],
            "seconds": dict(self._seconds),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self._outcomes = Counter(state_dict["outcomes"])
        self._sum_log_gain, self._num_gains = state_dict["gain"]
        self._max_loss_drift, self._max_probe_drift = state_dict["max_drift"]
        self._layers = {index: _Layer(**layer) for index, layer in state_dict["layers"].items()}
        self._steps = [_Step(**step) for step in state_dict["steps"]]
        # Older checkpoints have no seconds.
        self._seconds = Counter(state_dict.get("seconds", {}))


@final
@dataclass
class _Layer:
    """The sums of one linear map over the teleports."""

    name: str
    d_in: int
    sum_rank: int = 0
    num_ranks: int = 0
    sum_null_dim: int = 0
    num_null_dims: int = 0
    moved: int = 0
    reason: str | None = None

    def add(self, layer: LayerReport) -> None:
        if layer.rank is not None:
            self.sum_rank += layer.rank
            self.num_ranks += 1
        if layer.null_dim is not None:
            self.sum_null_dim += layer.null_dim
            self.num_null_dims += 1
        self.moved += layer.moved
        if not layer.moved:
            self.reason = layer.reason

    def summary(self) -> LayerSummary:
        return LayerSummary(
            name=self.name,
            d_in=self.d_in,
            mean_rank=self.sum_rank / self.num_ranks if self.num_ranks else None,
            mean_null_dim=self.sum_null_dim / self.num_null_dims if self.num_null_dims else None,
            moved=self.moved,
            reason=self.reason,
        )


@final
@dataclass
class _Step:
    """The sums over the teleports after a certain number of their steps."""

    count: int = 0
    sum_log_gain: float = 0.0
    sum_loss_drift: float = 0.0
    num_probed: int = 0
    sum_probe_drift: float = 0.0

    def add(self, report: TeleportReport, index: int) -> None:
        step = report.trace[index]
        is_positive = report.grad_norm_before > 0.0 and 0.0 < step.grad_norm < math.inf
        if not (is_positive and math.isfinite(step.loss_drift)):
            return
        self.count += 1
        self.sum_log_gain += 2.0 * math.log(step.grad_norm / report.grad_norm_before)
        self.sum_loss_drift += abs(step.loss_drift)
        # The engine measures this at each step only if it is bounded, else after the last step.
        drift = report.probe_drift if step.probe_drift is None and index == len(report.trace) - 1 else step.probe_drift
        if drift is not None and math.isfinite(drift):
            self.num_probed += 1
            self.sum_probe_drift += abs(drift)

    def summary(self, number: int) -> StepSummary:
        return StepSummary(
            step=number,
            count=self.count,
            gain=math.exp(min(self.sum_log_gain / self.count, MAX_LOG_GAIN)),
            loss_drift=self.sum_loss_drift / self.count,
            probe_drift=self.sum_probe_drift / self.num_probed if self.num_probed else None,
        )


def _larger(before: float | None, drift: float) -> float:
    return abs(drift) if before is None else max(before, abs(drift))
