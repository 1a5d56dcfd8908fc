"""Tasks: what each trains and measures, against obvious twins; whole sweeps of each, and what a misfit is told."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn import metrics as sk

from orchestrator.cli import exit_code
from orchestrator.errors import SpecError
from orchestrator.spec import Workload, is_higher_better, spec_from_text
from orchestrator.spec.options import TASKS, TaskOptions
from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.tasks import Task, checked, task_of
from tests.orchestrator.spec.test_plugins import forget
from tests.orchestrator.specs import TINY

NUM, SIZE = 60, 4


def options_of(name: str, **more: Any) -> TaskOptions:
    """A task with everything measured that it can measure."""
    entry = TASKS[name].options
    assert issubclass(entry, TaskOptions)
    made = entry.model_validate({"name": name, "metrics": list(entry.directions), **more})
    assert isinstance(made, TaskOptions)
    return made


def batch(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets of one kind, some of the classes never wanted."""
    draw = torch.Generator().manual_seed(0)
    if kind == "token":
        return torch.randn(NUM, 5, SIZE, generator=draw), torch.randint(SIZE - 1, (NUM, 5), generator=draw)
    outputs = torch.randn(NUM, SIZE, generator=draw)
    if kind == "class":
        return outputs, torch.randint(SIZE - 1, (NUM,), generator=draw)
    if kind == "labels":
        return outputs, (torch.rand(NUM, SIZE, generator=draw) < 0.3).float()
    return outputs, 3.0 * torch.randn(NUM, SIZE, generator=draw) + 1.0


class TaskContract:
    """What every task keeps; derive from it, and give ``task``, ``options`` and ``batch`` as fixtures."""

    def test_the_loss_is_the_measured_loss_of_the_same_batch(
        self, task: Task, batch: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        loss = task.loss(*batch)
        assert loss.shape == ()
        assert task.metrics(task.sums(*batch))["loss"] == pytest.approx(loss.item(), rel=1e-5)

    def test_chunks_measure_what_the_whole_measures(
        self, task: Task, options: TaskOptions, batch: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        outputs, targets = batch
        parts = [
            task.sums(*part)
            for part in zip(torch.split(outputs, 7), torch.split(targets, 7), strict=True)
        ]  # fmt: skip
        total = {name: sum((part[name] for part in parts[1:]), start=parts[0][name]) for name in parts[0]}
        whole = task.metrics(task.sums(*batch))
        assert task.metrics(total) == pytest.approx(whole, rel=1e-6)
        assert list(whole) == ["loss", *options.metrics]
        assert all(map(math.isfinite, whole.values()))

    def test_it_accepts_its_own_targets(self, task: Task, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        assert task.misfit(*batch) == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in TASKS for kind in sorted(getattr(TASKS[name].options, "target_kinds", ()))],
)
class TestOurTasks(TaskContract):
    @pytest.fixture
    def options(self, name: str, kind: str) -> TaskOptions:
        return options_of(name)

    @pytest.fixture
    def task(self, options: TaskOptions) -> Task:
        return task_of(options)

    @pytest.fixture
    def batch(self, name: str, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        return batch(kind)


def measured(name: str, kind: str) -> tuple[dict[str, float], Any, Any]:
    outputs, targets = batch(kind)
    task = task_of(options_of(name))
    return task.metrics(task.sums(outputs, targets)), outputs.double().numpy(), targets.numpy()


@pytest.mark.parametrize("kind", ["class", "token"])
def test_accuracy_and_macro_f1_are_scikit_learns(kind: str) -> None:
    found, outputs, targets = measured("classification", kind)
    predicted, wanted = outputs.argmax(-1).ravel(), targets.ravel()
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(wanted, predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(wanted, predicted, average="macro"))


def test_the_metrics_of_a_regression_are_scikit_learns() -> None:
    found, outputs, targets = measured("regression", "number")
    assert found["mse"] == pytest.approx(sk.mean_squared_error(targets, outputs))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, outputs))
    assert found["r2"] == pytest.approx(sk.r2_score(targets, outputs))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_each_loss_of_a_regression_is_its_formula(loss: str) -> None:
    outputs, targets = batch("number")
    errors = (outputs - targets).double().abs()
    formulas = {
        "mse": errors**2,
        "mae": errors,
        "huber": torch.where(errors < 1.0, errors**2 / 2.0, errors - 0.5),
    }
    task = task_of(options_of("regression", loss=loss))
    assert task.loss(outputs, targets).item() == pytest.approx(formulas[loss].mean().item(), rel=1e-6)


def test_r2_of_targets_that_are_all_the_same_is_0() -> None:
    task = task_of(options_of("regression"))
    assert task.metrics(task.sums(torch.ones(5, 1), torch.zeros(5, 1)))["r2"] == 0.0


def test_macro_f1_of_labels_is_scikit_learns() -> None:
    found, outputs, targets = measured("multilabel", "labels")
    assert found["f1"] == pytest.approx(sk.f1_score(targets, outputs > 0, average="macro"))


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    found, *_ = measured("language_modelling", "token")
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_directions_follow_from_the_tasks() -> None:
    higher = {"validation_accuracy", "test_accuracy", "validation_r2", "validation_f1"}
    lower = {"train_loss", "validation_loss", "validation_mse", "validation_perplexity", "steps_to_target", "grad_norm"}
    assert {name for name in higher | lower if is_higher_better(name)} == higher


def test_the_default_task_leaves_the_identity_of_a_workload_as_it_was() -> None:
    template = spec_from_text(TINY, "tiny.yaml").workloads["digits"]
    plain = Workload.model_validate(template.concretise(template.corners()[0]))
    written = plain.model_dump(mode="json") | {"task": {"name": "classification"}}
    assert "task" not in plain.identifying_values()
    assert Workload.model_validate(written).identifying_values() == plain.identifying_values()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("workloads.digits.task={name: clasification}", r"not registered; did you mean 'classification'"),
        ("workloads.digits.task={name: regression}", r"takes targets of the kind number, data set digits gives class"),
        ("workloads.digits.task={name: classification, metrics: [acuracy]}", r"'acuracy' is no metric .*'accuracy'"),
        ("workloads.digits.task={name: classification, metrics: [f1, f1]}", r"metrics must differ"),
        ("workloads.digits.task={name: classification, loss: mse}", r"none of the valid values; .*cross_entropy"),
        ("workloads.digits.target={metric: validation_acuracy, value: 0.5}", r"did you mean 'validation_accuracy'"),
        (
            "workloads.digits.target={metric: validation_r2, value: 0.5}",
            r"does not measure validation_r2",
        ),
        ("workloads.digits.target={metric: validation_f1, value: 0.5}", r"add f1 to task.metrics"),
        ("search.objective={metric: validation_r2}", r"objective.metric: .*does not measure validation_r2.*digits"),
        ("search.objective={metric: validation_accuracy, mode: min}", r"mode must be max"),
        ("search.scheduler={name: asha, metric: validation_mse}", r"search.scheduler.metric: .*validation_mse"),
    ],
)
def test_what_no_task_can_do_is_told_when_it_is_planned(change: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"(?s){message}"):
        spec_from_text(TINY, "tiny.yaml", [change])


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        (
            "regression",
            torch.zeros(8, 2),
            r"have the shape .*targets float32 \[2, 2\], outputs float32 \[2, 3\]",
        ),
        ("classification", torch.full((8,), 7), r"targets must be 0 \.\. 2, and they are 7 \.\. 7"),
        ("classification", torch.zeros(8), r"targets must be int64.*targets float32 \[2\]"),
    ],
)
def test_what_does_not_fit_is_told_with_the_first_sample(task: str, targets: torch.Tensor, message: str) -> None:
    model = torch.nn.Linear(5, 3)
    template = spec_from_text(TINY, "tiny.yaml").workloads["digits"]
    workload = Workload.model_validate(template.concretise(template.corners()[0]))
    with pytest.raises(ValueError, match=message):
        checked(workload, task_of(options_of(task)), model, Split(torch.zeros(8, 5), targets))


PLUGIN = """
from typing import ClassVar, Literal
import torch
from orchestrator.spec.options import DataOptions, Entry, MetricNames, ModelOptions, TaskOptions

class NetOptions(ModelOptions):
    name: Literal["masked_net"]
    input_kinds = frozenset({"image"})
    def misfit(self, sample_shape): return None

class MeansOptions(DataOptions):
    name: Literal["masked_means"]
    train_size: ClassVar[int] = 128
    sample_shape: ClassVar[tuple[int, ...]] = (1, 1, 6)
    target_kind: ClassVar[str] = "masked_mean"

class GoalOptions(TaskOptions):
    name: Literal["masked_goal"]
    directions: ClassVar = {"within": "max"}
    target_kinds = frozenset({"masked_mean"})
    metrics: MetricNames = ("within",)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    def forward(self, values, mask): return self.layers(values * mask)

def net(options, input_shape, num_classes): return Net()

def means(options):
    from orchestrator.trial.data.dataset import DataSet, Split
    draw = torch.Generator().manual_seed(0)
    values, mask = torch.randn(192, 6, generator=draw), (torch.rand(192, 6, generator=draw) < 0.5).float()
    whole = Split({"values": values, "mask": mask}, (values * mask).mean(dim=1, keepdim=True))
    return DataSet(whole.part(0, 128), whole.part(128, 160), whole.part(160, 192), (1, 1, 6), 1, "drawn")

def goal(options):
    from orchestrator.trial.tasks import Task
    def loss(outputs, targets): return (outputs - targets).cosh().log().mean()
    def sums(outputs, targets):
        within, num = ((outputs - targets).abs() < 0.1).sum(), torch.tensor(len(targets))
        return {"loss": loss(outputs, targets).double() * num, "within": within, "num": num}
    def metrics(total): return {name: (total[name] / total["num"]).item() for name in ("loss", "within")}
    return Task(loss, sums, metrics)

MODELS = {"masked_net": Entry(NetOptions, "masked:net")}
DATASETS = {"masked_means": Entry(MeansOptions, "masked:means")}
TASKS = {"masked_goal": Entry(GoalOptions, "masked:goal")}
"""
WORKLOADS = {
    "regression": """
    model: {name: mlp, widths: [16]}
    data: {name: diabetes, batch_size: 64}
    task: {name: regression}
    target: {metric: validation_r2, value: 0.2}""",
    "digits": """
    model: {name: mlp, widths: [16]}
    data: {name: digits, batch_size: 128}
    task: {name: classification, metrics: [accuracy, f1]}
    target: {metric: validation_f1, value: 0.3}""",
    "characters": """
    model: {name: language_model, d_model: 8, num_heads: 2, num_layers: 1}
    data: {name: text, context: 16, num_train: 128, batch_size: 32}
    task: {name: language_modelling}
    target: {metric: validation_perplexity, value: 80}""",
    "masked": """
    model: {name: masked_net}
    data: {name: masked_means, batch_size: 32}
    task: {name: masked_goal}
    target: {metric: validation_within, value: 0.2}""",
}
OBJECTIVES = {
    "regression": "validation_r2",
    "digits": "validation_f1",
    "characters": "validation_perplexity",
    "masked": "validation_within",
}
SPEC = """
version: 1
name: NAME
workloads:
  w:WORKLOAD
    optimizer: {name: sgd, lr: {loguniform: [0.05, 0.2]}}
    epochs: 3
    evaluate: {every: 2, num_validation: 32}
arms:
  teleport: {teleport: {tau: 0.99, step: {rule: growth, factor: 1.1}, schedule: {epochs: 1, batches: 2, steps: 1}}}
search: {trials: 2, objective: {metric: OBJECTIVE}}
confirm: {seeds: 6, grid: none}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "masked.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "ray"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_sweep_of_each_task_ends_with_a_verdict(name: str, launcher: str, here: Path) -> None:
    text = SPEC.replace("NAME", name).replace("WORKLOAD", WORKLOADS[name]).replace("OBJECTIVE", OBJECTIVES[name])
    assert len(text.strip().splitlines()) <= 30
    (here / "spec.yaml").write_text(text)
    plugin = ["--plugin", "masked"] if name == "masked" else []
    assert exit_code(["run", "spec.yaml", "--launcher", launcher, *plugin]) == 0
    forget(here)
    assert exit_code(["report", name, "--out", "out", "--format", "json,md,html"]) == 0
    report = json.loads((here / "out" / "report.json").read_text())
    metric = OBJECTIVES[name].removeprefix("validation_")
    primary = [each for each in report["comparisons"] if each["is_primary"]]
    assert [each["verdict"] for each in primary] != ["pending"]
    others = {each["metric"]: each for each in report["comparisons"]}
    for split in ("validation", "test"):
        assert others[f"{split}_{metric}"]["effect"] is not None


def test_a_data_set_of_dicts_is_cut_and_picked_tensor_by_tensor() -> None:
    inputs = {"a": torch.arange(6).reshape(3, 2), "b": torch.arange(3)}
    split = Split(inputs, torch.arange(3))
    picked = split.select(torch.tensor([2, 0]))
    assert picked.inputs["a"].tolist() == [[4, 5], [0, 1]]
    assert picked.inputs["b"].tolist() == picked.targets.tolist() == [2, 0]
    assert split.part(1, 3).inputs["b"].tolist() == [1, 2]
    whole = DataSet(split, split, split, (2,), 3, "here")
    assert whole.to(torch.device("cpu")).train.inputs["a"].equal(inputs["a"])
