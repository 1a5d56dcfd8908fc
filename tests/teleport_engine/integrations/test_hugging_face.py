"""Training by Hugging Face's Trainer with the callback is the plain loop with `teleporter.step`, bit for bit."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Options, RandomMove, Schedule, Teleporter, TeleportReport, WhileItPays
from teleport_engine.integrations import TrainerTeleportCallback, model_loss

transformers = pytest.importorskip("transformers", reason="the callback for Trainer needs transformers")
pytest.importorskip("accelerate", reason="Trainer needs accelerate")

pytestmark = [pytest.mark.filterwarnings("ignore")]  # the libraries' own

LR = 0.1


def gpt2(dropout: float = 0.0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=17,
        n_positions=8,
        n_embd=24,
        n_layer=2,
        n_head=2,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


class Regression(nn.Module):
    """No model of transformers: it gives a dict with its loss, or without where there are no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        found = self.net(x)
        return {"logits": found} if labels is None else {"loss": (found - labels).square().mean(), "logits": found}


def texts(num_samples: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(17, (num_samples, 5), generator=generator)
    return [{"input_ids": row, "labels": row} for row in words]


def numbers(num_samples: int, label: str = "labels") -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"x": row, label: row[:1].sin()} for row in torch.randn(num_samples, 5, generator=generator)]


def teleporter_of(model: nn.Module, loss_fn: Any = model_loss, **options: Any) -> Teleporter:
    chosen = {"step": GrowthStep(1.5), "num_steps": 2, "schedule": Schedule(every=2), "tau": 0.999, **options}
    return Teleporter(model, loss_fn, Options(**chosen))


class Recorder(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Notes torch's random state at the first step."""

    start: Tensor | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.start is None:
            self.start = torch.get_rng_state()


def train(
    model: nn.Module, data: Any, callbacks: list[Any], path: Path, *, resume: str | None = None, **options: Any
) -> Any:
    given = {"num_train_epochs": 1, "save_strategy": "no", **options}
    extra = {name: given.pop(name) for name in ("compute_loss_func", "eval_dataset") if name in given}
    arguments = transformers.TrainingArguments(
        output_dir=str(path),
        per_device_train_batch_size=2,
        learning_rate=LR,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **given,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks, **extra)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def micro_batches(data: list[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(data), 2):
        yield {name: torch.stack([sample[name] for sample in data[start : start + 2]]) for name in data[0]}


def plainly(
    model: nn.Module, teleporter: Teleporter, data: Any, random_state: Tensor, accumulate: int = 1
) -> tuple[list[TeleportReport], list[float]]:
    reports, losses = [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    torch.set_rng_state(random_state)
    model.train()
    for index, batch in enumerate(micro_batches(data)):
        # Trainer tells the model over how many labels the loss of a step is a mean.
        batch = {**batch, "num_items_in_batch": torch.tensor(float(accumulate * batch["labels"].numel()))}
        if index % accumulate == 0:
            reports.append(teleporter.step(index // accumulate, batch, batch["labels"]))
            optimizer.zero_grad()
        loss = model(**batch)["loss"]
        loss.backward()
        losses.append(float(loss.detach()))
        if (index + 1) % accumulate == 0:
            optimizer.step()
    return [report for report in reports if report is not None], losses


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_with_the_callback_is_the_plain_loop(dropout: float, accumulate: int, tmp_path: Path) -> None:
    model, data = gpt2(dropout), texts(12)
    twin, still = copy.deepcopy(model), copy.deepcopy(model)
    callback, recorder = TrainerTeleportCallback(teleporter_of(model, tau=1.0)), Recorder()
    train(model, data, [callback, recorder], tmp_path, gradient_accumulation_steps=accumulate)
    assert recorder.start is not None
    reports, losses = plainly(twin, teleporter_of(twin, tau=1.0), data, recorder.start, accumulate)
    assert [report.num_steps for report in reports] == [2] * (3 if accumulate == 1 else 2)
    assert equal(model, twin)
    assert callback.last_report is not None
    assert callback.last_report.loss_after == reports[-1].loss_after
    assert abs(reports[-1].loss_drift) <= 1e-5 * reports[-1].loss_before
    # The step differentiates the loss that the teleport has kept, under the dropout masks at hand.
    assert losses[-2] == pytest.approx(reports[-1].loss_after, rel=1e-5)
    never = Schedule(batches=0, batches_per_epoch=9)
    plainly(still, teleporter_of(still, schedule=never), data, recorder.start, accumulate)
    assert not equal(model, still), "the teleports make a difference"
    assert not model._forward_pre_hooks


def test_a_loss_of_the_users_own_and_a_model_of_his_own(tmp_path: Path) -> None:
    def squares(outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        return (outputs["logits"] - labels).square().mean()

    models = [Regression()]
    models += [copy.deepcopy(models[0]) for _ in range(2)]
    for model, loss_fn in zip(models, (model_loss, squares, squares), strict=True):
        named = model is models[2]
        split = (lambda batch: (batch, batch["labels"])) if named else None
        callback = TrainerTeleportCallback(teleporter_of(model, loss_fn), split_batch=split)
        train(model, numbers(8), [callback], tmp_path)
        assert callback.last_report is not None
        assert callback.last_report.num_steps == 2
    assert equal(models[0], models[1])
    assert equal(models[0], models[2])


def test_bfloat16_autocast_is_off_in_the_teleport(tmp_path: Path) -> None:
    model = gpt2()
    callback = TrainerTeleportCallback(teleporter_of(model, tau=1.0))
    train(model, texts(2), [callback], tmp_path, bf16=True)
    assert callback.last_report is not None
    assert callback.last_report.num_steps == 2
    assert abs(callback.last_report.loss_drift) <= 1e-5 * callback.last_report.loss_before
    low = gpt2().bfloat16()
    with pytest.raises(ValueError, match=r"trainable weights must be float32 or float64"):
        train(low, texts(2), [TrainerTeleportCallback(teleporter_of(low))], tmp_path)


def test_an_evaluation_between_the_steps_is_no_step(tmp_path: Path) -> None:
    model = gpt2()
    twin = copy.deepcopy(model)
    often: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    for one, options in ((model, often), (twin, {})):
        callback = TrainerTeleportCallback(teleporter_of(one))
        train(one, texts(8), [callback], tmp_path, eval_dataset=texts(4), **options)
    assert equal(model, twin)


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    def make(model: nn.Module) -> TrainerTeleportCallback:
        schedule = WhileItPays(Schedule(), least_gain=1e9, patience=5)  # five teleports, of random moves
        return TrainerTeleportCallback(teleporter_of(model, move=RandomMove(3), schedule=schedule))

    model = gpt2(0.1)
    begun, resumed, joined = (copy.deepcopy(model) for _ in range(3))
    often: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    train(model, texts(12), [make(model)], tmp_path / "whole", **often)
    train(begun, texts(12), [make(begun)], tmp_path / "begun", max_steps=3, **often)
    callback = make(resumed)
    checkpoint = str(tmp_path / "begun" / "checkpoint-3")
    train(resumed, texts(12), [callback], tmp_path / "begun", resume=checkpoint, **often)
    assert equal(model, resumed)
    assert callback._teleporter.state_dict()["schedule"]["num_poor"] == 5
    train(gpt2(), texts(12), [], tmp_path / "without", max_steps=3, **often)
    checkpoint = str(tmp_path / "without" / "checkpoint-3")
    train(joined, texts(12), [make(joined)], tmp_path / "without", resume=checkpoint, **often)


def test_what_would_go_wrong_without_a_word_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Regression()
    with pytest.raises(ValueError, match=r"TrainerTeleportCallback needs a schedule: give Teleporter\(schedule="):
        TrainerTeleportCallback(Teleporter(model, model_loss))
    with pytest.raises(ValueError, match=r"got a Regression that shares none with the Regression in training: make"):
        train(model, numbers(4), [TrainerTeleportCallback(teleporter_of(Regression()))], tmp_path)
    callback = TrainerTeleportCallback(teleporter_of(model))
    with pytest.raises(ValueError, match=r"got restore_callback_states_from_checkpoint=True: set it to False"):
        train(model, numbers(4), [callback], tmp_path, restore_callback_states_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"got torch_compile=True: set it to False"):
        train(model, numbers(4), [callback], tmp_path, torch_compile=True)
    with pytest.raises(ValueError, match=r"a Trainer takes one TrainerTeleportCallback, got 2"):
        train(model, numbers(4), [callback, TrainerTeleportCallback(teleporter_of(model))], tmp_path)
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match=r"a callback teleports in training on one device, got 2"):
        train(model, numbers(4), [callback], tmp_path)


def test_a_batch_that_cannot_be_split_is_refused_with_what_to_do(tmp_path: Path) -> None:
    def squares(outputs: Any, labels: Tensor) -> Tensor:
        raise AssertionError("is never called")

    def own(outputs: Any, labels: Any, num_items_in_batch: Any) -> Tensor:
        raise AssertionError("is never called")

    model, data = Regression(), numbers(4, "x2")
    with pytest.raises(ValueError, match=r"the batch has no 'labels', got x: give .*split_batch=function"):
        train(model, data, [TrainerTeleportCallback(teleporter_of(model, squares))], tmp_path)
    with pytest.raises(ValueError, match=r"model_loss needs a model that gives its loss, got the keys logits: put the"):
        train(model, numbers(4), [TrainerTeleportCallback(teleporter_of(model))], tmp_path, compute_loss_func=own)
    callback = TrainerTeleportCallback(teleporter_of(model), split_batch=lambda batch: batch["x"])
    with pytest.raises(ValueError, match=r"split_batch must give a pair \(inputs, targets\), got Tensor"):
        train(model, numbers(4), [callback], tmp_path)


def test_the_loss_of_a_model() -> None:
    loss = torch.ones(())
    assert model_loss({"loss": loss}, None) is loss
    assert model_loss((loss, torch.ones(3)), None) is loss
    with pytest.raises(ValueError, match=r"got tuple: put the labels into the batch"):
        model_loss((torch.ones(3), loss), None)
    with pytest.raises(ValueError, match=r"got Tensor"):
        model_loss(torch.ones(3), None)
    with pytest.raises(ValueError, match=r"got the keys loss"):
        model_loss({"loss": None}, None)
