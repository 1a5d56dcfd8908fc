"""What is trained and how, with every value fixed; a spec's workloads and arms become these."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from orchestrator.errors import nearest
from orchestrator.spec.options import (
    DATASETS,
    LR_SCHEDULES,
    MODELS,
    OPTIMIZERS,
    TASKS,
    ArmOptions,
    ClassificationOptions,
    ConstantOptions,
    CurveMetric,
    DataOptions,
    Entry,
    FollowerOptions,
    InitScaledOptions,
    InputKind,
    LevelSetOptions,
    LrScaledOptions,
    LrScheduleOptions,
    Mode,
    ModelOptions,
    NamedOptions,
    ObjectiveMetric,
    OneOf,
    Options,
    OrbitOptions,
    RandomMoveOptions,
    ScheduleOptions,
    StateResetOptions,
    SymmetryOptions,
    TaskOptions,
    TeleportOptions,
    is_higher_better,
    models_for,
    tasks_for,
)
from orchestrator.spec.space import Template


def target_metrics(workload: Template) -> tuple[CurveMetric, ...]:
    """List each metric that a workload's target may be on: several only where the spec searches over it."""
    corners = (workload.concretise(corner) for corner in workload.corners())
    return tuple(dict.fromkeys(Target.model_validate(corner["target"]).metric for corner in corners))


Precision = Literal["float32", "bfloat16", "float16"]
Phase = Literal["search", "confirm"]
PHASES: tuple[Phase, ...] = get_args(Phase)

EVALUATIONS_PER_RUN = 50
CHECKPOINT_EVERY = 60.0


class Evaluate(Options):
    """When and on how many samples the curves are measured; evaluation is off the optimizer clock.

    Args:
        every: optimizer steps between evaluations; None: 2 % of the run. Between two evaluations the moment at which
            the target is reached is interpolated, which hides small effects where they are far apart.
        num_validation: validation samples that are measured, the same ones each time and in every arm; None: the whole
            split. Where a small model is evaluated often, measuring it takes most of a trial's wall clock.
    """

    every: PositiveInt | None = None
    num_validation: PositiveInt | None = None

    def steps_between(self, num_steps: int) -> int:
        """Return the optimizer steps between two evaluations in a run of so many steps."""
        return self.every or max(1, num_steps // EVALUATIONS_PER_RUN)


class Target(Options):
    """The quality to reach; the workload sets it, never an arm.

    Args:
        metric: a curve of the history.
        value: the target is reached when the metric is at least as good as this.
    """

    metric: CurveMetric
    value: float

    def is_reached(self, value: float) -> bool:
        """Tell whether ``value`` is at least as good as the target."""
        return value >= self.value if is_higher_better(self.metric) else value <= self.value


class Workload(Options):
    """What is trained.

    Args:
        model: the model and its options.
        data: the data set and its options, with the batch size.
        task: what a target is, which loss is trained, and which metrics are measured.
        optimizer: the optimizer and its options.
        lr_schedule: what the learning rate is multiplied with over the run.
        epochs: passes over the training split.
        evaluate: when the curves are measured.
        target: the quality whose reaching is timed.
        precision: number format of forward and backward in training; ``bfloat16`` and ``float16`` use autocast.
            Weights, optimizer, teleports and evaluation are float32 throughout.
        compile: whether training runs a compiled forward (``torch.compile``); compiling is off the clock.
    """

    model: Annotated[ModelOptions, OneOf("model", MODELS)]
    data: Annotated[DataOptions, OneOf("data set", DATASETS)]
    task: Annotated[TaskOptions, OneOf("task", TASKS)] = ClassificationOptions(name="classification")
    optimizer: Annotated[NamedOptions, OneOf("optimizer", OPTIMIZERS)]
    lr_schedule: Annotated[LrScheduleOptions, OneOf("learning-rate schedule", LR_SCHEDULES)] = ConstantOptions(
        name="constant"
    )
    epochs: PositiveInt
    evaluate: Evaluate = Evaluate()
    target: Target
    precision: Precision = "float32"
    compile: bool = False

    def identifying_values(self) -> dict[str, Any]:
        """Write what makes it this workload: the values that are not at their defaults, but not where its data lies."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        data["data"].pop("root", None)
        return data

    @property
    def architecture(self) -> str:
        """The model's name; for a model of torchvision, torchvision's name for it."""
        return str(getattr(self.model, "architecture", self.model.name))

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plug-ins that brought the model, data set, task, optimizer or schedule."""
        parts: tuple[tuple[dict[str, Entry], NamedOptions], ...] = (
            (MODELS, self.model),
            (DATASETS, self.data),
            (TASKS, self.task),
            (OPTIMIZERS, self.optimizer),
            (LR_SCHEDULES, self.lr_schedule),
        )
        owners = (family[options.name].plugin for family, options in parts)
        return tuple(dict.fromkeys(filter(None, owners)))

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        faults = {
            ("model",): _misfit(self.model, self.data),
            ("task",): _task_misfit(self.task, self.data),
            ("target", "metric"): unmeasured(self.target.metric, self.task),
        }
        # A bare ValueError would have the whole workload as its place.
        details = [
            {"type": "value_error", "loc": place, "input": self, "ctx": {"error": ValueError(fault)}}
            for place, fault in faults.items()
            if fault is not None
        ]
        if details:
            raise ValidationError.from_exception_data(type(self).__name__, details)  # type: ignore[arg-type]
        return self


def unmeasured(metric: str, task: TaskOptions) -> str | None:
    """Say that a task does not measure a curve, and what to do; None: it measures it."""
    if metric in task.curves:
        return None
    wanted = metric.removeprefix("validation_")
    if wanted in task.directions:
        return f"task {task.name} measures {metric} only where it is asked to: add {wanted} to task.metrics"
    return f"task {task.name} does not measure {metric}; {nearest(metric, task.curves)}"


def _task_misfit(task: TaskOptions, data: DataOptions) -> str | None:
    # A stand-in for what a plug-in brought does not know its kinds.
    if not (data.target_kind and task.target_kinds) or data.target_kind in task.target_kinds:
        return None
    others = ", ".join(tasks_for(data.target_kind)) or "none"
    takes = " or ".join(sorted(task.target_kinds))
    return (
        f"task {task.name} takes targets of the kind {takes}, data set {data.name} gives {data.target_kind}; "
        f"tasks for it: {others}"
    )


def _misfit(model: ModelOptions, data: DataOptions) -> str | None:
    kind = data.input_kind
    if kind not in model.input_kinds:
        takes = " and ".join(map(_plural, sorted(model.input_kinds)))
        others = ", ".join(models_for(kind)) or "none"
        kinds = _plural(kind)
        return f"model {model.name} takes {takes}, data set {data.name} gives {kinds}; models for {kinds}: {others}"
    misfit = model.misfit(data.sample_shape)
    return None if misfit is None else f"model {model.name} does not fit data set {data.name}: {misfit}"


def _plural(kind: InputKind) -> str:
    return {"image": "images", "sequence": "sequences", "tokens": "tokens"}[kind]


BASELINE = "baseline"


class Arm(Options):
    """How a workload is trained: by at most one kind of arm; with none it is the baseline, the plain optimizer.

    Each field is a kind in :data:`orchestrator.spec.options.ARMS`, with that kind's options.

    Args:
        teleport: teleports by null-space projection.
        random_move: a control: random moves in the same null space.
        orbit: rescales neighbouring layers in closed form.
        level_set: a rival: teleports along the level set of the loss.
        symmetry: a rival: teleports by a symmetry group.
        lr_scaled: a control: a larger learning rate in place of each move.
        init_scaled: a control: larger initial weights.
        state_reset: a control: the optimizer's state is reset in place of each move.
    """

    teleport: TeleportOptions | None = None
    random_move: RandomMoveOptions | None = None
    orbit: OrbitOptions | None = None
    level_set: LevelSetOptions | None = None
    symmetry: SymmetryOptions | None = None
    lr_scaled: LrScaledOptions | None = None
    init_scaled: InitScaledOptions | None = None
    state_reset: StateResetOptions | None = None

    @property
    def kind(self) -> str:
        """The kind of arm; ``baseline`` where no field is set."""
        return next((name for name in type(self).model_fields if getattr(self, name) is not None), BASELINE)

    @property
    def settings(self) -> ArmOptions | None:
        """The options of the kind; None for the baseline."""
        found: ArmOptions | None = getattr(self, self.kind, None)
        return found

    @property
    def schedule(self) -> ScheduleOptions | None:
        """When the arm acts during training; None: it does not act, or another arm's search decides when."""
        return None if self.settings is None else self.settings.timing

    @property
    def follows(self) -> bool:
        """Whether the arm still lacks settings, which come from the search of a teleport arm."""
        return isinstance(self.settings, FollowerOptions) and not self.settings.is_concrete

    def following(self, teleport: TeleportOptions) -> Arm:
        """Return this arm with a teleport arm's settings in place of those that it lacks."""
        settings = self.settings
        if not isinstance(settings, FollowerOptions) or settings.is_concrete:
            return self
        return self.model_copy(update={self.kind: settings.following(teleport)})


class Objective(Options):
    """What the search improves: a metric of a trial.

    Args:
        metric: a final metric of the history, the cost of reaching the workload's target, or the cost of the whole run
            on the optimizer clock.
        mode: ``min`` or ``max``; where it is left out, the one that suits the metric.
    """

    metric: ObjectiveMetric = "train_loss"
    mode: Mode = "min"

    @model_validator(mode="before")
    @classmethod
    def _mode_of_metric(cls, data: Any) -> Any:
        if isinstance(data, dict) and "mode" not in data and is_higher_better(str(data.get("metric"))):
            return {**data, "mode": "max"}
        return data

    @model_validator(mode="after")
    def _mode_suits_metric(self) -> Self:
        best = "max" if is_higher_better(self.metric) else "min"
        if self.mode != best:
            raise ValueError(
                f"{self.metric} is better when {'higher' if best == 'max' else 'lower'}: mode must be {best}"
            )
        return self


# Ray counts shares in ten-thousandths.
SMALLEST_SHARE = 1e-4
# Names that Ray keeps for itself -> the key of a share to write instead.
RAYS_OWN = {"cpu": "cpu", "gpu": "gpu", "memory": "memory", "object_store_memory": ""}


class Share(Options):
    """What one trial is given.

    Args:
        cpu: CPU cores; torch uses as many threads (at least one).
        gpu: GPUs; a fraction shares one GPU, and above 1 the number must be whole.
        memory: GB (10^9 bytes) of main memory. Ray counts it when it places trials but stops no trial that uses more;
            0: Ray counts none.
        custom: resources that nodes were started with (``ray start --resources``), NAME -> amount; for example a kind
            of GPU.
    """

    cpu: Annotated[float, Field(ge=SMALLEST_SHARE)] = 1.0
    gpu: Annotated[float, Field(ge=0)] = 0.0
    memory: Annotated[float, Field(ge=0)] = 0.0
    custom: dict[str, Annotated[float, Field(ge=SMALLEST_SHARE)]] = Field(default_factory=dict)

    @field_validator("gpu")
    @classmethod
    def _gpu_can_be_given(cls, gpu: float) -> float:
        if gpu > 1 and not gpu.is_integer():
            raise ValueError(
                f"above 1, GPUs must be whole: write {math.floor(gpu)} or {math.ceil(gpu)} instead of {gpu:g}"
            )
        if 0 < gpu < SMALLEST_SHARE:
            raise ValueError(f"must be 0 or at least {SMALLEST_SHARE:g}, is {gpu:g}")
        return gpu

    @field_validator("custom")
    @classmethod
    def _custom_is_custom(cls, custom: dict[str, float]) -> dict[str, float]:
        for name in custom:
            if name.casefold() in RAYS_OWN or name.casefold().startswith("node:"):
                own = RAYS_OWN.get(name.casefold(), "")
                hint = f"; write resources.{own} for it" if own else ""
                raise ValueError(f"{name!r} is a resource of Ray's own{hint}")
        return custom
