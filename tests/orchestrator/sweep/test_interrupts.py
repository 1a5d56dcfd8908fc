"""Signals to this very process, taken where nothing is half done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Interrupted
from orchestrator.home.paths import SweepPaths
from orchestrator.launch import InlineLauncher
from orchestrator.sweep.interrupts import Interrupts
from orchestrator.sweep.run import run
from orchestrator.sweep.standing import standing
from orchestrator.track import NoTracker
from tests.orchestrator.specs import tiny_spec


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    installed = Interrupts()
    installed.install()
    yield installed
    for number, handler in before.items():
        signal.signal(number, handler)


def ask(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def in_a_block(interrupts: Interrupts, *acts: Callable[[], None]) -> list[int]:
    """Do one thing after the other in a deferred block; says which were reached."""
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _deferred(interrupts, acts, reached)
    return reached


def _deferred(interrupts: Interrupts, acts: Sequence[Callable[[], None]], reached: list[int]) -> None:
    with interrupts.deferred():
        for index, act in enumerate(acts):
            act()
            reached.append(index)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_deferred_block(interrupts: Interrupts, number: signal.Signals) -> None:
    assert in_a_block(interrupts, lambda: ask(number), lambda: None) == [0, 1]


def test_a_signal_is_heard_at_a_check(interrupts: Interrupts) -> None:
    assert in_a_block(interrupts, interrupts.check, ask, interrupts.check, lambda: None) == [0, 1]


def test_a_second_signal_is_not_kept_waiting(interrupts: Interrupts) -> None:
    assert in_a_block(interrupts, ask, ask, lambda: None) == [0]


def test_a_signal_outside_a_deferred_block_is_heard_at_once(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(signal.SIGTERM)


def test_the_error_of_a_deferred_block_is_not_hidden(interrupts: Interrupts) -> None:
    def fail() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        _deferred(interrupts, [ask, fail], [])


def test_a_signal_while_the_journal_gives_its_lock_back_stops_the_sweep_cleanly(
    interrupts: Interrupts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised there, it became an OSError about the lock file, and left the lock behind."""
    paths = SweepPaths(tmp_path, "tiny")
    unlink = os.unlink

    def ask_and_unlink(path: Any, *rest: Any, **options: Any) -> None:
        if str(path).startswith(f"{paths.journal}.lock") and list(paths.trials.glob("*/result.json")):
            unlink(path)
            if not interrupts.is_asked:
                os.kill(os.getpid(), signal.SIGINT)
            return
        unlink(path, *rest, **options)

    monkeypatch.setattr(os, "unlink", ask_and_unlink)
    tracker = NoTracker()
    with pytest.raises(Interrupted, match="interrupted"):
        run(
            tiny_spec(),
            paths,
            InlineLauncher(),
            tracker,
            command="teleport run tiny.yaml",
            observe=lambda progress: None,
            interrupts=interrupts,
        )
    assert interrupts.is_asked
    assert not list(paths.journal.parent.glob(f"{paths.journal.name}.lock*"))
    assert standing(paths).state == "interrupted"
