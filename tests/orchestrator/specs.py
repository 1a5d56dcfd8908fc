"""Specs that the tests share: small, real, and quick to run."""

from __future__ import annotations

from orchestrator.spec import SweepSpec, spec_from_text

TINY = """
version: 1
name: tiny
description: Does it run?
workloads:
  digits:
    model: {name: mlp, widths: [16]}
    data: {name: digits, batch_size: 128}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}}
    epochs: 1
    evaluate: {every: 2}
    target: {metric: train_loss, value: 2.2}
arms:
  teleport:
    teleport:
      tau: {choice: [1.0, 0.99]}
      step: {choice: [{rule: fixed, lr: {loguniform: [0.001, 0.1]}},
                      {rule: growth, factor: {uniform: [1.1, 2.0]}}]}
      schedule: {epochs: 1, batches: 2, steps: 1}
search: {sampler: tpe, seed: 0, trials: 3, seeds: [0], objective: {metric: train_loss, mode: min}}
confirm: {top_k: 1, seeds: 2, grid: none}
"""


def tiny_spec(*overrides: str) -> SweepSpec:
    """Make the tiny spec, changed as ``--set`` would."""
    return spec_from_text(TINY, "tiny.yaml", overrides)
