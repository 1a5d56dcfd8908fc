"""The page of a sweep whose search is shared: its units and settings are told apart, and every view is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards import app
from dashboards.look import labels_of
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from tests.dashboards.test_views import page, text_of
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.sweep.test_run import Simulated, go


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    go(shared_spec(), path, Simulated())
    return path


@pytest.mark.parametrize("view", app.VIEWS)
def test_every_view_is_drawn(view: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert text_of(page(monkeypatch, home, view=view))


def test_runs_of_a_candidate_have_names_of_their_own(home: Path) -> None:
    trials = read_record(SweepPaths(home, "shared")).trials
    labels = labels_of(trials)
    assert len(set(labels)) == len(trials)
    runs = {f"narrow/{arm} #0 seed {seed}" for arm in ("baseline", "teleport") for seed in (0, 1)}
    assert runs <= set(labels)
