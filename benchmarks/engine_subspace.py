"""What the subspaces cost: against loops and against torch's SVD, with depth, and in memory.

The loop reference is of the predecessors' kind: three nested loops cut the patches, a full SVD in float64 gives the
basis, its other factor unused.
"""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.engine import cnn, mlp
from benchmarks.timing import medians, row
from teleport_engine import FixedStep, Options, Teleporter
from teleport_engine.model import ConvUse, Window
from teleport_engine.nullspace import Gram, LayerSample, Settings, leading_vectors, project

DEPTHS = (2, 4, 8, 16)
NUM_STEPS = 8


def rows() -> list[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_patches(), *_crossover(), *_depth(), *_memory(), *_share()]
    finally:
        torch.set_num_threads(before)


def loop_patches(images: Tensor) -> Tensor:
    """Patches 3 x 3 with padding 1, one by one: `[N, 9 C]`."""
    padded = F.pad(images, (1, 1, 1, 1))
    found = []
    for sample in padded:
        for i in range(images.shape[2]):
            for j in range(images.shape[3]):
                found.append(sample[:, i : i + 3, j : j + 3].reshape(-1))
    return torch.stack(found)


def smooth(num_samples: int, channels: int, size: int) -> Tensor:
    """Images whose neighbours agree, so that a basis below tau = 1 is shorter than the space."""
    return F.avg_pool2d(torch.randn(num_samples, channels, size + 4, size + 4), 5, 1)


def _basis(use: ConvUse, dim: int, tau: float) -> None:
    sample = LayerSample(1, dim, Settings(tau))
    sample.add([use])
    assert sample.settle(tau)
    assert sample.subspaces[0].dim == dim


def _patches() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    found = []
    for channels, size in ((16, 32), (64, 16)):
        images = smooth(16, channels, size)
        dim = 9 * channels
        use = ConvUse(images, None, slice(0, 1), window=Window.of_call((3, 3), padding=1))
        patches = F.unfold(images, 3, padding=1).transpose(1, 2).reshape(-1, dim)

        def loops(images: Tensor = images) -> None:
            torch.linalg.svd(loop_patches(images).double().T, full_matrices=False)

        def svd(patches: Tensor = patches, dtype: torch.dtype = torch.float64) -> None:
            torch.linalg.svd(patches.to(dtype), full_matrices=False)

        candidates: dict[str, Callable[[], object]] = {
            "loops": loops,
            "svd": svd,
            "svd in float32": functools.partial(svd, dtype=torch.float32),
            "0.99": functools.partial(_basis, use, dim, 0.99),
            "1": functools.partial(_basis, use, dim, 1.0),
        }
        taken = medians(candidates, repeats=3)
        name = f"patches {dim} x {len(patches)}"
        for tau in ("0.99", "1"):
            found += [
                row(f"basis, {name}, tau = {tau}, of loops and SVD", taken[tau] / taken["loops"], "ratio", 0.1),
                row(f"basis, {name}, tau = {tau}, of torch.linalg.svd", taken[tau] / taken["svd"], "ratio", 1.0 / 3.0),
                row(f"the same in float32, {name}, tau = {tau}", taken[tau] / taken["svd in float32"], "ratio"),
            ]
    return found


def _crossover() -> list[dict[str, Any]]:
    """The randomised factorisation against the exact one, where few directions are needed and where many are."""
    found = []
    for size in (256, 512, 1024):
        for decay, needed in ((2.0, "few"), (1.0, "too many")):
            torch.manual_seed(0)
            axes = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
            scale = torch.arange(1, size + 1, dtype=torch.float64) ** (-decay / 2)
            inputs = torch.randn(2 * size, size, dtype=torch.float64) * scale @ axes
            gram = inputs.T @ inputs
            cold = leading_vectors(gram, 0.99)
            candidates: dict[str, Callable[[], object]] = {
                "exact": functools.partial(torch.linalg.eigh, gram),
                "cold": functools.partial(leading_vectors, gram, 0.99),
            }
            if cold is not None:
                candidates["warm"] = functools.partial(leading_vectors, gram, 0.99, cold.vectors[:, : cold.rank])
            taken = medians(candidates, repeats=5)
            for kind in set(taken) - {"exact"}:
                ratio = taken[kind] / taken["exact"]
                found.append(row(f"randomised of exact, side {size}, {needed} directions, {kind}", ratio, "ratio"))
    return sorted(found, key=lambda one: str(one["name"]))


def _depth() -> list[dict[str, Any]]:
    """Factorisation and projection of equal layers, one after the other and two at a time."""
    found = []
    seconds: dict[tuple[int, int], float] = {}
    for depth in DEPTHS:
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Linear(32, 512)]
        for _ in range(depth):
            layers += [nn.Tanh(), nn.Linear(512, 512)]
        model = nn.Sequential(*layers, nn.Linear(512, 10))
        inputs, targets = torch.randn(256, 32), torch.randint(10, (256,))
        for num_threads in (1, 2):
            teleporter = Teleporter(
                model, F.cross_entropy, Options(step=FixedStep(1e-9), num_steps=1, num_threads=num_threads)
            )
            taken = [teleporter.teleport(inputs, targets).seconds.subspace for _ in range(5)]
            seconds[depth, num_threads] = sorted(taken)[2]
        found.append(row(f"subspaces of {depth} equal layers, one thread", seconds[depth, 1], "s"))
        found.append(row(f"subspaces of {depth} equal layers, two threads", seconds[depth, 2], "s"))
        ratio = seconds[depth, 2] / seconds[depth, 1]
        found.append(row(f"two threads of one, {depth} equal layers", ratio, "ratio"))
    growth = seconds[16, 2] / seconds[2, 2] / (seconds[16, 1] / seconds[2, 1])
    found.append(row("growth from 2 to 16 layers, two threads of one", growth, "ratio"))
    return found


def peak(num_samples: int, kind: str) -> float:
    """MiB of the resident set that a basis of patches adds at its peak; to be run in a process of its own."""
    import resource

    torch.set_num_threads(1)
    dim = 9 * 16
    # Warm: what the first product and the first eigenvectors load is no part of it.
    warm = Gram()
    warm.add(torch.randn(1, 2 * dim, dim))
    assert warm.sums is not None
    torch.linalg.eigh(warm.sums)
    images = torch.randn(num_samples, 16, 32, 32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Imports once took more than is held now: with that much held, whatever is added shows in the maximum.
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    ballast = torch.ones(max(0, before * 1024 - held) // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if kind == "streamed":
        use = ConvUse(images, None, slice(0, 1), window=Window.of_call((3, 3), padding=1))
        _basis(use, dim, 0.99)
    else:
        patches = F.unfold(images, 3, padding=1).transpose(1, 2).reshape(-1, dim).double()
        torch.linalg.eigh(patches.T @ patches)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024.0
    assert ballast.numel() >= 0
    return added


def _memory() -> list[dict[str, Any]]:
    found = []
    taken: dict[tuple[int, str], float] = {}
    for num_samples in (16, 64, 256):
        for kind in ("streamed", "whole") if num_samples < 256 else ("streamed",):
            command = [sys.executable, "-m", "benchmarks.engine_subspace", str(num_samples), kind]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            taken[num_samples, kind] = float(json.loads(done.stdout.splitlines()[-1]))
            name = f"peak memory of a basis, patches 144 x {num_samples * 1024}, {kind}"
            found.append(row(name, taken[num_samples, kind], "MiB"))
    growth = taken[256, "streamed"] / taken[16, "streamed"]
    found.append(row("peak memory, streamed, 16 times the rows", growth, "ratio", 1.2))
    return found


def mlp_784() -> nn.Module:
    return mlp(784, 512, 512, 10)


def _share() -> list[dict[str, Any]]:
    """Subspaces, and every projection of the steps, as a share of a whole teleport of 8 steps."""
    found = []
    spent = [0.0]

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        result = project(*args)
        spent[0] += time.perf_counter() - start
        return result

    with mock.patch("teleport_engine.steps.project", timed):
        for name, make, inputs in (
            # Noise fills its space: 245 of 256 directions for 99 % of the energy, the most that there is to project.
            ("MLP 784-512-512-10, n = 256, noise", mlp_784, torch.randn(256, 784)),
            ("MLP 784-512-512-10, n = 256, smooth images", mlp_784, smooth(256, 1, 28).reshape(256, 784)),
            ("CNN 3-16-32-64, n = 64", cnn, torch.randn(64, 3, 32, 32)),
        ):
            for tau in (1.0, 0.99):
                torch.manual_seed(0)
                model = make()
                origin = copy.deepcopy(model.state_dict())
                teleporter = Teleporter(model, F.cross_entropy, tau=tau, step=FixedStep(1e-4), num_steps=NUM_STEPS)
                shares = []
                for _ in range(7):
                    spent[0] = 0.0
                    start = time.perf_counter()
                    report = teleporter.teleport(inputs, torch.arange(len(inputs)) % 10)
                    total = time.perf_counter() - start
                    assert report.num_steps == NUM_STEPS, report.outcome
                    shares.append((report.seconds.subspace + spent[0]) / total)
                    model.load_state_dict(origin)
                share = sorted(shares)[3]
                title = f"subspaces and projections of an 8-step teleport, {name}, tau = {tau:g}"
                found.append(row(title, share, "share", 0.25))
    return found


if __name__ == "__main__":
    print(json.dumps(peak(int(sys.argv[1]), sys.argv[2])))
