"""What the callbacks share: how a batch is split, the loss that a model computes itself, and what is refused."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from teleport_engine.model import Inputs
from teleport_engine.teleporter import Teleporter

__all__ = ["SplitBatch", "checked_teleporter", "model_loss", "refuse_another_model", "refuse_ranks", "split"]

SplitBatch = Callable[[Any], tuple[Inputs, Any]]
"""Takes a batch of the training loop, and gives inputs of the model and what the loss function compares with."""


def model_loss(outputs: Any, targets: Any) -> Tensor:
    """Gives the loss that a model has computed itself, as the models of transformers do where labels are in the batch.

    That is `outputs["loss"]`, or the first of a tuple. A `loss_fn` for `Teleporter`; it does not look at the targets.

    Raises:
        ValueError: if the outputs hold no loss.
    """
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, tuple) and loss:
        loss = loss[0]
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss
    held = f"the keys {', '.join(outputs)}" if isinstance(outputs, Mapping) else type(outputs).__name__
    raise ValueError(
        f"model_loss needs a model that gives its loss, got {held}: put the labels into the batch, or give the "
        f"Teleporter a loss_fn(outputs, targets) (with label_smoothing_factor or compute_loss_func, Trainer takes the "
        f"labels out of the batch, and the model computes no loss)"
    )


def checked_teleporter(name: str, teleporter: Teleporter, split_batch: SplitBatch | None) -> Teleporter:
    """Gives a teleporter that a callback can work with.

    Raises:
        ValueError: if it is no `Teleporter`, it has no schedule, or `split_batch` cannot be called.
    """
    if not isinstance(teleporter, Teleporter):
        raise ValueError(f"{name} needs a Teleporter(model, loss_fn, schedule=...), got {teleporter!r}")
    if teleporter.schedule is None:
        raise ValueError(f"{name} needs a schedule: give Teleporter(schedule=Schedule(...)), got None")
    if split_batch is not None and not callable(split_batch):
        raise ValueError(f"split_batch must be callable, got {split_batch!r}")
    return teleporter


def refuse_another_model(teleporter: Teleporter, trained: nn.Module) -> None:
    """Refuses a teleporter that moves other weights than those that are trained.

    Raises:
        ValueError: if they have no parameter in common.
    """
    theirs = {id(parameter) for parameter in trained.parameters()}
    if not any(id(parameter) in theirs for parameter in teleporter.model.parameters()):
        raise ValueError(
            f"the teleporter must move weights of the model that is trained, got a "
            f"{type(teleporter.model).__name__} that shares none with the {type(trained).__name__} in training: make "
            f"the Teleporter from that very model, or from a module of it"
        )


def refuse_ranks(num_ranks: int) -> None:
    """Refuses training on several devices, each of which would move weights on its own.

    Raises:
        ValueError: if there are several.
    """
    if num_ranks > 1:
        raise ValueError(
            f"a callback teleports in training on one device, got {num_ranks}: train on one, or write the loop "
            f"yourself and give the Teleporter the DistributedDataParallel module"
        )


def split(split_batch: SplitBatch, batch: Any) -> tuple[Inputs, Any]:
    """Splits a batch by a user's function.

    Raises:
        ValueError: if it gives no pair.
    """
    found: Any = split_batch(batch)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise ValueError(f"split_batch must give a pair (inputs, targets), got {type(found).__name__}")
    return found[0], found[1]
