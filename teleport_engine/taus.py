"""Tau of each layer, where a rule gives it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

from teleport_engine.factorise import Settings
from teleport_engine.facts import LayerFacts, LayerwiseTau
from teleport_engine.layer_inputs import WeightLayer
from teleport_engine.layerwise import facts_of
from teleport_engine.objective import Problem, Record
from teleport_engine.parallel import Workers
from teleport_engine.sample import LayerSample

__all__ = ["Taus"]


@final
class Taus:
    """Tau of each layer by a rule: before anything is factorised, or once the energies were added up.

    Without a rule every layer has the tau of the settings, and nothing is measured.

    Args:
        settings: of the factorisation.
        rule: gives tau; None: there is none.
        layers: the linear maps of the model, in its order.
        problem: the loss, for its gradient.
        record: the forward.

    Raises:
        RuleError: if the rule gives no tau.
    """

    def __init__(
        self,
        settings: Settings,
        rule: LayerwiseTau | None,
        layers: Sequence[WeightLayer],
        problem: Problem,
        record: Record,
    ) -> None:
        self._settings = settings
        self._rule = rule
        self._facts: dict[str, LayerFacts] = {}
        self._known: dict[str, float] = {}
        if rule is None:
            return
        gradients = None
        if rule.with_gradient:
            parts = iter(problem.gradients(record, [parameter for layer in layers for parameter in layer.parameters]))
            gradients = [[next(parts) for _ in layer.parameters] for layer in layers]
        names = [layer.parameter_name for layer in layers]
        self._facts = dict(zip(names, facts_of(layers, names, gradients), strict=True))
        if not rule.with_spectrum:
            self._known = {name: rule.of(facts) for name, facts in self._facts.items()}

    def settings(self, layer: WeightLayer) -> Settings:
        """How a layer is factorised.

        Args:
            layer: which.

        Returns:
            The settings, with its tau where that is known; in full where its energies are to decide.
        """
        if self._rule is None:
            return self._settings
        if self._rule.with_spectrum:
            return replace(self._settings, with_energies=True)
        return replace(self._settings, tau=self._known[layer.parameter_name])

    def choose(self, sampled: Sequence[tuple[WeightLayer, LayerSample]], workers: Workers) -> None:
        """Asks the rule once the energies were added up, where it looks at them.

        Args:
            sampled: layers with their inputs, which are told their tau.
            workers: on the layers.

        Raises:
            RuleError: if the rule gives no tau.
        """
        if self._rule is None or not self._rule.with_spectrum:
            return
        ranks = workers.run([one.stable_rank for _, one in sampled])
        for (layer, one), rank in zip(sampled, ranks, strict=True):
            name = layer.parameter_name
            self._known[name] = self._rule.of(replace(self._facts[name], stable_rank=rank))
            one.take_tau(self._known[name])

    def is_one(self, layer: WeightLayer) -> bool:
        """Whether a rule has said that a layer's tau is 1.

        Args:
            layer: which.

        Returns:
            Whether it has.
        """
        return self._known.get(layer.parameter_name) == 1.0

    def are_exact(self, layers: Sequence[WeightLayer]) -> bool:
        """Whether every layer has the tau of the settings, or 1 by the rule.

        Args:
            layers: those that can move.

        Returns:
            Whether they have; without a rule they do.
        """
        return self._rule is None or all(self.is_one(layer) for layer in layers)
