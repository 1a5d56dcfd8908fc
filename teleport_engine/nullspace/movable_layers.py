"""Which layers can move on a batch, and in which directions."""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from teleport_engine.model import (
    FrozenModule,
    Inputs,
    Product,
    RandomState,
    Use,
    Watch,
    WeightLayer,
    Workers,
    find_layers,
    num_samples,
    settled,
)
from teleport_engine.nullspace.factorise import Settings
from teleport_engine.nullspace.layer_sample import LayerSample, leak
from teleport_engine.nullspace.measurements import LayerFacts, LayerwiseTau, facts_of
from teleport_engine.nullspace.projector import BlockProjector
from teleport_engine.nullspace.subspace import Subspace
from teleport_engine.nullspace.tau import Lowering, TauRule
from teleport_engine.objective import Problem, Record, square_norm
from teleport_engine.report import LayerReport, Outcome, Seconds

__all__ = ["Search", "Survey", "project", "spectrum", "survey"]

_INPUT_FIXED = "input is fixed"
_NO_NULL_SPACE = "no null space"
# Below this share of the unprojected direction, what is left is rounding.
_NEGLIGIBLE = {torch.float64: 1e-12, torch.float32: 1e-6}
# Below this share a projection is repeated, so that its rounding stays small beside what is left of an exact move;
# below tau = 1 the inputs that a move may touch are far larger than that.
_MOSTLY_IN_SPAN = {True: 0.25, False: 1e-3}

_Seen: TypeAlias = tuple[WeightLayer, Sequence[Use]]


@final
@dataclass
class Survey:
    """The layers of a model, seen on one batch.

    Args:
        found: every module with parameters, in the model's order.
        record: the forward on the objective batch, watching `live`.
        live: the layers that can move.
        projectors: theirs.
        reasons: parameter name to why a candidate cannot move.
        subspaces: parameter name to the subspace of each row block, where they were factorised.
        linear: parameter names of all linear maps, in the model's order.
        is_exact: whether moves leave the batch alone to rounding: `tau = 1`, the batch inside the sample.
        is_finite: whether loss and layer inputs are.
        workers: on the layers.
        messages: what else a reader should know, in words.
    """

    found: Sequence[WeightLayer | FrozenModule]
    record: Record
    live: list[WeightLayer] = field(default_factory=list)
    projectors: list[BlockProjector] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    subspaces: dict[str, tuple[Subspace, ...]] = field(default_factory=dict)
    linear: Sequence[str] = ()
    is_exact: bool = False
    is_finite: bool = True
    workers: Workers = field(default_factory=Workers)
    messages: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Why nothing can move, where nothing can."""
        if not self.is_finite:
            return Outcome.NON_FINITE
        said = self.reasons.values()
        if _NO_NULL_SPACE in said:
            return Outcome.NO_NULL_SPACE
        return Outcome.INPUT_FIXED if _INPUT_FIXED in said else Outcome.NO_MOVABLE_LAYER

    def layer_reports(self, lengths: dict[str, float], idle: str) -> tuple[LayerReport, ...]:
        """One entry per module with parameters.

        Args:
            lengths: parameter name to how far its weight has moved.
            idle: why a live layer stayed where it was.

        Returns:
            The entries, in the model's order.
        """
        reports = []
        for layer in self.found:
            if isinstance(layer, FrozenModule):
                reports.append(LayerReport(layer.name, layer.d_in, reason=layer.reason))
                continue
            name = layer.parameter_name
            length = lengths.get(name, 0.0)
            subspaces = self.subspaces.get(name, ())
            widest = max(subspaces, key=lambda subspace: subspace.null_dim, default=None)
            reports.append(
                LayerReport(
                    layer.name,
                    layer.d_in,
                    rank=None if widest is None else widest.rank,
                    null_dim=None if widest is None else widest.null_dim,
                    moved=length > 0.0,
                    reason="" if length > 0.0 else self.reasons.get(name, idle),
                    step_length=length,
                    num_blocks=layer.num_blocks,
                    tau=min((one.tau for one in subspaces), default=None),
                    captured=min((one.captured for one in subspaces), default=None),
                )
            )
        return tuple(reports)


@final
@dataclass(frozen=True)
class Search:
    """How the subspaces are looked for.

    Args:
        settings: of the factorisation.
        workers: on the layers.
        move_bias: biases of linear maps move along with their weights.
        starts: parameter name to the last bases of its row blocks, for the randomised factorisation; kept up to date.
            None: none are kept.
        auto: how tau is lowered per layer; None: it is not.
        reach: the longest move of a layer that is reckoned with where tau is lowered, as a share of its `||W||`.
        rule: gives tau for each layer; None: it is that of the settings.
    """

    settings: Settings
    workers: Workers = field(default_factory=Workers)
    move_bias: bool = False
    starts: dict[str, tuple[Tensor, ...]] | None = None
    auto: TauRule | None = None
    reach: float = 0.0
    rule: LayerwiseTau | None = None


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


def survey(
    model: nn.Module,
    problem: Problem,
    search: Search,
    sample: Sequence[Inputs] | None,
    random_state: RandomState,
    seconds: Seconds,
) -> Survey:
    """Finds the layers that can move and their projectors, with one forward on the batch (and one on each sample).

    At `tau = 1` with the objective batch among those that the basis is from, a layer whose input depends on no
    trainable parameter cannot move and is skipped before anything is factorised. With other batches that is known
    only once the batch is seen to lie inside them.

    Args:
        model: the model.
        problem: its loss on the objective batch.
        search: how the subspaces are looked for.
        sample: batches to take the basis from, each seen by the model as a batch of its own; the objective batch is
            one of them where it is the same object. None: the objective batch alone.
        random_state: to refuse a random forward with.
        seconds: where the time goes, added to.

    Returns:
        The survey; with `live` empty where nothing can move.

    Raises:
        ValueError: if the forward is random, or the loss is no scalar.
    """
    start = time.perf_counter()
    found = find_layers(model, move_bias=search.move_bias)
    candidates = [layer for layer in found if isinstance(layer, WeightLayer)]
    record = problem.record(candidates, is_census=True)
    random_state.refuse_if_moved()
    result = Survey(found, record, workers=search.workers)
    seen = _settle(candidates, record, result.reasons)
    result.linear = [layer.parameter_name for layer, _ in seen]
    can_be_exact = search.settings.tau == 1.0
    holds_batch = sample is None or any(one is problem.inputs for one in sample)
    if holds_batch and can_be_exact and search.rule is None:
        seen = _without_fixed(seen, result.reasons)
    result.is_finite = bool(torch.isfinite(record.loss.detach()))
    seconds.capture += time.perf_counter() - start
    if not result.is_finite:
        result.record = record.watching([])
        return result

    start = time.perf_counter()
    lowerings = _lowerings(seen, problem, record, search)
    taus = Taus(search.settings, search.rule, [layer for layer, _ in seen], problem, record)
    if holds_batch:
        seen = _without_fixed(seen, result.reasons, taus)
    seconds.subspace += time.perf_counter() - start
    batches = [problem.inputs] if sample is None else sample
    live = _factorise(seen, problem, search, batches, result, seconds, lowerings, taus)
    random_state.refuse_if_moved()
    start = time.perf_counter()
    if holds_batch:
        live = _without_fixed(live, result.reasons, taus)
    are_exact = taus.are_exact([layer for layer, _ in live])
    can_be_exact = can_be_exact and are_exact and not _note_lowered(live, search.auto, result)
    # The batch was among those added up, or it is looked at: BatchNorm in train mode gives it other inputs elsewhere.
    result.is_exact = can_be_exact and (holds_batch or _is_inside(live, result))
    if result.is_exact and not holds_batch:
        live = _without_fixed(live, result.reasons)
    result.live = [layer for layer, _ in live]
    result.projectors = [
        BlockProjector(result.subspaces[layer.parameter_name], layer.weight.dtype) for layer in result.live
    ]
    result.record = record.watching([uses for _, uses in live])
    seconds.subspace += time.perf_counter() - start
    return result


def spectrum(
    model: nn.Module, problem: Problem, search: Search, sample: Sequence[Inputs], random_state: RandomState
) -> dict[str, tuple[Subspace, ...]]:
    """The subspaces of every linear map, those that cannot move too.

    Args:
        model: the model.
        problem: of the first batch; its loss is not evaluated.
        search: how the subspaces are looked for.
        sample: the batches, the first that of the problem.
        random_state: to refuse a random forward with.

    Returns:
        Parameter name to one subspace per row block.

    Raises:
        ValueError: if the forward is random, or an input of a layer is not finite.
    """
    found = find_layers(model, move_bias=search.move_bias)
    watch = Watch([layer for layer in found if isinstance(layer, WeightLayer)], is_census=True)
    with torch.no_grad(), watch:
        problem.forward(problem.inputs)
    random_state.refuse_if_moved()
    record = Record(torch.zeros(()), watch.uses, watch.num_other_uses, watch.num_other_bias_uses)
    result = Survey(found, record)
    seen = _settle([layer for layer in found if isinstance(layer, WeightLayer)], record, result.reasons)
    _factorise(seen, problem, search, sample, result, Seconds())
    if not result.is_finite:
        raise ValueError("the inputs of every layer must be finite (and their squares too), got nan or inf")
    return result.subspaces


def _settle(candidates: Sequence[WeightLayer], record: Record, reasons: dict[str, str]) -> list[_Seen]:
    """The weights that were seen as linear maps and as nothing else, with their uses."""
    kept: list[_Seen] = []
    counts = zip(record.num_other_uses, record.num_other_bias_uses, strict=True)
    for layer, uses, others in zip(candidates, record.uses, counts, strict=True):
        one = settled(layer, uses, *others)
        if isinstance(one, str):
            reasons[layer.parameter_name] = one
        else:
            kept.append(one)
    return kept


def _without_fixed(seen: Sequence[_Seen], reasons: dict[str, str], taus: Taus | None = None) -> list[_Seen]:
    """Leaves out the layers whose inputs depend on no trainable parameter; of those a rule has left at 1, if given."""
    kept = []
    for layer, uses in seen:
        may_stay = taus is None or taus.is_one(layer)
        if not may_stay or any(use.inputs.requires_grad for use in uses):
            kept.append((layer, uses))
        else:
            reasons[layer.parameter_name] = _INPUT_FIXED
    return kept


def _factorise(
    seen: Sequence[_Seen],
    problem: Problem,
    search: Search,
    sample: Sequence[Inputs],
    result: Survey,
    seconds: Seconds,
    lowerings: Sequence[Lowering | None] | None = None,
    taus: Taus | None = None,
) -> list[_Seen]:
    """Adds up the batches and takes the subspaces; gives the layers that are left with somewhere to go."""
    lowerings = lowerings or [None] * len(seen)
    samples = [
        LayerSample(
            layer.num_blocks,
            layer.d_in + (layer.bias is not None),
            search.settings if taus is None else taus.settings(layer),
            len(sample),
        )
        for layer, _ in seen
    ]
    run = search.workers.run
    for of_batch in _uses_of_batches(seen, problem, sample, seconds):
        with _timed(seconds):
            run([functools.partial(one.add, uses) for one, uses in zip(samples, of_batch, strict=True)])
    if not all(one.is_finite for one in samples):
        result.is_finite = False
        return []
    with _timed(seconds):
        both = list(zip(seen, samples, lowerings, strict=True))
        used = [(one, sampled) for one, sampled, _ in both if sampled.is_used]
        if taus is not None:
            taus.choose([(layer, sampled) for (layer, _), sampled in used], search.workers)
        starts = search.starts if search.starts is not None else {}
        tasks = [
            functools.partial(sampled.settle, starts.get(layer.parameter_name), lowering)
            for (layer, _), sampled, lowering in both
            if sampled.is_used
        ]
        are_settled = run(tasks)
    again = [(one, sampled) for (one, sampled), is_settled in zip(used, are_settled, strict=True) if not is_settled]
    if again:
        for of_batch in _uses_of_batches([one for one, _ in again], problem, sample, seconds):
            with _timed(seconds):
                run([functools.partial(one.add_again, uses) for (_, one), uses in zip(again, of_batch, strict=True)])
        with _timed(seconds):
            run([one.settle_again for _, one in again])
    return [one for one, sampled in zip(seen, samples, strict=True) if _has_room(one[0], sampled, search, result)]


def _has_room(layer: WeightLayer, sampled: LayerSample, search: Search, result: Survey) -> bool:
    """Notes a layer's subspaces; whether it is left with somewhere to go."""
    name = layer.parameter_name
    if not sampled.is_used:
        result.reasons[name] = "not used on the subspace sample: frozen"
        return False
    subspaces = result.subspaces[name] = sampled.subspaces
    if search.starts is not None:
        search.starts[name] = tuple(one.basis for one in subspaces)
    has_room = any(subspace.null_dim for subspace in subspaces)
    if not has_room:
        result.reasons[name] = _NO_NULL_SPACE
    return has_room


def _lowerings(seen: Sequence[_Seen], problem: Problem, record: Record, search: Search) -> list[Lowering] | None:
    """What each layer may lose where tau is lowered: an equal part of the drift, over how far it may go."""
    rule = search.auto
    if rule is None or not seen:
        return None
    gradients = problem.gradients(record, [parameter for layer, _ in seen for parameter in layer.parameters])
    found, parts = [], iter(gradients)
    budget = rule.budget(float(record.loss.detach()))
    for layer, _ in seen:
        gradient = layer.matrix([next(parts) for _ in layer.parameters])
        size = layer.matrix([parameter.detach() for parameter in layer.parameters]).norm()
        length = len(seen) * search.reach * float(size)
        found.append(Lowering(rule, gradient, budget / length if length > 0.0 else 0.0))
    return found


def _note_lowered(live: Sequence[_Seen], rule: TauRule | None, result: Survey) -> bool:
    """Says which layers have another tau than 1; whether any has."""
    if rule is None:
        return False
    told = []
    for layer, _ in live:
        shortest = min(result.subspaces[layer.parameter_name], key=lambda one: one.tau)
        if shortest.tau < 1.0:
            told.append(f"{layer.name!r} to {shortest.tau:.8g} ({rule.told(shortest.null_dim, shortest.dim)})")
    if told:
        result.messages.append(f"tau lowered {rule.why}: {', '.join(told)}")
    return bool(told)


def _uses_of_batches(
    seen: Sequence[_Seen], problem: Problem, sample: Sequence[Inputs], seconds: Seconds
) -> Iterator[Sequence[Sequence[Use]]]:
    """What the layers multiply in each batch, one batch at a time; the objective batch has been run already."""
    if not seen:
        return
    layers = [layer for layer, _ in seen]
    for inputs in sample:
        if inputs is problem.inputs:
            yield [uses for _, uses in seen]
            continue
        start = time.perf_counter()
        watch = Watch(layers)
        with torch.no_grad(), watch:
            problem.forward(inputs)
        problem.num_gradient_evaluations += num_samples(inputs) / num_samples(problem.inputs) / 3.0
        seconds.capture += time.perf_counter() - start
        yield watch.uses


@contextmanager
def _timed(seconds: Seconds) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.subspace += time.perf_counter() - start


def _is_inside(live: Sequence[_Seen], result: Survey) -> bool:
    """Whether the objective batch lies inside the sample's subspaces, in every layer that would move."""
    leaks = result.workers.run(
        [functools.partial(leak, result.subspaces[layer.parameter_name], uses) for layer, uses in live]
    )
    limits = [1e-9 if layer.weight.dtype == torch.float64 else 1e-6 for layer, _ in live]
    return all(found <= limit for found, limit in zip(leaks, limits, strict=True))


def project(view: Survey, ascents: Sequence[Product]) -> tuple[list[Tensor | None], float]:
    """Projects the directions on the null spaces of their layers.

    Args:
        view: the survey, with a projector per live layer.
        ascents: per live layer, the direction as a product.

    Returns:
        Per live layer `D [g, o, d]`, None where only rounding is left; and `sum ||D||^2`.
    """
    run = view.workers.run

    def shortened(projector: BlockProjector, ascent: Product) -> tuple[Product, Tensor]:
        short = ascent.short()
        return short, projector.project(short.right)

    def finished(projector: BlockProjector, short: Product, part: Tensor, share: float) -> Tensor | None:
        if share <= _NEGLIGIBLE[part.dtype]:
            return None
        again = projector.project(part) if share < _MOSTLY_IN_SPAN[view.is_exact] else part
        return again if short.left is None else short.left.mT @ again

    pairs = zip(view.projectors, ascents, strict=True)
    parts = run([functools.partial(shortened, projector, ascent) for projector, ascent in pairs])
    shares = _shares([part for _, part in parts], [short.right for short, _ in parts])
    rest = zip(view.projectors, parts, shares, strict=True)
    directions = run([functools.partial(finished, projector, *pair, share) for projector, pair, share in rest])
    return directions, square_norm(directions)


def _shares(parts: Sequence[Tensor], wholes: Sequence[Tensor]) -> list[float]:
    """Norm of each part over that of its whole, 0 for nothing of nothing; one synchronisation for all."""
    norms = torch.stack(torch._foreach_norm([*parts, *wholes])).tolist()
    return [
        part / whole if whole else 0.0 for part, whole in zip(norms[: len(parts)], norms[len(parts) :], strict=True)
    ]
