"""What every entry of the catalogue keeps, so that registering one is being tested."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic_core import PydanticUndefined

from orchestrator.catalog import DATASETS, MODELS, OPTIMIZERS, DataOptions, NamedOptions
from orchestrator.spec import Arm
from orchestrator.trial import TREATMENTS, treatment_of
from orchestrator.workloads.data.dataset import DataSet
from orchestrator.workloads.data.locate import LOCATORS
from orchestrator.workloads.isolation import seed_everything
from tests.orchestrator.workloads.data import cifar_files
from tests.orchestrator.workloads.data.idx_files import write

# What options cannot do without, beside the name.
NEEDED: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [8]},
    "digits": {"batch_size": 4},
    "mnist": {"batch_size": 4},
    "fashion_mnist": {"batch_size": 4},
    "cifar10": {"batch_size": 4},
    "cifar100": {"batch_size": 4},
    "seq_digits": {"batch_size": 4},
    "seq_mnist": {"batch_size": 4},
    "seq_fashion_mnist": {"batch_size": 4},
    "synthetic": {"batch_size": 4, "num_train": 200},
    "text": {"batch_size": 4},
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


def root_with(name: str, folder: Path) -> str:
    """Write a small set in its real format; what needs no files leaves the root empty."""
    images = name.removeprefix("seq_")
    if images in ("mnist", "fashion_mnist"):
        write(folder / {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[images] / "raw")
    elif name in ("cifar10", "cifar100"):
        cifar_files.write(folder, name)
    return str(folder)


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_what_it_says(name: str, tmp_path: Path) -> None:
    root = root_with(name, tmp_path)
    options = made(DATASETS, name, root=root)
    assert isinstance(options, DataOptions)
    data: DataSet = DATASETS[name].load()(options)
    num_axes = {"image": 3, "sequence": 2, "tokens": 1}[options.input_kind]
    is_tokens = options.input_kind == "tokens"
    assert len(data.input_shape) == num_axes
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), *data.input_shape)
        assert split.targets.shape == (split.inputs.shape if is_tokens else (len(split),))
        assert split.inputs.dtype == (torch.int64 if is_tokens else torch.float32)
        assert split.targets.dtype == torch.int64
        assert split.inputs.isfinite().all()
        assert 0 <= split.targets.min() <= split.targets.max() < data.num_classes
        assert len(split) > 0
    if is_tokens:
        assert 0 <= data.train.inputs.min() <= data.train.inputs.max() < data.num_classes
    else:
        assert data.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
        assert data.train.inputs.double().std(correction=0).item() == pytest.approx(1, abs=1e-5)
    place = LOCATORS[name](root)
    assert (place.name, place.is_found) == (name, True)
    assert str(place.folder or place) in data.found


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_the_same_from_its_files_and_from_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEPORT_CACHE", str(tmp_path / "cache"))
    options = made(DATASETS, name, root=root_with(name, tmp_path))
    first, second = DATASETS[name].load()(options), DATASETS[name].load()(options)
    monkeypatch.setenv("TELEPORT_CACHE", os.devnull)
    fresh = DATASETS[name].load()(options)
    for other in (second, fresh):
        assert (first.input_shape, first.num_classes, first.found) == (
            other.input_shape, other.num_classes, other.found
        )  # fmt: skip
        for part in ("train", "validation", "test"):
            mine, theirs = getattr(first, part), getattr(other, part)
            assert torch.equal(mine.inputs, theirs.inputs)
            assert torch.equal(mine.targets, theirs.targets)


def test_every_kind_of_arm_has_its_treatment() -> None:
    assert TREATMENTS.keys() == Arm.model_fields.keys()


def test_the_baseline_has_none() -> None:
    assert treatment_of(Arm())(None) is None  # type: ignore[arg-type]
