"""Trains one candidate on one seed: data, model, loop and arm; engine and orchestrator meet here alone.

Importing this package imports no torch; its parts do, where they need it.
"""
