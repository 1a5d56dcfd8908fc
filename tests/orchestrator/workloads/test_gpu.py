"""What only a CUDA device can show."""

from __future__ import annotations

import pytest
import torch

from orchestrator.results import HistoryRow, TrialState
from orchestrator.trial import run_trial
from tests.orchestrator.workloads.tasks import TELEPORT, config

pytestmark = pytest.mark.gpu


def test_a_gpu_is_used_where_one_is_asked_for_and_meets_the_same_problem() -> None:
    rows: list[HistoryRow] = []
    cpu: list[HistoryRow] = []
    result = run_trial(config(TELEPORT, share={"gpu": 1}), rows.extend)
    run_trial(config(TELEPORT), cpu.extend)
    assert result.state is TrialState.COMPLETE, result.failure
    assert result.machine is not None
    assert result.machine.device == torch.cuda.get_device_name()
    losses = [row.metrics["train_loss"] for row in rows]
    assert losses == pytest.approx([row.metrics["train_loss"] for row in cpu], rel=0.05)
    assert rows[0].metrics == pytest.approx(cpu[0].metrics, rel=1e-4)


def test_divergence_on_a_gpu_is_seen_at_the_end_of_the_stretch() -> None:
    diverging = config(training={"optimizer": {"name": "sgd", "lr": 1e30}}, share={"gpu": 1})
    result = run_trial(diverging, lambda rows: None)
    assert result.failure is not None
    assert (result.failure.kind, result.seeds[0].num_steps) == ("diverged", 4)
