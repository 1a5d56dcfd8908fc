"""What every entry of the catalogue keeps, so that registering one is being tested."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic_core import PydanticUndefined

from orchestrator.catalog import DATASETS, MODELS, OPTIMIZERS, NamedOptions
from orchestrator.spec import Arm
from orchestrator.treatments import TREATMENTS, treatment_of
from orchestrator.workloads.data.dataset import DataSet
from orchestrator.workloads.data.locate import LOCATORS
from orchestrator.workloads.isolation import seed_everything
from tests.orchestrator.workloads.data.idx_files import write

# What options cannot do without, beside the name.
NEEDED: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [8]},
    "digits": {"batch_size": 4},
    "fashion_mnist": {"batch_size": 4},
    "sgd": {"lr": 0.1},
}


def made(family: dict[str, Any], name: str, **more: Any) -> NamedOptions:
    options: NamedOptions = family[name].options.model_validate({"name": name, **NEEDED[name], **more})
    return options


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_options_are_torchs_own(name: str) -> None:
    signature = inspect.signature(OPTIMIZERS[name].load()).parameters
    fields = OPTIMIZERS[name].options.model_fields
    for field in fields.keys() - {"name"}:
        assert field in signature, f"{name} has no argument {field!r}: {list(signature)}"
        default = fields[field].default
        if default is not PydanticUndefined:
            assert default == signature[field].default, f"{name}: another default for {field!r} than torch's"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_built_from_its_options(name: str) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    settings = made(OPTIMIZERS, name).model_dump(exclude={"name"})
    optimizer = OPTIMIZERS[name].load()([parameter], **settings)
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert (parameter < 1.0).all()


@pytest.mark.parametrize("input_shape", [(1, 8, 8), (1, 28, 28)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_scores_and_its_weights_follow_from_the_seed(name: str, input_shape: tuple[int, ...]) -> None:
    def build(seed: int) -> torch.nn.Module:
        seed_everything(seed)
        model: torch.nn.Module = MODELS[name].load()(made(MODELS, name), input_shape, 7)
        return model

    first, again, other = build(1), build(1), build(2)
    assert first(torch.zeros(3, *input_shape)).shape == (3, 7)
    assert len(list(first.parameters())) > 0
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    for mine, same, different in pairs:
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_what_it_says(name: str, tmp_path: Path) -> None:
    root = None
    if name == "fashion_mnist":
        root = str(tmp_path)
        write(tmp_path)
    data: DataSet = DATASETS[name].load()(made(DATASETS, name, root=root))
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), *data.input_shape)
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        assert split.inputs.isfinite().all()
        assert 0 <= split.targets.min() <= split.targets.max() < data.num_classes
        assert len(split) > 0
    assert data.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert LOCATORS[name](root).is_found
    assert data.found == str(LOCATORS[name](root))


def test_every_kind_of_arm_has_its_treatment() -> None:
    assert TREATMENTS.keys() == Arm.model_fields.keys()


def test_the_baseline_has_none() -> None:
    assert treatment_of(Arm())(None) is None  # type: ignore[arg-type]
