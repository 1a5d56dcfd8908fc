"""Finding a Ray cluster, and what is in it. Ray itself is imported late.

Ray waits for a cluster that does not answer for more than a minute and then ends the process, so whether one
answers is found out first, in seconds.
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
from orchestrator.spec import Share, plugins

GB = 1e9
# Ray counts in ten-thousandths; 1 / 0.1 must be ten.
_SLACK = 1e-6


@final
@dataclass(frozen=True)
class Node:
    """One machine.

    Args:
        name: for people.
        resources: Ray's names and amounts, memory in bytes.
    """

    name: str
    resources: Mapping[str, float]

    def num_fitting(self, share: Share) -> int:
        """Count the trials of this share that an empty node holds at once."""
        wanted = request(share)
        return min(math.floor(self.resources.get(kind, 0.0) / amount + _SLACK) for kind, amount in wanted.items())


def request(share: Share) -> dict[str, float]:
    """Say in Ray's words what a trial is given.

    Args:
        share: as the spec has it.

    Returns:
        Ray's names and amounts, memory in bytes; nothing that is zero.
    """
    amounts = {"CPU": share.cpu, "GPU": share.gpu, "memory": share.memory * GB, **share.custom}
    return {kind: amount for kind, amount in amounts.items() if amount}


def this_machine() -> Node:
    """Look at this machine without importing torch or Ray."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    num_gpus = len(glob.glob("/proc/driver/nvidia/gpus/*"))
    return Node("this machine", {"CPU": float(os.cpu_count() or 1), "GPU": float(num_gpus), "memory": float(memory)})


def num_concurrent(nodes: Sequence[Node], share: Share) -> int:
    """Count how many trials of one share run at once.

    Args:
        nodes: that are alive.
        share: of a trial.

    Returns:
        Their number on all nodes together; 0 where no node can hold one.
    """
    return sum(node.num_fitting(share) for node in nodes)


def shortfall(nodes: Sequence[Node], share: Share) -> str:
    """Say what the nodes lack where none of them can ever hold a trial.

    Args:
        nodes: that are alive.
        share: of a trial.

    Returns:
        What is asked, and what the node that comes closest has, resource by resource; empty where a node can hold it.
    """
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
QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
CLIENT = "ray://"
# What workers have no use for; the rest of a package travels whole.
EXCLUDED = ["__pycache__", "*.pyc", "tests"]
SECONDS_TO_CONNECT = 5.0
# Most of them are Python starting, on a machine that may be busy.
SECONDS_TO_ANSWER = 15.0
NO_TOKEN = "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is not its own"

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})\Z")


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one that ends with the block.

    Args:
        address: of a cluster, as the user gives it; None: start one on this machine.

    Yields:
        Nothing.

    Raises:
        ClusterUnreachable: none answers there, or it is of another version.
        UserError: it is no address.
    """
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    found = None if address is None else _find(address)
    import ray

    on_terminate = signal.getsignal(signal.SIGTERM)
    if found is None:
        # Without an address Ray would attach to whatever cluster runs on this machine.
        ray.init(address="local", include_dashboard=False, **QUIETLY)
    else:
        _join(found, str(address))
    # What it says at the end, that trials did not complete, the sweep says itself.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    try:
        # Ray puts its own handler in place, which ends the process before the sweep can say how it ended.
        signal.signal(signal.SIGTERM, on_terminate)
        yield
    finally:
        ray.shutdown()


def _join(found: str, address: str) -> None:
    """Connect to a cluster that answers.

    Args:
        found: where.
        address: as the user gave it.

    Raises:
        ClusterUnreachable: it went away meanwhile, or is of another version of Ray or Python.
    """
    import ray

    # Ray's client passes on whatever else it is given, and says so. Its servers on the head now and then die at birth.
    options, num_tries = ({}, 2) if found.startswith(CLIENT) else (QUIETLY, 1)
    for num_left in reversed(range(num_tries)):
        try:
            ray.init(address=found, runtime_env=_code(), **options)
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
    """Ask a cluster which nodes it has.

    Args:
        address: of a cluster; None: one that is started on this machine and ended again.

    Returns:
        Those that are alive.
    """
    with connected(address):
        return alive_nodes()


def is_client() -> bool:
    """Tell whether this process is connected through Ray's client (``ray://``), so is itself no part of the cluster."""
    import ray

    return bool(ray.util.client.ray.is_connected())


def _find(address: str) -> str:
    """Make sure that a cluster answers, and say where in the words that Ray is to be told."""
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
    # To a cluster that it finds here by itself Ray shows the token that lies here, to no other.
    is_own = address == "auto" and not os.environ.get("RAY_ADDRESS")
    if refusal and not (is_own and refusal == NO_TOKEN):
        raise ClusterUnreachable(_unreachable(address, refusal))
    return "auto" if is_own else found


def _current() -> str | None:
    """The cluster that Ray itself would take: ``$RAY_ADDRESS``, or the last one started on this machine."""
    told = os.environ.get("RAY_ADDRESS")
    if told and told != "auto":
        return told
    from ray._private import services

    found: str | None = services.canonicalize_bootstrap_address("auto")
    return found


def _refusal(address: str) -> str:
    """Say why what listens there is of no use; empty where a cluster answers."""
    # In a process of its own: Ray's client can neither be told how long to wait nor be kept from printing.
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


def _code() -> dict[str, Any]:
    """Carry this package and the plug-ins to the workers of a cluster where they may not be installed."""
    # Found, not imported: that would load torch, for which a driver has no use.
    specs = [importlib.util.find_spec(name) for name in ("orchestrator", "teleport_engine")]
    own = [os.path.dirname(str(spec.origin)) for spec in specs if spec is not None]
    return {
        "py_modules": list(dict.fromkeys([*own, *map(plugins.code_of, plugins.loaded())])),
        "excludes": EXCLUDED,
    }
