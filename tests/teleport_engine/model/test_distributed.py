"""Two processes with different data end with the same bits, and none waits for one that has failed."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn as spawn_processes
from torch.nn.parallel import DistributedDataParallel

from teleport_engine import GrowthStep, Schedule, Teleporter, TeleportOptimizer
from tests.teleport_engine.cases import mlp

WORLD = 2


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def _train(rank: int, out: Path) -> None:
    torch.manual_seed(0)
    model = DistributedDataParallel(mlp(5, 24, 24, 3))
    teleporter = Teleporter(model, _loss, step=GrowthStep(1.5), num_steps=2, schedule=Schedule(every=2))
    optimizer = TeleportOptimizer(torch.optim.Adam(model.parameters(), lr=0.01), teleporter)
    torch.manual_seed(1 + rank)
    told: list[Any] = []
    for index in range(4):
        inputs, targets = torch.randn(8, 5), torch.randint(3, (8,))
        start = float(_loss(model.module(inputs), targets).detach())
        optimizer.zero_grad()
        if index < 2:
            report = optimizer.before_backward(inputs, targets)
        loss = _loss(model(inputs), targets)

        def again(inputs: Any = inputs, targets: Any = targets) -> float:
            optimizer.zero_grad()
            value = _loss(model(inputs), targets)
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        if index < 2:
            told.append((start, None if report is None else report.loss_before, float(loss.detach())))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        else:
            optimizer.step(again, batch=(inputs, targets))
        assert optimizer.last_report is not None
        told.append([layer.name for layer in optimizer.last_report.layers if layer.moved])
    torch.save({"weights": model.module.state_dict(), "told": told, "state": optimizer.state_dict()}, out)


def _fail(rank: int, out: Path) -> None:
    """A mistake that rank 0 alone makes; then one in the forward of a module that waits for the others."""
    inside = nn.Sequential(nn.Linear(5, 12), nn.Identity(), nn.Linear(12, 3))
    model = DistributedDataParallel(inside)
    inside[1] = nn.SyncBatchNorm(12)  # put in later: the wrapper itself refuses it on a CPU
    targets = torch.arange(6) % 3
    told = []
    for mode, inputs in ((True, torch.randn(6, 5)), (False, torch.zeros(0, 5) if rank == 0 else torch.randn(6, 5))):
        try:
            model.train(mode)  # type: ignore[no-untyped-call]
            Teleporter(model, _loss).teleport(inputs, targets)
        except ValueError as error:
            told.append(str(error))

    def broken(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise KeyError("targets")

    try:
        Teleporter(model, broken).teleport(torch.randn(6, 5), targets)
    except (KeyError, RuntimeError) as error:
        told.append(f"{type(error).__name__}: {error}")
    torch.save(told, out)


TASKS = {"train": _train, "fail": _fail}


def _run(rank: int, task: str, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    try:
        TASKS[task](rank, folder / f"{task}{rank}.pt")
    finally:
        dist.destroy_process_group()


def spawn(task: str, folder: Path) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn_processes(_run, (task, port, folder), nprocs=WORLD)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{task}{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.slow
def test_every_rank_makes_the_move_of_rank_0(tmp_path: Path) -> None:
    first, second = spawn("train", tmp_path)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    own = first["state"]["teleport"]
    assert own == second["state"]["teleport"]
    assert (own["step_index"], own["is_asked"]) == (4, False)
    (start, reported, landed), moved = first["told"][:2]
    assert moved == ["2", "4"]
    assert reported == pytest.approx(start, abs=1e-6)
    assert landed == pytest.approx(start, abs=1e-5), "the loss of the batch of rank 0 stays"
    (other_start, other_reported, _), other_moved = second["told"][:2]
    assert other_moved == moved
    assert other_reported == reported, "the report is that of rank 0"
    assert other_start != start, "though its batch is another"
    assert first["told"][2][1] is None, "no teleport is due at step 1"


@pytest.mark.slow
def test_what_rank_0_cannot_do_is_said_on_every_rank(tmp_path: Path) -> None:
    first, second = spawn("fail", tmp_path)
    assert first[0] == second[0]
    assert "no module may wait for the others in its forward, got SyncBatchNorm '1' in train mode" in first[0]
    assert first[1] == "inputs must not be an empty batch, got shape (0, 5)"
    assert second[1] == f"{first[1]} (on rank 0)"
    assert first[2] == "KeyError: 'targets'"
    assert second[2] == "RuntimeError: 'targets' (on rank 0)"


def test_one_process_alone_needs_nobody(tmp_path: Path) -> None:
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/store")
    try:
        model = mlp(5, 24, 3)
        teleporter = Teleporter(DistributedDataParallel(model), _loss, step=GrowthStep(1.5))
        report = teleporter.teleport(torch.randn(6, 5), torch.arange(6) % 3)
        assert teleporter.model is model
        assert [layer.name for layer in report.layers if layer.moved] == ["2"]
    finally:
        dist.destroy_process_group()


def test_sharded_weights_are_refused(tmp_path: Path) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard

    message = r"weights must be whole on each rank to teleport .* got sharded ones in"
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/store")
    try:
        model = mlp(5, 24, 3)
        mesh = init_device_mesh("cpu", (1,))
        fully_shard(model[2], mesh=mesh)
        with pytest.raises(ValueError, match=f"{message} '2' .FSDPLinear"):
            Teleporter(model, _loss)
        old = FullyShardedDataParallel(
            mlp(5, 24, 3), sharding_strategy=ShardingStrategy.NO_SHARD, device_id=torch.device("cpu")
        )
        with pytest.raises(ValueError, match=f"{message} 'FullyShardedDataParallel'"):
            Teleporter(old, _loss)
    finally:
        dist.destroy_process_group()
