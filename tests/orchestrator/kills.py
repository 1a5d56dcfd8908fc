"""A driver that dies at any chosen step of what it does, and is taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

Points = Iterable[tuple[type, Sequence[str]]]


class KilledError(Exception):
    """The driver is gone."""


def run_with_a_kill(run: Callable[[], object], points: Points, monkeypatch: pytest.MonkeyPatch, at: int) -> bool:
    """Run, die before or after the given call of some methods, and run again; False where there is no such step."""
    steps = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            for part in (lambda: None, lambda: method(*arguments, **named)):
                if steps >= at:  # one within another has passed over its own
                    raise KilledError
                found = part()
                steps += 1
            return found

        return call

    with monkeypatch.context() as patched:
        for kind, names in points:
            for name in names:
                patched.setattr(kind, name, counted(getattr(kind, name)))
        try:
            run()
        except KilledError:
            pass
        else:
            return False
    run()
    return True
