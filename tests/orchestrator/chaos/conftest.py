"""A sweep to put things in the way of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.orchestrator.chaos.faults import Sweep


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{store}").search_experiments()
    return store


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Path:
    """A store of its own directory, with its tables made."""
    (tmp_path / "store").mkdir()
    return Path(shutil.copy(empty_store, tmp_path / "store"))


@pytest.fixture
def sweep(tmp_path: Path, store: Path) -> Sweep:
    return Sweep(tmp_path, tmp_path / "runs", store)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Sweep:
    root = tmp_path_factory.mktemp("killed")
    sweep = Sweep(root, root / "runs", Path(shutil.copy(empty_store, root)))
    process = sweep.begin()
    sweep.wait_for(2, process)
    process.kill()
    process.communicate()
    return sweep


@pytest.fixture
def killed(killed_once: Sweep, tmp_path: Path, store: Path) -> Sweep:
    """A sweep whose driver was killed when two of its trials had ended."""
    shutil.copytree(killed_once.paths.home, tmp_path / "runs")
    return Sweep(tmp_path, tmp_path / "runs", store)
