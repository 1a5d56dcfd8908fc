from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.spec.options.models import MlpOptions
from orchestrator.trial.models.activations import ACTIVATIONS
from orchestrator.trial.models.mlp import build


def options(**more: Any) -> MlpOptions:
    return MlpOptions.model_validate({"name": "mlp", "widths": [16, 10], **more})


def test_two_widths_make_three_linear_layers_by_name() -> None:
    model = build(options(), (1, 28, 28), 10)
    linear = {name: tuple(part.weight.shape) for name, part in model.named_children() if isinstance(part, nn.Linear)}
    assert linear == {"hidden1": (16, 784), "hidden2": (10, 16), "output": (10, 10)}


def test_without_bias_there_is_none() -> None:
    names = [name for name, _ in build(options(bias=False), (4,), 2).named_parameters()]
    assert names == ["hidden1.weight", "hidden2.weight", "output.weight"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_the_catalogue_allows_is_there(activation: str) -> None:
    model = build(options(activation=activation), (4,), 2)
    at_minus_one = model.get_submodule("activation1")(torch.tensor(-1.0)).item()
    expected = {"relu": 0.0, "leaky_relu": -0.1, "tanh": -0.7616, "gelu": -0.1587}
    assert at_minus_one == pytest.approx(expected[activation], abs=1e-4)


def test_the_catalogue_allows_no_other() -> None:
    annotation = MlpOptions.model_fields["activation"].annotation
    assert set(ACTIVATIONS) == set(annotation.__args__)  # type: ignore[union-attr]
