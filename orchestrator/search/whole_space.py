"""A sampler that sees the whole space at once. It imports optuna, so it is imported late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, final

from optuna.samplers import BaseSampler

from orchestrator.search.points import distribution_of
from orchestrator.spec import Distribution

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


@final
class WholeSpaceSampler(BaseSampler):
    """Lets a sampler choose all parameters of a conditional space jointly; values that are not reached are dropped.

    Optuna's QMC takes the parameters of the first trial for the space. The parameters of a branch that this trial did
    not take would then always be drawn at random.

    Args:
        sampler: chooses the values.
        distributions: every distribution of the space.
    """

    def __init__(self, sampler: BaseSampler, distributions: Iterable[Distribution]) -> None:
        self._sampler = sampler
        found = {distribution.name: distribution_of(distribution) for distribution in distributions}
        self._space = {name: distribution for name, distribution in found.items() if not distribution.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Give the whole space."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choose jointly."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Choose a parameter outside the joint space: a constant, or a fixed value."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)
