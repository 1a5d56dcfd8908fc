"""What the weights are moved along: the seam, and the teleport's own move."""

from collections.abc import Sequence
from typing import Any, Protocol, final, runtime_checkable

from torch import Tensor

from teleport_engine.nullspace import Projector

__all__ = ["DirectedMove", "Move"]


@runtime_checkable
class Move(Protocol):
    """What the weights are moved along, once the length of the step is known. Given as `Teleporter(move=...)`.

    The step rule looks at the objective along the directed line, whatever the move; the guards look at where the
    move lands.
    """

    @property
    def is_kept(self) -> bool:
        """Whether the weights stay where the steps have led them."""

    def along(self, directions: Sequence[Tensor | None], projectors: Sequence[Projector]) -> Sequence[Tensor | None]:
        """Gives the directions to go.

        Args:
            directions: per live layer, the projected ascent direction `[g, o, d]`; None where the layer stays.
            projectors: per live layer, on the directions that it may take.

        Returns:
            Per live layer, a direction of the same Frobenius norm, or of a stated multiple of it; the very same object
            for the directed move.
        """

    def state_dict(self) -> dict[str, Any]:
        """Gives what its next directions depend on, for `load_state_dict`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` gave."""


@final
class DirectedMove:
    """The teleport itself: along the projected gradient of the objective."""

    @property
    def is_kept(self) -> bool:
        """The weights stay where the steps have led them."""
        return True

    def along(self, directions: Sequence[Tensor | None], projectors: Sequence[Projector]) -> Sequence[Tensor | None]:
        """Gives the directions as they are, the same object."""
        return directions

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to remember: an empty dict."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """There is nothing to take over."""
