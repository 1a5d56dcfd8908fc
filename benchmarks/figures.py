"""Draw ``docs/method.png``: four facts about the method, on scikit-learn's digits. Run by ``make figures``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.engine import mlp
from teleport_engine import FixedStep, Teleporter

PICTURE = Path(__file__).parents[1] / "docs" / "method.png"
TAUS = (0.9999, 0.999, 0.99, 0.95, 0.9)
INK, WARM, COOL = "#222222", "#c4572d", "#2d6fa3"


def digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    images = torch.from_numpy(found.images).double().flatten(1) / 16.0
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.from_numpy(found.target)[order]


def trained(images: Tensor, targets: Tensor, *widths: int) -> nn.Sequential:
    """Three epochs of SGD: past the start, far from the end."""
    torch.manual_seed(0)
    model = mlp(*widths).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    for _ in range(3):
        for x, y in zip(torch.split(images, 64), torch.split(targets, 64), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model


def outside_span(model: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, float]:
    """Per layer, the share of `(Hg)_l` outside the span of the layer's inputs, by explicit matrices."""
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()), create_graph=True)
    found = torch.autograd.grad(grads, weights, [grad.detach() for grad in grads])
    shares: dict[str, float] = {}
    h = x
    for layer in model:
        if isinstance(layer, nn.Linear):
            product = found[len(shares)]
            inside = product @ torch.linalg.pinv(h) @ h
            shares[f"layer {len(shares) + 1}"] = max(float((product - inside).norm() / product.norm()), 1e-17)
        h = layer(h).detach()
    return shares


def after(model: nn.Sequential, images: Tensor, targets: Tensor, tau: float) -> tuple[float, float]:
    """Growth of ||g||^2 over eight steps and the largest drift of the loss after any of them, means over batches."""
    gains, drifts = [], []
    for x, y in zip(torch.split(images[:1536], 256), torch.split(targets[:1536], 256), strict=True):
        step = FixedStep(0.02)
        report = Teleporter(copy.deepcopy(model), F.cross_entropy, tau=tau, step=step, num_steps=8).teleport(x, y)
        gains.append(report.grad_norm_ratio**2)
        drifts.append(max(abs(step.loss_drift) for step in report.trace))
    return sum(gains) / len(gains), sum(drifts) / len(drifts)


def main() -> None:
    mpl.use("svg")
    from matplotlib import pyplot as plt

    images, targets = digits()
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 6.4), layout="constrained")
    model = trained(images, targets, 64, 128, 128, 128, 10)
    _correction(axes[0, 0], model, images[:48], targets[:48])
    _room(axes[0, 1], model, images, targets)
    _drift(axes[1, 0], model, images, targets)
    _spectrum(axes[1, 1], model, images[:1024])
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_size(10.5)
    figure.savefig(PICTURE, dpi=130, metadata={"Software": None})
    print(PICTURE)


def _correction(axis: Any, model: nn.Sequential, x: Tensor, y: Tensor) -> None:
    shares = outside_span(model, x, y)
    axis.bar(shares.keys(), shares.values(), color=[INK, *[COOL] * (len(shares) - 1)], width=0.6)
    axis.set_yscale("log")
    axis.set_ylim(1e-17, 3.0)
    axis.set_ylabel("‖(Hg) P‖ / ‖Hg‖")
    axis.set_title("Only the first layer's Hg lies in its input span (n = 48)")


def _room(axis: Any, model: nn.Sequential, images: Tensor, targets: Tensor) -> None:
    sizes = (8, 16, 32, 48, 64, 96, 128, 192, 256)
    for tau, colour in ((1.0, INK), (0.999, COOL), (0.99, WARM)):
        found = [Teleporter(model, F.cross_entropy, tau=tau).spectrum(images[:size])["4.weight"][0] for size in sizes]
        axis.plot(sizes, [one.null_dim / one.dim for one in found], "o-", color=colour, label=f"τ = {tau:g}", ms=3.5)
    axis.set_xlabel("samples in the batch")
    axis.set_ylabel("null_dim / d")
    axis.set_title("Room to move in layer 3 (d = 128)")
    axis.legend(frameon=False, fontsize=8)


def _drift(axis: Any, model: nn.Sequential, images: Tensor, targets: Tensor) -> None:
    points = [after(model, images, targets, tau) for tau in TAUS]
    axis.plot(range(len(TAUS)), [gain - 1.0 for gain, _ in points], "o-", color=COOL, label="gain of ‖g‖² − 1")
    axis.plot(range(len(TAUS)), [drift for _, drift in points], "s-", color=WARM, label="largest |change of the loss|")
    axis.set_yscale("log")
    axis.set_xticks(range(len(TAUS)), [f"{tau:g}" for tau in TAUS])
    axis.set_xlabel("τ")
    axis.set_title("Gain and drift rise together as τ falls (n = 256, η = 0.02)")
    axis.legend(frameon=False, fontsize=8)


def _spectrum(axis: Any, model: nn.Sequential, x: Tensor) -> None:
    found = Teleporter(model, F.cross_entropy).spectrum(x)
    for index, (parts, colour) in enumerate(zip(found.values(), (INK, COOL, WARM, "#888888"), strict=True), start=1):
        curve = parts[0].energy_curve()
        axis.plot([(1 + i) / parts[0].dim for i in range(len(curve))], curve, color=colour, label=f"layer {index}")
    axis.axhline(0.99, color="#bbbbbb", lw=0.8, zorder=0)
    axis.set_ylim(0.8, 1.005)
    axis.set_xlabel("share of the dimensions")
    axis.set_ylabel("share of the energy held")
    axis.set_title("Few directions hold most of the inputs (n = 1,024)")
    axis.legend(frameon=False, fontsize=8, loc="lower right")


if __name__ == "__main__":
    main()
