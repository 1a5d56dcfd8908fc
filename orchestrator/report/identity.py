"""Recognises candidates and workloads by their configuration, whatever sweeps and arms are called.

A candidate is an arm's options with every value fixed. A candidate of a shared search may also multiply the learning
rates tuned for the baselines by a factor of its own, and have common parameters; these *changes* are part of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.search import Candidate
from orchestrator.spec import ALL, LR_FACTOR, Arm, Json, SweepSpec, digest


def method_id(method: Arm) -> str:
    """Identify an arm with every value fixed, whatever it is called."""
    return digest(method.model_dump(mode="json", exclude_defaults=True))


def changes_of(spec: SweepSpec, arm: str, values: Mapping[str, Json]) -> dict[str, Json]:
    """Tell what a candidate changes of a workload's training values: the factor of the learning rate, common ones."""
    if not spec.is_shared(arm):
        return {}
    names = {distribution.name for distribution in spec.space(ALL, arm)[0].distributions()}
    return {name: value for name, value in values.items() if name in names and (name, value) != (LR_FACTOR, 1.0)}


def candidate_id(method: Arm, changes: Mapping[str, Json]) -> str:
    """Identify a candidate; one that changes nothing has the identity of its method."""
    key = method_id(method)
    return digest([key, dict(sorted(changes.items()))]) if changes else key


def key_of(spec: SweepSpec, candidate: Candidate) -> str:
    """Identify a candidate of a shared search."""
    return candidate_id(candidate.method, changes_of(spec, candidate.arm, candidate.values))
