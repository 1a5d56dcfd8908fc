"""Translates the distributions of a spec into Optuna's, and its points into values of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.search.grid import Grid
from orchestrator.spec import Choice, Distribution, Json, Range, Template
from orchestrator.spec.options import GridOptions, SamplerOptions

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution


def num_points(templates: Sequence[Template], sampler: SamplerOptions) -> float:
    """Count the candidates that a sampler can propose; infinite where a distribution is continuous.

    A grid proposes fewer candidates than the space holds.
    """
    if isinstance(sampler, GridOptions):
        return Grid(templates, sampler.points).num_points
    size = 1.0
    for template in templates:
        size *= template.num_configurations()
    return size


def restricted(templates: Sequence[Template], values: Mapping[str, Json]) -> dict[str, Json] | None:
    """Keep the part of a point that means something in a space; the sampler chooses the rest.

    Args:
        templates: the space.
        values: parameter name -> value, from any space.

    Returns:
        The values of the distributions of this space that the choices among them reach. None where a value lies outside
        the space, or where nothing is left.
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


def suggest(templates: Sequence[Template], trial: Trial) -> dict[str, Json]:
    """Let Optuna choose a value for every distribution that the choices before it reach.

    Returns:
        Parameter name -> value, which is the label for a choice.
    """
    values: dict[str, Json] = {}
    for template in templates:
        template.choose(lambda distribution: _suggest(distribution, trial), values)
    return values


def _suggest(distribution: Range | Choice, trial: Trial) -> Json:
    name = distribution.name
    if isinstance(distribution, Choice):
        chosen: Json = trial.suggest_categorical(name, list(distribution.labels))  # type: ignore[arg-type]
        return chosen
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.is_integer:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=distribution.is_log)
    return trial.suggest_float(name, low, high, step=step, log=distribution.is_log)


def distribution_of(distribution: Distribution) -> BaseDistribution:
    """Convert a distribution to the one that :func:`suggest` gives Optuna for it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, Choice):
        return CategoricalDistribution(list(distribution.labels))  # type: ignore[arg-type]
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.is_integer:
        return IntDistribution(int(low), int(high), log=distribution.is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=distribution.is_log, step=step)
