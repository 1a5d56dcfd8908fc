"""What a teleport is compared with: controls, and other teleports."""

from teleport_engine.compare.controls import IdentityMove, RandomMove, reset_state, scale_initial_weights, scaled_lr
from teleport_engine.compare.level_set import LevelSetTeleporter
from teleport_engine.compare.orbit import OrbitTeleporter
from teleport_engine.compare.rival import Rival
from teleport_engine.compare.symmetry import SymmetryTeleporter

__all__ = [
    "IdentityMove",
    "LevelSetTeleporter",
    "OrbitTeleporter",
    "RandomMove",
    "Rival",
    "SymmetryTeleporter",
    "reset_state",
    "scale_initial_weights",
    "scaled_lr",
]
