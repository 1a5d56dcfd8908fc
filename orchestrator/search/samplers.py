"""Optuna's samplers, made anew for every proposal.

Their seeds follow from the spec, the study and the number of the proposal alone, so that a resumed sweep proposes what
the undisturbed one would have proposed.
"""

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
    """What is known of a proposal before its sampler is made.

    Args:
        seed: ``search.seed`` of the spec.
        study: name of the study.
        number: of the proposal.
        templates: hold the distributions that are searched.
        fixed: parameter name -> value that is settled already; the sampler chooses the others.
    """

    seed: int
    study: str
    number: int
    templates: Sequence[Template]
    fixed: Mapping[str, Json]

    @property
    def own_seed(self) -> int:
        """The seed of this proposal; no other proposal of the sweep draws the same numbers."""
        return int(digest([self.seed, self.study, self.number], 8), 16)

    @property
    def study_seed(self) -> int:
        """The seed of the whole study, for samplers that go through one sequence."""
        return int(digest([self.seed, self.study], 8), 16)


def make_sampler(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make the sampler of one proposal."""
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
    """Make Optuna's CMA-ES.

    A candidate that is partly fixed is completed at random, because CMA-ES would adapt to the fixed values.
    """
    from optuna.samplers import CmaEsSampler, RandomSampler

    if draw.fixed:
        return RandomSampler(seed=draw.own_seed)
    return CmaEsSampler(seed=draw.own_seed, warn_independent_sampling=False, **options.arguments)


def qmc(options: SamplerOptions, draw: Draw) -> BaseSampler:
    """Make Optuna's quasi-random sampler over the whole space, including branches that are not taken."""
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
    """Make a sampler for a point of the grid, whose values are all fixed: Optuna's grid knows no conditions."""
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
    """Silence Optuna's warnings of experimental arguments, samplers and pruners; its version is pinned."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
