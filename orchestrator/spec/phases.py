"""The two phases of a sweep: search, and confirm on fresh seeds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from orchestrator.catalog import SAMPLERS, SCHEDULERS, NoSchedulerOptions, OneOf, Options, SchedulerOptions
from orchestrator.errors import nearest
from orchestrator.spec.training import Objective
from orchestrator.spec.yaml_text import shorten


def _check_sampler(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"{shorten(name)} is not registered; {nearest(name, SAMPLERS)}")
    return name


def _named(value: Any) -> Any:
    """A bare name is that with nothing else said."""
    return {"name": value} if isinstance(value, str) else value


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ from each other, are {list(seeds)}")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]


class Search(Options):
    """The first phase: find each arm's best configuration.

    Args:
        sampler: who proposes.
        seed: of the sampler.
        trials: per workload and arm.
        seeds: each trial trains all of them.
        objective: what is improved, over the mean of the seeds.
        max_concurrent: trials at once, in confirm too; None: as many as the resources hold.
        scheduler: who may end a trial before its budget is spent.
    """

    sampler: Annotated[str, AfterValidator(_check_sampler)] = "tpe"
    seed: Seed = 0
    trials: PositiveInt = 16
    seeds: Seeds = (0,)
    objective: Objective = Objective()
    max_concurrent: PositiveInt | None = None
    scheduler: Annotated[SchedulerOptions, OneOf("scheduler", SCHEDULERS), BeforeValidator(_named)] = (
        NoSchedulerOptions(name="none")
    )


class Confirm(Options):
    """The second phase: take the best of each arm to fresh seeds; no run is stopped early.

    Args:
        top_k: configurations per arm.
        seeds: how many, or which; never a seed of the search.
        race: whether a configuration gets no more seeds once another of its arm has proved better; the arm's first
            by search always gets all of them.
    """

    top_k: PositiveInt = 1
    seeds: Annotated[int, Field(ge=1, le=1_000)] | Seeds = 8
    race: bool = False
