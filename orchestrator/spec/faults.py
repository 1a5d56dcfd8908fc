"""Rewrites pydantic's errors for people: rule, value, place and the nearest valid name."""

from __future__ import annotations

import re
import typing
from typing import Any, Protocol

from pydantic import BaseModel, Discriminator, Tag, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Fault, nearest
from orchestrator.spec.options import OneOf
from orchestrator.spec.yaml_text import KeyPath, shorten

_TOO_SHORT = re.compile(r"(?:Tuple|List|Dictionary) should have at least (\d+) items? after validation, not \d+")


class _Placing(Protocol):
    """Says where a path of the validated data stands."""

    def __call__(self, path: KeyPath, *, is_key: bool = False) -> str:
        """Say where the value of a path stands, or its last key."""


def faults_of(error: ValidationError, model: type[BaseModel], place: _Placing) -> list[Fault]:
    """Translate every error of a validation, in order."""
    return [_fault(details, model, place) for details in error.errors()]


def _fault(details: ErrorDetails, model: type[BaseModel], place: _Placing) -> Fault:
    loc = details["loc"]
    path, siblings = _resolve(model, loc)
    return Fault(place(path, is_key=details["type"] == "extra_forbidden"), _message(details, siblings))


def _message(details: ErrorDetails, siblings: list[str]) -> str:
    context = details.get("ctx", {})
    value = shorten(details["input"])
    name = details["loc"][-1] if details["loc"] else ""
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key {shorten(str(name))!s}; {nearest(name, siblings)}"
        case "missing":
            return "missing: this key is required"
        case "union_tag_not_found":
            return f"missing key {context['discriminator']}"
        case "union_tag_invalid":
            known = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
            return f"{shorten(context['tag'])} is not registered; {nearest(context['tag'], known)}"
        case "literal_error":
            known = [tag.strip("'") for tag in context["expected"].replace(" or ", ", ").split(", ")]
            return f"{value} is none of the valid values; {nearest(details['input'], known)}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            rule = details["msg"].removeprefix("Input should be ")
            return f"must be {rule}, is {value}"
        case "value_error":
            return str(context["error"])
        case _:
            rule = details["msg"].removeprefix("Input should be ").removeprefix("Input must be ")
            rule = _TOO_SHORT.sub(r"a list of at least \1", rule)
            return f"must be {rule}, is {value}"


def _resolve(model: type[BaseModel], loc: tuple[str | int, ...]) -> tuple[KeyPath, list[str]]:
    """Drop the union tags that pydantic puts into a location, and list the valid keys of its last level."""
    path: list[str | int] = []
    current: Any = model
    parts = list(loc)
    siblings: list[str] = []
    while parts:
        part = parts.pop(0)
        fields = current.model_fields if _is_model(current) else None
        siblings = list(fields) if fields is not None else []
        path.append(part)
        if fields is not None and part in fields:
            current, tagged = _step(fields[part], parts)
            if tagged:
                parts.pop(0)
        elif fields is None and typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        else:
            current = None
    return tuple(path), siblings


def _step(field: Any, rest: list[str | int]) -> tuple[Any, bool]:
    """Find what stands in a field; the flag tells that the next part of the location is a union's tag."""
    family = next((item.family for item in field.metadata if isinstance(item, OneOf)), None)
    if family is not None:
        return (family[str(rest[0])].options, True) if rest and rest[0] in family else (None, False)
    if isinstance(field.discriminator, Discriminator) and rest:
        tagged = {tag.tag: arg for arg in typing.get_args(field.annotation) for tag in _tags(arg)}
        member = tagged.get(str(rest[0]))
        return (typing.get_args(member)[0], True) if member is not None else (None, False)
    members = [arg for arg in (typing.get_args(field.annotation) or (field.annotation,)) if _is_model(arg)]
    if field.discriminator and rest:
        tag_of = {typing.get_args(m.model_fields[field.discriminator].annotation)[0]: m for m in members}
        return (tag_of.get(rest[0]), rest[0] in tag_of)
    return (members[0] if members else field.annotation), False


def _tags(annotated: Any) -> list[Tag]:
    return [item for item in typing.get_args(annotated)[1:] if isinstance(item, Tag)]


def _is_model(annotation: Any) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
