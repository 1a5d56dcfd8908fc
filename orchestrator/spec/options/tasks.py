"""The tasks that a spec may name: what a target is, which loss is trained, and which metrics are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from orchestrator.errors import nearest
from orchestrator.spec.options.entry import Entry, NamedOptions

Mode = Literal["min", "max"]

MetricNames = Annotated[tuple[str, ...], Field(strict=False)]

LOSSES = ("train_loss", "validation_loss")
# Measured of a run as a whole, of whatever task.
COSTS = (
    "steps_to_target",
    "seconds_to_target",
    "gradient_evaluations_to_target",
    "seconds",
    "gradient_evaluations",
)


class TaskOptions(NamedOptions):
    """Settings that every task has; a subclass says what its metrics are, and which targets it takes.

    Args:
        metrics: what is measured beside the loss, as ``validation_METRIC`` and, in confirm, ``test_METRIC``.
    """

    directions: ClassVar[Mapping[str, Mode]]
    """Each metric that the task can measure, and whether ``min`` or ``max`` is better."""
    target_kinds: ClassVar[frozenset[str]]
    """The kinds of target that the task takes, as data sets name them (``DataOptions.target_kind``)."""

    metrics: MetricNames = ()

    @field_validator("metrics")
    @classmethod
    def _can_be_measured(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            if metric not in cls.directions:
                raise ValueError(f"{metric!r} is no metric of this task; {nearest(metric, cls.directions)}")
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"metrics must differ from each other; they are {', '.join(metrics)}")
        return metrics

    @property
    def curves(self) -> tuple[str, ...]:
        """The metrics of a history: both losses, and each metric on the validation split."""
        return (*LOSSES, *(f"validation_{metric}" for metric in self.metrics))


class ClassificationOptions(TaskOptions):
    """One class for each sample, or for each token; scores are ``[..., num_classes]``.

    Args:
        loss: what is trained.
        metrics: ``accuracy``, and ``f1``: the mean over the classes of each one's F1.
    """

    directions: ClassVar[Mapping[str, Mode]] = {"accuracy": "max", "f1": "max"}
    target_kinds = frozenset({"class", "token"})

    name: Literal["classification"]
    loss: Literal["cross_entropy"] = "cross_entropy"
    metrics: MetricNames = ("accuracy",)


class RegressionOptions(TaskOptions):
    """One or more numbers for each sample; outputs have the shape of the targets, ``[n, d]``.

    Args:
        loss: the mean squared error, the mean absolute error, or Huber's with δ = 1.
        metrics: the two errors, and ``r2``, the share of the targets' variance that is explained.
    """

    directions: ClassVar[Mapping[str, Mode]] = {"mse": "min", "mae": "min", "r2": "max"}
    target_kinds = frozenset({"number"})

    name: Literal["regression"]
    loss: Literal["mse", "mae", "huber"] = "mse"
    metrics: MetricNames = ("mse", "mae", "r2")


class MultilabelOptions(TaskOptions):
    """Any of several labels for each sample; targets are 0 or 1, and scores have their shape, ``[n, d]``.

    Args:
        loss: what is trained.
        metrics: ``f1``: the mean over the labels of each one's F1, a label being given where its score is above 0.
    """

    directions: ClassVar[Mapping[str, Mode]] = {"f1": "max"}
    target_kinds = frozenset({"labels"})

    name: Literal["multilabel"]
    loss: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    metrics: MetricNames = ("f1",)


class LanguageModellingOptions(TaskOptions):
    """The next token at each token; scores are ``[n, T, num_classes]``.

    Args:
        loss: what is trained.
        metrics: ``perplexity``, the exponential of the mean cross-entropy, and ``accuracy``.
    """

    directions: ClassVar[Mapping[str, Mode]] = {"perplexity": "min", "accuracy": "max"}
    target_kinds = frozenset({"token"})

    name: Literal["language_modelling"]
    loss: Literal["cross_entropy"] = "cross_entropy"
    metrics: MetricNames = ("perplexity",)


TASKS: dict[str, Entry] = {
    "classification": Entry(ClassificationOptions, "orchestrator.trial.tasks:classification"),
    "regression": Entry(RegressionOptions, "orchestrator.trial.tasks:regression"),
    "multilabel": Entry(MultilabelOptions, "orchestrator.trial.tasks:multilabel"),
    "language_modelling": Entry(LanguageModellingOptions, "orchestrator.trial.tasks:language_modelling"),
}


def tasks_for(kind: str) -> list[str]:
    """List the names of the tasks that take a kind of target, sorted."""
    options = {name: entry.options for name, entry in TASKS.items()}
    return sorted(name for name, own in options.items() if issubclass(own, TaskOptions) and kind in own.target_kinds)


def metric_directions() -> dict[str, Mode]:
    """Give the direction of each metric of each registered task; a name has one direction in all of them."""
    found: dict[str, Mode] = {}
    for entry in TASKS.values():
        assert issubclass(entry.options, TaskOptions)
        found |= entry.options.directions
    return found


def is_higher_better(metric: str) -> bool:
    """Tell whether larger values of a curve such as ``validation_r2`` or ``test_r2`` are better."""
    split, _, name = metric.partition("_")
    return split in ("validation", "test") and metric_directions().get(name) == "max"


def _curve(metric: str, *more: str) -> str:
    known = [*LOSSES, *(f"validation_{name}" for name in metric_directions()), *more]
    if metric not in known:
        raise ValueError(f"{metric} is none of the valid values; {nearest(metric, known)}")
    return metric


def _curve_or_cost(metric: str) -> str:
    return _curve(metric, *COSTS)


# The name of a curve, such as ``validation_r2``; which of them a workload has, its task says.
CurveMetric = Annotated[str, AfterValidator(_curve)]
# What a search may improve: a curve's last value, or a cost.
ObjectiveMetric = Annotated[str, AfterValidator(_curve_or_cost)]
