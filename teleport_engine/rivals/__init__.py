"""Other teleports behind the same call: what the null-space teleport is compared with.

Both keep the whole loss, not the outputs: `LevelSetTeleporter` follows the level set of the loss itself
(arXiv 2403.03362), `SymmetryTeleporter` acts with a group on neighbouring layers (arXiv 2205.10637, 2305.13404).
"""

from teleport_engine.rivals.level_set import LevelSetTeleporter
from teleport_engine.rivals.symmetry import SymmetryTeleporter

__all__ = ["LevelSetTeleporter", "SymmetryTeleporter"]
