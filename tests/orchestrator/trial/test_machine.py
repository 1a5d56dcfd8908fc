"""Figures of the machine are for people: under MLflow's names, now and then, and no trial fails or changes of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import psutil
import pytest
import torch

from orchestrator.home.records import HistoryRow
from orchestrator.trial.machine import SystemMetrics
from orchestrator.trial.run import run_trial
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import config, row

CPU = torch.device("cpu")


def test_the_names_are_those_that_mlflow_shows_as_system_metrics() -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    monitor = CPUMonitor()  # type: ignore[no-untyped-call]
    monitor.collect_metrics()  # type: ignore[no-untyped-call]
    figures = SystemMetrics(CPU, 1e-9).take()
    assert figures.keys() == monitor.aggregate_metrics().keys()  # type: ignore[no-untyped-call]
    assert all(0.0 <= value < math.inf for value in figures.values())
    assert 0.0 < figures["system_memory_usage_percentage"] <= 100.0


def test_it_measures_no_more_often_than_asked() -> None:
    times = iter([0.0, 0.0, 4.0, 10.0, 10.0, 19.0, 20.0, 20.0])
    system = SystemMetrics(CPU, 10.0, lambda: next(times))
    assert [bool(system.take()) for _ in range(4)] == [False, True, False, True]


def test_a_machine_that_does_not_tell_costs_a_warning_and_no_trial(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(psutil, "virtual_memory", broken)
    with caplog.at_level(logging.WARNING, "teleport"):
        system = SystemMetrics(CPU, 1e-9)
        assert [system.take(), system.take()] == [{}, {}]
    assert [record.getMessage() for record in caplog.records] == ["no system metrics of this trial: OSError: no /proc"]


def test_a_trial_that_is_measured_is_bit_for_bit_the_one_that_is_not() -> None:
    found: list[list[HistoryRow]] = []
    for every in (None, 1e-9):
        rows: list[HistoryRow] = []

        def report(more: Sequence[HistoryRow], rows: list[HistoryRow] = rows) -> None:
            rows.extend(more)

        result = run_trial(config(system_metrics_every=every), report)
        assert not [name for name in result.seeds[0].metrics if "cpu" in name]
        found.append(rows)
    plain, measured = found
    assert [one.metrics for one in plain] == [one.metrics for one in measured]
    assert not any(one.system for one in plain)
    assert all("cpu_utilization_percentage" in one.system for one in measured)


def test_who_asks_for_it_has_the_same_sweep_and_the_same_trials() -> None:
    asked = tiny_spec("tracking.system_metrics=true", "tracking.every=2.5")
    assert asked.identity == tiny_spec().identity
    assert asked.tracking.system_metrics_every == 2.5
    assert tiny_spec("tracking.every=2.5").tracking.system_metrics_every is None
    assert config(system_metrics_every=2.5).trial_id == config().trial_id


def test_a_row_without_them_is_written_as_ever_and_one_from_before_is_read() -> None:
    assert "system" not in row(3).model_dump_json()
    assert HistoryRow.model_validate_json(row(3).model_dump_json()) == row(3)
    measured = row(3).model_copy(update={"system": {"cpu_utilization_percentage": 50.0}})
    assert HistoryRow.model_validate_json(measured.model_dump_json()) == measured
