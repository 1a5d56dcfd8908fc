"""A callback for PyTorch Lightning, under either of its names: `lightning` and `pytorch_lightning`."""

import importlib
import sys
from typing import TYPE_CHECKING, Any, final

from torch import nn

from teleport_engine.integrations.batches import (
    SplitBatch,
    checked_teleporter,
    refuse_another_model,
    refuse_ranks,
    split,
)
from teleport_engine.model import Inputs
from teleport_engine.report import TeleportReport
from teleport_engine.teleporter import Teleporter

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    # Both names may be installed, with classes of their own: the one that the program trains with is loaded by now.
    _NAMES = ("lightning.pytorch", "pytorch_lightning")
    _LOADED = [name for name in _NAMES if name in sys.modules]
    Callback = importlib.import_module(_LOADED[0] if _LOADED else _NAMES[1]).Callback

__all__ = ["LightningTeleportCallback"]


@final
class LightningTeleportCallback(Callback):  # type: ignore[misc]
    """Teleports before the steps of a Lightning `Trainer` where the teleporter's schedule says so.

    A teleport comes before the first `training_step` of an optimizer step, on the batch of that `training_step`, in the
    precision of the weights. With `accumulate_grad_batches`, the other batches of the step see the weights that it
    left. The schedule is asked with `trainer.global_step`. The teleporter's state is in Lightning's checkpoints.

    Args:
        teleporter: with a schedule; its model is the LightningModule or a module of it, its loss function computes the
            loss that `training_step` returns.
        split_batch: gives inputs and targets for a batch. Without it, a batch is a pair of these.

    Attributes:
        last_report: what the latest teleport did; None before the first.

    Raises:
        ValueError: if the teleporter has no schedule. When training begins: if it moves other weights than those
            that are trained, there are several optimizers, or several devices. At a teleport: if the batch is no pair
            and there is no `split_batch`; as in `Teleporter.teleport`.
    """

    def __init__(self, teleporter: Teleporter, *, split_batch: SplitBatch | None = None) -> None:
        super().__init__()
        self._teleporter = checked_teleporter("LightningTeleportCallback", teleporter, split_batch)
        self._split_batch: SplitBatch = _pair if split_batch is None else split_batch
        self._asked = -1
        self.last_report: TeleportReport | None = None

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Begins anew; a checkpoint is loaded after this."""
        self._asked = -1

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Refuses what would go wrong without a word.

        Raises:
            ValueError: see the class.
        """
        trained: nn.Module = pl_module
        refuse_another_model(self._teleporter, trained)
        refuse_ranks(trainer.world_size)
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"a teleport comes before the step of one optimizer, got {len(trainer.optimizers)} optimizers: call "
                f"Teleporter.step in training_step, before the step that it is for"
            )

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        """Teleports before the first batch of an optimizer step, where a teleport is due."""
        index = trainer.global_step
        if index == self._asked:
            return
        self._asked = index
        schedule = self._teleporter.schedule
        if schedule is not None and schedule.is_due(index):
            inputs, targets = split(self._split_batch, batch)
            self.last_report = self._teleporter.step(index, inputs, targets)

    def state_dict(self) -> dict[str, Any]:
        """Gives the state of the teleporter, and the step that has had its turn."""
        return {"teleporter": self._teleporter.state_dict(), "asked": self._asked}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self._teleporter.load_state_dict(state_dict["teleporter"])
        self._asked = state_dict["asked"]


def _pair(batch: Any) -> tuple[Inputs, Any]:
    """Takes a batch for the pair that the loaders of torch give: `[inputs, targets]`.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        got = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise ValueError(
            f"a batch must be a pair (inputs, targets), got {got}: give LightningTeleportCallback(..., "
            f"split_batch=function), a function from a batch to the pair (inputs, targets)"
        )
    inputs, targets = batch
    # torch's collate makes lists of tuples.
    return tuple(inputs) if isinstance(inputs, list) else inputs, targets
