"""Whole workloads that a spec may name; only plug-ins register any."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.spec.identity import Json

# NAME -> what a spec would write under a workload's label; distributions may be in it.
WORKLOADS: dict[str, Mapping[str, Json]] = {}
