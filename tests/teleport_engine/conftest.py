from collections.abc import Iterator

import pytest
import torch

from teleport_engine.objective import Problem


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two shared cores: more threads than one only wait for each other; and a seed of each test's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def passes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count passes through the model alone, without the work of factorisations and projections."""
    monkeypatch.setattr(Problem, "spend", lambda self, work: None)
