from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from orchestrator.spec.options.datasets import SyntheticOptions
from orchestrator.trial.data.dataset import DataSet
from orchestrator.trial.data.synthetic import load


def options(**more: Any) -> SyntheticOptions:
    return SyntheticOptions.model_validate({"name": "synthetic", "batch_size": 8, **more})


def digest(data: DataSet) -> str:
    parts = (data.train, data.validation, data.test)
    return hashlib.sha256(b"".join(t.numpy().tobytes() for p in parts for t in (p.inputs, p.targets))).hexdigest()[:16]


def test_the_draw_stays_as_it_is_published() -> None:
    data = load(options(num_train=300, shape=[20], num_classes=3))
    assert data.train.targets[:12].tolist() == FIRST_LABELS
    assert digest(data) == DIGEST


FIRST_LABELS = [1, 2, 1, 0, 1, 0, 2, 0, 2, 1, 1, 1]
DIGEST = "f22bc312b4206af6"


@pytest.mark.parametrize("num_threads", ["1", "2"])
def test_is_bit_identical_at_any_number_of_threads_and_on_any_processor(num_threads: str) -> None:
    program = (
        "from tests.orchestrator.trial.data.test_synthetic import digest, load, options\n"
        "print(digest(load(options(num_train=300, shape=[20], num_classes=3))))"
    )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), num_threads)
    # The kernels of another kind of processor: other vector widths, other orders of summation.
    kernels = {"OPENBLAS_CORETYPE": "Nehalem"} if num_threads == "1" else {}
    environment = (
        os.environ | threads | kernels | {"TELEPORT_CACHE": os.devnull, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == DIGEST


def test_a_larger_set_begins_with_the_smaller_and_moves_no_other_split() -> None:
    small, large = load(options(num_train=700)), load(options(num_train=2400))
    assert large.train.targets[:700].tolist() == small.train.targets.tolist()
    assert large.validation.targets.tolist() == small.validation.targets.tolist()
    ours, theirs = (data.train.inputs[:700].double() for data in (large, small))
    ours, theirs = ((x - x.mean()) / x.std() for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_seeds_splits_and_noise_differ() -> None:
    one, other = load(options(num_train=500)), load(options(num_train=500, seed=1))
    assert not torch.equal(one.train.targets, other.train.targets)
    assert not torch.equal(one.validation.targets, one.test.targets)
    noisy = load(options(num_train=500, noise=3.0))
    assert torch.equal(noisy.train.targets, one.train.targets)
    assert not torch.equal(noisy.train.inputs, one.train.inputs)


SHAPES = {
    (3, 8, 8): ("image", (3, 8, 8)),
    (12, 5): ("sequence", (12, 5)),
    (7,): ("image", (1, 1, 7)),
    (1,): ("image", (1, 1, 1)),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_takes_any_shape_and_any_number_of_classes(shape: tuple[int, ...]) -> None:
    asked = options(num_train=64, shape=list(shape), num_classes=50)
    data = load(asked)
    assert (asked.input_kind, data.input_shape) == SHAPES[shape]
    assert data.train.inputs.shape == (64, *data.input_shape)
    assert data.validation.targets.max() > 40


def test_classes_are_balanced_and_no_hyperplane_separates_two() -> None:
    data = load(options(num_train=4000, shape=[32], num_classes=2, noise=0.2))
    assert data.train.targets.bincount().min() > 1800
    inputs, targets = data.train.inputs.reshape(4000, -1).double(), data.train.targets.double() * 2 - 1
    # The plane of least squares, then sharpened by the perceptron's rule on what it gets wrong.
    design = torch.cat([inputs, torch.ones(4000, 1, dtype=torch.float64)], dim=1)
    plane = torch.linalg.lstsq(design, targets).solution
    best = 0.0
    for _ in range(200):
        margins = design @ plane * targets
        best = max(best, (margins > 0).double().mean().item())
        plane = plane + 1e-4 * (design * targets[:, None])[margins <= 0].sum(dim=0)
    assert 0.6 < best < 0.92


def test_a_small_network_learns_it() -> None:
    data = load(options(num_train=4000, shape=[32], num_classes=2, noise=0.2))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for indices in torch.split(torch.randperm(4000 * 6).remainder(4000), 64):
        optimizer.zero_grad()
        F.cross_entropy(model(data.train.inputs[indices]), data.train.targets[indices]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        right = model(data.test.inputs).argmax(dim=1) == data.test.targets
    assert right.double().mean() > 0.95


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [({"shape": []}, "at least 1"), ({"shape": [1, 2, 3, 4]}, "at most 3"), ({"num_classes": 1}, "equal to 2"),
     ({"noise": -1.0}, "equal to 0"), ({"seed": 2**32}, "less than")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        options(**wrong)


def test_the_noise_is_as_strong_as_asked() -> None:
    quiet, noisy = (load(options(num_train=2000, shape=[64], noise=noise)) for noise in (0.0, 1.0))
    # Signal and noise have variance one each, so half of what is normalised is signal.
    share = np.corrcoef(quiet.train.inputs.reshape(-1).numpy(), noisy.train.inputs.reshape(-1).numpy())[0, 1] ** 2
    assert share == pytest.approx(0.5, abs=0.03)
