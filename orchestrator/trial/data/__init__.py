"""Finds and loads the data sets that a spec may name, one module each, with ``load(options) -> DataSet``.

Importing this package loads no torch, so that planning a sweep can say where its data are.
"""

from orchestrator.trial.data.download import fetch
from orchestrator.trial.data.locations import locate, locate_for

__all__ = ["fetch", "locate", "locate_for"]
