"""Distributions of a spec as Optuna's define-by-run: the one place where they are converted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.catalog import SAMPLERS
from orchestrator.ids import Json, digest
from orchestrator.spec import Choice, Range, Template

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler


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


def make_sampler(name: str, seed: int, study: str, number: int) -> BaseSampler:
    """Make the sampler that proposes one trial.

    It is seeded by spec, study and trial number alone, so a resumed sweep proposes what the undisturbed one
    would have, and never the lost proposals again under other numbers.

    Args:
        name: of the catalogue's samplers.
        seed: ``search.seed`` of the spec.
        study: name of the study.
        number: of the trial that is about to be asked for.

    Returns:
        A fresh sampler.
    """
    own_seed = int(digest([seed, study, number], 8), 16)
    sampler: BaseSampler = SAMPLERS[name].load()(own_seed)
    return sampler


def tpe(seed: int) -> BaseSampler:
    """Make Optuna's TPE, multivariate and grouped so that conditional spaces are modelled jointly."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    options: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, **options)


def random(seed: int) -> BaseSampler:
    """Make Optuna's random sampler."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)
