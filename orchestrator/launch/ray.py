"""Trials as Ray Tune trials, on this machine or on a cluster.

Tune places, starts, watches and stops; it decides nothing about the search. Proposals come from the source
through a :class:`Searcher`, so that none of the known losses between Tune's snapshots and Optuna's storage can
happen: Tune's own state is thrown away when the launch ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from orchestrator import plugins
from orchestrator.errors import Fault, Infeasible
from orchestrator.launch.base import Launcher, TrialSource
from orchestrator.spec import Share

# Read by Ray when it is imported or initialised, here and in its workers.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach the driver as KeyboardInterrupt, not end Tune's loop as if all were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's snapshots are of no use here: the sweep's files are the truth.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # A worker that dies is in the sweep's log, with the message: neither Tune's tracebacks nor the raylets' lines.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).",
}


def request(share: Share) -> dict[str, float]:
    """Say in Ray's words what a trial is given."""
    return {"CPU": share.cpu, "GPU": share.gpu} if share.gpu else {"CPU": share.cpu}


@final
class RayLauncher(Launcher):
    """Runs trials with Ray Tune.

    Args:
        address: of a running cluster (``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``); None starts a private
            one on this machine for as long as the launch lasts.
        shares: what trials may ask for, checked against the cluster before anything starts.
    """

    def __init__(self, address: str | None = None, shares: Sequence[Share] = ()) -> None:
        self.address = address
        self.shares = tuple(shares)

    def launch(self, source: TrialSource) -> None:
        """Run every trial of a source; see :meth:`Launcher.launch`.

        Args:
            source: of the trials.
        """
        with _cluster(self.address), _scratch() as scratch:
            import ray

            from orchestrator.launch.tune import fit

            self._check_feasible(ray.cluster_resources())
            fit(source, scratch, lambda: self._capacity(ray.cluster_resources()))

    def _capacity(self, total: Mapping[str, float]) -> int:
        """Count how many trials the cluster holds at once."""
        fits = [
            total.get(kind, 0.0) / amount for share in self.shares for kind, amount in request(share).items() if amount
        ]
        return max(1, int(max(fits, default=1)))

    def _check_feasible(self, total: Mapping[str, float]) -> None:
        faults = [
            Fault(
                "resources",
                f"a trial asks for {amount:g} {kind}, the cluster has {total.get(kind, 0.0):g} in all",
            )
            for share in self.shares
            for kind, amount in request(share).items()
            if amount > total.get(kind, 0.0)
        ]
        if faults:
            raise Infeasible(*dict.fromkeys(faults))


def cluster_resources(address: str | None) -> dict[str, float]:
    """Ask a cluster what it has.

    Args:
        address: as for :class:`RayLauncher`.

    Returns:
        Ray's resource names and amounts.
    """
    with _cluster(address):
        import ray

        return dict(ray.cluster_resources())


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one that ends with the block."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    import logging

    import ray

    options: dict[str, Any] = {"include_dashboard": False} if address is None else {"runtime_env": _code()}
    # Without an address Ray would attach to whatever cluster runs on this machine.
    on_terminate = signal.getsignal(signal.SIGTERM)
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    # What it says at the end, that trials did not complete, the sweep says itself.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    try:
        # Ray puts its own handler in place, which ends the process before the sweep can say how it ended.
        signal.signal(signal.SIGTERM, on_terminate)
        yield
    finally:
        ray.shutdown()


def _code() -> dict[str, Any]:
    """Carry this package and the plug-ins to the workers of a cluster where they may not be installed."""
    import orchestrator
    import teleport_engine

    own = [os.path.dirname(str(module.__file__)) for module in (orchestrator, teleport_engine)]
    return {"py_modules": list(dict.fromkeys([*own, *map(plugins.code_of, plugins.loaded())]))}


@contextmanager
def _scratch() -> Iterator[str]:
    """Make the directory that Tune insists on, and remove it afterwards."""
    path = tempfile.mkdtemp(prefix="teleport-tune-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
