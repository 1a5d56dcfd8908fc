"""What each task trains and measures: a loss, and metrics that are made of sums over the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.spec import Workload
from orchestrator.spec.options import (
    TASKS,
    ClassificationOptions,
    LanguageModellingOptions,
    MultilabelOptions,
    RegressionOptions,
    TaskOptions,
)
from orchestrator.trial.data.dataset import Split
from teleport_engine.model import called, tensors_in

LossFn = Callable[[Any, Any], Tensor]
# What is added up over the samples, by name.
Sums = dict[str, Tensor]


@final
@dataclass(frozen=True)
class Task:
    """What a task trains and measures.

    A split is measured in chunks. The sums of the chunks are added, so that a metric such as R² or F1, which is no mean
    over samples, is that of the whole split.

    Args:
        loss: ``loss(outputs, targets)``, the mean over all predictions, which is trained and which teleports preserve.
        sums: ``sums(outputs, targets)`` of a chunk, tensors that are added up over the chunks.
        metrics: from the sums, ``loss`` and each metric that the options name.
        misfit: says why outputs do not go with targets; empty: they do. It is asked once, before training.
        chance_loss: the loss of a model that knows nothing, from the number of classes; None: it is not known.
    """

    loss: LossFn
    sums: Callable[[Any, Any], Sums]
    metrics: Callable[[Sums], dict[str, float]]
    misfit: Callable[[Any, Any], str] = lambda outputs, targets: ""
    chance_loss: Callable[[int], float | None] = lambda num_classes: None


def task_of(options: TaskOptions) -> Task:
    """Make the task that a workload names.

    Raises:
        TypeError: the builder, a plug-in's, returns no :class:`Task`.
    """
    made = TASKS[options.name].load()(options)
    if not isinstance(made, Task):
        raise TypeError(f"task {options.name}: its builder must return a Task, gave {type(made).__name__}")
    return made


def checked(workload: Workload, task: Task, model: nn.Module, split: Split) -> None:
    """Run the model on the first samples and check that its outputs, the targets and the task go together.

    The model is in training mode before and after; random state and buffers stay as they are.

    Raises:
        ValueError: they do not; the message has the first sample's dtypes and shapes.
    """
    first = split.part(0, 2)
    model.eval()
    with torch.no_grad():
        outputs = called(model, first.inputs)
    model.train()
    misfit = task.misfit(outputs, first.targets)
    if misfit:
        raise ValueError(
            f"task {workload.task.name}, data set {workload.data.name}, model {workload.model.name}: {misfit}; the "
            f"first samples have inputs {_told(first.inputs)}, targets {_told(first.targets)}, outputs {_told(outputs)}"
        )


def _told(value: Any) -> str:
    return ", ".join(f"{str(each.dtype).removeprefix('torch.')} {list(each.shape)}" for each in tensors_in(value))


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Compute the cross-entropy, a tensor without dimensions, in which every token of every sample counts the same.

    Args:
        outputs: scores ``[..., num_classes]``: ``[n, C]``, or ``[n, T, V]``.
        targets: ``[...]``, int64.
        reduction: the mean over all predictions, or their sum.
    """
    return F.cross_entropy(outputs.flatten(end_dim=-2), targets.flatten(), reduction=reduction)


def num_correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count the predictions whose largest score is the target's; shapes as in :func:`cross_entropy`."""
    return (outputs.argmax(dim=-1) == targets).sum()


def classification(options: ClassificationOptions) -> Task:
    """One class for each sample or token: cross-entropy, accuracy, macro F1."""
    return _of_classes(options.metrics)


def language_modelling(options: LanguageModellingOptions) -> Task:
    """The next token: cross-entropy, perplexity, accuracy."""
    return _of_classes(options.metrics)


def regression(options: RegressionOptions) -> Task:
    """Numbers: squared, absolute or Huber's error; MSE, MAE and R², each the mean over a target's numbers."""
    losses: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}
    loss = losses[options.loss]

    def sums(outputs: Tensor, targets: Tensor) -> Sums:
        y, errors = targets.double(), outputs.double() - targets.double()
        return {
            "num": _count(y),
            "num_samples": torch.tensor(len(y), dtype=torch.float64, device=y.device),
            "loss": loss(outputs, targets, reduction="sum").double(),
            "absolute": errors.abs().sum(),
            "squared": errors.square().sum(dim=0),
            "y": y.sum(dim=0),
            "y_squared": y.square().sum(dim=0),
        }

    def metrics(total: Sums) -> dict[str, float]:
        found = {
            "loss": total["loss"] / total["num"],
            "mse": total["squared"].sum() / total["num"],
            "mae": total["absolute"] / total["num"],
        }
        spread = total["y_squared"] - total["y"].square() / total["num_samples"]
        # Where all targets are the same there is nothing to explain.
        explained = 1.0 - total["squared"] / torch.where(spread > 0.0, spread, 1.0)
        found["r2"] = torch.where(spread > 0.0, explained, 0.0).mean()
        return _chosen(found, options.metrics)

    return Task(loss, sums, metrics, _differs_in_shape)


def multilabel(options: MultilabelOptions) -> Task:
    """Any of several labels: binary cross-entropy on the scores, macro F1."""
    loss = F.binary_cross_entropy_with_logits

    def sums(outputs: Tensor, targets: Tensor) -> Sums:
        given, wanted = outputs > 0.0, targets > 0.5
        return {
            "num": _count(targets),
            "loss": loss(outputs, targets, reduction="sum").double(),
            "hits": (given & wanted).sum(dim=0),
            "predicted": given.sum(dim=0),
            "actual": wanted.sum(dim=0),
        }

    def metrics(total: Sums) -> dict[str, float]:
        return _chosen({"loss": total["loss"] / total["num"], "f1": _macro_f1(total)}, options.metrics)

    return Task(loss, sums, metrics, _differs_in_shape)


def _of_classes(names: tuple[str, ...]) -> Task:
    def sums(outputs: Tensor, targets: Tensor) -> Sums:
        found = {
            "num": _count(targets),
            "loss": cross_entropy(outputs, targets, reduction="sum").double(),
            "correct": num_correct(outputs, targets).double(),
        }
        if "f1" in names:
            num_classes, predicted, actual = outputs.shape[-1], outputs.argmax(dim=-1).flatten(), targets.flatten()
            found |= {
                "hits": torch.bincount(actual[predicted == actual], minlength=num_classes),
                "predicted": torch.bincount(predicted, minlength=num_classes),
                "actual": torch.bincount(actual, minlength=num_classes),
            }
        return found

    def metrics(total: Sums) -> dict[str, float]:
        found = {"loss": total["loss"] / total["num"], "accuracy": total["correct"] / total["num"]}
        found["perplexity"] = found["loss"].exp()
        if "f1" in names:
            found["f1"] = _macro_f1(total)
        return _chosen(found, names)

    return Task(cross_entropy, sums, metrics, _lacks_scores, math.log)


def _count(targets: Tensor) -> Tensor:
    return torch.tensor(targets.numel(), dtype=torch.float64, device=targets.device)


def _chosen(found: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, float]:
    """Move the loss and the metrics that are asked for from the device, in one transfer."""
    wanted = ("loss", *names)
    values: list[float] = torch.stack([found[name].double() for name in wanted]).tolist()
    return dict(zip(wanted, values, strict=True))


def _macro_f1(total: Sums) -> Tensor:
    """Average F1 over the classes that are predicted or wanted at least once, as scikit-learn does."""
    both = (total["predicted"] + total["actual"]).double()
    is_there = both > 0
    return (2.0 * total["hits"].double() / torch.where(is_there, both, 1.0)).sum() / is_there.sum()


def _lacks_scores(outputs: Any, targets: Any) -> str:
    if not isinstance(outputs, Tensor) or outputs.shape[:-1] != targets.shape:
        return f"scores of the shape {[*targets.shape, 'num_classes']} are needed"
    if targets.dtype != torch.int64:
        return "targets must be int64"
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < outputs.shape[-1]:
        return (
            f"targets must be 0 .. {outputs.shape[-1] - 1}, and they are {int(targets.min())} .. {int(targets.max())}"
        )
    return ""


def _differs_in_shape(outputs: Any, targets: Any) -> str:
    if not isinstance(outputs, Tensor) or outputs.shape != targets.shape:
        return "outputs must have the shape of the targets"
    return "" if targets.is_floating_point() else "targets must be floats"
