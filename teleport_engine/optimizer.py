"""Any optimizer of torch, with teleports before its steps."""

from collections.abc import Callable, Iterator
from typing import Any, final

from torch import Tensor
from torch.optim import Optimizer

from teleport_engine.model import Inputs
from teleport_engine.report import TeleportReport
from teleport_engine.schedule import Timetable
from teleport_engine.teleporter import Teleporter

__all__ = ["TeleportOptimizer"]

_KEY = "teleport"


@final
class TeleportOptimizer(Optimizer):
    """Steps as the optimizer given does, and teleports before a step where the teleporter's schedule says so.

    It is an optimizer itself: schedulers of the learning rate, `GradScaler` and hooks take it. Parameter groups,
    state and defaults are those of the optimizer inside, the same objects; a teleport touches none of them.

    A teleport moves the weights, so gradients taken before it are stale. Hence two ways to say on which batch, and
    no third: `before_backward(inputs, targets)`, which refuses where gradients are already there, or
    `step(closure, batch=(inputs, targets))`, where the closure takes them anew. A step at which a teleport is due
    and no batch was given is refused, before anything changes. (LBFGS pairs the gradients of two calls of `step`;
    after a teleport between them, that one pair spans the jump.)

    With several backwards per step, call `before_backward` before each, or before the first: only the first call
    of a step can teleport. With DistributedDataParallel every rank calls it, and all end with the weights of rank
    0, which are moved on the batch of rank 0.

    Args:
        optimizer: of any class; its parameters are those of the teleporter's model, or some of them.
        teleporter: with a schedule.

    Raises:
        ValueError: if the teleporter has no schedule, or they have no parameter in common.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from teleport_engine import GrowthStep, Schedule
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))
        >>> schedule = Schedule(every=2)
        >>> teleporter = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.5), schedule=schedule)
        >>> optimizer = TeleportOptimizer(torch.optim.Adam(model.parameters()), teleporter)
        >>> for _ in range(4):
        ...     inputs, targets = torch.randn(8, 4), torch.arange(8) % 3
        ...     optimizer.zero_grad()
        ...     report = optimizer.before_backward(inputs, targets)
        ...     nn.functional.cross_entropy(model(inputs), targets).backward()
        ...     optimizer.step()
        ...     print("-" if report is None else report.outcome.value)
        moved
        -
        moved
        -
    """

    def __init__(self, optimizer: Optimizer, teleporter: Teleporter) -> None:
        if not isinstance(optimizer, Optimizer) or isinstance(optimizer, TeleportOptimizer):
            raise ValueError(
                f"optimizer must be an optimizer of torch, not wrapped yet, got {type(optimizer).__name__}"
            )
        if teleporter.schedule is None:
            raise ValueError("TeleportOptimizer needs a schedule: give Teleporter(schedule=Schedule(...)), got None")
        theirs = {id(parameter) for parameter in teleporter.model.parameters()}
        if not any(id(parameter) in theirs for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                "the optimizer must hold parameters of the teleporter's model, got none of them: make it from the "
                "parameters of the model that the teleporter was given"
            )
        self._optimizer = optimizer
        self._teleporter = teleporter
        self._index = 0
        self._is_asked = False
        self._report: TeleportReport | None = None
        # Not the constructor of the base class: it would make a second set of groups and an empty state.
        self.__setstate__(self.__getstate__())

    # The groups, the state and the defaults are looked up each time: load_state_dict of the optimizer inside
    # replaces the objects.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer inside."""
        return self._optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self._optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The state of the optimizer inside."""
        return self._optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self._optimizer.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the optimizer inside."""
        return self._optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self._optimizer.defaults = defaults

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer inside."""
        return self._optimizer

    @property
    def step_index(self) -> int:
        """Steps taken, which is the index that the schedule is asked with."""
        return self._index

    @property
    def last_report(self) -> TeleportReport | None:
        """What the latest teleport did; None before the first."""
        return self._report

    def before_backward(
        self,
        inputs: Inputs,
        targets: Any,
        *,
        subspace: Inputs | None = None,
        probe: tuple[Inputs, Any] | None = None,
    ) -> TeleportReport | None:
        """Teleports where the schedule says so. To be called before the forward whose gradient will be stepped with.

        The arguments are those of `Teleporter.teleport`.

        Returns:
            The report, or None where no teleport is due or this step has had its call.

        Raises:
            ValueError: if gradients are there already; as in `Teleporter.teleport`.
        """
        if self._is_asked:
            return None
        for parameter in self._parameters():
            # After zero_grad(set_to_none=False) a gradient is there and holds nothing.
            if parameter.grad is not None and bool(parameter.grad.norm() != 0.0):
                raise ValueError(
                    f"before_backward must come before any gradient of the step (one taken before a teleport is "
                    f"stale), got a gradient of shape {tuple(parameter.grad.shape)}: call zero_grad() first"
                )
        report = self._teleporter.step(self._index, inputs, targets, subspace=subspace, probe=probe)
        self._is_asked = True
        self._report = report or self._report
        return report

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        batch: tuple[Inputs, Any] | None = None,
        subspace: Inputs | None = None,
        probe: tuple[Inputs, Any] | None = None,
    ) -> Any:
        """Takes one step of the optimizer inside, after a teleport where one is due and a batch is given here.

        `batch` holds inputs and targets to teleport on. It comes only with a `closure`, which clears the gradients,
        evaluates the loss, calls backward and returns the loss. Subspace and probe are as in `Teleporter.teleport`. The
        result is what the optimizer inside returns.

        Raises:
            ValueError: if a batch comes without a closure, or none has come and a teleport is due.
        """
        if batch is not None:
            if closure is None:
                raise ValueError(
                    "step(batch=...) needs a closure: the teleport would leave the gradients at hand stale, got "
                    "closure None (or call before_backward(inputs, targets) before the forward, and step())"
                )
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batch must be a pair (inputs, targets), got {type(batch).__name__}")
            self._teleport_here(batch, subspace, probe)
        elif not self._is_asked and self._schedule.is_due(self._index):
            raise ValueError(
                f"a teleport is due at step {self._index} and no batch was given: call before_backward(inputs, "
                f"targets) before the forward, or step(closure, batch=(inputs, targets))"
            )
        found = self._optimizer.step() if closure is None else self._optimizer.step(closure)
        self._index += 1
        self._is_asked = False
        return found

    def _teleport_here(
        self, batch: tuple[Inputs, Any], subspace: Inputs | None, probe: tuple[Inputs, Any] | None
    ) -> None:
        if self._is_asked:
            return
        report = self._teleporter.step(self._index, *batch, subspace=subspace, probe=probe)
        self._is_asked = True
        if report is None:
            return
        self._report = report
        # A closure that only adds to the gradients must not add to those of the place left.
        for parameter in self._parameters():
            parameter.grad = None

    @property
    def _schedule(self) -> Timetable:
        schedule = self._teleporter.schedule
        assert schedule is not None
        return schedule

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients as the optimizer inside does."""
        self._optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters to the optimizer inside."""
        self._optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Gives the state of the optimizer inside, and under "teleport" the step index and the teleporter's state."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        teleporter = self._teleporter.state_dict()
        own = {"step_index": self._index, "is_asked": self._is_asked, "teleporter": teleporter}
        state = {**self._optimizer.state_dict(), _KEY: own}
        for after in self._optimizer_state_dict_post_hooks.values():
            state = after(self, state) or state
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave; the state of a plain optimizer leaves index and schedule alone."""
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state = before(self, state) or state
        own = state.pop(_KEY, None)
        self._optimizer.load_state_dict(state)
        if own is not None:
            self._index, self._is_asked = own["step_index"], own["is_asked"]
            self._teleporter.load_state_dict(own["teleporter"])
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        names = ("_optimizer", "_teleporter", "_index", "_is_asked", "_report")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over all but the hooks, which no optimizer of torch copies along."""
        defaults = state["_optimizer"].defaults
        known = set(defaults)
        super().__setstate__(state)
        for key in set(defaults) - known:  # the base class adds one of its own
            del defaults[key]

    def __repr__(self) -> str:
        return f"TeleportOptimizer({self._optimizer!r})"
