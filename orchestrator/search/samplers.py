"""Optuna's samplers, made anew for every trial from the seed, the study and the trial's number alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from orchestrator.spec import Json, Template, digest
from orchestrator.spec.options import SAMPLERS, SamplerOptions

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@final
@dataclass(frozen=True)
class Draw:
    """The draw of one trial.

    Args:
        seed: ``search.seed`` of the spec.
        study: name of the study.
        number: of the trial that is about to be proposed.
        templates: whose distributions are searched.
        fixed: parameter name -> value that is settled already; the sampler chooses the others.
    """

    seed: int
    study: str
    number: int
    templates: Sequence[Template]
    fixed: Mapping[str, Json]

    @property
    def own_seed(self) -> int:
        """The seed of this trial, so that a resumed search never draws another trial's numbers again."""
        return int(digest([self.seed, self.study, self.number], 8), 16)

    @property
    def study_seed(self) -> int:
        """The seed of the whole study, for samplers that go through one sequence."""
        return int(digest([self.seed, self.study], 8), 16)


def make_sampler(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make the sampler that proposes one trial.

    It is seeded by spec, study and trial number alone, so a resumed sweep proposes what the undisturbed one
    would have.

    Args:
        options: of the catalogue's samplers.
        draw: which trial.

    Returns:
        A fresh sampler.
    """
    with quietly():
        sampler: BaseSampler = SAMPLERS[options.name].load()(options, draw)
        if not draw.fixed:
            return sampler
        from optuna.samplers import PartialFixedSampler

        return PartialFixedSampler(dict(draw.fixed), sampler)


def tpe(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's TPE."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=draw.own_seed, **options.arguments)


def gp(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's Gaussian process; needs torch and scipy."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=draw.own_seed, warn_independent_sampling=False, **options.arguments)


def cmaes(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's CMA-ES; a trial that is partly fixed is completed at random, since CMA-ES would adapt to it."""
    from optuna.samplers import CmaEsSampler, RandomSampler

    if draw.fixed:
        return RandomSampler(seed=draw.own_seed)
    return CmaEsSampler(seed=draw.own_seed, warn_independent_sampling=False, **options.arguments)


def qmc(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's quasi-random sampler over the whole space, branches that are not taken included."""
    from optuna.samplers import QMCSampler, RandomSampler

    from orchestrator.search.whole_space import WholeSpaceSampler

    sequence = QMCSampler(
        seed=draw.study_seed,
        independent_sampler=RandomSampler(seed=draw.own_seed),
        warn_independent_sampling=False,
        **options.arguments,
    )
    distributions = [distribution for template in draw.templates for distribution in template.distributions()]
    return WholeSpaceSampler(sequence, distributions)


def random(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's random sampler."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=draw.own_seed)


def grid(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make what completes a point of the grid, all of whose values are fixed: Optuna's grid knows no conditions."""
    return random(options, draw)


def nsga2(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's NSGA-II."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=draw.own_seed, **options.arguments)


def nsga3(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's NSGA-III."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(seed=draw.own_seed, **options.arguments)


@contextmanager
def quietly() -> Iterator[None]:
    """Let pass that some arguments, samplers and pruners are experimental to Optuna; its version is pinned.

    Yields:
        Nothing.
    """
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
