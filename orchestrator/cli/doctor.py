"""Tries every part that a sweep needs on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from orchestrator.errors import PluginError
from orchestrator.home import versions
from orchestrator.spec import plugins
from orchestrator.spec.options import DATASETS

if TYPE_CHECKING:
    from orchestrator.track import Destination


@final
@dataclass(frozen=True)
class Finding:
    """One part that was tried.

    Args:
        what: the part's name.
        is_well: whether it works.
        detail: what was found, or what went wrong.
        is_needed: whether no sweep can run without it.
    """

    what: str
    is_well: bool
    detail: str
    is_needed: bool = True

    @property
    def mark(self) -> str:
        """The word that the table shows."""
        return "ok" if self.is_well else "MISSING" if self.is_needed else "-"


def examine(home: Path, address: str | None, at: Destination, named: Sequence[str] = ()) -> list[Finding]:
    """Try everything that a sweep needs; a part that fails becomes a finding and raises nothing.

    Args:
        home: the directory that holds the sweeps.
        address: the address of a Ray cluster; None starts a private one.
        at: the MLflow store and the experiment.
        named: plug-ins beside those that installed packages declare.
    """
    found = [Finding(package, version != "not installed", version) for package, version in versions().items()]
    found += _plugins(named)
    found.append(_try("home", lambda: _home(home)))
    found.append(_try("devices", _devices))
    found.append(_try("optuna study", _optuna))
    found.append(_try("ray cluster", lambda: _ray(address)))
    found.append(_try("mlflow store", lambda: _mlflow(at)))
    found += _data()
    return found


def _try(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except Exception as error:  # noqa: BLE001 - the finding shows every error
        message = str(error).strip().splitlines()
        return Finding(what, False, f"{type(error).__name__}: {message[0] if message else ''}")


def _plugins(named: Sequence[str]) -> Iterator[Finding]:
    for name in dict.fromkeys([*plugins.installed(), *named]):
        try:
            plugins.load([name])
        except PluginError as error:
            # The finding's name says the place of these faults.
            detail = "; ".join(fault.message for fault in error.faults)
            yield Finding(f"plug-in {name}", False, detail, is_needed=name in named)
        else:
            yield Finding(f"plug-in {name}", True, plugins.describe(name))


def _home(home: Path) -> str:
    existing = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{existing} is not writable")
    free = os.statvfs(existing)
    return f"{home.absolute()} ({free.f_bavail * free.f_frsize / 1e9:.0f} GB free)"


def _devices() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPU cores; {', '.join(gpus) or 'no GPU'}"


def _optuna() -> str:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    trial = study.ask()
    study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
    return "asks and tells"


def _ray(address: str | None) -> str:
    from orchestrator.launch import nodes_of

    nodes = nodes_of(address)
    cpus, gpus = (sum(node.resources.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"{address or 'private'}: {len(nodes)} node{'s' * (len(nodes) != 1)}, {cpus:g} CPU, {gpus:g} GPU"


def _mlflow(at: Destination) -> str:
    from orchestrator.track import reach

    return reach(at)


def _data() -> Iterator[Finding]:
    from orchestrator.trial.data import locate

    for name in DATASETS:
        place = locate(name, None)
        yield Finding(f"data {name}", place.is_found, str(place), is_needed=False)
