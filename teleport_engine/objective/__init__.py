"""What a teleport climbs, and its ascent direction."""

from teleport_engine.objective.curvature import GradCurvature
from teleport_engine.objective.direction import DoubleBackwardRoute, Route
from teleport_engine.objective.forward_mode import TangentRoute
from teleport_engine.objective.gradient import Gradient, GradNorm, LogGradNorm, Measured, Objective
from teleport_engine.objective.problem import (
    ROUNDING,
    Evaluation,
    Problem,
    Record,
    added,
    norms_of,
    refuse_another,
    square_norm,
    tensors_of,
)

__all__ = [
    "ROUNDING",
    "DoubleBackwardRoute",
    "Evaluation",
    "GradCurvature",
    "GradNorm",
    "Gradient",
    "LogGradNorm",
    "Measured",
    "Objective",
    "Problem",
    "Record",
    "Route",
    "TangentRoute",
    "added",
    "norms_of",
    "refuse_another",
    "square_norm",
    "tensors_of",
]
