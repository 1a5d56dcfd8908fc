"""How far to move, and what holds a step back."""

from teleport_engine.step.guards import Breach, EvalMode, Exactness, Guards, Limits, Probe, Room, difference
from teleport_engine.step.layerwise import LayerwiseStep, MeasuredGrowth
from teleport_engine.step.line import Ceiling, WeightLine
from teleport_engine.step.moves import DirectedMove, Move
from teleport_engine.step.rules import FixedStep, GrowthStep, Line, StepRule

__all__ = [
    "Breach",
    "Ceiling",
    "DirectedMove",
    "EvalMode",
    "Exactness",
    "FixedStep",
    "GrowthStep",
    "Guards",
    "LayerwiseStep",
    "Limits",
    "Line",
    "MeasuredGrowth",
    "Move",
    "Probe",
    "Room",
    "StepRule",
    "WeightLine",
    "difference",
]
