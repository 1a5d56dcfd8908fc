"""Which teleport arm a control takes its settings from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import nearest
from orchestrator.spec.training import Arm
from orchestrator.spec.tree import Template

TELEPORT = "teleport"


def kind_of(template: Template) -> str:
    """Tell the kind of an arm: the one key under its label, whatever its settings turn out to be."""
    raw = template.raw
    return next(iter(raw), "baseline") if isinstance(raw, dict) else "baseline"


def source_of(label: str, arms: Mapping[str, Template]) -> str | None:
    """Find the teleport arm whose chosen settings an arm takes.

    Args:
        label: of the arm.
        arms: of the spec.

    Returns:
        The label of the teleport arm; None where the arm has all its settings itself.

    Raises:
        ValueError: there is no such arm, it is of another kind, or several could be meant.
    """
    wanted = _wanted(arms[label])
    if not wanted:
        return None
    if len(wanted) > 1:
        raise ValueError("of must be one arm for the whole search, not a distribution")
    (of,) = wanted
    teleports = [name for name, template in arms.items() if kind_of(template) == TELEPORT]
    if of is None:
        if len(teleports) == 1:
            return teleports[0]
        if not teleports:
            raise ValueError("takes its settings from a teleport arm, and the spec has none")
        raise ValueError(
            f"several teleport arms are there ({', '.join(teleports)}): say whose settings it takes with of"
        )
    if of not in arms:
        raise ValueError(f"of: {of!r} is no arm of this spec; {nearest(of, teleports)}")
    if of not in teleports:
        kind = kind_of(arms[of])
        raise ValueError(f"of: {of!r} is of kind {kind}, must be a teleport arm; {nearest(of, teleports)}")
    return of


def _wanted(template: Template) -> set[str | None]:
    """What ``of`` says wherever settings are lacking, over all that the template may become."""
    found: set[str | None] = set()
    for corner in template.corners():
        arm = _arm(template.concretise(corner))
        if arm is not None and arm.follows:
            found.add(getattr(arm.settings, "of", None))
    return found


def _arm(data: Any) -> Arm | None:
    """The arm; None where it is none, which is a fault that is told with its place elsewhere."""
    try:
        return Arm.model_validate(data)
    except ValidationError:
        return None
