"""Hooks: the commands and webhooks that a sweep calls when something happens."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from orchestrator.errors import nearest
from orchestrator.spec.options import Options
from orchestrator.spec.scalars import Duration
from orchestrator.spec.yaml_text import shorten

# The values that every event has, and those of each event: keys of the JSON, of TELEPORT_* and of {placeholders}.
COMMON_KEYS = ("version", "event", "time", "sweep", "home", "message")
EVENT_KEYS: Mapping[str, tuple[str, ...]] = {
    "trial_failed": (*COMMON_KEYS, "trial", "trial_id", "study", "phase", "kind", "num_failed"),
    "sweep_finished": (*COMMON_KEYS, "status", "report"),
}

# A name in two pairs of braces becomes the name in one pair; other braces, such as JSON's, stay as they are.
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*\Z")


def _check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command[0].strip():
        raise ValueError("the first item must be a program, and it is empty")
    if any("\0" in word for word in command):
        raise ValueError("must not hold a NUL character")
    return command


def _check_url(url: str) -> str:
    """Check that something can be posted to a URL; messages never repeat it, since it may be a secret."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("must be an http or https URL, or $NAME of an environment variable that holds one")
    return url


def _check_address(address: str) -> str:
    return address if _VARIABLE.match(address) else _check_url(address)


class HookOptions(Options):
    """One hook: a command or a webhook.

    Args:
        command: program and arguments, run without a shell; ``{NAME}`` in an argument becomes the event's value of
            NAME.
        webhook: an http or https URL, or ``$NAME`` of an environment variable that holds it.
    """

    command: Annotated[tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_check_command)] | None = None
    webhook: Annotated[str, AfterValidator(_check_address)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.command is None) == (self.webhook is None):
            raise ValueError("must hold either command or webhook")
        return self

    def arguments(self, values: Mapping[str, object]) -> tuple[str, ...]:
        """Return program and arguments with the event's values in place of their keys."""
        return tuple(
            _PLACEHOLDER.sub(lambda found: f"{{{found[1]}}}" if found[1] else str(values[found[2]]), word)
            for word in self.command or ()
        )

    def url(self) -> str:
        """Return the webhook's address, which is a secret.

        Raises:
            ValueError: the environment does not have it.
        """
        assert self.webhook is not None
        if not self.webhook.startswith("$"):
            return self.webhook
        url = os.environ.get(self.webhook[1:], "")
        if not url:
            raise ValueError(f"{self.webhook} is not set in the environment")
        try:
            return _check_url(url)
        except ValueError as error:
            raise ValueError(f"{self.webhook} {error}") from None

    def lacks(self) -> str:
        """Say in a clause what this machine lacks to call the hook; empty: it lacks nothing."""
        if self.command is not None:
            program = self.command[0]
            return "" if shutil.which(program) else f"this machine has no program {shorten(program)}"
        try:
            self.url()
        except ValueError as error:
            return str(error)
        return ""

    @property
    def has_secrets(self) -> bool:
        """Whether the spec itself holds an address with a user, a password or a query."""
        if self.webhook is None or self.webhook.startswith("$"):
            return False
        parts = urlsplit(self.webhook)
        return "@" in parts.netloc or bool(parts.query)

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The keys that the command names."""
        return tuple(found[2] for word in self.command or () for found in _PLACEHOLDER.finditer(word) if found[2])


class HooksOptions(Options):
    """Hooks by event; an event without a hook calls nothing.

    Args:
        trial_failed: called when a trial ended as FAIL.
        sweep_finished: called when a run of the sweep is over, in whatever way.
        timeout: after this time a call is given up, and what it started is killed.
    """

    trial_failed: HookOptions | None = None
    sweep_finished: HookOptions | None = None
    timeout: Duration = Duration(10, 10.0)

    @model_validator(mode="after")
    def _placeholders_are_known(self) -> Self:
        for event, hook in self.by_event.items():
            for name in hook.placeholders:
                if name not in EVENT_KEYS[event]:
                    raise ValueError(
                        f"{event}.command: the event has no value {shorten(f'{{{name}}}')}; "
                        f"{nearest(name, EVENT_KEYS[event])}; to keep the braces write {{{{{name}}}}}"
                    )
        return self

    @property
    def by_event(self) -> dict[str, HookOptions]:
        """The hooks that the spec asks for."""
        asked = {"trial_failed": self.trial_failed, "sweep_finished": self.sweep_finished}
        return {event: hook for event, hook in asked.items() if hook is not None}
