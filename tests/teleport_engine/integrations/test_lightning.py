"""Training by Lightning with the callback is the plain loop with `teleporter.step`, bit for bit."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from teleport_engine import (
    GrowthStep,
    Options,
    RandomMove,
    Schedule,
    Teleporter,
    TeleportOptimizer,
    TeleportReport,
    WhileItPays,
)
from teleport_engine.integrations import LightningTeleportCallback

pl = pytest.importorskip("pytorch_lightning", reason="the callback for Lightning needs Lightning")

pytestmark = [
    # Lightning's own: about workers of loaders, and schedulers of torch that it uses in its old ways.
    pytest.mark.filterwarnings("ignore"),
]

loss_fn = nn.functional.cross_entropy


class Net(nn.Sequential):
    def __init__(self, dropout: float) -> None:
        super().__init__(
            nn.Linear(5, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3)
        )


class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = Net(dropout)
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch.values() if isinstance(batch, dict) else batch
        loss = loss_fn(self(inputs), targets)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def loader(num_batches: int = 6) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8 * num_batches, 5, generator=generator)
    return DataLoader(TensorDataset(inputs, torch.arange(8 * num_batches) % 3), batch_size=8)


def teleporter_of(model: nn.Module, **options: Any) -> Teleporter:
    chosen = {"step": GrowthStep(1.5), "num_steps": 2, "schedule": Schedule(every=2), **options}
    return Teleporter(model, loss_fn, Options(**chosen))


def fit(module: nn.Module, callback: Any, data: Any, **options: Any) -> Any:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    checkpoint = options.pop("ckpt_path", None)
    trainer = pl.Trainer(accelerator="cpu", **{"max_epochs": 1, "callbacks": [callback], **quiet, **options})
    torch.manual_seed(7)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def plainly(model: Module, teleporter: Teleporter, data: DataLoader[Any], accumulate: int = 1) -> list[TeleportReport]:
    """The loop of docs/engine.md, with the gradient of several batches added up."""
    reports = []
    optimizer: Any = model.configure_optimizers()
    torch.manual_seed(7)
    for index, (inputs, targets) in enumerate(data):
        if index % accumulate == 0:
            reports.append(teleporter.step(index // accumulate, inputs, targets))
            optimizer.zero_grad()
        (model.training_step((inputs, targets), index) / accumulate).backward()  # type: ignore[no-untyped-call]
        if (index + 1) % accumulate == 0:
            optimizer.step()
    return [report for report in reports if report is not None]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_with_the_callback_is_the_plain_loop(dropout: float, accumulate: int) -> None:
    module = Module(dropout)
    twin, still = copy.deepcopy(module), copy.deepcopy(module)
    callback = LightningTeleportCallback(teleporter_of(module))
    fit(module, callback, loader(), accumulate_grad_batches=accumulate)
    reports = plainly(twin, teleporter_of(twin), loader(), accumulate)
    assert [report.num_steps for report in reports] == [2] * (3 if accumulate == 1 else 2)
    assert equal(module, twin)
    assert callback.last_report is not None
    assert abs(callback.last_report.loss_drift) <= 1e-5 * callback.last_report.loss_before
    assert callback.last_report.loss_after == pytest.approx(reports[-1].loss_after, abs=0.0)
    # The loss that the step takes is the one that the teleport has kept, under the dropout masks at hand.
    assert module.losses[-2] == pytest.approx(callback.last_report.loss_after, rel=1e-5)
    plainly(still, teleporter_of(still, schedule=Schedule(batches=0, batches_per_epoch=9)), loader(), accumulate)
    assert not equal(module, still), "the teleports make a difference"


def test_bfloat16_autocast_is_off_in_the_teleport() -> None:
    module = Module()
    callback = LightningTeleportCallback(teleporter_of(module.net))
    fit(module, callback, loader(1), precision="bf16-mixed")
    assert callback.last_report is not None
    assert callback.last_report.num_steps == 2
    assert abs(callback.last_report.loss_drift) <= 1e-5 * callback.last_report.loss_before
    with pytest.raises(ValueError, match=r"trainable weights must be float32 or float64"):
        fit(fresh := Module(), LightningTeleportCallback(teleporter_of(fresh)), loader(), precision="bf16-true")


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    def make(module: nn.Module) -> LightningTeleportCallback:
        schedule = WhileItPays(Schedule(), least_gain=1e9, patience=5)  # five teleports, of random moves
        return LightningTeleportCallback(teleporter_of(module, move=RandomMove(3), schedule=schedule))

    module = Module()
    begun, resumed = copy.deepcopy(module), copy.deepcopy(module)
    fit(module, make(module), loader(4), max_epochs=2)
    first = fit(begun, make(begun), loader(4), max_epochs=1)
    first.save_checkpoint(tmp_path / "last.ckpt")
    callback = make(resumed)
    fit(resumed, callback, loader(4), max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert equal(module, resumed)
    assert callback.state_dict()["teleporter"]["schedule"]["num_poor"] == 5


def test_a_batch_of_another_kind_is_split_by_the_user() -> None:
    def named() -> DataLoader[Any]:
        batches: Any = [{"x": inputs, "y": targets} for inputs, targets in loader()]
        return DataLoader(batches, batch_size=None)

    module = Module()
    twin = copy.deepcopy(module)
    callback = LightningTeleportCallback(teleporter_of(module), split_batch=lambda batch: (batch["x"], batch["y"]))
    fit(module, callback, named())
    plainly(twin, teleporter_of(twin), loader())
    assert equal(module, twin)
    with pytest.raises(ValueError, match=r"a batch must be a pair .*, got dict: give .*split_batch=function"):
        fit(module, LightningTeleportCallback(teleporter_of(module)), named())
    callback = LightningTeleportCallback(teleporter_of(module), split_batch=lambda batch: batch[0])
    with pytest.raises(ValueError, match=r"split_batch must give a pair \(inputs, targets\), got Tensor"):
        fit(module, callback, loader())


class TwoOptimizers(Module):
    def configure_optimizers(self) -> Any:
        self.automatic_optimization = False
        return [torch.optim.SGD([parameter], lr=0.1) for parameter in self.net[0].parameters()]


def test_what_would_go_wrong_without_a_word_is_refused() -> None:
    module = Module()
    with pytest.raises(ValueError, match=r"LightningTeleportCallback needs a schedule: give Teleporter\(schedule="):
        LightningTeleportCallback(Teleporter(module, loss_fn))
    with pytest.raises(ValueError, match=r"LightningTeleportCallback needs a Teleporter.*, got Module"):
        LightningTeleportCallback(module)
    with pytest.raises(ValueError, match=r"split_batch must be callable, got 3"):
        LightningTeleportCallback(teleporter_of(module), split_batch=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got a Module that shares none with the Module in training: make"):
        fit(module, LightningTeleportCallback(teleporter_of(Module())), loader())
    both = TwoOptimizers()
    with pytest.raises(ValueError, match=r"before the step of one optimizer, got 2 optimizers: call Teleporter\.step"):
        fit(both, LightningTeleportCallback(teleporter_of(both)), loader())


def test_training_on_several_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Module()
    monkeypatch.setattr(pl.Trainer, "world_size", property(lambda trainer: 2))
    with pytest.raises(ValueError, match=r"a callback teleports in training on one device, got 2: train on one"):
        LightningTeleportCallback(teleporter_of(module)).on_train_start(pl.Trainer(accelerator="cpu"), module)


_ALONE = """
import sys
import teleport_engine, teleport_engine.integrations
assert not {"transformers", "pytorch_lightning", "lightning"} & {n.split(".")[0] for n in sys.modules}
"""

_BOTH_NAMES = """
import sys, types, pytorch_lightning
class Callback(pytorch_lightning.Callback): ...
sys.modules["lightning"] = types.ModuleType("lightning")
sys.modules["lightning.pytorch"] = module = types.ModuleType("lightning.pytorch")
module.Callback = Callback
from teleport_engine.integrations import LightningTeleportCallback
assert issubclass(LightningTeleportCallback, Callback)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [_ALONE, _BOTH_NAMES], ids=["alone", "the name that is loaded"])
def test_a_library_is_imported_where_its_callback_is_asked_for(program: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_the_face_has_no_other_names() -> None:
    import teleport_engine.integrations as face

    with pytest.raises(AttributeError, match=r"no attribute 'FastaiCallback'"):
        _ = face.FastaiCallback


def test_the_callback_and_the_wrapped_optimizer_are_two_ways_to_the_same() -> None:
    module = Module()
    twin = copy.deepcopy(module)
    fit(module, LightningTeleportCallback(teleporter_of(module)), loader())
    optimizer = TeleportOptimizer(twin.configure_optimizers(), teleporter_of(twin))
    for batch in loader():
        optimizer.zero_grad()
        optimizer.before_backward(*batch)
        twin.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert equal(module, twin)
