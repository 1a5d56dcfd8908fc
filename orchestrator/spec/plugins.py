"""Plug-ins: modules of the user's whose models, data sets, tasks, optimizers and workloads a spec may name.

A plug-in is a module with one or more of the catalogue's registries, dicts of the same form as our own. It is named
on the command line or by an installed package (entry points of the group ``teleport.plugins``); a spec names only
what is registered.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
import traceback
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, final

from orchestrator.errors import Fault, PluginError
from orchestrator.spec.options import (
    DATASETS,
    LR_SCHEDULES,
    MODELS,
    OPTIMIZERS,
    TASKS,
    WORKLOADS,
    DataOptions,
    Entry,
    LrScheduleOptions,
    ModelOptions,
    NamedOptions,
    TaskOptions,
    metric_directions,
)

GROUP = "teleport.plugins"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@final
@dataclass(frozen=True)
class Family:
    """One registry that a plug-in may add to.

    Args:
        kind: what messages call a member.
        registry: NAME -> entry.
        base: the class that every member's options derive from.
    """

    kind: str
    registry: dict[str, Entry]
    base: type[NamedOptions]


FAMILIES: dict[str, Family] = {
    "MODELS": Family("model", MODELS, ModelOptions),
    "DATASETS": Family("data set", DATASETS, DataOptions),
    "TASKS": Family("task", TASKS, TaskOptions),
    "OPTIMIZERS": Family("optimizer", OPTIMIZERS, NamedOptions),
    "LR_SCHEDULES": Family("learning-rate schedule", LR_SCHEDULES, LrScheduleOptions),
}
REGISTRIES = (*FAMILIES, "WORKLOADS")

_loaded: dict[str, ModuleType] = {}


def load(names: Iterable[str]) -> None:
    """Import plug-ins and register what they bring; one with a fault registers nothing, a loaded one stays.

    Each is named by its module, which Python must find on its path or in the working directory.

    Raises:
        PluginError: every fault of every plug-in.
    """
    faults = [fault for name in dict.fromkeys(names) if name not in _loaded for fault in _load(name)]
    if faults:
        raise PluginError(*faults)


def load_installed() -> list[Fault]:
    """Load the plug-ins that installed packages declare, and return the faults of the broken ones.

    Nobody asked for these plug-ins here, so a broken one stops nothing.
    """
    return [fault for name in installed() if name not in _loaded for fault in _load(name)]


def installed() -> list[str]:
    """List the modules that installed packages declare as plug-ins, importing none."""
    return sorted({point.value for point in importlib.metadata.entry_points(group=GROUP)})


def loaded() -> tuple[str, ...]:
    """List the plug-ins that are loaded, in the order of their loading."""
    return tuple(_loaded)


def is_loaded(names: Iterable[str]) -> bool:
    """Tell whether all of these plug-ins are loaded."""
    return _loaded.keys() >= set(names)


def describe(name: str) -> str:
    """Say what a loaded plug-in brought, for example ``model wide; data set wine``."""
    own = [f"{f.kind} {key}" for f in FAMILIES.values() for key, entry in f.registry.items() if entry.plugin == name]
    return "; ".join([*own, *(f"workload {key}" for key in _registry(_loaded[name], "WORKLOADS"))])


def folder_of(name: str) -> str:
    """Return the directory that must be on Python's path for a loaded plug-in to be imported."""
    top = sys.modules[name.partition(".")[0]]
    place = Path(top.__file__) if top.__file__ else Path(next(iter(top.__path__))) / "__init__.py"
    return str(place.parent.parent if place.name == "__init__.py" else place.parent)


def code_of(name: str) -> str:
    """Return the file, or the directory of the package, that carries a loaded plug-in to another machine."""
    top = sys.modules[name.partition(".")[0]]
    return str(next(iter(top.__path__))) if hasattr(top, "__path__") else str(top.__file__)


def version_of(name: str) -> str:
    """Return the version of the package that installed a loaded plug-in, else the beginning of its file's SHA-256."""
    packages = importlib.metadata.packages_distributions().get(name.partition(".")[0])
    if packages:
        return importlib.metadata.version(packages[0])
    return f"sha256 {hashlib.sha256(Path(str(_loaded[name].__file__)).read_bytes()).hexdigest()[:12]}"


def load_travelled(names: Mapping[str, str]) -> None:
    """Load the plug-ins of a trial in the process that is to run it.

    Args:
        names: module -> the directory that held it where the sweep was started; here it may lie elsewhere.

    Raises:
        PluginError: one cannot be imported here.
    """
    for folder in names.values():
        if folder not in sys.path and os.path.isdir(folder):
            sys.path.append(folder)
    load(names)


def _load(name: str) -> list[Fault]:
    """Register a plug-in, or return what is wrong with it."""
    place = f"plug-in {name}"
    if not _MODULE.match(name):
        hint = Path(name).stem
        return [Fault(place, f"must be a module's name as `import` has it, such as {hint}, not a path or an object")]
    here = os.getcwd()
    if here not in sys.path:
        # It goes last, so that no file of the working directory hides an installed module.
        sys.path.append(here)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        return [Fault(place, f"cannot be imported: {_told(error)}")]
    faults = [Fault(place, message) for message in _mistakes(module)]
    if not faults:
        for attribute, family in FAMILIES.items():
            own = _registry(module, attribute)
            family.registry.update({key: replace(entry, plugin=name) for key, entry in own.items()})
        WORKLOADS.update(_registry(module, "WORKLOADS"))
        _loaded[name] = module
    return faults


def _told(error: Exception) -> str:
    """Describe an error and the line of the user's code that it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
    ]
    frames = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[0] if message else ''}{where}"


def _registry(module: ModuleType, attribute: str) -> Any:
    return getattr(module, attribute, {})


def _mistakes(module: ModuleType) -> Iterator[str]:
    if not any(hasattr(module, attribute) for attribute in REGISTRIES):
        yield f"registers nothing; it must have at least one of {', '.join(REGISTRIES)}, each a dict"
    for attribute in REGISTRIES:
        registry = _registry(module, attribute)
        if not isinstance(registry, Mapping):
            yield f"{attribute} must be a dict of names, is {type(registry).__name__}"
            continue
        for name, entry in registry.items():
            wrong = _naming(name, attribute) or _shape(name, entry, attribute, module)
            if wrong:
                yield f"{attribute}[{name!r}] {wrong}"


def _naming(name: object, attribute: str) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        return "must be named with small letters, digits and '_'"
    if attribute == "WORKLOADS":
        return "is registered already" if name in WORKLOADS else ""
    family = FAMILIES[attribute]
    if name not in family.registry or not family.registry[name].builder:
        return ""
    owner = family.registry[name].plugin
    return f"is registered already, {f'by the plug-in {owner}' if owner else 'it is one of ours'}; take another name"


def _shape(name: str, entry: object, attribute: str, module: ModuleType) -> str:
    if attribute == "WORKLOADS":
        is_plain = isinstance(entry, Mapping) and all(isinstance(key, str) for key in entry)
        return "" if is_plain else f"must be a dict as a spec would hold it, is {type(entry).__name__}"
    if not isinstance(entry, Entry):
        return f"must be Entry(options, builder), is {type(entry).__name__}"
    base = FAMILIES[attribute].base
    options = entry.options
    if not (isinstance(options, type) and issubclass(options, base)):
        return f"must have options that are a subclass of {base.__name__}, has {getattr(options, '__name__', options)}"
    if inspect.isabstract(options):
        return f"has options that lack {', '.join(sorted(options.__abstractmethods__))}"
    if typing.get_args(options.model_fields["name"].annotation) != (name,):
        return f'must have options with name: Literal["{name}"]'
    if issubclass(options, ModelOptions) and not hasattr(options, "input_kinds"):
        return 'must have options that say input_kinds, for example frozenset({"image"})'
    if issubclass(options, TaskOptions):
        wrong = _task_mistake(options)
        if wrong:
            return wrong
    return next(filter(None, (_unfound(target, module) for target in (entry.builder, entry.locate))), "")


def _task_mistake(options: type[TaskOptions]) -> str:
    if not (hasattr(options, "directions") and hasattr(options, "target_kinds")):
        return (
            'must have options that say directions, for example {"error": "min"}, and target_kinds, for example '
            'frozenset({"class"})'
        )
    known = metric_directions()
    for metric, mode in options.directions.items():
        if not _NAME.match(metric) or metric == "loss":
            return f"has the metric {metric!r}; metrics are named with small letters, digits and '_', and not 'loss'"
        if mode not in ("min", "max"):
            return f"has the direction {mode!r} of {metric}; it must be 'min' or 'max'"
        if known.get(metric, mode) != mode:
            return f"has the metric {metric} with the direction {mode}, which another task has with {known[metric]}"
    return ""


def _unfound(target: str, module: ModuleType) -> str:
    """Say what is wrong with ``module:attribute``; other modules than the plug-in's are not imported here."""
    if not target:
        return ""
    place, _, attribute = target.partition(":")
    if not (_MODULE.match(place) and attribute.isidentifier()):
        return f'must name its builder as "module:attribute", is {target!r}'
    if place == module.__name__ and not callable(getattr(module, attribute, None)):
        return f"names {target}, and there is no such function"
    return ""
