"""The sweeps that are killed: real, their trials a second or two long, each with several checkpoints."""

from __future__ import annotations

CHECKPOINT_SECONDS = 0.2

SPEC = f"""
version: 1
name: chaos
description: Is anything lost, run twice or logged twice?
workloads:
  digits:
    model: {{name: mlp, widths: [16]}}
    data: {{name: digits, batch_size: 128}}
    optimizer: {{name: sgd, lr: {{loguniform: [0.01, 0.5]}}}}
    epochs: 400
    evaluate: {{every: 90}}
    target: {{metric: train_loss, value: 0.5}}
arms:
  teleport:
    teleport:
      tau: {{choice: [1.0, 0.99]}}
      step: {{choice: [{{rule: fixed, lr: {{loguniform: [0.001, 0.1]}}}},
                      {{rule: growth, factor: {{uniform: [1.1, 2.0]}}}}]}}
      schedule: {{epochs: 2, batches: 2, steps: 1}}
search:
  {{sampler: tpe, seed: 0, concurrency: 2, trials: 3, seeds: [0, 1], objective: {{metric: train_loss, mode: min}}}}
confirm: {{top_k: 1, seeds: 3, grid: {{values: [0.1, 0.3]}}}}
resources: {{cpu: 1, gpu: 1}}
checkpoint: {{every: {CHECKPOINT_SECONDS}}}
"""

ONE_AT_A_TIME = SPEC.replace("sampler: tpe", "max_concurrent: 1, sampler: tpe")

# Three candidates on six pairs, of which early stopping gives one up. One trial runs at a time: with more of them it
# depends on time which runs of a candidate have been begun when it is given up.
SHARED = f"""
version: 1
name: chaos
description: Is a candidate, or a decision to give one up, lost or made twice?
workloads:
  narrow:
    model: {{name: mlp, widths: [16]}}
    data: {{name: digits, batch_size: 128}}
    optimizer: {{name: sgd, lr: {{loguniform: [0.05, 0.5]}}}}
    epochs: 80
    evaluate: {{every: 5}}
    target: {{metric: train_loss, value: 0.5}}
  wide:
    model: {{name: mlp, widths: [32]}}
    data: {{name: digits, batch_size: 128}}
    optimizer: {{name: momentum, lr: {{loguniform: [0.01, 0.1]}}}}
    epochs: 80
    evaluate: {{every: 5}}
    target: {{metric: train_loss, value: 0.5}}
arms:
  teleport:
    teleport:
      tau: {{choice: [1.0, 0.99]}}
      step: {{rule: growth, factor: {{uniform: [1.1, 2.0]}}}}
      schedule: {{epochs: 2, batches: 2, steps: 1}}
search:
  max_concurrent: 1
  concurrency: 1
  sampler: tpe
  seed: 0
  trials: 3
  seeds: [0, 1, 2]
  objective: {{metric: steps_to_target}}
  scope: {{name: shared, lr_factor: [0.1, 3.0]}}
  scheduler: {{name: wilcoxon, p_threshold: 0.3}}
confirm: {{seeds: 1, grid: none}}
resources: {{cpu: 1, gpu: 1}}
checkpoint: {{every: {CHECKPOINT_SECONDS}}}
"""
