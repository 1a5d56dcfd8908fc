"""Teleportation on the level set of the loss itself, by Hessian-vector products.

Maximises `log ||g||` subject to `L(w) = L(w_0)`, all trainable parameters free. Each step goes along the gradient
of the objective and is corrected by the linearised constraint; the constraint is one scalar, so no subspace is
needed, and it holds to second order only, so a line search on a merit function watches both. Source: Mishkin,
Bietti and Gower, Level Set Teleportation: An Optimization Perspective (arXiv 2403.03362, AISTATS 2025); the choice
of the penalty and the last restoring steps are this project's.
"""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from teleport_engine.compare.attempt import Attempt, Point
from teleport_engine.compare.rival import ClimbingRival
from teleport_engine.report import Outcome

__all__ = ["LevelSetTeleporter"]

_MAX_HALVINGS = 30
_MAX_RESTORING_STEPS = 10
_SUFFICIENT = 0.1
_GROWTH = 2.0


@final
class LevelSetTeleporter(ClimbingRival):
    """Raises the gradient norm along the level set of the loss on a batch.

    With `q = Hg / ||g||^2` (the gradient of `log ||g||`), a step is `w + rho q - v g` with
    `v = (rho <q, g> + L - L_0) / ||g||^2`: first order on the level set. `rho` is halved until the merit
    `-log ||g|| + gamma |L - L_0|` falls by a share of what the first order promises, and doubled after a step
    that needed no halving. The last steps, `-(L - L_0) g / ||g||^2` alone, take the loss back to `L_0`.

    The options are those of `ClimbingRival`. Every trainable parameter moves, and `step_size` is in units of squared
    weights. If the loss is further than `max_loss_drift` from its start in the end, all is put back.
    """

    route = "level_set"
    first_step_size = 1.0

    def _climb(self, now: Attempt) -> Outcome:
        here, rho, outcome = now.start, self._step_size, Outcome.MOVED
        for index in range(self._num_steps):
            if here.square_norm == 0.0:
                outcome = Outcome.NO_ASCENT
                break
            before = now.snapshot()
            landed, taken = self._search(now, here, before, rho, with_ascent=index < self._num_steps - 1)
            if landed is None:
                outcome = Outcome.NO_ASCENT
                break
            if math.sqrt(landed.square_norm) > self._cap:
                now.put(before)
                outcome = Outcome.CAP_REACHED
                break
            now.keep(landed, taken)
            here, rho = landed, _GROWTH * taken if taken == rho else taken
        return self._restore_loss(now, here, outcome) if now.trace else outcome

    def _search(
        self, now: Attempt, here: Point, before: Sequence[Tensor], rho: float, *, with_ascent: bool
    ) -> tuple[Point | None, float]:
        """Halves the way until the merit falls enough; gives the first such point, which the weights are put to."""
        square, gap = here.square_norm, here.loss - now.start.loss
        along = _dot(here.ascent, here.grads)  # g^T H g
        tangent = max(_dot(here.ascent, here.ascent) / square**2 - along**2 / square**3, 0.0)  # ||P q||^2
        if tangent * square <= 1e-24:
            return None, rho
        # An exact penalty needs more than the multiplier of the constraint, <q, g> / ||g||^2.
        gamma = 2.0 * abs(along) / square**2 + 1e-12
        merit = -0.5 * math.log(square) + gamma * abs(gap)
        for _ in range(_MAX_HALVINGS):
            v = (rho * along / square + gap) / square
            with torch.no_grad():
                now.put(
                    [w + (rho / square) * q - v * g for w, q, g in zip(before, here.ascent, here.grads, strict=True)]
                )
            landed = now.evaluate(with_ascent=False)
            if landed.is_finite and landed.square_norm > 0.0:
                found = -0.5 * math.log(landed.square_norm) + gamma * abs(landed.loss - now.start.loss)
                if found <= merit - _SUFFICIENT * rho * tangent:
                    return (now.evaluate(with_ascent=True) if with_ascent else landed), rho
            rho *= 0.5
        now.put(before)
        return None, rho

    def _restore_loss(self, now: Attempt, here: Point, outcome: Outcome) -> Outcome:
        """Takes Newton steps on the constraint alone, while they bring the loss nearer to where it was."""
        best, weights = here, now.snapshot()
        scale = max(1.0, abs(now.start.loss))
        exact = 1e-12 if here.grads[0].dtype == torch.float64 else 1e-6
        for _ in range(_MAX_RESTORING_STEPS):
            gap = best.loss - now.start.loss
            if abs(gap) <= exact * scale:
                break
            with torch.no_grad():
                now.put([w - (gap / best.square_norm) * g for w, g in zip(weights, best.grads, strict=True)])
            landed = now.evaluate(with_ascent=False)
            if not landed.is_finite or abs(landed.loss - now.start.loss) >= abs(gap):
                now.put(weights)
                break
            best, weights = landed, now.snapshot()
        drift = abs(best.loss - now.start.loss)
        if not drift <= self._max_loss_drift:
            now.messages.append(f"loss changed by {drift:.6g}, limit {self._max_loss_drift:.6g}: rolled back")
            now.roll_back()
            return Outcome.DRIFT
        return outcome


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum() for a, b in zip(left, right, strict=True)))
