"""One spec, one seed, one commit: the same candidates, values and verdicts, however many workers there are.

Workers are played by a launcher that holds several trials at once and ends them in an order drawn from a seed, with
results that follow from the configuration alone. Real training, real workers: the slow tests, and ``make chaos``.
"""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.launch import InlineLauncher, Launcher, RayLauncher, TrialSource
from orchestrator.report.summarise import summarise
from orchestrator.spec import Share, SweepSpec
from tests.orchestrator.launch.test_launchers import ray_warnings
from tests.orchestrator.launchers import ReadyLauncher
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.sweep.test_run import go, outcomes
from tests.orchestrator.trials import complete, failed

SPECS = {
    "own": tiny_spec(
        "search.trials=6",
        "search.seeds=[0, 1]",
        "search.concurrency=3",
        "search.sampler={name: tpe, n_startup_trials: 2}",
        "search.objective={metric: steps_to_target}",
        "confirm.grid={}",
        "confirm.seeds=6",
        "arms.random={random_move: {}}",
    ),
    "shared": shared_spec(
        "search.trials=6",
        "search.seeds=[0, 1, 2]",
        "search.concurrency=2",
        "search.scheduler=wilcoxon",
        "confirm.grid={}",
        "confirm.seeds=6",
    ),
}


def answer(config: TrialConfig) -> TrialResult:
    """Give a trial the result that its configuration has, whoever runs it and when."""
    draw = random.Random(hashlib.sha256(config.trial_id.encode()).digest())
    rate = float(config.training.optimizer.model_dump()["lr"])
    if config.phase == "search" and draw.random() < 0.05:
        return failed(config, draw.choice(["diverged", "crashed"]))
    steps = 1 + round(3 * abs(math.log(rate / 0.1)) + draw.random())
    result = complete(config)
    seed = result.seeds[0].model_copy(update={"steps_to_target": steps if steps <= 10 else None})
    return result.model_copy(update={"seeds": (seed,), "value": float(min(steps, 20))})


class Workers(ReadyLauncher):
    """So many workers, whose trials end in an order drawn from a seed."""

    def __init__(self, num: int, seed: int) -> None:
        self._num = num
        self._draw = random.Random(seed)

    def launch(self, source: TrialSource) -> None:
        running: list[TrialConfig] = []
        while running or not source.is_exhausted:
            while len(running) < self._num and (config := source.propose()) is not None:
                source.on_started(config)
                running.append(config)
            config = running.pop(self._draw.randrange(len(running)))
            source.on_ended(config, answer(config))


def told(spec: SweepSpec, home: Path, launcher: Launcher) -> dict[str, Any]:
    """Everything of a report but its clocks, and but the runs that were begun and do not count."""
    record = read_record(go(spec, home, launcher).paths)
    report = summarise(record).model_dump(mode="json", exclude={"provenance", "machines", "failures", "lints"})
    return {"studies": [_plain(study) for study in report["studies"]], "comparisons": report["comparisons"]}


def _plain(study: dict[str, Any]) -> dict[str, Any]:
    shared = study["shared"] or {}
    return {**study, "shared": {name: value for name, value in shared.items() if not name.startswith("num_")}}


@pytest.mark.parametrize("name", SPECS)
def test_the_report_is_the_same_with_any_number_of_workers(name: str, tmp_path: Path) -> None:
    first = told(SPECS[name], tmp_path / "1", Workers(1, 0))
    assert all(study["num_trials"] for study in first["studies"])
    for num, seed in ((2, 1), (16, 2)):
        assert told(SPECS[name], tmp_path / f"{num}-{seed}", Workers(num, seed)) == first


def test_without_waiting_for_numbers_it_would_not_be(tmp_path: Path) -> None:
    """The candidates depend on ``search.concurrency``, so these specs do try what the other test holds."""
    spec = SPECS["own"]
    one = spec.model_copy(update={"search": spec.search.model_copy(update={"concurrency": 1})})
    assert told(spec, tmp_path / "3", Workers(1, 0)) != told(one, tmp_path / "1", Workers(1, 0))


@pytest.mark.slow
@ray_warnings
@pytest.mark.parametrize("num_workers", [2, 4])
def test_real_trials_on_ray_come_to_the_same_as_inline(num_workers: int, tmp_path: Path) -> None:
    spec = tiny_spec(
        "search.trials=5", "search.concurrency=2", "search.seeds=[0, 1]", "confirm.grid={}", "resources.cpu=0.5"
    )
    inline = read_record(go(spec, tmp_path / "inline", InlineLauncher()).paths)
    several = spec.model_copy(update={"search": spec.search.model_copy(update={"max_concurrent": num_workers})})
    on_ray = read_record(go(several, tmp_path / "ray", RayLauncher(shares=[Share(cpu=0.5)])).paths)
    assert outcomes(on_ray) == outcomes(inline)
