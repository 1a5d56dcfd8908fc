"""What a teleport climbs, and its ascent direction."""

from teleport_engine.objective.curvature import GradCurvature
from teleport_engine.objective.direction import DoubleBackwardRoute, Route
from teleport_engine.objective.forward_mode import TangentRoute
from teleport_engine.objective.gradient import Gradient, GradNorm, LogGradNorm, Measured, Objective
from teleport_engine.objective.problem import Evaluation, Problem, Record, square_norm

__all__ = [
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
    "square_norm",
]
