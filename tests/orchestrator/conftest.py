"""Fixtures of several test modules of the orchestrator."""

from __future__ import annotations

from typing import Any

import pytest

from teleport_engine import Teleporter, TeleportReport


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[TeleportReport]:
    """Every report of the null-space teleporter, as it comes."""
    seen: list[TeleportReport] = []
    real = Teleporter.teleport

    def watching(self: Teleporter, *arguments: Any, **more: Any) -> TeleportReport:
        seen.append(real(self, *arguments, **more))
        return seen[-1]

    monkeypatch.setattr(Teleporter, "teleport", watching)
    return seen
