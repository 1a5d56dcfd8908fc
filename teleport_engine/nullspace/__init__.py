"""Which layers can move, and in which directions."""

from teleport_engine.nullspace.factorise import Factorisation, Settings
from teleport_engine.nullspace.gram import Gram
from teleport_engine.nullspace.layer_sample import LayerSample
from teleport_engine.nullspace.measurements import (
    LayerFacts,
    LayerRule,
    ModelFacts,
    RuleError,
    checked_number,
    facts_of,
)
from teleport_engine.nullspace.movable_layers import Search, Survey, project, spectrum, survey
from teleport_engine.nullspace.projector import Projector
from teleport_engine.nullspace.randomised import leading_vectors
from teleport_engine.nullspace.subspace import Subspace
from teleport_engine.nullspace.tau import AutoTau, ConstantTau, DriftTau, LayerwiseTau, TauRule, tau_rule

__all__ = [
    "AutoTau",
    "ConstantTau",
    "DriftTau",
    "Factorisation",
    "Gram",
    "LayerFacts",
    "LayerRule",
    "LayerSample",
    "LayerwiseTau",
    "ModelFacts",
    "Projector",
    "RuleError",
    "Search",
    "Settings",
    "Subspace",
    "Survey",
    "TauRule",
    "checked_number",
    "facts_of",
    "leading_vectors",
    "project",
    "spectrum",
    "survey",
    "tau_rule",
]
