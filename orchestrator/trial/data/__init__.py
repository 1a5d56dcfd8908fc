"""The data sets a spec may name, one file each, with ``load(options) -> DataSet``.

Importing this package imports no torch: :mod:`orchestrator.trial.data.locate` serves the dry run.
"""
