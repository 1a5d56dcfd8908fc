"""An entry of a registry: the options that a spec may write, and the address of the builder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

# Samples are images [C, H, W], sequences [T, d], or tokens [T] of whole numbers.
InputKind = Literal["image", "sequence", "tokens"]


class Options(BaseModel):
    """Settings as a spec writes them: frozen, nothing unknown, nothing coerced, nothing infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NamedOptions(Options):
    """Options that a spec picks by ``name``; each subclass narrows ``name`` to its own literal."""

    name: str


@final
@dataclass(frozen=True)
class Entry:
    """One thing that a spec may name.

    Args:
        options: the settings, whose ``name`` is the entry's name; they need no torch.
        builder: ``"module:attribute"`` of the callable that makes it, imported only when a trial is about to run. It is
            empty where the entry stands for what a plug-in has that is not loaded.
        locate: ``"module:attribute"`` of the function that finds a plug-in's data set: it takes the root (None: none
            was named) and returns the folder or raises ``DataNotFound``; empty: there is nothing to find.
        plugin: the plug-in that registered it, filled in by the registration; empty: it is one of ours.
    """

    options: type[Options]
    builder: str
    locate: str = ""
    plugin: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the callable that ``builder`` names."""
        return _imported(self.builder)

    def load_locator(self) -> Callable[..., Any]:
        """Import the function that ``locate`` names."""
        return _imported(self.locate)


def _imported(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return loaded


@final
class OneOf:
    """Pydantic annotation: options of one family, told apart by their ``name``.

    The family is looked up at each validation, not when the annotated model is made, because plug-ins add to it.

    Args:
        kind: what messages call a member, for example ``"model"``.
        family: NAME -> entry.
    """

    def __init__(self, kind: str, family: Mapping[str, Entry]) -> None:
        self.kind = kind
        self.family = family
        self._known: dict[str, Entry] = {}
        self._adapter: TypeAdapter[Any] | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def _validate(self, value: Any) -> Any:
        if self._adapter is None or self._known != self.family:
            self._known = dict(self.family)
            self._adapter = TypeAdapter(Annotated[Any, _Tagged(self._known)])
        return self._adapter.validate_python(value)


@final
class _Tagged:
    """The union of a family's members at this moment."""

    def __init__(self, family: Mapping[str, Entry]) -> None:
        self.family = family

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(entry.options) for name, entry in self.family.items()}
        return core_schema.tagged_union_schema(choices, discriminator="name")
