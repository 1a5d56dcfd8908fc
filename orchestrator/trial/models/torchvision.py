"""Any classification model of torchvision, with fresh weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from orchestrator.errors import UserError
from orchestrator.spec.options import TorchvisionOptions


def build(options: TorchvisionOptions, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Build the network with torchvision's initial weights, drawn from the global generator.

    It maps ``[n, C, H, W]`` to ``[n, num_classes]``. Where C is not 3, the first convolution is replaced by one that
    takes C channels, with torch's own initial weights.

    Raises:
        UserError: the architecture cannot take images of this size.
    """
    channels, *size = input_shape
    side = [options.resize, options.resize] if options.resize else size
    with _told(options.architecture, side, AssertionError, ValueError):
        model: nn.Module = models.get_model(
            options.architecture, weights=None, num_classes=num_classes, **_settings(options.architecture, side)
        )
    _take(model, channels)
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = options.dropout
    # In evaluation mode nothing is drawn and no buffer moves.
    with _told(options.architecture, side, RuntimeError), torch.no_grad():
        model.eval()(torch.zeros(1, channels, *side))
    model.train()
    if options.resize is None:
        return model
    return nn.Sequential(OrderedDict(resize=_Resize(options.resize), model=model))


@contextmanager
def _told(architecture: str, side: list[int], *errors: type[Exception]) -> Iterator[None]:
    """Turn the error that torchvision raises where a model shrinks the image to nothing into a ``UserError``."""
    try:
        yield
    except errors as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{architecture} cannot take images of {side[0]} × {side[1]} pixels ({reason}); set resize to the side it "
            "is made for, 224 for most"
        ) from error


def _settings(architecture: str, side: list[int]) -> dict[str, Any]:
    """Return the arguments that a builder of torchvision needs beyond the number of classes."""
    if architecture.startswith("vit_"):
        return {"image_size": side[0]}
    if architecture == "maxvit_t":
        return {"input_size": tuple(side)}
    if architecture in ("googlenet", "inception_v3"):
        # They give one output, not three in training mode; and they warn unless init_weights is given.
        return {"aux_logits": False, "init_weights": True}
    return {}


def _take(model: nn.Module, channels: int) -> None:
    """Let the first convolution take ``channels`` channels."""
    name, first = next((name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv2d))
    if first.in_channels == channels:
        return
    parent, _, attribute = name.rpartition(".")
    replacement = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(model.get_submodule(parent), attribute, replacement)


@final
class _Resize(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        return nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
