"""What holds for every test."""

from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, and have it counted, what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    needs = [item for item in items if item.get_closest_marker("gpu")]
    if needs:
        config.hook.pytest_deselected(items=needs)
        items[:] = [item for item in items if item not in needs]
