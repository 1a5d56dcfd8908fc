"""A model inside what torch wraps around models: `torch.compile`, DataParallel, DistributedDataParallel.

Compiled graphs have no second derivative and show no weight to a watch, so a teleport goes through the original
module, whose parameters are the same objects. In a distributed run each rank has other data: rank 0 makes the
move on its own batch, and the others take over its weights, so that all are bit for bit the same.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["Wrapped", "eagerly"]

_T = TypeVar("_T")


@final
class Wrapped:
    """A model as its user holds it.

    Args:
        model: any module, wrapped or not.

    Attributes:
        module: the module inside all wrappers.

    Raises:
        ValueError: if the parameters are sharded (FSDP, tensor parallel).
    """

    def __init__(self, model: nn.Module) -> None:
        self._group: dist.ProcessGroup | None = None
        while (inner := self._inside(model)) is not None:
            model = inner
        _refuse_sharded(model)
        self.module = model

    def _inside(self, model: nn.Module) -> nn.Module | None:
        # Nothing is compiled where dynamo was never imported, and importing it takes seconds.
        compiler = sys.modules.get("torch._dynamo.eval_frame")
        inner: Any = None
        if isinstance(model, nn.parallel.DistributedDataParallel):
            self._group, inner = model.process_group, model.module
        elif isinstance(model, nn.DataParallel):
            inner = model.module
        elif compiler is not None and isinstance(model, compiler.OptimizedModule):
            inner = model._orig_mod
        assert inner is None or isinstance(inner, nn.Module)
        return inner

    @property
    def is_alone(self) -> bool:
        """Whether no other rank takes part."""
        return self._group is None or dist.get_world_size(self._group) == 1

    def together(self, compute: Callable[[], _T]) -> _T:
        """Computes on rank 0 alone, and gives its result and its weights to every rank.

        Every rank must call it. Outside DistributedDataParallel it is the call itself.

        Raises:
            ValueError: if a module would talk to the other ranks in its forward; on every rank, what rank 0 raised.
            RuntimeError: on the other ranks, if rank 0 raised anything else.
        """
        group = self._group
        if group is None or self.is_alone:
            return compute()
        for name, module in self.module.named_modules():
            if isinstance(module, nn.SyncBatchNorm) and module.training:
                raise ValueError(
                    f"a teleport runs on one rank, so no module may wait for the others in its forward, got "
                    f"SyncBatchNorm {name!r} in train mode: put it in eval mode for the teleport"
                )
        source = dist.get_global_rank(group, 0)
        result, fault = self._ask_first(compute, source, group)
        if fault is not None:
            is_value_error, message = fault
            raise (ValueError if is_value_error else RuntimeError)(f"{message} (on rank 0)")
        with torch.no_grad():
            for parameter in self.module.parameters():
                if parameter.requires_grad:
                    dist.broadcast(parameter, src=source, group=group)
        return result

    @staticmethod
    def _ask_first(
        compute: Callable[[], _T], source: int, group: dist.ProcessGroup
    ) -> tuple[_T, tuple[bool, str] | None]:
        """Gives the result of rank 0, or its fault, which rank 0 itself raises once the others know."""
        box: list[Any] = [None, None]
        if dist.get_rank(group) != 0:
            dist.broadcast_object_list(box, src=source, group=group)
            return box[0], box[1]
        try:
            result = compute()
        except Exception as error:
            box = [None, (isinstance(error, ValueError), str(error))]
            dist.broadcast_object_list(box, src=source, group=group)
            raise
        dist.broadcast_object_list([result, None], src=source, group=group)
        return result, None


def _refuse_sharded(model: nn.Module) -> None:
    sharding = sys.modules.get("torch.distributed.tensor")
    fully = sys.modules.get("torch.distributed.fsdp")
    for name, module in model.named_modules():
        kinds = () if fully is None else (fully.FullyShardedDataParallel, fully.FSDPModule)
        parts = () if sharding is None else (sharding.DTensor,)
        if isinstance(module, kinds) or any(isinstance(part, parts) for part in module.parameters(recurse=False)):
            raise ValueError(
                f"weights must be whole on each rank to teleport (the move of a weight needs all of its rows and "
                f"columns), got sharded ones in {name or type(module).__name__!r} ({type(module).__name__})"
            )


def eagerly() -> AbstractContextManager[Any]:
    """Lets compiled functions and submodules run their Python for the length of a teleport."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
