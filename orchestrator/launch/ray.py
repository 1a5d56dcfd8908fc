"""Runs trials with Ray Tune, on this machine or on a cluster.

Tune places, starts, watches and stops trials, and decides nothing about the search. It asks the source for trials
through a :class:`Searcher`. Its own state is thrown away when the launch ends, so nothing can get lost between Tune's
snapshots and Optuna's storage.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from orchestrator.errors import Fault, Infeasible
from orchestrator.launch.base import Launcher, TrialSource
from orchestrator.launch.cluster import Node, alive_nodes, connected, is_client, num_concurrent, request, shortfall
from orchestrator.spec import Share

SECONDS_BETWEEN_LOOKS = 1.0

_log = logging.getLogger(__name__)


@final
class RayLauncher(Launcher):
    """Runs trials with Ray Tune.

    Args:
        address: of a running cluster (``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``); None starts a private one on
            this machine for as long as the launch lasts.
        shares: that trials may ask for; they are checked against the cluster before anything starts.
        wait: seconds to wait for nodes to join that can hold these shares.
    """

    def __init__(self, address: str | None = None, shares: Sequence[Share] = (), wait: float = 0.0) -> None:
        self.address = address
        self.shares = tuple(shares)
        self.wait = wait
        self._is_prepared = False

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Connect to the cluster, and refuse what it can never hold; see :meth:`Launcher.prepared`."""
        with connected(self.address):
            self._check_feasible()
            self._is_prepared = True
            try:
                yield
            finally:
                self._is_prepared = False

    def launch(self, source: TrialSource) -> None:
        """Run each trial of a source; see :meth:`Launcher.launch`."""
        if not self._is_prepared:
            with self.prepared():
                self.launch(source)
            return
        # Tune insists on a directory of its own.
        with tempfile.TemporaryDirectory(prefix="teleport-tune-", ignore_cleanup_errors=True) as scratch:
            from orchestrator.launch.tune import fit

            fit(source, scratch, lambda: self.capacity(alive_nodes()))

    def capacity(self, nodes: Sequence[Node]) -> int:
        """Count how many trials of the smallest share the nodes hold at once, but at least one."""
        return max([1, *(num_concurrent(nodes, share) for share in self.shares)])

    def _check_feasible(self) -> None:
        """Wait for nodes that can hold the trials.

        Raises:
            Infeasible: no such nodes have come; all shares that do not fit are told at once.
        """
        lacking = self._shortfalls()
        if lacking and self.wait:
            _log.warning("waiting up to %g s for nodes: %s", self.wait, "; ".join(lacking))
            with _wanted(self.shares):
                deadline = time.monotonic() + self.wait
                while lacking and (left := deadline - time.monotonic()) > 0:
                    time.sleep(min(left, SECONDS_BETWEEN_LOOKS))
                    lacking = self._shortfalls()
        if lacking:
            waited = f" (after {self.wait:g} s of waiting for nodes)" if self.wait else ""
            raise Infeasible(*(Fault("resources", message + waited) for message in lacking))

    def _shortfalls(self) -> list[str]:
        nodes = alive_nodes()
        return list(dict.fromkeys(filter(None, (shortfall(nodes, share) for share in self.shares))))


@contextmanager
def _wanted(shares: Sequence[Share]) -> Iterator[None]:
    """Ask the cluster's autoscaler, if it has one, to start the nodes that are waited for."""
    if is_client():
        yield
        return
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[request(share) for share in shares])
    try:
        yield
    finally:
        # A request stands until the next one, so without an empty one the nodes would be kept for ever.
        request_resources(bundles=[])
