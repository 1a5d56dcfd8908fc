"""Stand-ins for the options of plug-ins, so that a stored sweep can be read where its plug-ins are gone.

A sweep stores what its plug-ins' options are: the defaults, and what readers ask of a model or a data set. From this
a stand-in is made, which holds any values, gives the same ids as the plug-in's own options, and cannot be run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, create_model
from pydantic_core import PydanticUndefined, to_jsonable_python

from orchestrator.spec.identity import Json, canonical_json
from orchestrator.spec.options import (
    DataOptions,
    Entry,
    InputKind,
    LrScheduleOptions,
    Mode,
    ModelOptions,
    NamedOptions,
    Options,
    TaskOptions,
)
from orchestrator.spec.plugins import FAMILIES
from orchestrator.spec.training import Workload

_ANY = ConfigDict(extra="allow", strict=False)


class _AnyModel(ModelOptions):
    """Stands for a plug-in's model."""

    model_config = _ANY
    input_kinds: ClassVar[frozenset[InputKind]] = frozenset({"image", "sequence", "tokens"})

    def misfit(self, sample_shape: Sequence[int]) -> str | None:
        """Find no fault, because the plug-in has found none when the sweep began."""
        return None


class _AnyData(DataOptions):
    """Stands for a plug-in's data set, some of whose options are known to give so many training samples."""

    model_config = _ANY
    train_sizes: ClassVar[dict[str, int]] = {}
    sample_shape: ClassVar[tuple[int, ...]] = ()
    target_kind: ClassVar[str] = ""

    @property
    def train_size(self) -> int:
        """The training samples that the plug-in has named for these options, else for the largest that it knew."""
        return self.train_sizes.get(_key(self), max(self.train_sizes.values()))


class _AnyTask(TaskOptions):
    """Stands for a plug-in's task, whose metrics are known."""

    model_config = _ANY
    directions: ClassVar[Mapping[str, Mode]] = {}
    target_kinds: ClassVar[frozenset[str]] = frozenset()


class _AnyOptimizer(NamedOptions):
    """Stands for a plug-in's optimizer."""

    model_config = _ANY


class _AnyLrSchedule(LrScheduleOptions):
    """Stands for a plug-in's learning-rate schedule."""

    model_config = _ANY


_BASES: dict[str, type[NamedOptions]] = {
    "MODELS": _AnyModel,
    "DATASETS": _AnyData,
    "TASKS": _AnyTask,
    "OPTIMIZERS": _AnyOptimizer,
    "LR_SCHEDULES": _AnyLrSchedule,
}


class Described(Options):
    """What is stored of one member of a registry.

    Args:
        plugin: the module that brought it.
        defaults: by field.
        train_sizes: of a data set: options as JSON -> samples in the training split.
        directions: of a task: metric -> whether ``min`` or ``max`` is better.
    """

    plugin: str
    defaults: dict[str, Json]
    train_sizes: dict[str, int] = Field(default_factory=dict)
    directions: dict[str, Mode] = Field(default_factory=dict)


_FIELD = {
    "MODELS": "model",
    "DATASETS": "data",
    "TASKS": "task",
    "OPTIMIZERS": "optimizer",
    "LR_SCHEDULES": "lr_schedule",
}


def _key(options: NamedOptions) -> str:
    return canonical_json(options.model_dump(mode="json", exclude={"root", "batch_size"}))


def describe(workloads: Iterable[Workload]) -> dict[str, Json]:
    """Describe the options of the plug-ins that these workloads use, by family and name.

    Options are left out where a stand-in would not give the same ids, which may be where they nest other options; a
    sweep with these is read with its plug-in alone.
    """
    used: dict[str, list[NamedOptions]] = {}
    for workload in workloads:
        for family, field in _FIELD.items():
            options: NamedOptions = getattr(workload, field)
            if FAMILIES[family].registry[options.name].plugin:
                used.setdefault(f"{family}.{options.name}", []).append(options)
    found = {key: _describe(key, options) for key, options in used.items()}
    return {key: each.model_dump(mode="json") for key, each in found.items() if _is_faithful(key, each, used[key])}


def _describe(key: str, used: Sequence[NamedOptions]) -> Described:
    family, _, name = key.partition(".")
    fields = type(used[0]).model_fields.items()
    given = {field: info.get_default(call_default_factory=True) for field, info in fields}
    return Described(
        plugin=FAMILIES[family].registry[name].plugin,
        defaults={field: to_jsonable_python(value) for field, value in given.items() if value is not PydanticUndefined},
        train_sizes={_key(options): options.train_size for options in used if isinstance(options, DataOptions)},
        directions=dict(used[0].directions) if isinstance(used[0], TaskOptions) else {},
    )


def _is_faithful(key: str, described: Described, used: Iterable[NamedOptions]) -> bool:
    stand_in = _stand_in(key, described.model_dump_json())
    again = ((options, stand_in.model_validate(options.model_dump(mode="json"))) for options in used)
    return all(_plain(options) == _plain(other) for options, other in again)


def _plain(options: NamedOptions) -> list[Json]:
    return [options.model_dump(mode="json", exclude_defaults=is_short) for is_short in (False, True)]


@functools.cache
def _stand_in(key: str, described: str) -> type[NamedOptions]:
    """Make the class that stands for ``FAMILY.NAME``; equal descriptions give the same class."""
    family, _, name = key.partition(".")
    plain = Described.model_validate_json(described)
    fields = {field: (Any, value) for field, value in plain.defaults.items()} | {"name": (Literal[name], ...)}
    base = _BASES[family]
    made = cast("type[NamedOptions]", create_model(f"{base.__name__}_{name}", __base__=base, **fields))  # type: ignore[call-overload]
    if issubclass(made, _AnyTask):
        made.directions = plain.directions
    if issubclass(made, _AnyData):
        made.train_sizes = plain.train_sizes
    return made


def register(described: Mapping[str, Described]) -> None:
    """Let a spec name what is described here, unless a plug-in has brought it; a stand-in of before gives way."""
    for key, each in described.items():
        family, _, name = key.partition(".")
        registry = FAMILIES[family].registry
        if name not in registry or not registry[name].builder:
            registry[name] = Entry(_stand_in(key, each.model_dump_json()), builder="", plugin=each.plugin)
