"""Which layers of a model can move on a batch, and in which directions.

`survey` answers in four steps: it watches a forward for the linear maps, leaves out those that cannot move, adds up
what each weight multiplies, and chooses tau and the null space of each layer.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from teleport_engine.model import (
    FORWARD,
    SURVEY_WORK,
    FrozenModule,
    Inputs,
    Product,
    Use,
    Watch,
    WeightLayer,
    Workers,
    find_layers,
    gradient_work,
    num_samples,
    settled,
)
from teleport_engine.nullspace.factorise import Factorisation, Settings
from teleport_engine.nullspace.layer_sample import LayerSample, leak
from teleport_engine.nullspace.measurements import Measurements
from teleport_engine.nullspace.projector import BlockProjector
from teleport_engine.nullspace.subspace import Subspace
from teleport_engine.nullspace.tau import LayerTau, Lowering, TauRule
from teleport_engine.objective import Problem, Record, added, norms_of, refuse_another, square_norm, tensors_of
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
"""A linear map, and its uses in the forward of the objective batch."""


@final
@dataclass
class Survey:
    """The layers of a model, seen on one batch.

    Args:
        found: every module with parameters, in the model's order.
        record: the forward on the objective batch, which watched the layers in `live`.
        live: the layers that can move.
        projectors: one for each of them.
        reasons: parameter name to why a candidate cannot move.
        subspaces: parameter name to the subspace of each row block, where the inputs were factorised.
        linear: parameter names of all linear maps, in the model's order.
        is_exact: whether moves change the loss on the batch by rounding alone: at `tau = 1`, with the batch inside the
            subspace sample.
        is_finite: whether the loss and all layer inputs are finite.
        workers: the threads that work on the layers.
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
        """Why no layer can move; asked where none can."""
        if not self.is_finite:
            return Outcome.NON_FINITE
        said = self.reasons.values()
        if _NO_NULL_SPACE in said:
            return Outcome.NO_NULL_SPACE
        return Outcome.INPUT_FIXED if _INPUT_FIXED in said else Outcome.NO_MOVABLE_LAYER

    def projection_work(self, ascents: Sequence[Product]) -> float:
        """Counts the work of one `project` of these directions."""
        return sum(one.work(ascent) for one, ascent in zip(self.projectors, ascents, strict=True))

    def layer_reports(self, lengths: dict[str, float], idle: str) -> tuple[LayerReport, ...]:
        """Reports on every module with parameters, in the model's order.

        Args:
            lengths: parameter name to how far its weight has moved.
            idle: why a live layer stayed where it was.
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
        rule: chooses tau.
        factorisation: of each layer's inputs.
        move_bias: the bias of a linear map moves along with its weight.
        workers: the threads that work on the layers.
        reach: the longest move of a layer that is reckoned with where tau is lowered, as a share of its `||W||`.
        starts: parameter name to the last bases of its row blocks, from which the randomised factorisation starts;
            kept up to date. Where it is None, every factorisation starts afresh.
        with_energies: the energies of all directions are wanted, so no factorisation may skip or estimate any.
        with_facts: a step rule looks at measurements of the layers.
    """

    rule: TauRule
    factorisation: Factorisation = "exact"
    move_bias: bool = False
    workers: Workers = field(default_factory=Workers)
    reach: float = 0.0
    starts: dict[str, tuple[Tensor, ...]] | None = None
    with_energies: bool = False
    with_facts: bool = False

    def settings(self, tau: LayerTau | None) -> Settings:
        """Says how the inputs of a layer are factorised; tau is None where it is still to be chosen."""
        share = tau if isinstance(tau, float) else self.rule.start
        return Settings(share, self.factorisation, self.with_energies or self.rule.needs_energies, self.with_facts)


def survey(
    model: nn.Module,
    problem: Problem,
    search: Search,
    sample: Sequence[Inputs] | None,
    seconds: Seconds,
) -> Survey:
    """Finds the layers that can move and their projectors, with one forward on the batch and one on each sample.

    At `tau = 1`, a layer whose inputs depend on no trainable parameter has no ascent direction. It is left out before
    anything is factorised where the objective batch is among those that the basis is taken from; with other batches,
    once the objective batch is seen to lie inside them.

    The basis is taken from the batches in `sample`, each run through the model on its own; the objective batch is one
    of them where it is the same object. None takes the objective batch alone. The time spent is added to `seconds`. The
    survey's `live` is empty where nothing can move.

    Raises:
        ValueError: if the loss is no scalar.
    """
    batches = [problem.inputs] if sample is None else sample
    with seconds.timed("capture"):
        view, seen = _watch(model, problem, search)
        basis = _Basis(problem, batches, search, view, seconds)
        if search.rule.leaves_fixed_inputs:
            seen = basis.leave_out_fixed(seen)
        view.is_finite = bool(torch.isfinite(view.record.loss.detach()))
    if not view.is_finite:
        view.record = view.record.watching([])
        return view
    with seconds.timed("subspace"):
        chosen = {} if search.rule.needs_energies else basis.taus(seen, seen)
        seen = basis.leave_out_fixed(seen, chosen)
    samples = basis.add_up(seen, chosen)
    live = basis.choose(seen, samples, chosen)
    with seconds.timed("subspace"):
        basis.note(live, chosen)
    return view


def spectrum(
    model: nn.Module, problem: Problem, search: Search, sample: Sequence[Inputs]
) -> dict[str, tuple[Subspace, ...]]:
    """Takes the subspaces of every linear map, also of those that cannot move: parameter name to one per row block.

    The problem is that of the first batch of the sample, and its loss is not evaluated; tau is a constant.

    Raises:
        ValueError: if the forward is random, or an input of a layer is not finite.
    """
    layers = find_layers(model, move_bias=search.move_bias)
    watch = Watch([layer for layer in layers if isinstance(layer, WeightLayer)], is_census=True)
    with watch:  # with a graph, since it is not known yet whether the forward takes derivatives of its own
        outputs = problem.forward.outputs(problem.inputs)
    problem.differentiates = watch.has_derivative
    with problem.without_graph():
        refuse_another(tensors_of(outputs), tensors_of(problem.forward.outputs(problem.inputs)))
    record = Record(
        torch.zeros(()),
        watch.uses,
        watch.num_other_uses,
        watch.num_other_bias_uses,
        [False] * len(watch.uses),  # what is multiplied may be looked at all the same
        problem.forward.left,
        (),
    )
    view = Survey(layers, record)
    seen = _linear_maps(view)
    basis = _Basis(problem, sample, search, view, Seconds())
    chosen = basis.taus(seen, seen)
    basis.choose(seen, basis.add_up(seen, chosen), chosen)
    if not view.is_finite:
        raise ValueError("the inputs of every layer must be finite (and their squares too), got nan or inf")
    return view.subspaces


def _watch(model: nn.Module, problem: Problem, search: Search) -> tuple[Survey, list[_Seen]]:
    """Runs the forward of the objective batch and finds the linear maps in it."""
    found = find_layers(model, move_bias=search.move_bias)
    record = problem.record([layer for layer in found if isinstance(layer, WeightLayer)], is_census=True)
    view = Survey(found, record, workers=search.workers)
    seen = _linear_maps(view)
    view.linear = [layer.parameter_name for layer, _ in seen]
    watched = zip((layer for layer in found if isinstance(layer, WeightLayer)), record.uses, strict=True)
    problem.gradient_work = gradient_work(
        (use, layer.weight, use.inputs.requires_grad) for layer, uses in watched for use in uses
    )
    return view, seen


def _linear_maps(view: Survey) -> list[_Seen]:
    """Keeps the weights that the forward used as linear maps and as nothing else; notes why the others cannot move."""
    kept: list[_Seen] = []
    candidates = [layer for layer in view.found if isinstance(layer, WeightLayer)]
    record = view.record
    counts = zip(record.num_other_uses, record.num_other_bias_uses, record.is_differentiated, strict=True)
    for layer, uses, others in zip(candidates, record.uses, counts, strict=True):
        one = settled(layer, uses, *others)
        if isinstance(one, str):
            view.reasons[layer.parameter_name] = one
        else:
            kept.append(one)
    # Only now is it known which axes of a weight are its inputs.
    known = {layer.parameter_name: layer for layer, _ in kept}
    view.found = [known.get(one.parameter_name, one) if isinstance(one, WeightLayer) else one for one in view.found]
    return kept


@final
@dataclass(frozen=True, eq=False)
class _Basis:
    """Takes the subspaces of linear maps from some batches; notes them, and what cannot move, in a survey."""

    problem: Problem
    batches: Sequence[Inputs]
    search: Search
    view: Survey
    seconds: Seconds

    @property
    def holds_batch(self) -> bool:
        """Whether the objective batch is among the batches."""
        return any(one is self.problem.inputs for one in self.batches)

    def leave_out_fixed(self, seen: Sequence[_Seen], chosen: Mapping[str, LayerTau] | None = None) -> list[_Seen]:
        """Leaves out the layers whose inputs depend on no trainable parameter; only those of tau 1, if taus are given.

        Where the objective batch is not known to lie inside the batches, such a layer may move, and stays.
        """
        kept = []
        for layer, uses in seen:
            may_go = chosen is None or chosen.get(layer.parameter_name) == 1.0
            may_go = may_go and (self.holds_batch or self.view.is_exact)
            if may_go and not any(self.problem.is_trainable(use.inputs) for use in uses):
                self.view.reasons[layer.parameter_name] = _INPUT_FIXED
            else:
                kept.append((layer, uses))
        return kept

    def taus(
        self, seen: Sequence[_Seen], known: Sequence[_Seen], samples: Sequence[LayerSample] = ()
    ) -> dict[str, LayerTau]:
        """Asks the rule for the taus of some of the layers known; no other place does.

        Args:
            seen: the layers to ask for.
            known: all linear maps that may move, in the model's order.
            samples: of the layers asked for, where the rule wants their energies.
        """
        layers, rule, record = [layer for layer, _ in seen], self.search.rule, self.view.record
        gradients: list[list[Tensor]] = []
        if rule.needs_gradient and layers:
            wanted = [one for layer in layers for group in layer.trained for one in group]
            parts = iter(self.problem.gradients(record, wanted))
            gradients = [[added(parts, len(group)) for group in layer.trained] for layer in layers]
        measured = Measurements(
            layers,
            [layer.parameter_name for layer, _ in known],
            float(record.loss.detach()),
            self.search.reach,
            gradients,
            functools.partial(self.search.workers.run, [sample.stable_rank for sample in samples]),
        )
        return dict(zip([layer.parameter_name for layer in layers], rule.choose(measured), strict=True))

    def add_up(self, seen: Sequence[_Seen], chosen: Mapping[str, LayerTau]) -> list[LayerSample]:
        """Adds up what each layer multiplies in all batches."""
        samples = [
            LayerSample(
                layer.num_blocks,
                layer.d_in + (layer.bias is not None),
                self.search.settings(chosen.get(layer.parameter_name)),
                len(self.batches),
            )
            for layer, _ in seen
        ]
        self._feed(seen, [one.add for one in samples])
        return samples

    def choose(self, seen: Sequence[_Seen], samples: Sequence[LayerSample], chosen: dict[str, LayerTau]) -> list[_Seen]:
        """Takes the subspaces of what was added up; gives the layers that have somewhere to go.

        Where tau could not be chosen before, it is now, and `chosen` (parameter name to tau) is completed.
        """
        if not all(one.is_finite for one in samples):
            self.view.is_finite = False
            return []
        used = [(one, sample) for one, sample in zip(seen, samples, strict=True) if sample.is_used]
        run, starts = self.search.workers.run, self.search.starts or {}
        with self.seconds.timed("subspace"):
            if self.search.rule.needs_energies:
                chosen.update(self.taus([one for one, _ in used], seen, [sample for _, sample in used]))
            names = [layer.parameter_name for (layer, _), _ in used]
            tasks = [
                functools.partial(sample.settle, chosen[name], starts.get(name))
                for name, (_, sample) in zip(names, used, strict=True)
            ]
            are_settled = run(tasks)
        again = [pair for pair, is_settled in zip(used, are_settled, strict=True) if not is_settled]
        if again:
            self._feed([one for one, _ in again], [sample.add_again for _, sample in again])
            with self.seconds.timed("subspace"):
                run([sample.settle_again for _, sample in again])
        self.problem.spend(SURVEY_WORK + sum(sample.work for sample in samples))
        return [one for one, sample in zip(seen, samples, strict=True) if self._has_room(one[0], sample)]

    def note(self, live: Sequence[_Seen], chosen: Mapping[str, LayerTau]) -> None:
        """Notes the layers that can move, their projectors, and whether their moves are exact."""
        view = self.view
        live = self.leave_out_fixed(live, chosen)
        _note_lowered(live, chosen, view)
        taus = [one.tau for layer, _ in live for one in view.subspaces[layer.parameter_name]]
        # The batch was among those added up, or it is looked at: BatchNorm in train mode gives it other inputs
        # elsewhere.
        is_whole = self.search.rule.start == 1.0 and all(tau == 1.0 for tau in taus)
        view.is_exact = is_whole and (self.holds_batch or _is_inside(live, view))
        if view.is_exact:
            live = self.leave_out_fixed(live)
        view.live = [layer for layer, _ in live]
        view.projectors = [
            BlockProjector(view.subspaces[layer.parameter_name], layer.weight.dtype) for layer in view.live
        ]
        view.record = view.record.watching([uses for _, uses in live])

    def _feed(self, seen: Sequence[_Seen], takers: Sequence[Callable[[Sequence[Use]], None]]) -> None:
        """Hands each taker what its layer multiplies, batch by batch."""
        for of_batch in self._uses(seen):
            with self.seconds.timed("subspace"):
                tasks = [functools.partial(take, uses) for take, uses in zip(takers, of_batch, strict=True)]
                self.search.workers.run(tasks)

    def _uses(self, seen: Sequence[_Seen]) -> Iterator[Sequence[Sequence[Use]]]:
        """Gives what the layers multiply, one batch at a time; the objective batch has been run already."""
        if not seen:
            return
        layers, problem = [layer for layer, _ in seen], self.problem
        for inputs in self.batches:
            if inputs is problem.inputs:
                yield [uses for _, uses in seen]
                continue
            with self.seconds.timed("capture"):
                watch = Watch(layers)
                with problem.without_graph(), watch:
                    problem.forward.outputs(inputs)
                problem.num_gradient_evaluations += FORWARD * num_samples(inputs) / num_samples(problem.inputs)
            yield watch.uses

    def _has_room(self, layer: WeightLayer, sample: LayerSample) -> bool:
        """Notes a layer's subspaces, and says whether it is left with somewhere to go."""
        name, view, starts = layer.parameter_name, self.view, self.search.starts
        if not sample.is_used:
            view.reasons[name] = "not used on the subspace sample: frozen"
            return False
        subspaces = view.subspaces[name] = sample.subspaces
        if starts is not None:
            starts[name] = tuple(one.basis for one in subspaces)
        has_room = any(subspace.null_dim for subspace in subspaces)
        if not has_room:
            view.reasons[name] = _NO_NULL_SPACE
        return has_room


def _note_lowered(live: Sequence[_Seen], chosen: Mapping[str, LayerTau], view: Survey) -> None:
    """Says in the survey's messages which layers had their tau lowered, and how far."""
    told, why = [], ""
    for layer, _ in live:
        tau = chosen[layer.parameter_name]
        shortest = min(view.subspaces[layer.parameter_name], key=lambda one: one.tau)
        if isinstance(tau, Lowering) and shortest.tau < 1.0:
            why = tau.rule.why
            told.append(f"{layer.name!r} to {shortest.tau:.8g} ({tau.rule.told(shortest.null_dim, shortest.dim)})")
    if told:
        view.messages.append(f"tau lowered {why}: {', '.join(told)}")


def _is_inside(live: Sequence[_Seen], view: Survey) -> bool:
    """Says whether the objective batch lies inside the sample's subspaces, in every layer that would move."""
    leaks = view.workers.run(
        [functools.partial(leak, view.subspaces[layer.parameter_name], uses) for layer, uses in live]
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
    """Gives the norm of each part over that of its whole, 0 for nothing of nothing; one synchronisation for all."""
    norms = norms_of([*parts, *wholes])
    return [
        part / whole if whole else 0.0 for part, whole in zip(norms[: len(parts)], norms[len(parts) :], strict=True)
    ]
