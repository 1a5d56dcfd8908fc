"""The two phases of a sweep: search, and confirm on fresh seeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from orchestrator.spec.identity import Json
from orchestrator.spec.options import (
    SAMPLERS,
    SCHEDULERS,
    NoSchedulerOptions,
    OneOf,
    Options,
    SamplerOptions,
    SchedulerOptions,
    TpeOptions,
    samplers_that,
)
from orchestrator.spec.scalars import Name
from orchestrator.spec.training import Objective

Aggregate = Literal["geometric_mean", "worst"]
Role = Literal["chosen", "own", "leave_one_out", "leave_architecture_out"]

# Stands for all workloads in the name of a study; no workload can have this name.
ALL = "*"
LR_FACTOR = "lr_factor"
# The seeds of two independent searches lie so far apart.
REPLICATE_STRIDE = 1_000_000


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"low must not be above high, is {list(bounds)}")
    return bounds


class OwnScope(Options):
    """Each workload and arm has a search of its own."""

    name: Literal["own"]


class SharedScope(Options):
    """Every arm but the baseline has one search over all workloads; a candidate is a setting, run on each of them.

    The baseline is tuned on each workload by itself. A setting's cost on a workload and seed is divided by the tuned
    baseline's cost on the same seed. A workload takes all that a setting does not name from its tuned baseline.

    Args:
        aggregate: how these ratios become one value: their geometric mean, or the largest over the workloads of the
            geometric mean over the seeds.
        common: parameters of the workloads that are part of a setting; each workload must search them alike.
        lr_factor: ``[low, high]`` of a factor in each setting that multiplies every workload's tuned learning rate;
            None: there is no such factor.
    """

    name: Literal["shared"]
    aggregate: Aggregate = "geometric_mean"
    common: Annotated[tuple[str, ...], Field(strict=False)] = ()
    lr_factor: (
        Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_ascending)] | None
    ) = None


Scope = Annotated[OwnScope | SharedScope, Field(discriminator="name")]


def _named(value: Any) -> Any:
    """Read a bare name as the options of that name, all at their defaults."""
    return {"name": value} if isinstance(value, str) else value


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ from each other; they are {list(seeds)}")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]


class WarmStartOptions(Options):
    """Begin a search with the best points of another sweep of the same home.

    Args:
        sweep: the other sweep's name.
        top_k: how many points each of its studies gives; they go to the study with the same labels.
    """

    sweep: Name
    top_k: PositiveInt = 3


class Search(Options):
    """The first phase: find each arm's best configuration.

    Args:
        sampler: proposes candidates; a bare name, or a name with arguments.
        seed: the sampler's seed.
        trials: candidates per workload and arm. 0, which a spec without ``search`` has where all its values are fixed,
            searches nothing, and confirm runs alone.
        seeds: the seeds that each candidate is trained on, one trial for each.
        replicates: how many independent searches each arm has on each workload, each with sampler seed and training
            seeds of its own. Each sends its best candidate to confirm, so that a verdict can speak of the method and
            not only of the settings that one search found.
        objective: what is improved, as the mean over the seeds.
        also: further objectives; the best candidates are then the Pareto front.
        divergence: what the sampler makes of a candidate that diverges: a failure that it learns nothing from, or the
            violation of a constraint that it learns to avoid.
        max_replaced: search trials of a study that may be replaced because they crashed or were lost; None: a quarter
            of ``trials``, at least 1.
        points: configurations that are proposed first, in this order: parameter name -> value, as reports name
            parameters and choices; the sampler chooses what a point leaves open. Keys ``workload`` and ``arm`` say
            which searches one is for, all that have its parameters otherwise. A spec's file may name a CSV file in
            place of the list, by its path from there; a column is a key, and an empty cell is left out.
        warm_start: another sweep whose best points are tried next.
        concurrency: how many candidates of one search may be under way at once. Each proposal knows the results of all
            but the last ``concurrency - 1`` candidates before it, so this number shapes what is proposed; how many
            workers there are does not.
        max_concurrent: how many trials may run at once, in confirm too; None: as many as the resources hold.
        scheduler: may stop a candidate before its budget is spent.
        scope: whether each workload has a search of its own, or all of them share one.
    """

    sampler: Annotated[SamplerOptions, OneOf("sampler", SAMPLERS), BeforeValidator(_named)] = TpeOptions(name="tpe")
    seed: Seed = 0
    trials: NonNegativeInt = 16
    seeds: Seeds = (0,)
    replicates: Annotated[int, Field(ge=1, le=100)] = 1
    objective: Objective = Objective()
    also: Annotated[tuple[Objective, ...], Field(strict=False)] = ()
    divergence: Literal["fail", "constraint"] = "fail"
    max_replaced: NonNegativeInt | None = None
    points: Annotated[tuple[dict[str, Json], ...], Field(strict=False)] = ()
    warm_start: WarmStartOptions | None = None
    concurrency: PositiveInt = 4
    max_concurrent: PositiveInt | None = None
    scheduler: Annotated[SchedulerOptions, OneOf("scheduler", SCHEDULERS), BeforeValidator(_named)] = (
        NoSchedulerOptions(name="none")
    )
    scope: Annotated[Scope, BeforeValidator(_named)] = OwnScope(name="own")

    @model_validator(mode="after")
    def _sampler_can(self) -> Self:
        name = self.sampler.name
        if self.also and not self.sampler.takes_several_objectives:
            known = ", ".join(samplers_that("takes_several_objectives"))
            raise ValueError(f"also: sampler {name} takes one objective only; those that take several: {known}")
        if self.divergence == "constraint" and not self.sampler.takes_constraints:
            known = ", ".join(samplers_that("takes_constraints"))
            raise ValueError(f"divergence: sampler {name} takes no constraints; those that do: {known}")
        if self.also and self.scheduler.rungs:
            name = self.scheduler.name
            raise ValueError(f"also: with several objectives scheduler {name} has nothing to judge by; leave it out")
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"also: objectives must differ from each other; they are {', '.join(metrics)}")
        return self

    @model_validator(mode="after")
    def _replicates_are_independent(self) -> Self:
        if self.replicates == 1:
            return self
        if not self.trials:
            raise ValueError(f"replicates: nothing is searched (trials: 0), so must be 1, is {self.replicates}")
        if isinstance(self.scope, SharedScope):
            raise ValueError("replicates: a search over all workloads (scope: shared) has no replicates; leave one out")
        if len(set(self.all_seeds)) < len(self.all_seeds) or max(self.all_seeds) >= 2**31:
            raise ValueError(f"seeds: with replicates each must be below {REPLICATE_STRIDE:,}, are {list(self.seeds)}")
        return self

    def seeds_of(self, replicate: int) -> tuple[int, ...]:
        """Give the training seeds of one of the independent searches, from 0."""
        return tuple(seed + replicate * REPLICATE_STRIDE for seed in self.seeds)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The training seeds of all independent searches."""
        return tuple(seed for replicate in range(self.replicates) for seed in self.seeds_of(replicate))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All objectives, the first one first."""
        return (self.objective, *self.also)

    @property
    def num_replaceable(self) -> int:
        """How many search trials of a study may be replaced."""
        return max(1, self.trials // 4) if self.max_replaced is None else self.max_replaced


class ConfirmGridOptions(Options):
    """The grid of learning rates on which every arm of a workload is confirmed.

    It goes from the lowest to the highest of the rates that the arms' searches found best, and one step beyond each
    end. It grows by one step where an arm is best at its end, until the searched range ends.

    Args:
        factor: the ratio of two neighbouring rates. It is widened where the grid would begin with more than nine.
        parameter: what the grid is along: a parameter of the workload that is searched on a logarithmic scale. None:
            ``optimizer.lr`` where that is one. Where there is none, the points are the training values that the
            arms' searches found best.
        values: the rates themselves, in place of a grid that follows from the search.
    """

    factor: Annotated[float, Field(gt=1.0, le=10.0)] = 1.4
    parameter: str | None = None
    values: Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)] | None = None

    @field_validator("values")
    @classmethod
    def _ascends(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and list(values) != sorted(set(values)):
            raise ValueError(f"values must rise, are {list(values)}")
        return values


def _form_of_seeds(value: Any) -> str:
    """Tell which of the ways to write seeds is meant, so that messages speak of that one alone."""
    return "list" if isinstance(value, list | tuple) else "number"


def _form_of_grid(value: Any) -> str:
    """Tell which of the ways to write a grid is meant, so that messages speak of that one alone."""
    return "settings" if isinstance(value, dict | ConfirmGridOptions) else "word"


class Confirm(Options):
    """The second phase: run the best of each arm on fresh seeds; no trial is stopped early.

    Args:
        top_k: candidates per arm. The first meets the grid and makes the claim; the others run as they were found.
        seeds: how many seeds, or which; never a seed of the search. 0, which a spec without ``confirm`` has, leaves the
            phase out: the sweep is a plain search, and makes no claim.
        grid: the learning rates on which every arm is confirmed. ``none``: each arm is confirmed at the rate that its
            own search found, so that the luck of one search is in every verdict.
        candidates: which candidates of a shared search go to confirm: the ``chosen`` one; each workload's ``own`` best
            one; with ``leave_one_out``, for each workload the one that is best on the others; and with
            ``leave_architecture_out``, the one that is best on the workloads of another architecture.
    """

    top_k: PositiveInt = 1
    seeds: Annotated[
        Annotated[Annotated[int, Field(ge=0, le=1_000)], Tag("number")] | Annotated[Seeds, Tag("list")],
        Field(discriminator=Discriminator(_form_of_seeds)),
    ] = 8
    grid: Annotated[
        Annotated[ConfirmGridOptions, Tag("settings")] | Annotated[Literal["none"], Tag("word")],
        Field(discriminator=Discriminator(_form_of_grid)),
    ] = ConfirmGridOptions()
    candidates: Annotated[tuple[Role, ...], Field(strict=False)] = ("chosen",)

    @field_validator("candidates")
    @classmethod
    def _holds_the_chosen(cls, candidates: tuple[Role, ...]) -> tuple[Role, ...]:
        if "chosen" not in candidates:
            raise ValueError("must hold chosen, which alone is compared with other arms")
        if len(set(candidates)) < len(candidates):
            raise ValueError(f"candidates must differ from each other; they are {', '.join(candidates)}")
        return candidates
