"""Which layers can move on a batch, and in which directions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from teleport_engine.boundary import num_samples
from teleport_engine.forward import RandomState
from teleport_engine.layer_inputs import FrozenModule, WeightLayer, find_layers, settled
from teleport_engine.maps import Use, stacked_rows
from teleport_engine.objective import Problem, Record, square_norm
from teleport_engine.projector import BlockProjector, NullSpaceProjector
from teleport_engine.report import LayerReport, Outcome, Seconds
from teleport_engine.subspace import Subspace
from teleport_engine.types import Inputs, Product
from teleport_engine.watch import Watch

__all__ = ["Survey", "project", "survey"]

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
        is_exact: whether moves leave the batch alone to rounding: `tau = 1`, the batch inside the sample.
        is_finite: whether loss and layer inputs are.
    """

    found: Sequence[WeightLayer | FrozenModule]
    record: Record
    live: list[WeightLayer] = field(default_factory=list)
    projectors: list[BlockProjector] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    subspaces: dict[str, tuple[Subspace, ...]] = field(default_factory=dict)
    is_exact: bool = False
    is_finite: bool = True

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
            widest = max(self.subspaces.get(name, ()), key=lambda subspace: subspace.null_dim, default=None)
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
                )
            )
        return tuple(reports)


def survey(
    model: nn.Module,
    problem: Problem,
    tau: float,
    sample: Inputs | None,
    random_state: RandomState,
    seconds: Seconds,
    *,
    move_bias: bool = False,
) -> Survey:
    """Finds the layers that can move and their projectors, with one forward on the batch (and one on the sample).

    At `tau = 1` with the basis from the objective batch itself, a layer whose input depends on no trainable
    parameter cannot move and is skipped before anything is factorised. With another sample that is known only
    once the batch is seen to lie inside it.

    Args:
        model: the model.
        problem: its loss on the objective batch.
        tau: share of the energy to keep.
        sample: inputs to take the basis from; None: those of the objective batch.
        random_state: to refuse a random forward with.
        seconds: where the time goes, added to.
        move_bias: biases of linear maps move along with their weights.

    Returns:
        The survey; with `live` empty where nothing can move.

    Raises:
        ValueError: if the forward is random, or the loss is no scalar.
    """
    start = time.perf_counter()
    found = find_layers(model, move_bias=move_bias)
    candidates = [layer for layer in found if isinstance(layer, WeightLayer)]
    record = problem.record(candidates, is_census=True)
    random_state.refuse_if_moved()
    result = Survey(found, record)
    seen = _settle(candidates, record, result.reasons)
    if sample is None and tau == 1.0:
        seen = _without_fixed(seen, result.reasons)
    sampled: Sequence[Sequence[Use]] = [uses for _, uses in seen]
    if sample is not None and seen:
        sampled = _sample_uses(problem, [layer for layer, _ in seen], sample)
        random_state.refuse_if_moved()
    seconds.capture += time.perf_counter() - start

    start = time.perf_counter()
    result.is_finite = bool(torch.isfinite(record.loss.detach()))
    live = [one for one, uses in zip(seen, sampled, strict=True) if _factorise(one[0], uses, tau, result)]
    if not result.is_finite:
        live = []
    result.is_exact = tau == 1.0 and (sample is None or _is_inside(live, result.subspaces))
    if result.is_exact and sample is not None:
        live = _without_fixed(live, result.reasons)
    result.live = [layer for layer, _ in live]
    for layer in result.live:
        parts = result.subspaces[layer.parameter_name]
        result.projectors.append(BlockProjector([NullSpaceProjector(part, layer.weight.dtype) for part in parts]))
    result.record = record.watching([uses for _, uses in live])
    seconds.subspace += time.perf_counter() - start
    return result


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


def _without_fixed(seen: Sequence[_Seen], reasons: dict[str, str]) -> list[_Seen]:
    """Leaves out the layers whose inputs depend on no trainable parameter."""
    kept = []
    for layer, uses in seen:
        if any(use.inputs.requires_grad for use in uses):
            kept.append((layer, uses))
        else:
            reasons[layer.parameter_name] = _INPUT_FIXED
    return kept


def _sample_uses(problem: Problem, layers: Sequence[WeightLayer], sample: Inputs) -> Sequence[Sequence[Use]]:
    watch = Watch(layers)
    with torch.no_grad(), watch:
        problem.forward(sample)
    problem.num_gradient_evaluations += num_samples(sample) / num_samples(problem.inputs) / 3.0
    return watch.uses


def _factorise(layer: WeightLayer, uses: Sequence[Use], tau: float, result: Survey) -> bool:
    """Takes a layer's subspaces; whether the layer is left with somewhere to go."""
    if not result.is_finite:
        return False
    if not uses:
        result.reasons[layer.parameter_name] = "not used on the subspace sample: frozen"
        return False
    found: dict[int, Subspace] = {}
    stacks = stacked_rows(uses, layer.num_blocks)
    for rows in stacks:
        if id(rows) in found:
            continue
        if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
            result.is_finite = False
            return False
        found[id(rows)] = Subspace.from_rows(rows, tau)
    subspaces = tuple(found[id(rows)] for rows in stacks)
    result.subspaces[layer.parameter_name] = subspaces
    has_room = any(subspace.null_dim for subspace in subspaces)
    if not has_room:
        result.reasons[layer.parameter_name] = _NO_NULL_SPACE
    return has_room


def _is_inside(live: Sequence[_Seen], subspaces: dict[str, tuple[Subspace, ...]]) -> bool:
    """Whether the objective batch lies inside the sample's subspace, in every layer that would move."""
    for layer, uses in live:
        limit = 1e-9 if layer.weight.dtype == torch.float64 else 1e-6
        of_blocks = zip(subspaces[layer.parameter_name], stacked_rows(uses, layer.num_blocks), strict=True)
        if any(subspace.leak(rows) > limit for subspace, rows in of_blocks):
            return False
    return True


def project(view: Survey, ascents: Sequence[Product]) -> tuple[list[Tensor | None], float]:
    """Projects the directions on the null spaces of their layers.

    Args:
        view: the survey, with a projector per live layer.
        ascents: per live layer, the direction as a product.

    Returns:
        Per live layer `D [g, o, d]`, None where only rounding is left; and `sum ||D||^2`.
    """
    short = [ascent.short() for ascent in ascents]
    rows = [projector.project(ascent.right) for projector, ascent in zip(view.projectors, short, strict=True)]
    shares = _shares(rows, [ascent.right for ascent in short])
    directions: list[Tensor | None] = []
    for projector, ascent, part, share in zip(view.projectors, short, rows, shares, strict=True):
        if share <= _NEGLIGIBLE[part.dtype]:
            directions.append(None)
            continue
        again = projector.project(part) if share < _MOSTLY_IN_SPAN[view.is_exact] else part
        directions.append(again if ascent.left is None else ascent.left.mT @ again)
    return directions, square_norm(directions)


def _shares(parts: Sequence[Tensor], wholes: Sequence[Tensor]) -> list[float]:
    """Norm of each part over that of its whole, 0 for nothing of nothing; one synchronisation for all."""
    norms = torch.stack(torch._foreach_norm([*parts, *wholes])).tolist()
    return [
        part / whole if whole else 0.0 for part, whole in zip(norms[: len(parts)], norms[len(parts) :], strict=True)
    ]
