"""The samplers that propose trials, with Optuna's own names for their arguments."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_serializer, model_validator

from orchestrator.spec.options.entry import Entry, NamedOptions

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class SamplerOptions(NamedOptions):
    """A sampler and its arguments.

    Class variables tell what it can do: whether it takes several objectives and constraints, and whether it models
    choices and conditional parameters (those that exist under some choices only) or draws them at random.
    """

    takes_several_objectives: ClassVar[bool] = True
    takes_constraints: ClassVar[bool] = False
    models_choices: ClassVar[bool] = True
    models_conditional: ClassVar[bool] = True
    # Optuna's CMA-ES keeps its state as a pickle in the study; here a new one is asked everything again after a crash.
    is_rebuilt_by_replay: ClassVar[bool] = False

    @property
    def arguments(self) -> dict[str, Any]:
        """The sampler's arguments by name."""
        return {key: value for key, value in self if key != "name"}

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        """Write a sampler at its defaults as its bare name, so that the identity of older specs stays the same."""
        fields = type(self).model_fields
        own = {key: value for key, value in self.arguments.items() if value != fields[key].default}
        return {"name": self.name, **own} if own else self.name


class TpeOptions(SamplerOptions):
    """Tree-structured Parzen estimator; multivariate and grouped, so that conditional spaces are modelled jointly."""

    takes_constraints: ClassVar[bool] = True

    name: Literal["tpe"]
    n_startup_trials: NonNegativeInt = 10
    n_ei_candidates: PositiveInt = 24
    multivariate: bool = True
    group: bool = True
    constant_liar: bool = True

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> Self:
        if self.group and not self.multivariate:
            raise ValueError("group needs multivariate: true; set group: false too")
        return self


class GpOptions(SamplerOptions):
    """Gaussian process with expected improvement; conditional parameters are drawn at random."""

    takes_constraints: ClassVar[bool] = True
    models_conditional: ClassVar[bool] = False

    name: Literal["gp"]
    n_startup_trials: NonNegativeInt = 10
    deterministic_objective: bool = False


class CmaEsOptions(SamplerOptions):
    """CMA-ES over the numbers that every trial has; choices and conditional parameters are drawn at random."""

    takes_several_objectives: ClassVar[bool] = False
    models_choices: ClassVar[bool] = False
    models_conditional: ClassVar[bool] = False
    is_rebuilt_by_replay: ClassVar[bool] = True

    name: Literal["cmaes"]
    n_startup_trials: NonNegativeInt = 1
    popsize: Annotated[int, Field(ge=4)] | None = None
    use_separable_cma: bool = False
    with_margin: bool = False
    lr_adapt: bool = False

    @model_validator(mode="after")
    def _one_variant(self) -> Self:
        chosen = [key for key in ("use_separable_cma", "with_margin", "lr_adapt") if getattr(self, key)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other; keep one")
        return self


class QmcOptions(SamplerOptions):
    """A quasi-random sequence over the whole space, conditional parameters included, scrambled by the seed."""

    name: Literal["qmc"]
    qmc_type: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True


class RandomOptions(SamplerOptions):
    """Independent draws."""

    name: Literal["random"]


class GridOptions(SamplerOptions):
    """Every combination once, in an order shuffled by the seed.

    Args:
        points: values tried of each range, both ends included, evenly spaced (in the logarithm for a logarithmic
            range); a range with fewer values gives all it has.
    """

    name: Literal["grid"]
    points: PositiveInt = 5


class NsgaOptions(SamplerOptions):
    """Settings that NSGA-II and NSGA-III have in common; conditional parameters are drawn at random."""

    takes_constraints: ClassVar[bool] = True
    models_conditional: ClassVar[bool] = False

    population_size: Annotated[int, Field(ge=2)] = 50
    mutation_prob: Probability | None = None
    crossover_prob: Probability = 0.9
    swapping_prob: Probability = 0.5


class Nsga2Options(NsgaOptions):
    """NSGA-II, a genetic algorithm for several objectives."""

    name: Literal["nsga2"]


class Nsga3Options(NsgaOptions):
    """NSGA-III, NSGA-II with reference points, for three objectives and more."""

    name: Literal["nsga3"]
    dividing_parameter: PositiveInt = 3


SAMPLERS: dict[str, Entry] = {
    "tpe": Entry(TpeOptions, "orchestrator.search.samplers:tpe"),
    "gp": Entry(GpOptions, "orchestrator.search.samplers:gp"),
    "cmaes": Entry(CmaEsOptions, "orchestrator.search.samplers:cmaes"),
    "qmc": Entry(QmcOptions, "orchestrator.search.samplers:qmc"),
    "random": Entry(RandomOptions, "orchestrator.search.samplers:random"),
    "grid": Entry(GridOptions, "orchestrator.search.samplers:grid"),
    "nsga2": Entry(Nsga2Options, "orchestrator.search.samplers:nsga2"),
    "nsga3": Entry(Nsga3Options, "orchestrator.search.samplers:nsga3"),
}


def samplers_that(ability: Literal["takes_several_objectives", "takes_constraints"]) -> list[str]:
    """List the samplers with an ability, by name."""
    return sorted(
        name
        for name, entry in SAMPLERS.items()
        if issubclass(entry.options, SamplerOptions) and getattr(entry.options, ability)
    )
