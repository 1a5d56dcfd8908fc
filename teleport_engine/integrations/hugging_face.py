"""A callback for Hugging Face's `transformers.Trainer`."""

import base64
import io
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from teleport_engine.integrations.batches import (
    SplitBatch,
    checked_teleporter,
    model_loss,
    refuse_another_model,
    refuse_ranks,
    split,
)
from teleport_engine.model import Inputs
from teleport_engine.report import TeleportReport
from teleport_engine.teleporter import Teleporter

__all__ = ["TrainerTeleportCallback"]

_NAME = "TrainerTeleportCallback"


@final
class TrainerTeleportCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Teleports before the steps of a `Trainer` where the teleporter's schedule says so.

    A teleport comes before the first forward of an optimizer step, on what this forward is called with, in the
    precision of the weights. With `gradient_accumulation_steps`, the other batches of the step see the weights that it
    left. The schedule is asked with `state.global_step`. The teleporter's state is in `trainer_state.json` of each
    checkpoint; `train(resume_from_checkpoint=...)` goes on from it.

    Args:
        teleporter: with a schedule; made from the Trainer's model. `Teleporter(model, model_loss, ...)` takes the loss
            that the model computes itself.
        split_batch: gives inputs and targets for a dict of what the model is called with. Without it, the inputs are
            all of it and the targets its `labels`.

    Attributes:
        last_report: what the latest teleport did; None before the first.

    Raises:
        ValueError: if the teleporter has no schedule. When the Trainer is made or training begins: if it moves other
            weights than those that are trained, there are several devices, the model is compiled, or the
            Trainer would make its callbacks anew. At a teleport: if the loss function needs labels and there are none;
            as in `Teleporter.teleport`.
    """

    def __init__(self, teleporter: Teleporter, *, split_batch: SplitBatch | None = None) -> None:
        self._teleporter = checked_teleporter(_NAME, teleporter, split_batch)
        self._split_batch = split_batch
        self._hook: Any = None
        self.last_report: TeleportReport | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Refuses options of the Trainer that a teleport cannot go with.

        Raises:
            ValueError: see the class.
        """
        refuse_ranks(max(args.world_size, args.n_gpu))
        if args.torch_compile:
            raise ValueError(
                f"{_NAME} needs the Python of the model's forward, got torch_compile=True: set it to False, or write "
                f"the loop yourself and give the Teleporter the compiled model"
            )
        if args.restore_callback_states_from_checkpoint:
            raise ValueError(
                f"{_NAME} restores its own state, and transformers cannot make it anew from a checkpoint, got "
                f"restore_callback_states_from_checkpoint=True: set it to False"
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **given: Any) -> None:
        """Goes on from the state of a checkpoint, where training is resumed from one.

        Raises:
            ValueError: see the class.
        """
        self.on_init_end(args, state, control)
        refuse_another_model(self._teleporter, model)
        kept = state.stateful_callbacks.setdefault(_NAME, self.state())  # absent in a checkpoint made without it
        if isinstance(kept, list):
            raise ValueError(f"a Trainer takes one {_NAME}, got {len(kept)}: remove the others")
        buffer = io.BytesIO(base64.b64decode(kept["attributes"]["teleporter"]))
        self._teleporter.load_state_dict(torch.load(buffer, weights_only=True))

    def on_step_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **given: Any) -> None:
        """Waits for the first forward of the step, where a teleport is due."""
        schedule = self._teleporter.schedule
        if schedule is None or not schedule.is_due(state.global_step):
            return
        self._forget()

        def before_forward(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._forget()  # first, because a teleport calls the model
            inputs, targets = self._split(kwargs)
            self.last_report = self._teleporter.step(state.global_step, inputs, targets)

        self._hook = model.register_forward_pre_hook(before_forward, with_kwargs=True, prepend=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Waits for no forward any more."""
        self._forget()

    def state(self) -> dict[str, Any]:
        """Gives the teleporter's state as text, for the JSON of a checkpoint."""
        buffer = io.BytesIO()
        torch.save(self._teleporter.state_dict(), buffer)
        return {"args": {}, "attributes": {"teleporter": base64.b64encode(buffer.getvalue()).decode("ascii")}}

    def _forget(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _split(self, batch: Mapping[str, Any]) -> tuple[Inputs, Any]:
        if self._split_batch is not None:
            return split(self._split_batch, batch)
        if "labels" not in batch and self._teleporter.loss_fn is not model_loss:
            raise ValueError(
                f"a loss_fn of your own needs targets, and the batch has no 'labels', got {', '.join(batch)}: give "
                f"{_NAME}(..., split_batch=function), a function from a batch to the pair (inputs, targets); or "
                f"Teleporter(model, model_loss, ...) for the loss that the model computes itself (with "
                f"label_smoothing_factor or compute_loss_func, Trainer takes the labels out of the batch)"
            )
        return batch, batch.get("labels")
