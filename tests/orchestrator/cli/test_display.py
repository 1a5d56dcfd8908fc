from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from orchestrator.cli.display import download_bars, download_lines, watch_download


def test_lines_are_few_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with watch_download() as show:
        for num_done in range(0, 3_000_001, 1000):
            show("a.gz", num_done, 3_000_000)
        show("b.gz", 0, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["a.gz: 0.0 of 3.0 MB", "a.gz: 3.0 of 3.0 MB", "b.gz: 0.0 MB"]


def test_a_long_download_says_every_few_seconds_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    show = download_lines()
    for num_done in range(10):
        show("a.gz", num_done * 10**6, 10**9)
        now += 2.0
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_each_file_has_its_bar() -> None:
    bars = Progress(console=Console(file=io.StringIO()))
    show = download_bars(bars)
    show("a.gz", 5, None)
    show("a.gz", 10, 100)
    show("b.gz", 0, 50)
    assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
        ("a.gz", 10, 100), ("b.gz", 0, 50)
    ]  # fmt: skip
