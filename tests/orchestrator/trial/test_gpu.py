"""What only a CUDA device can show."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestrator.home.checkpoint import Checkpoints
from orchestrator.home.records import HistoryRow, TrialState
from orchestrator.trial.run import run_trial
from tests.orchestrator.trial.tasks import TELEPORT, config

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


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"precision": "float16"}, {"compile": True}], ids=str)
def test_low_precision_and_compiled_training_on_a_gpu_come_near_the_plain_run(options: dict[str, Any]) -> None:
    rows: dict[str, list[HistoryRow]] = {"plain": [], "own": []}
    for name, training in (("plain", {}), ("own", options)):
        result = run_trial(config(TELEPORT, share={"gpu": 1}, training=training), rows[name].extend)
        assert result.state is TrialState.COMPLETE, result.failure
    losses = {name: [row.metrics["train_loss"] for row in found] for name, found in rows.items()}
    assert losses["own"] == pytest.approx(losses["plain"], rel=0.05)


def test_a_trial_on_a_gpu_goes_on_from_its_checkpoint() -> None:
    kept: list[tuple[int, bytes]] = []
    whole: list[HistoryRow] = []
    later: list[HistoryRow] = []
    of = config(TELEPORT, share={"gpu": 1}, checkpoint_every=1e-9)
    run_trial(of, whole.extend, Checkpoints(None, lambda data: kept.append((len(whole), data))))
    num_rows, data = kept[len(kept) // 2]
    result = run_trial(of, later.extend, Checkpoints(data, lambda data: None))
    assert result.state is TrialState.COMPLETE, result.failure
    expected = [row.metrics["train_loss"] for row in whole[num_rows:]]
    assert [row.metrics["train_loss"] for row in later] == pytest.approx(expected, rel=1e-3)
