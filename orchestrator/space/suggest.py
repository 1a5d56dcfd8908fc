"""Distributions of a spec as Optuna's define-by-run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.spec import Choice, Distribution, Range, Template
from orchestrator.spec.identity import Json

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution


def suggest(templates: Sequence[Template], trial: Trial) -> dict[str, Json]:
    """Let a trial choose a value for every distribution that the choices before it make relevant.

    Args:
        templates: whose distributions; their names must not collide.
        trial: Optuna's.

    Returns:
        Parameter name -> value, the label for a choice; only the distributions that were reached.
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
    """Convert a distribution to the one that :func:`suggest` gives Optuna for it.

    Args:
        distribution: of a spec.

    Returns:
        Optuna's.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, Choice):
        return CategoricalDistribution(list(distribution.labels))  # type: ignore[arg-type]
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.is_integer:
        return IntDistribution(int(low), int(high), log=distribution.is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=distribution.is_log, step=step)
