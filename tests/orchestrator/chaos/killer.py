"""Who is killed, and when: drawn from a seed, and carried out when a sweep's files say that the moment has come."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow, TrialConfig
from tests.orchestrator.chaos.playground import Playground

Victim = Literal["driver", "worker", "raylet", "server"]
Phase = Literal["launch", "start", "search", "between", "confirm", "report"]

# What a moment may be late by at most: up to when a trial, a start and a report last.
DELAYS: dict[Phase, float] = {"launch": 0.3, "start": 8.0, "search": 0.6, "between": 0.1, "confirm": 0.6, "report": 1.5}
MAX_PAUSE = 3.0
WORKER_SECONDS = 60.0


@final
@dataclass(frozen=True)
class Order:
    """One kill.

    Args:
        victim: what is killed.
        phase: of the sweep. ``launch`` is before the driver's process can have written anything; ``start`` after it
            was started, whether to begin or to resume; ``between`` when the last search trial has ended; ``report``
            when the last trial has.
        after: in search and confirm, how many trials of that phase must have ended; one more must run.
        delay: seconds to wait then.
        pick: which of several workers or raylets, modulo their number.
        pause: seconds until a server is started again, and a fresh node joins.
    """

    victim: Victim
    phase: Phase
    after: int
    delay: float
    pick: int
    pause: float


@final
@dataclass(frozen=True)
class Cut:
    """A trial that was on its way when something was killed.

    Args:
        trial_id: whose.
        at: Unix time.
        rows: of its curves, as they were on file.
    """

    trial_id: str
    at: float
    rows: tuple[HistoryRow, ...]


@final
@dataclass(frozen=True)
class Kill:
    """An order that was carried out.

    Args:
        order: what was asked.
        at: Unix time.
        pid: of the process that was killed.
        running: names of the trials that were on their way.
        cuts: the same trials, as their files were.
        is_before_spec: whether the sweep had no ``spec.yaml`` yet.
    """

    order: Order
    at: float
    pid: int
    running: tuple[str, ...]
    cuts: tuple[Cut, ...]
    is_before_spec: bool


class TooLate(Exception):
    """The moment of an order never came: the driver's process ended before."""


def draw(seed: int, moments: Sequence[tuple[Victim, Phase]], *, num_search: int, num_confirm: int) -> list[Order]:
    """Draw when, within its phase, each of some victims dies.

    Args:
        seed: the same seed draws the same orders.
        moments: victims and phases; phases in the order in which a sweep goes through them.
        num_search: search trials of the sweep.
        num_confirm: confirm trials of the sweep.

    Returns:
        The orders, in the order to carry them out.
    """
    random_ = random.Random(seed)
    num_ended = {"search": num_search, "confirm": num_confirm}
    orders: list[Order] = []
    for victim, phase in moments:
        before = [order.after for order in orders if order.phase == phase]
        left = sum(later == phase for _, later in moments) - len(before)
        # Spread over the phase: the first of three within its first third.
        last = max(0, num_ended.get(phase, 0) - left)
        first = min(before[-1] if before else 0, last)
        after = random_.randint(first, first + (last - first) // left)
        orders.append(
            Order(
                victim,
                phase,
                after,
                round(random_.uniform(0.0, DELAYS[phase]), 3),
                random_.randrange(1_000),
                round(random_.uniform(0.0, MAX_PAUSE), 3),
            )
        )
    return orders


@final
class Killer:
    """Carries orders out.

    Args:
        ground: where the victims are.
        paths: of the sweep.
    """

    def __init__(self, ground: Playground, paths: SweepPaths, *, num_search: int, num_confirm: int) -> None:
        self._ground = ground
        self._paths = paths
        self._num_planned = {"search": num_search, "confirm": num_confirm}

    def carry_out(self, order: Order, driver: int, since: float, is_over: Callable[[], bool]) -> Kill:
        """Wait for the moment, and kill.

        Args:
            order: what to do.
            driver: process id of the sweep's driver.
            since: when it was started; what an earlier one has left under way is not under way.
            is_over: whether the driver's process has ended.

        Returns:
            What was done.

        Raises:
            TooLate: the driver's process has ended before.
        """
        self._wait(lambda: self._has_come(order, since), is_over)
        until = time.monotonic() + order.delay
        self._wait(lambda: time.monotonic() >= until, is_over)
        # What was under way may have ended meanwhile.
        self._wait(lambda: self._has_come(order, since), is_over)
        pid = self._kill(order, driver, is_over)
        at = time.time()
        under_way = self._under_way()
        cuts = tuple(Cut(config.trial_id, at, rows) for config, rows in under_way)
        return Kill(order, at, pid, tuple(_name(config) for config, _ in under_way), cuts, not self._paths.exists())

    def _kill(self, order: Order, driver: int, is_over: Callable[[], bool]) -> int:
        nodes = self._ground.nodes
        if order.victim == "server":
            self._ground.server.wait()
            return self._ground.server.kill()
        pid = driver
        if order.victim == "raylet":
            raylets = nodes.raylets
            pid = raylets[order.pick % len(raylets)]
            nodes.kill(pid)
            return pid
        if order.victim == "worker":
            until = time.monotonic() + WORKER_SECONDS
            self._wait(lambda: bool(nodes.workers()) or time.monotonic() >= until, is_over)
            workers = nodes.workers()
            assert workers, f"no worker for {WORKER_SECONDS:g} s"
            pid = workers[order.pick % len(workers)]
        os.kill(pid, signal.SIGKILL)
        return pid

    def _wait(self, condition: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        while not condition():
            if is_over():
                raise TooLate
            time.sleep(0.01)

    def _has_come(self, order: Order, since: float) -> bool:
        if order.phase in ("launch", "start"):
            return True
        ended = {"search": 0, "confirm": 0}
        is_under_way = False
        for config, has_result in self._trials():
            ended[config.phase] += has_result
            is_under_way |= config.phase == order.phase and not has_result and self._has_rows(config, since)
        if order.phase == "between":
            return ended["search"] >= self._num_planned["search"]
        if order.phase == "report":
            return ended["confirm"] >= self._num_planned["confirm"]
        return ended[order.phase] >= order.after and is_under_way

    def _has_rows(self, config: TrialConfig, since: float) -> bool:
        file = self._paths.history(config.trial_id)
        return file.is_file() and file.stat().st_size > 0 and file.stat().st_mtime > since

    def _trials(self) -> list[tuple[TrialConfig, bool]]:
        found = []
        for file in self._paths.trials.glob("*/config.json"):
            config = TrialConfig.model_validate_json(file.read_text(encoding="utf-8"))
            found.append((config, self._paths.result(config.trial_id).is_file()))
        return found

    def _under_way(self) -> list[tuple[TrialConfig, tuple[HistoryRow, ...]]]:
        ids = [config.trial_id for config, has_result in self._trials() if not has_result]
        return [(trial.config, trial.history) for trial in map(self._paths.read_trial, ids) if trial.result is None]


def _name(config: TrialConfig) -> str:
    which = f"#{config.number}" if config.phase == "search" else f"confirm {config.seeds[0]}"
    return f"{config.arm} {which}"
