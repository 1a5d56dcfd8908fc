"""What a teleport is to be compared with: moves that are not directed, and optimizers that are merely treated.

Raising the gradient norm acts like a larger step, and a move of any direction makes the weights larger. A claim for the
directed move needs these rivals beside it, as arms of the same experiment.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from teleport_engine.model import WeightLayer, find_layers
from teleport_engine.nullspace import Projector

__all__ = [
    "IdentityMove",
    "RandomMove",
    "reset_state",
    "scale_initial_weights",
    "scaled_lr",
]


@final
class IdentityMove:
    """Undoes the teleport: it is made at full cost, and at its end the weights are put back bit for bit."""

    @property
    def is_kept(self) -> bool:
        """The weights are put back."""
        return False

    def along(self, directions: Sequence[Tensor | None], projectors: Sequence[Projector]) -> Sequence[Tensor | None]:
        """Gives the directions as they are, the same object."""
        return directions

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to remember: an empty dict."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """There is nothing to take over."""


@final
class RandomMove:
    """A random null-space move: Gaussian, projected by the same P, in each layer as long as the directed move here.

    At `tau = 1` it keeps the loss on the batch as exactly as the directed move does. It costs the direction and
    the search of its length too, and one evaluation more. Each step of each teleport draws anew, from this object's own
    seed: two objects of one seed make the same moves, and the global random state is not touched.

    Args:
        seed: of the moves.
        scale: length of a move, as a multiple of the directed one's.

    Raises:
        ValueError: if the scale is not finite and above zero.
    """

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        if not 0.0 < scale < float("inf"):
            raise ValueError(f"scale must be finite and > 0, got {scale}")
        self._scale = scale
        self._state = torch.Generator("cpu").manual_seed(seed).get_state()

    @property
    def is_kept(self) -> bool:
        """The weights stay where the moves have led them."""
        return True

    def along(self, directions: Sequence[Tensor | None], projectors: Sequence[Projector]) -> Sequence[Tensor | None]:
        """Draws `G P` for each layer that would move, scaled to the norm of its directed move times `scale`."""
        generator = torch.Generator("cpu")
        generator.set_state(self._state)
        found: list[Tensor | None] = []
        for directed, projector in zip(directions, projectors, strict=True):
            if directed is None:
                found.append(None)
                continue
            # Drawn on the CPU: the same on every device. Projected twice, so that the rounding of what was in the
            # span is small beside what is left (a null space may be a thousandth of it).
            drawn = torch.randn(directed.shape, generator=generator, dtype=directed.dtype, device="cpu")
            drawn = drawn.to(directed.device)
            drawn = projector.project(projector.project(drawn))
            found.append(drawn * (self._scale * directed.norm() / drawn.norm()))
        self._state = generator.get_state()
        return found

    def state_dict(self) -> dict[str, Any]:
        """Gives the state of the generator, which the next draws depend on."""
        return {"generator": self._state.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` gave."""
        self._state = state_dict["generator"].clone()


def reset_state(optimizer: Optimizer) -> None:
    """Forgets what an optimizer has gathered (momenta, second moments, step counts); its options stay.

    The next step of the optimizer, of torch or wrapped by `TeleportOptimizer`, is that of a fresh one.
    """
    optimizer.state.clear()
    for group in optimizer.param_groups:
        # Adagrad alone makes its state when it is made, not at its first step.
        if "initial_accumulator_value" in group:
            for parameter in group["params"]:
                start = group["initial_accumulator_value"]
                total = torch.full_like(
                    parameter,
                    complex(start, start) if parameter.is_complex() else start,
                    memory_format=torch.preserve_format,
                )
                optimizer.state[parameter] = {"step": torch.tensor(0.0), "sum": total}


@contextmanager
def scaled_lr(optimizer: Optimizer, ratio: float) -> Iterator[None]:
    """Multiplies the learning rates by a ratio for the steps taken inside; at the end they are put back.

    With `ratio = report.grad_norm_ratio` of a teleport that was measured and put back (`move=IdentityMove()`), this
    is the teleport's larger step without its move. A scheduler of the learning rate must step outside.

    Raises:
        ValueError: if the ratio is not finite and above zero.
    """
    if not 0.0 < ratio < float("inf"):
        raise ValueError(f"ratio must be finite and > 0, got {ratio}")
    kept = [(group, group["lr"]) for group in optimizer.param_groups]
    try:
        for group, rate in kept:
            group["lr"] = rate * ratio
        yield
    finally:
        for group, rate in kept:
            group["lr"] = rate


def scale_initial_weights(model: nn.Module, factor: float) -> list[str]:
    """Multiplies the weights that a teleport could move by a factor; biases, norms and embeddings stay.

    Returns:
        Names of the parameters scaled, each once, as in `model.named_parameters()`.

    Raises:
        ValueError: if the factor is not finite and above zero.
    """
    if not 0.0 < factor < float("inf"):
        raise ValueError(f"factor must be finite and > 0, got {factor}")
    layers = [layer for layer in find_layers(model) if isinstance(layer, WeightLayer)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(factor)
    return [layer.parameter_name for layer in layers]
