"""The filters of docs/browsing.md find what it says they find."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.home.records import SweepRecord, Trial, TrialState
from orchestrator.report import effect_metrics, summarise
from orchestrator.track import MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client
from tests.dashboards.homes import write_sweep
from tests.orchestrator.report.build import Effects, failing, stopped, sweep
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import SharedSweep, costing

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "docs" / "browsing.md"


def _metrics(trial: Trial) -> dict[str, float]:
    """What the end of a trial says; of a target that was missed it says nothing but that."""
    result = trial.result
    assert result is not None
    if result.state is TrialState.PRUNED or not result.seeds:
        return {}
    seed = result.seeds[0]
    found = {"target_reached": float(seed.steps_to_target is not None)}
    if seed.steps_to_target is not None:
        found["steps_to_target"] = float(seed.steps_to_target)
    if seed.teleports is not None and seed.teleports.max_loss_drift is not None:
        found["teleport_max_loss_drift"] = seed.teleports.max_loss_drift
    if result.value is not None:
        found["value"] = result.value
    return found


def _failure(trial: Trial) -> str | None:
    return None if trial.result is None or trial.result.failure is None else trial.result.failure.kind


def _tau(trial: Trial) -> str:
    return str(trial.config.values.get("teleport.tau"))


SWEEP: Callable[[Trial], bool] = lambda trial: False  # noqa: E731 - the sweep's own run, and no trial
FINDS: dict[str, Callable[[Trial], bool]] = {
    "tags.phase = 'sweep'": SWEEP,
    "tags.git_dirty = 'false' AND tags.phase = 'sweep'": SWEEP,
    "tags.phase = 'sweep' AND metrics.\"mlp_digits/teleport/effect\" < 0.9": SWEEP,
    "tags.sweep = 'quickstart' AND tags.phase = 'confirm'": lambda t: t.config.phase == "confirm",
    "tags.phase = 'search' AND tags.arm = 'teleport'": lambda t: (
        (t.config.phase, t.config.arm) == ("search", "teleport")
    ),
    "tags.study = 'mlp_digits/teleport'": lambda t: t.config.study == "mlp_digits/teleport",
    "tags.phase = 'confirm' AND tags.seed = '1001'": lambda t: (
        t.config.phase == "confirm" and t.config.seeds == (1001,)
    ),
    "tags.phase = 'search' AND tags.state = 'COMPLETE' AND metrics.value < 0.004": lambda t: (
        t.config.phase == "search" and _metrics(t).get("value", 1.0) < 0.004
    ),
    "tags.phase = 'confirm' AND metrics.steps_to_target < 200": lambda t: (
        t.config.phase == "confirm" and _metrics(t).get("steps_to_target", 1e9) < 200
    ),
    "metrics.target_reached < 1": lambda t: _metrics(t).get("target_reached", 1.0) < 1.0,
    "tags.state = 'PRUNED'": lambda t: t.result is not None and t.result.state is TrialState.PRUNED,
    "attributes.status = 'FAILED'": lambda t: _failure(t) is not None,
    "tags.failure = 'diverged'": lambda t: _failure(t) == "diverged",
    "tags.failure = 'crashed'": lambda t: _failure(t) == "crashed",
    "metrics.teleport_max_loss_drift > 1e-6": lambda t: _metrics(t).get("teleport_max_loss_drift", 0.0) > 1e-6,
    "params.teleport.tau = '0.999'": lambda t: _tau(t) == "0.999",
    "params.optimizer.name = 'sgd' AND tags.arm_kind = 'baseline'": lambda t: t.config.arm == "baseline",
    "attributes.run_name LIKE 'mlp_digits/teleport #%'": lambda t: (
        (t.config.phase, t.config.arm) == ("search", "teleport")
    ),
}
# Of a sweep whose search all workloads share.
SHARED = "tags.search = '*/teleport' AND tags.setting = '3'"
UNKNOWN_HERE = {"metrics.teleport_max_loss_drift > 1e-6"}


def _change(trial: Trial) -> Trial:
    number = trial.config.number
    if number == 0:
        return failing(trial, "crashed")
    if number == 1:
        return failing(trial, "diverged")
    return stopped(trial) if number == 2 else trial


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return sweep(effects=Effects(steps=380.0, noise=0.1, factor={"teleport": 0.5}), change=_change)


@pytest.fixture(scope="module")
def uri(record: SweepRecord, tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("store")
    found = f"sqlite:///{home}/mlflow.db"
    paths, metrics = write_sweep(home, record), effect_metrics(summarise(record))
    assert MlflowTracker(found).sync(paths, "FINISHED", metrics=metrics) == 0
    return found


def test_every_filter_of_the_page_is_tried_here() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## Filters") : text.index("## Charts")]
    assert set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)) == {*FINDS, SHARED}


@pytest.mark.parametrize("text", FINDS)
def test_a_filter_finds_what_the_page_says(text: str, record: SweepRecord, uri: str) -> None:
    runs = open_client(Address.parse(uri)).search_runs(["1"], text)
    found = sorted(run.data.tags.get("trial_id", "the sweep") for run in runs)
    expected = sorted(trial.trial_id for trial in record.trials if FINDS[text](trial))
    assert found == (["the sweep"] if FINDS[text] is SWEEP else expected)
    assert found or text in UNKNOWN_HERE, "a filter that finds nothing shows nothing"


def test_the_filter_of_a_shared_search_finds_every_unit_of_a_setting(record: SweepRecord, tmp_path: Path) -> None:
    searched = SharedSweep(shared_spec("search.trials=4"), tmp_path / "study.journal", lambda unit: costing(unit, 5))
    searched.run()
    shared = SweepRecord(searched.spec, record.provenance, tuple(searched.trials))
    store = f"sqlite:///{tmp_path}/mlflow.db"
    assert MlflowTracker(store).sync(write_sweep(tmp_path, shared), "FINISHED") == 0
    runs = open_client(Address.parse(store)).search_runs(["1"], SHARED)
    units = [run.trial_id for run in searched.runs if run.number == 3]
    assert len(units) == len(searched.spec.workloads) * len(searched.spec.search.seeds)
    assert sorted(run.data.tags["trial_id"] for run in runs) == sorted(units)
