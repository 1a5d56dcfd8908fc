"""What every entry of the catalogue keeps, so that registering one is being tested."""

from __future__ import annotations

import inspect
import os
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic_core import PydanticUndefined

from orchestrator.spec import Arm
from orchestrator.spec.options import (
    ARMS,
    DATASETS,
    LR_SCHEDULES,
    MODELS,
    OPTIMIZERS,
    SAMPLERS,
    SCHEDULERS,
    TASKS,
    ArmOptions,
    DataOptions,
    Entry,
    InputKind,
    ModelOptions,
    NamedOptions,
    models_for,
)
from orchestrator.trial.arms import make_arm
from orchestrator.trial.data.dataset import DataSet
from orchestrator.trial.data.locations import LOCATORS
from orchestrator.trial.isolation import seed_everything
from orchestrator.trial.tasks import cross_entropy
from teleport_engine import GrowthStep, Outcome, Teleporter
from tests.orchestrator.trial.data import cifar_files
from tests.orchestrator.trial.data.idx_files import write
from tests.orchestrator.trial.test_arms import METHODS

# The settings that an entry's options cannot do without, beside the name.
NEEDED: dict[str, dict[str, Any]] = {
    "mlp": {"widths": [8]},
    "cnn": {"channels": [4, 6, 8]},
    "resnet18": {"width": 4},
    "transformer": {"d_model": 16},
    "vit": {"d_model": 16},
    "language_model": {"d_model": 16},
    "lstm": {"d_hidden": 8},
    "torchvision": {"architecture": "mobilenet_v3_small"},
    "digits": {"batch_size": 4},
    "diabetes": {"batch_size": 4},
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
    "momentum": {"lr": 0.1},
    "nesterov": {"lr": 0.1},
    "adagrad": {"lr": 0.1},
    "adam": {"lr": 0.1},
    "adamw": {"lr": 0.1},
    "rmsprop": {"lr": 0.1},
    "classification": {"metrics": ["accuracy", "f1"]},
    "regression": {},
    "multilabel": {},
    "language_modelling": {"metrics": ["perplexity", "accuracy"]},
    "constant": {},
    "cosine": {},
    "step": {"every": 3},
}

SHAPES: dict[InputKind, list[tuple[int, ...]]] = {
    "image": [(1, 8, 8), (1, 28, 28), (3, 32, 32)],
    "sequence": [(28, 28), (49, 1)],
    "tokens": [(12,)],
}
NUM_CLASSES = 7


def model_cases() -> list[tuple[str, tuple[int, ...]]]:
    """Every model with every shape of the kinds that it takes."""
    return [(name, shape) for kind, shapes in SHAPES.items() for name in models_for(kind) for shape in shapes]


def built(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.nn.Module:
    seed_everything(seed)
    model: torch.nn.Module = MODELS[name].load()(made(MODELS, name), shape, NUM_CLASSES)
    return model


def batch(num_samples: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random samples of a shape with random targets: of each token, where they are tokens."""
    generator = torch.Generator().manual_seed(0)
    if len(shape) == 1:
        tokens = torch.randint(NUM_CLASSES, (num_samples, shape[0] + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]
    inputs = torch.randn(num_samples, *shape, generator=generator)
    return inputs, torch.randint(NUM_CLASSES, (num_samples,), generator=generator)


def made(family: dict[str, Entry], name: str, **more: Any) -> NamedOptions:
    options = family[name].options.model_validate({"name": name, **NEEDED.get(name, {}), **more})
    assert isinstance(options, NamedOptions)
    return options


# Registry -> what a member is called, and the file that registers it.
REGISTRIES: dict[str, tuple[str, dict[str, Entry]]] = {
    "arms": ("arm", ARMS),
    "datasets": ("data set", DATASETS),
    "lr_schedules": ("learning-rate schedule", LR_SCHEDULES),
    "models": ("model", MODELS),
    "optimizers": ("optimizer", OPTIMIZERS),
    "samplers": ("sampler", SAMPLERS),
    "schedulers": ("scheduler", SCHEDULERS),
    "tasks": ("task", TASKS),
}


def fault_of(kind: str, name: str, entry: Entry, file: str) -> str | None:
    """Say in a sentence what is wrong with an entry, and which file to edit; None: nothing is."""
    place, _, attribute = entry.builder.partition(":")
    maker = f"{place.replace('.', '/')}.py" if place.startswith("orchestrator.") else place
    try:
        is_built = callable(entry.load())
    except (ImportError, AttributeError):
        is_built = False
    if not is_built:
        return f"{kind} {name!r} has no builder: write the function {attribute!r} in {maker}, or correct {file}"
    if kind == "arm":
        if not issubclass(entry.options, ArmOptions):
            return f"{kind} {name!r} does not say when it acts: derive its options from ArmOptions in {file}"
    elif typing.get_args(entry.options.model_fields["name"].annotation) != (name,):
        return f"{kind} {name!r} is not what its options are called: give them name: Literal[{name!r}] in {file}"
    if inspect.isabstract(entry.options):
        missing = ", ".join(sorted(entry.options.__abstractmethods__))
        return f"{kind} {name!r} is half made: its options lack {missing}; add them in {file}"
    return None


def faults() -> list[str]:
    """Say in sentences what each registered name lacks, and which file to edit."""
    tests = "tests/orchestrator/trial"
    said: list[str | None] = []
    for module, (kind, family) in REGISTRIES.items():
        file = f"orchestrator/spec/options/{module}.py"
        said += [fault_of(kind, name, entry, file) for name, entry in family.items()]
        if module not in ("arms", "samplers", "schedulers"):
            for name in family.keys() - NEEDED.keys():
                said.append(
                    f"{kind} {name!r} has no settings to be tested with: add it to NEEDED in {tests}/test_contracts.py"
                )
    for name in DATASETS.keys() - LOCATORS.keys():
        said.append(f"data set {name!r} has no locator: add it to LOCATORS in orchestrator/trial/data/locations.py")
    for kind in ARMS.keys() - Arm.model_fields.keys():
        said.append(f"arm {kind!r} has no field: add one to Arm in orchestrator/spec/training.py")
    for kind in Arm.model_fields.keys() - ARMS.keys():
        said.append(f"arm {kind!r} has no entry: add one to ARMS in orchestrator/spec/options/arms.py")
    for kind in ARMS.keys() - METHODS.keys():
        said.append(f"arm {kind!r} has no settings to be tested with: add it to METHODS in {tests}/test_arms.py")
    documented = (Path(__file__).parents[3] / "docs" / "arms.md").read_text()
    said += [
        f"arm {kind!r} is not described: add a line to docs/arms.md" for kind in ARMS if f"`{kind}`" not in documented
    ]
    return sorted(filter(None, said))


def test_what_is_registered_is_registered_everywhere() -> None:
    assert faults() == []


class _Timeless(ArmOptions):
    """A kind of arm that does not say when it acts."""


def test_a_missing_registration_is_told_in_words_with_the_file_to_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "nadam", Entry(OPTIMIZERS["adam"].options, "torch.optim:NAdm"))
    monkeypatch.setitem(DATASETS, "stl10", DATASETS["cifar10"])
    monkeypatch.setitem(ARMS, "shake", Entry(_Timeless, "orchestrator.trial.arms:teleport"))
    monkeypatch.setitem(MODELS, "wide", Entry(MODELS["mlp"].options, "orchestrator.trial.models.wide:build"))
    monkeypatch.setitem(SAMPLERS, "spiral", Entry(SAMPLERS["random"].options, "orchestrator.search.samplers:spiral"))
    options = "orchestrator/spec/options"
    tests = "tests/orchestrator/trial"
    assert faults() == [
        "arm 'shake' has no field: add one to Arm in orchestrator/spec/training.py",
        f"arm 'shake' has no settings to be tested with: add it to METHODS in {tests}/test_arms.py",
        f"arm 'shake' is half made: its options lack timing; add them in {options}/arms.py",
        "arm 'shake' is not described: add a line to docs/arms.md",
        "data set 'stl10' has no locator: add it to LOCATORS in orchestrator/trial/data/locations.py",
        f"data set 'stl10' has no settings to be tested with: add it to NEEDED in {tests}/test_contracts.py",
        "data set 'stl10' is not what its options are called: give them name: Literal['stl10'] in "
        f"{options}/datasets.py",
        "model 'wide' has no builder: write the function 'build' in orchestrator/trial/models/wide.py, or correct "
        f"{options}/models.py",
        f"model 'wide' has no settings to be tested with: add it to NEEDED in {tests}/test_contracts.py",
        "optimizer 'nadam' has no builder: write the function 'NAdm' in torch.optim, or correct "
        f"{options}/optimizers.py",
        f"optimizer 'nadam' has no settings to be tested with: add it to NEEDED in {tests}/test_contracts.py",
        "sampler 'spiral' has no builder: write the function 'spiral' in orchestrator/search/samplers.py, or correct "
        f"{options}/samplers.py",
    ]


@pytest.mark.parametrize("kind", ARMS)
def test_a_kind_of_arm_has_options_and_a_builder(kind: str) -> None:
    options = ARMS[kind].options
    assert Arm.model_fields[kind].annotation == options | None, (
        f"arm {kind!r} has other options in Arm, in orchestrator/spec/training.py, than in ARMS"
    )
    arm = Arm.model_validate({kind: METHODS[kind]})
    assert (arm.kind, arm.settings) == (kind, options.model_validate(METHODS[kind]))


def test_an_arm_says_when_it_acts_in_training() -> None:
    timed = {kind: Arm.model_validate({kind: METHODS[kind]}).schedule for kind in ARMS}
    assert timed.pop("init_scaled") is None
    assert {None if when is None else when.batches for when in timed.values()} == {3}
    assert Arm.model_validate({"random_move": {"of": "teleport"}}).schedule is None
    assert Arm().schedule is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_options_are_torchs_own(name: str) -> None:
    builder = OPTIMIZERS[name].load()
    torchs = builder if isinstance(builder, type) else inspect.signature(builder, eval_str=True).return_annotation
    assert issubclass(torchs, torch.optim.Optimizer)
    signature = inspect.signature(builder).parameters
    fields = OPTIMIZERS[name].options.model_fields
    for field in fields.keys() - {"name"}:
        for where in (signature, inspect.signature(torchs).parameters):
            assert field in where, (
                f"optimizer {name!r} has no argument {field!r}, only {', '.join(where)}: "
                "correct its options in orchestrator/spec/options/optimizers.py"
            )
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


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_schedule_ends_its_warm_up_at_the_full_rate_and_never_rises_after(name: str) -> None:
    options = made(LR_SCHEDULES, name, warmup=4)
    multiplier = LR_SCHEDULES[name].load()(options, 20)
    rates = [multiplier(index) for index in range(21)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0.0 <= later <= earlier for earlier, later in pairwise(rates[4:]))


@pytest.mark.parametrize(("name", "shape"), model_cases(), ids=str)
def test_a_model_gives_scores_and_its_weights_follow_from_the_seed(name: str, shape: tuple[int, ...]) -> None:
    first, again, other = (built(name, shape, seed) for seed in (1, 1, 2))
    mine, same, different = (model.state_dict() for model in (first, again, other))
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    drawn = [key for key, parameter in first.named_parameters() if parameter.std(correction=0) > 0]
    assert drawn
    assert not any(torch.equal(mine[key], different[key]) for key in drawn)
    inputs, targets = batch(3, shape)
    assert first(inputs).shape == (*targets.shape, NUM_CLASSES)


@pytest.mark.parametrize(("name", "shape"), model_cases(), ids=str)
def test_a_model_draws_nothing_in_training_and_every_weight_has_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    model = built(name, shape)
    inputs, targets = batch(4, shape)
    state = torch.get_rng_state()
    cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(torch.get_rng_state(), state)
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("name", "shape"), [case for case in model_cases() if case[1] not in SHAPES["image"][1:]], ids=str
)
def test_a_model_can_be_teleported(name: str, shape: tuple[int, ...]) -> None:
    model = built(name, shape).double()
    inputs, targets = batch(4, shape)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    before = cross_entropy(model(inputs), targets).item()
    teleporter = Teleporter(model, cross_entropy, tau=0.99, step=GrowthStep(1.01), num_steps=1)
    report = teleporter.teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    assert report.grad_norm_after > report.grad_norm_before
    assert cross_entropy(model(inputs), targets).item() == pytest.approx(before, abs=1e-2)


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
    assert data.input_shape == options.sample_shape
    assert len(data.input_shape) == num_axes
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), *data.input_shape)
        is_number = options.target_kind == "number"
        assert split.targets.shape == (
            split.inputs.shape if is_tokens else (len(split), data.num_classes) if is_number else (len(split),)
        )
        assert split.inputs.dtype == (torch.int64 if is_tokens else torch.float32)
        assert split.targets.dtype == (torch.float32 if is_number else torch.int64)
        assert split.inputs.isfinite().all()
        assert split.targets.isfinite().all()
        assert is_number or 0 <= split.targets.min() <= split.targets.max() < data.num_classes
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


def test_every_model_says_what_it_takes() -> None:
    for name, entry in MODELS.items():
        assert issubclass(entry.options, ModelOptions)
        assert entry.options.input_kinds <= SHAPES.keys(), name
    assert models_for("tokens") == ["language_model", "lstm"]


def test_the_baseline_does_nothing_during_training() -> None:
    assert make_arm(Arm(), None) is None  # type: ignore[arg-type]
