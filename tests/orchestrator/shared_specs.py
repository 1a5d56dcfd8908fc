"""Specs of shared searches that the tests share."""

from __future__ import annotations

from orchestrator.spec import SweepSpec, spec_from_text

SHARED = """
version: 1
name: shared
workloads:
  narrow:
    model: {name: mlp, widths: [8]}
    data: {name: digits, batch_size: 128}
    optimizer: {name: sgd, lr: {loguniform: [0.05, 0.5]}}
    epochs: 1
    evaluate: {every: 2}
    target: {metric: train_loss, value: 2.25}
  wide:
    model: {name: mlp, widths: [32]}
    data: {name: digits, batch_size: 128}
    optimizer: {name: momentum, lr: {loguniform: [0.01, 0.2]}}
    epochs: 1
    evaluate: {every: 2}
    target: {metric: train_loss, value: 2.2}
arms:
  teleport:
    teleport:
      tau: {choice: [1.0, 0.99]}
      step: {rule: growth, factor: {uniform: [1.1, 2.0]}}
      schedule: {epochs: 1, batches: 2, steps: 1}
search:
  sampler: random
  trials: 3
  seeds: [0, 1]
  objective: {metric: steps_to_target}
  scope: {name: shared, lr_factor: [0.5, 2.0]}
confirm: {seeds: 2, grid: none}
"""


def shared_spec(*overrides: str) -> SweepSpec:
    """Make the small shared spec, changed as ``--set`` would."""
    return spec_from_text(SHARED, "shared.yaml", overrides)
