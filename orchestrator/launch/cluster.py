"""Finds a Ray cluster and says what its nodes hold. Ray itself is imported late.

Ray waits more than a minute for a cluster that does not answer, and then ends the process. So this module finds out
first, in seconds, whether a cluster answers.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from orchestrator.errors import ClusterUnreachable, UserError
from orchestrator.launch.private import keep_token_private, short_directory
from orchestrator.spec import Share, plugins
from orchestrator.spec.options import DATA_ROOT_VARIABLE

GB = 1e9
# Ray counts resources in ten-thousandths, and a GPU must hold ten trials of a tenth in spite of rounding.
_SLACK = 1e-6


@final
@dataclass(frozen=True)
class Node:
    """One machine, with its resources in Ray's names and amounts (memory in bytes)."""

    name: str
    resources: Mapping[str, float]

    def num_fitting(self, share: Share) -> int:
        """Count the trials of this share that the node holds at once when it is empty."""
        wanted = request(share)
        return min(math.floor(self.resources.get(kind, 0.0) / amount + _SLACK) for kind, amount in wanted.items())


def request(share: Share) -> dict[str, float]:
    """Give a trial's share in Ray's names and amounts, with memory in bytes and without what is zero."""
    amounts = {"CPU": share.cpu, "GPU": share.gpu, "memory": share.memory * GB, **share.custom}
    return {kind: amount for kind, amount in amounts.items() if amount}


def this_machine() -> Node:
    """Describe this machine without importing torch or Ray."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    num_gpus = len(glob.glob("/proc/driver/nvidia/gpus/*"))
    return Node("this machine", {"CPU": float(os.cpu_count() or 1), "GPU": float(num_gpus), "memory": float(memory)})


def num_concurrent(nodes: Sequence[Node], share: Share) -> int:
    """Count how many trials of one share all nodes together hold at once."""
    return sum(node.num_fitting(share) for node in nodes)


def shortfall(nodes: Sequence[Node], share: Share) -> str:
    """Say what a trial asks for and what the closest node has, resource by resource; empty if a node can hold it."""
    if num_concurrent(nodes, share):
        return ""
    wanted = request(share)
    asked = f"a trial asks for {_listed(wanted, wanted)} on one node"
    if not nodes:
        return f"{asked}; there is no node"
    closest = max(nodes, key=lambda node: _closeness(node, wanted))
    which = closest.name if len(nodes) == 1 else f"{closest.name}, the closest of {len(nodes)} nodes,"
    return f"{asked}; {which} has {_listed(closest.resources, wanted)}{''.join(_hints(nodes, wanted))}"


def _closeness(node: Node, wanted: Mapping[str, float]) -> tuple[int, float]:
    shares = [min(1.0, node.resources.get(kind, 0.0) / amount) for kind, amount in wanted.items()]
    return sum(share >= 1 for share in shares), sum(shares)


def _hints(nodes: Sequence[Node], wanted: Mapping[str, float]) -> Iterator[str]:
    for kind in wanted:
        if kind not in {"CPU", "GPU", "memory"} and not any(kind in node.resources for node in nodes):
            yield f"; no node has any {kind} (ray start --resources='{{\"{kind}\": 1}}')"


def _listed(amounts: Mapping[str, float], kinds: Mapping[str, float]) -> str:
    return ", ".join(_amount(kind, amounts.get(kind, 0.0)) for kind in kinds)


def _amount(kind: str, amount: float) -> str:
    return f"{round(amount / GB, 1):g} GB memory" if kind == "memory" else f"{amount:g} {kind}"


# Ray reads these when it is imported or initialised, here and in its workers.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach the driver as KeyboardInterrupt, and not end Tune's loop as if everything were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's snapshots are of no use, since a sweep goes on from its files.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # The sweep's log tells of a worker that dies, so Tune's tracebacks and the raylets' lines are left out.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).",
}
QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
CLIENT = "ray://"
# Workers have no use for these parts of a package.
EXCLUDED = ["__pycache__", "*.pyc", "tests"]
SECONDS_TO_CONNECT = 5.0
# Most of this time is for Python to start, on a machine that may be busy.
SECONDS_TO_ANSWER = 15.0
NO_TOKEN = "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is not its own"

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})\Z")


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster of an address, or without one start a cluster here that ends with the block.

    Raises:
        ClusterUnreachable: no cluster answers there, or it is of another version of Ray or Python.
        UserError: this is not an address of a cluster.
    """
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    found = None if address is None else _find(address)
    import ray

    on_terminate = signal.getsignal(signal.SIGTERM)
    if found is None:
        keep_token_private()
    with short_directory(is_needed=found is None) as directory:
        if found is None:
            # Without an address Ray would attach to whatever cluster runs on this machine.
            ray.init(address="local", include_dashboard=False, **directory, **QUIETLY)
        else:
            _join(found, str(address))
        # Tune would say at the end that trials did not complete, which the sweep says itself.
        logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
        try:
            # Ray has put a handler of its own in place, which ends the process before the sweep can say how it ended.
            signal.signal(signal.SIGTERM, on_terminate)
            yield
        finally:
            ray.shutdown()


def _join(found: str, address: str) -> None:
    """Connect to a cluster that answers; ``found`` is its address for Ray, ``address`` the one that the user gave.

    Raises:
        ClusterUnreachable: the cluster has gone, or is of another version of Ray or Python.
    """
    import ray

    # Ray's client warns of options that it passes on. Its server on the head sometimes dies as it starts.
    options, num_tries = ({}, 2) if found.startswith(CLIENT) else (QUIETLY, 1)
    for num_left in reversed(range(num_tries)):
        try:
            ray.init(address=found, runtime_env=_travelling(), **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            ray.shutdown()
            if not num_left:
                raise ClusterUnreachable(_unreachable(address, _first_line(error))) from error
        else:
            return


def alive_nodes() -> list[Node]:
    """List the nodes of the connected cluster that are alive, by the names of their hosts."""
    import ray

    return [
        Node(str(node["NodeManagerHostname"]), {kind: float(amount) for kind, amount in node["Resources"].items()})
        for node in ray.nodes()
        if node["Alive"]
    ]


def nodes_of(address: str | None) -> list[Node]:
    """List the living nodes of the cluster that :func:`connected` gives."""
    with connected(address):
        return alive_nodes()


def is_client() -> bool:
    """Tell whether this process is connected through Ray's client (``ray://``), and so is no part of the cluster."""
    import ray

    return bool(ray.util.client.ray.is_connected())


def _find(address: str) -> str:
    """Make sure that a cluster answers, and give the address by which Ray connects to it."""
    found = _current() if address == "auto" else address
    if found is None:
        raise ClusterUnreachable(
            "--address auto: no Ray cluster runs on this machine; start one (ray start --head) or give HOST:PORT"
        )
    parts = _ADDRESS.match(found)
    if parts is None or not 0 < int(parts["port"]) < 65536:
        raise UserError(f"--address: must be auto, HOST:PORT or ray://HOST:PORT, is {found!r}")
    try:
        socket.create_connection((parts["host"].strip("[]"), int(parts["port"])), SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ClusterUnreachable(_unreachable(address, error.strerror or str(error))) from None
    refusal = "" if found.startswith(CLIENT) else _refusal(found)
    # Ray shows the token that lies on this machine only to a cluster that it finds here by itself.
    is_own = address == "auto" and not os.environ.get("RAY_ADDRESS")
    if refusal and not (is_own and refusal == NO_TOKEN):
        raise ClusterUnreachable(_unreachable(address, refusal))
    return "auto" if is_own else found


def _current() -> str | None:
    """Give the address that Ray itself would take: ``$RAY_ADDRESS``, or the last cluster started on this machine."""
    told = os.environ.get("RAY_ADDRESS")
    if told and told != "auto":
        return told
    from ray._private import services

    found: str | None = services.canonicalize_bootstrap_address("auto")
    return found


def _refusal(address: str) -> str:
    """Say why what listens at an address is of no use; empty if a cluster answers."""
    # This runs in a process of its own, since Ray's client always prints, and cannot be told how long to wait.
    program = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    try:
        done = subprocess.run(
            [*program, "--address", address], capture_output=True, text=True, timeout=SECONDS_TO_ANSWER
        )
    except subprocess.TimeoutExpired:
        return "what listens there is no Ray cluster (its port is 6379 unless it was told another)"
    if done.returncode == 0:
        return ""
    return NO_TOKEN if "AuthenticationError" in done.stderr else (done.stderr.strip().splitlines() or [""])[-1]


def _unreachable(address: str | None, reason: str) -> str:
    return f"--address {address}: no Ray cluster answers there: {reason}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Traceback", "File"))]
    return (told or [type(error).__name__])[0]


def _travelling() -> dict[str, Any]:
    """Say what Ray carries to the workers of a cluster that was started before, whose environment is not this one's.

    These are this project's packages and the plug-ins, which may not be installed there, and where data are looked for.
    """
    # The packages are found without importing them, which would load torch into the driver.
    specs = [importlib.util.find_spec(name) for name in ("orchestrator", "teleport_engine")]
    own = [os.path.dirname(str(spec.origin)) for spec in specs if spec is not None]
    return {
        "py_modules": list(dict.fromkeys([*own, *map(plugins.code_of, plugins.loaded())])),
        "excludes": EXCLUDED,
        "env_vars": {name: os.environ[name] for name in (DATA_ROOT_VARIABLE,) if name in os.environ},
    }
