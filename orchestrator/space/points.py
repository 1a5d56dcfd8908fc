"""Points of a space: how many there are for a sampler, and whether one lies in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.space.grid import Grid
from orchestrator.spec import Choice, Distribution, Template
from orchestrator.spec.identity import Json
from orchestrator.spec.options import GridOptions, SamplerOptions


def num_points(templates: Sequence[Template], sampler: SamplerOptions) -> float:
    """Count the configurations that a sampler can propose; infinite where a distribution is continuous.

    Args:
        templates: whose distributions.
        sampler: who proposes; a grid has fewer than the space.

    Returns:
        The number.
    """
    if isinstance(sampler, GridOptions):
        return Grid(templates, sampler.points).num_points
    size = 1.0
    for template in templates:
        size *= template.num_configurations()
    return size


def restricted(templates: Sequence[Template], values: Mapping[str, Json]) -> dict[str, Json] | None:
    """Take of a point what means something in a space; the rest of it is for the sampler.

    Args:
        templates: the space.
        values: parameter name -> value, of any space.

    Returns:
        The values of this space's distributions that these choices reach; None where one lies outside, or where
        there is none at all.
    """
    reached: dict[str, Json] = {}
    unknown: set[str] = set()

    def pick(distribution: Distribution) -> Json:
        name = distribution.name
        if name not in values:
            unknown.add(name)
            return distribution.labels[0] if isinstance(distribution, Choice) else distribution.low
        if not _holds(distribution, values[name]):
            raise _OutsideError
        return values[name]

    try:
        for template in templates:
            template.choose(pick, reached)
    except _OutsideError:
        return None
    found = {name: value for name, value in reached.items() if name not in unknown}
    return found or None


class _OutsideError(Exception):
    """A value lies outside the space."""


def _holds(distribution: Distribution, value: Json) -> bool:
    if isinstance(distribution, Choice):
        return any(type(label) is type(value) and label == value for label in distribution.labels)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    step = distribution.step or (1 if distribution.is_integer else None)
    if step is None:
        return True
    steps = (value - distribution.low) / step
    return abs(steps - round(steps)) < 1e-8
