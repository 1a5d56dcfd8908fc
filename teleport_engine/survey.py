"""Which layers can move on a batch, and in which directions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import nn

from teleport_engine.boundary import num_samples
from teleport_engine.forward import RandomState
from teleport_engine.layer_inputs import FrozenModule, Use, Watch, WeightLayer, find_layers, stacked_rows
from teleport_engine.objective import Problem, Record
from teleport_engine.projector import NullSpaceProjector
from teleport_engine.report import LayerReport, Outcome, Seconds
from teleport_engine.subspace import Subspace
from teleport_engine.types import Inputs

__all__ = ["Survey", "survey"]

_INPUT_FIXED = "input is fixed"
_NO_NULL_SPACE = "no null space"


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
        subspaces: parameter name to the subspace, where one was factorised.
        is_exact: whether moves leave the batch alone to rounding: `tau = 1`, the batch inside the sample.
        is_finite: whether loss and layer inputs are.
    """

    found: Sequence[WeightLayer | FrozenModule]
    record: Record
    live: list[WeightLayer] = field(default_factory=list)
    projectors: list[NullSpaceProjector] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    subspaces: dict[str, Subspace] = field(default_factory=dict)
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
            subspace, length = self.subspaces.get(name), lengths.get(name, 0.0)
            reports.append(
                LayerReport(
                    layer.name,
                    layer.d_in,
                    rank=None if subspace is None else subspace.rank,
                    null_dim=None if subspace is None else subspace.null_dim,
                    moved=length > 0.0,
                    reason="" if length > 0.0 else self.reasons.get(name, idle),
                    step_length=length,
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

    Returns:
        The survey; with `live` empty where nothing can move.

    Raises:
        ValueError: if the forward is random, or the loss is no scalar.
    """
    start = time.perf_counter()
    found = find_layers(model)
    candidates = [layer for layer in found if isinstance(layer, WeightLayer)]
    record = problem.record([layer.weight for layer in candidates], is_census=True)
    random_state.refuse_if_moved()
    result = Survey(found, record)
    usable = _usable(candidates, record, result.reasons)
    if sample is None and tau == 1.0:
        usable = _without_fixed(usable, candidates, record, result.reasons)
    uses: Sequence[Sequence[Use]] = record.uses
    if sample is not None and usable:
        uses = _sample_uses(problem, candidates, sample)
        random_state.refuse_if_moved()
    seconds.capture += time.perf_counter() - start

    start = time.perf_counter()
    result.is_finite = bool(torch.isfinite(record.loss.detach()))
    live = [index for index in usable if _factorise(candidates[index], uses[index], tau, result)]
    if not result.is_finite:
        live = []
    result.is_exact = tau == 1.0 and (sample is None or _is_inside(live, candidates, record, result.subspaces))
    if result.is_exact and sample is not None:
        live = _without_fixed(live, candidates, record, result.reasons)
    result.live = [candidates[index] for index in live]
    result.projectors = [
        NullSpaceProjector(result.subspaces[layer.parameter_name], layer.weight.dtype) for layer in result.live
    ]
    result.record = record.only(live)
    seconds.subspace += time.perf_counter() - start
    return result


def _usable(candidates: Sequence[WeightLayer], record: Record, reasons: dict[str, str]) -> list[int]:
    """Indices of the weights that were seen as linear maps and as nothing else."""
    usable = []
    for index, layer in enumerate(candidates):
        if record.num_other_uses[index]:
            reasons[layer.parameter_name] = "its weight is used outside its linear map: frozen"
        elif not record.uses[index]:
            reasons[layer.parameter_name] = "not seen as a linear map in the forward: frozen"
        else:
            usable.append(index)
    return usable


def _without_fixed(
    indices: Sequence[int], candidates: Sequence[WeightLayer], record: Record, reasons: dict[str, str]
) -> list[int]:
    """Leaves out the layers whose inputs depend on no trainable parameter."""
    kept = []
    for index in indices:
        if any(use.inputs.requires_grad for use in record.uses[index]):
            kept.append(index)
        else:
            reasons[candidates[index].parameter_name] = _INPUT_FIXED
    return kept


def _sample_uses(problem: Problem, candidates: Sequence[WeightLayer], sample: Inputs) -> Sequence[Sequence[Use]]:
    watch = Watch([layer.weight for layer in candidates])
    with torch.no_grad(), watch:
        problem.forward(sample)
    problem.num_gradient_evaluations += num_samples(sample) / num_samples(problem.inputs) / 3.0
    return watch.uses


def _factorise(layer: WeightLayer, uses: Sequence[Use], tau: float, result: Survey) -> bool:
    """Takes a layer's subspace; whether the layer is left with somewhere to go."""
    if not result.is_finite:
        return False
    if not uses:
        result.reasons[layer.parameter_name] = "not used on the subspace sample: frozen"
        return False
    rows = stacked_rows(uses)
    if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
        result.is_finite = False
        return False
    subspace = Subspace.from_rows(rows, tau)
    result.subspaces[layer.parameter_name] = subspace
    if subspace.null_dim == 0:
        result.reasons[layer.parameter_name] = _NO_NULL_SPACE
    return subspace.null_dim > 0


def _is_inside(
    live: Sequence[int], candidates: Sequence[WeightLayer], record: Record, subspaces: dict[str, Subspace]
) -> bool:
    """Whether the objective batch lies inside the sample's subspace, in every layer that would move."""
    for index in live:
        layer = candidates[index]
        limit = 1e-9 if layer.weight.dtype == torch.float64 else 1e-6
        if subspaces[layer.parameter_name].leak(stacked_rows(record.uses[index])) > limit:
            return False
    return True
