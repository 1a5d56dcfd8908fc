"""One sweep from its first start to its end, with everything that it needs dying on the way."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from orchestrator.home.paths import SweepPaths
from orchestrator.search.candidates import run_order
from orchestrator.search.counts import num_candidates, num_planned
from orchestrator.spec import SweepSpec, load_spec
from orchestrator.spec.options import WilcoxonOptions
from tests.orchestrator.chaos.audit import audit, differences
from tests.orchestrator.chaos.killer import Kill, Killer, Order, Phase, TooLate, Victim, draw
from tests.orchestrator.chaos.playground import Playground

END_SECONDS = 300.0
MAX_STARTS = 40

Moments = Sequence[tuple[Victim, Phase]]


@final
@dataclass
class Story:
    """What became of a campaign.

    Args:
        paths: of the sweep.
        kills: that were carried out.
        violations: of what a sweep promises.
        missed: orders whose moment never came.
        num_starts: of the driver.
        num_syncs: calls of ``track sync`` that the driver asked for.
        began_at: Unix time.
        seconds: it took in all.
    """

    paths: SweepPaths
    kills: list[Kill] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    missed: list[Order] = field(default_factory=list)
    num_starts: int = 0
    num_syncs: int = 0
    began_at: float = field(default_factory=time.time)
    seconds: float = 0.0


def num_saved_at_most(spec: SweepSpec) -> int:
    """Count the runs that ``wilcoxon`` may spare: of every candidate but the first, those past the least it needs."""
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, WilcoxonOptions):
        return 0
    num_pairs = len(run_order(spec))
    first = next(iter(spec.workloads))
    return sum(
        (num_candidates(spec, first, arm) - 1) * max(0, num_pairs - scheduler.min_pairs)
        for arm in spec.arms
        if spec.is_shared(arm)
    )


@final
class Campaign:
    """Runs a sweep and has its parts killed.

    Args:
        ground: where.
        spec: file of the sweep.
        seed: of the kills.
        moments: who dies in which phase, in the order of the phases.
    """

    def __init__(self, ground: Playground, spec: Path, seed: int, moments: Moments) -> None:
        self._ground = ground
        self._spec = spec
        loaded = load_spec(spec, ())
        counts = {
            f"num_{phase}": sum(num_planned(loaded, workload, arm, phase) for workload, arm in loaded.studies)
            for phase in ("search", "confirm")
        }
        self._orders = draw(seed, moments, **{**counts, "num_search": counts["num_search"] - num_saved_at_most(loaded)})
        self._story = Story(SweepPaths(ground.home, loaded.name))
        self._killer = Killer(ground, self._story.paths, **counts)
        self._started_at = 0.0

    def run(self, undisturbed: SweepPaths | None = None) -> Story:
        """Run it to its end, and audit it.

        Args:
            undisturbed: the same sweep, whose metrics it must have to the bit; None: that is not asked.

        Returns:
            What became of it.
        """
        story, process = self._story, self._start()
        for order in self._orders:
            process = self._disturb(order, process)
        self._finish(process)
        cuts = [cut for kill in story.kills for cut in kill.cuts]
        story.violations += audit(story.paths, self._ground.client(), cuts)
        if undisturbed is not None:
            story.violations += differences(story.paths, undisturbed)
        story.seconds = time.time() - story.began_at
        return story

    def _disturb(self, order: Order, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Carry an order out, and bring back what it killed.

        Returns:
            The driver that runs from here on.
        """
        try:
            kill = self._killer.carry_out(order, process.pid, self._started_at, lambda: process.poll() is not None)
        except TooLate:
            if process.returncode == 0:
                self._story.missed.append(order)
                return process
            self._complain(f"the driver ended with {process.returncode}")
            return self._start()
        self._story.kills.append(kill)
        if order.victim == "driver":
            process.wait()
            return self._start()
        if order.victim == "server":
            time.sleep(order.pause)
            self._ground.server.start()
        elif order.victim == "raylet":
            time.sleep(order.pause)
            self._ground.nodes.add()
        return process

    def _start(self) -> subprocess.Popen[bytes]:
        self._story.num_starts += 1
        self._started_at = time.time()
        assert self._story.num_starts <= MAX_STARTS, f"the sweep never ends: {self._tail()}"
        if self._story.paths.exists():
            return self._ground.teleport("resume", self._story.paths.name)
        return self._ground.teleport("run", str(self._spec))

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        try:
            code = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._complain(f"the driver did not end within {END_SECONDS:g} s")
            process.kill()
            process.wait()
            return
        if code != 0:
            self._complain(f"the driver ended with {code}")
        self._ground.server.wait()
        name = self._story.paths.name
        if f"teleport track sync {name}" in self._tail():
            self._story.num_syncs += 1
            if self._ground.sync(name) != 0:
                self._complain("track sync failed")

    def _complain(self, what: str) -> None:
        self._story.violations.append(f"{what}; it said: {self._tail()}")

    def _tail(self) -> str:
        return self._ground.output.read_text(encoding="utf-8", errors="replace")[-1_500:]
