"""``make chaos``: sweeps under SIGKILL on both databases, a table of the kills, and exit code 1 unless all is whole."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import psutil

from orchestrator.home.paths import SweepPaths
from orchestrator.launch.cluster import QUIET
from tests.orchestrator.chaos.campaign import Campaign, Moments, Story
from tests.orchestrator.chaos.playground import playground
from tests.orchestrator.chaos.specs import ONE_AT_A_TIME, SHARED, SPEC
from tests.orchestrator.chaos.store import Database
from tests.orchestrator.chaos.table import table

MARK = "TELEPORT_CHAOS"
NUM_NODES = 2
MIN_KILLS = 27
DATABASES: tuple[Database, ...] = ("sqlite", "postgresql")

MANY: Moments = [
    ("driver", "launch"),
    ("worker", "search"),
    ("server", "search"),
    ("driver", "search"),
    ("raylet", "search"),
    ("driver", "between"),
    ("driver", "start"),
    ("worker", "confirm"),
    ("server", "report"),
]
ONE: Moments = [
    ("driver", "search"),
    ("raylet", "search"),
    ("server", "confirm"),
    ("driver", "confirm"),
    ("driver", "report"),
]
GIVEN_UP: Moments = [
    ("driver", "search"),
    ("worker", "search"),
    ("driver", "search"),
    ("raylet", "search"),
    ("driver", "search"),
    ("driver", "confirm"),
]


def main(arguments: Sequence[str]) -> int:
    """Run the whole suite.

    Args:
        arguments: of the command line.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of the kills; drawn without it")
    parser.add_argument("--database", choices=DATABASES, action="append", help="both without it")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ[MARK] = secrets.token_hex(8)
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    print(f"seed {given.seed}", flush=True)
    stories: list[Story] = []
    for kind in given.database or DATABASES:
        with _directory() as root, contextlib.closing(_on(kind, root, given.seed)) as played:
            for story in played:
                stories.append(story)
                _tell(story)
    num_kills = sum(len(story.kills) for story in stories)
    print(f"{num_kills} kills with seed {given.seed}")
    is_whole = num_kills >= MIN_KILLS and not any(story.violations for story in stories)
    left = strays()
    for stray in left:
        print(f"left behind: {stray}")
    return 0 if is_whole and not left else 1


def _on(kind: Database, root: Path, seed: int) -> Generator[Story]:
    with playground(root, kind, NUM_NODES) as ground:
        for name, text, moments in (("many", SPEC, MANY), ("one", ONE_AT_A_TIME, ONE), ("shared", SHARED, GIVEN_UP)):
            spec = root / f"{name}.yaml"
            spec.write_text(text.replace("name: chaos", f"name: {kind}-{name}"))
            undisturbed = SweepPaths(ground.undisturbed(spec), f"{kind}-{name}")
            print(f"{kind}: {name}, {len(moments)} kills", flush=True)
            # Each database has kills of its own.
            yield Campaign(ground, spec, seed + DATABASES.index(kind), moments).run(undisturbed)


def _tell(story: Story) -> None:
    print(table([story]))
    print(
        f"{story.paths.name}: {len(story.kills)} kills, {story.num_starts} starts of the driver, "
        f"{story.num_syncs} calls of track sync, {story.seconds:.0f} s, {len(story.violations)} violations"
    )
    for violation in story.violations:
        print(f"  violation: {violation}")
    for order in story.missed:
        print(f"  the moment never came: {order}")
    sys.stdout.flush()


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """Make a directory that another user may pass through: PostgreSQL refuses to run as root."""
    root = Path(tempfile.mkdtemp(prefix="teleport-chaos-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def strays() -> list[str]:
    """List what this suite has started and has not ended: whoever adopted it, it has the suite's mark."""
    time.sleep(2.0)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.pid != os.getpid() and process.environ().get(MARK) == os.environ[MARK]:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
