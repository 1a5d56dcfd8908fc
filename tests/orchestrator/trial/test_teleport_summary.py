"""What the teleports of a seed come to."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from orchestrator.trial.teleport_summary import TeleportTotals
from teleport_engine import GrowthStep, Teleporter, TeleportReport


def teleport(seed: int) -> TeleportReport:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    teleporter = Teleporter(model, torch.nn.functional.cross_entropy, step=GrowthStep(1.5), num_steps=2)
    return teleporter.teleport(torch.randn(8, 6), torch.randint(0, 3, (8,)))


def test_seconds_are_added_up_by_phase_and_go_on_from_a_state() -> None:
    first, second = teleport(0), teleport(1)
    totals = TeleportTotals()
    totals.add(first)
    again = TeleportTotals()
    again.load_state_dict(totals.state_dict())
    again.add(second)
    expected = {name: asdict(first.seconds)[name] + asdict(second.seconds)[name] for name in asdict(first.seconds)}
    assert set(expected) == {"capture", "subspace", "direction", "apply"}
    assert again.summary().seconds == pytest.approx(expected)


def test_a_state_from_before_seconds_were_kept_is_read() -> None:
    totals = TeleportTotals()
    totals.add(teleport(0))
    state = totals.state_dict()
    del state["seconds"]
    older = TeleportTotals()
    older.load_state_dict(state)
    assert older.summary().seconds == {}
