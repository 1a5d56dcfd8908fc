"""What a sweep, a workload or an arm may be called."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from orchestrator.spec.yaml_text import shorten

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def check_name(name: str) -> str:
    """Check that a name can be a file's and a label in every table.

    Args:
        name: of a sweep, workload or arm.

    Returns:
        The name.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.match(name) or ".." in name:
        raise ValueError(
            f"{shorten(name)} is no valid name: letters, digits, '_', '-' and '.', at most 64, beginning with a "
            "letter or digit, without '/' or '..'"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]
