"""The short form of ``make chaos``: one sweep, one kill of each kind; and what the kills are drawn from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.home.paths import SweepPaths
from orchestrator.launch.cluster import QUIET
from tests.orchestrator.chaos.__main__ import MANY, MARK, ONE, strays
from tests.orchestrator.chaos.campaign import Campaign, Moments
from tests.orchestrator.chaos.killer import DELAYS, draw
from tests.orchestrator.chaos.log import read_events
from tests.orchestrator.chaos.playground import playground
from tests.orchestrator.chaos.specs import SPEC
from tests.orchestrator.chaos.store import Database
from tests.orchestrator.chaos.table import table

SEED = 56
SHORT: Moments = [("worker", "search"), ("server", "search"), ("driver", "search"), ("raylet", "confirm")]
SMALL = SPEC.replace("trials: 4", "trials: 2").replace("seeds: 3}", "seeds: 1}")

# Ray's own code, on this Python: nothing of ours.
ray_warnings = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def short_root() -> Iterator[Path]:
    """Make a directory whose name is short: Ray's sockets and PostgreSQL's lie in it or beside it."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        yield Path(root)


@pytest.mark.slow
@ray_warnings
def test_a_sweep_whose_every_part_is_killed_is_whole(short_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {**QUIET, MARK: str(short_root)}.items():
        monkeypatch.setenv(key, value)
    kind: Database = "sqlite"
    spec = short_root / "chaos.yaml"
    spec.write_text(SMALL)
    with playground(short_root, kind, num_nodes=2) as ground:
        story = Campaign(ground, spec, SEED, SHORT).run()
    print(table([story]))
    assert story.violations == []
    assert [kill.order.victim for kill in story.kills] == [victim for victim, _ in SHORT]
    assert strays() == []


@given(st.integers(0, 10_000), st.sampled_from([MANY, ONE, SHORT]), st.integers(1, 30), st.integers(1, 30))
def test_kills_are_drawn_from_the_seed_within_their_phases(
    seed: int, moments: Moments, num_search: int, num_confirm: int
) -> None:
    orders = draw(seed, moments, num_search=num_search, num_confirm=num_confirm)
    assert orders == draw(seed, moments, num_search=num_search, num_confirm=num_confirm)
    assert [(order.victim, order.phase) for order in orders] == list(moments)
    assert all(0 <= order.delay <= DELAYS[order.phase] for order in orders)
    for phase, num_planned in (("search", num_search), ("confirm", num_confirm)):
        after = [order.after for order in orders if order.phase == phase]
        assert after == sorted(after), "a later kill waits for no fewer trials"
        assert all(0 <= number < num_planned for number in after), "one more trial is left to run"


def test_the_log_says_when_a_trial_runs_and_ends(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "tiny")
    paths.root.mkdir()
    paths.log.write_text(
        "2026-01-02T03:04:05.678Z INFO started digits/baseline search #0 (358e044f3dfb)\n"
        "2026-01-02T03:04:06.678Z WARNING lost digits/baseline search #0 (358e044f3dfb), it runs again: no (abc0123)\n"
        "2026-01-02T03:04:07.678Z INFO going on with a/b confirm seed 7 (a70c38f9ad9f) from step 1980 of seed 7\n"
        "2026-01-02T03:04:08.678Z WARNING failed a/b confirm seed 7 (a70c38f9ad9f): crashed: no\n"
        "Traceback (most recent call last):\n"
        "2026-01-02T03:04:09.678Z INFO ended digits/baseline search #0 (358e044f3dfb): COMPLETE, value 0.03875888139\n"
        "2026-01-02T03:04:09.679Z WARNING interrupted\n"
    )
    events = read_events(paths)
    assert [event.verb for event in events] == ["started", "lost", "going on with", "failed", "ended"]
    assert [event.is_begin for event in events] == [True, False, True, False, False]
    assert [event.is_end for event in events] == [False, False, False, True, True]
    assert events[2].row == (7, 1980)
    assert events[1].trial_id == events[4].trial_id == "358e044f3dfb"
    assert round(events[1].at - events[0].at, 6) == 1.0
