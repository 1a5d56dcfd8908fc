"""Over what a setting is searched: each workload by itself, or one setting for all of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from orchestrator.catalog import Options

Aggregate = Literal["geometric_mean", "worst"]
Role = Literal["chosen", "own", "leave_one_out", "leave_architecture_out"]

# Stands for all workloads in the name of a study; no workload can be called so.
ALL = "*"
LR_FACTOR = "lr_factor"


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"low must not be above high, is {list(bounds)}")
    return bounds


class OwnScope(Options):
    """Each workload and arm has a search of its own."""

    name: Literal["own"]


class SharedScope(Options):
    """Every arm but the baseline has one search over all workloads; a trial of it is one setting run on each of them.

    The baseline is tuned on each workload by itself. A setting's cost on a workload and seed is divided by the tuned
    baseline's on the same seed; what a setting does not name, a workload takes from its tuned baseline.

    Args:
        aggregate: what becomes of these ratios: their geometric mean, or the largest over the workloads of the
            geometric mean over the seeds.
        common: parameters of the workloads that are part of a setting; each workload must search them alike.
        lr_factor: ``[low, high]`` of a factor of a setting, by which every workload's tuned learning rate is
            multiplied; None: there is none.
    """

    name: Literal["shared"]
    aggregate: Aggregate = "geometric_mean"
    common: Annotated[tuple[str, ...], Field(strict=False)] = ()
    lr_factor: (
        Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_ascending)] | None
    ) = None


Scope = Annotated[OwnScope | SharedScope, Field(discriminator="name")]
