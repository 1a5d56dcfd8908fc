from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.trial.data import download, images, locations
from orchestrator.trial.data.download import Published


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data anywhere and no network, whatever this machine has; gives Debian's folder, still empty."""
    debian = tmp_path / "usr" / "fashion-mnist"
    for module in (locations, images):
        monkeypatch.setattr(module, "DEBIAN_FOLDER", debian)
    monkeypatch.setenv("TELEPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TELEPORT_DATA", raising=False)
    monkeypatch.setattr(download, "retrieve", no_network)
    return debian


def no_network(published: Published, folder: Path, show_progress: bool) -> Path:
    raise OSError(f"no network to {published.urls[0]}")
