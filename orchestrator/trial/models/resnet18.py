"""ResNet-18 for small images: torchvision's blocks behind a stem that keeps the resolution.

Source: He et al., arXiv 1512.03385, with the stem of its section 4.2 (a 3 × 3 convolution, no pooling).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from orchestrator.spec.options import Resnet18Options


def build(options: Resnet18Options, input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Build the network with torchvision's initial weights for it, drawn from the global generator.

    It maps ``[n, C, H, W]`` to ``[n, num_classes]``; its parameters are named as in torchvision's.
    """
    width = options.width
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        layer1=_stage(width, width, 1),
        layer2=_stage(width, 2 * width, 2),
        layer3=_stage(2 * width, 4 * width, 2),
        layer4=_stage(4 * width, 8 * width, 2),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(8 * width, num_classes),
    )
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _stage(d_in: int, d_out: int, stride: int) -> nn.Sequential:
    shortcut = None if stride == 1 else nn.Sequential(conv1x1(d_in, d_out, stride), nn.BatchNorm2d(d_out))
    return nn.Sequential(BasicBlock(d_in, d_out, stride, shortcut), BasicBlock(d_out, d_out))
