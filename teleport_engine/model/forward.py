"""Running a user's model without leaving a trace in it.

Every forward of a teleport goes through here: buffers are handed out as copies (BatchNorm in train mode would
move its running statistics), and the random state is put back.
Not one module, hook, mode or `requires_grad` is touched.

Each forward begins with the random state that the teleport began with. So the masks of a dropout are held fixed for the
length of a teleport, and the training step after it draws the same ones: the teleport climbs the very loss that this
step differentiates.

The loss is a function of the whole call, because a forward may leave parts of it on the model (`self.losses`) for the
loss function to read. So model and loss run as one unit, and what they wrote is taken back after it.
"""

import functools
import inspect
import itertools
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import CellType
from typing import Any, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from teleport_engine.model.torch_gaps import Substitutes
from teleport_engine.model.types import Inputs, LossFn, tensors_in, with_tensors

__all__ = ["Forward", "Left", "untouched"]

_T = TypeVar("_T")

_CONTAINERS = (dict, list, set, deque)

# Switches and generators are the process's: teleports in several threads take turns.
_TURN = threading.RLock()

_Slot = tuple[dict[str, Tensor | None], str, Tensor]


class Left(NamedTuple):
    """What a call left on the modules, before it was taken back.

    Args:
        attributes: attributes of a module that changed, and all that they held.
        containers: containers that changed, and what was in them.
        buffers: each buffer, and what stood in its place when the call had ended.
    """

    attributes: Sequence[tuple[dict[str, Any], dict[str, Any]]] = ()
    containers: Sequence[tuple[Any, list[Any]]] = ()
    buffers: Sequence[tuple[Tensor, Tensor | None]] = ()

    @property
    def is_trace(self) -> bool:
        """Whether the call would have changed the model."""
        # Compared by value, because a batch norm writes its statistics without counting it as a write.
        changed = (now is None or not torch.equal(now, buffer) for buffer, now in self.buffers)
        return bool(self.attributes or self.containers) or any(changed)


@final
class Forward:
    """Model and loss as one call, with buffers copied and parameters replaced on demand.

    What the two write to attributes of modules on the way (a counter, a part of the loss, the weight that an old
    `weight_norm` computes, what a list, dict or set holds, a hook that removes itself) is there until the loss function
    has returned, and is taken back then; a model that writes to its inputs is given copies.

    Args:
        model: any module; its structure is read once, here.
        loss_fn: of its outputs. Modules that it is, or refers to by its own names, are treated like those of the model.

    Attributes:
        left: what the last call left on the modules.

    Raises:
        ValueError: if a parameter or buffer has no shape yet.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._parameter_slots: list[_Slot] = []
        self._buffer_slots: list[_Slot] = []
        self._has_substitutes: bool | None = None
        self._writes_inputs: bool | None = None
        self.left = Left()
        referents = _referents(loss_fn)
        roots = [model, *(one for one in referents if isinstance(one, nn.Module))]
        modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
        self._attributes = [vars(module) for module in modules]
        containers = _containers(value for old in self._attributes for value in old.values())
        # As they are now, so they are before each call; most are empty, and looked at fast.
        self._empty = [container for container in containers if not container]
        self._filled = [(container, _listed(container)) for container in containers if container]
        self._of_loss = _containers(one for one in referents if not isinstance(one, nn.Module))
        self._recurrent = [module for module in modules if isinstance(module, nn.RNNBase)]
        embeddings = [module for module in modules if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
        # Sparse gradients have neither a second backward nor a norm; `max_norm` writes to the weight itself.
        self._sparse = [vars(module) for module in embeddings if module.sparse]
        self._renormalised = [module.weight for module in embeddings if module.max_norm is not None]
        first = next((one for module in modules for one in module.parameters(recurse=False)), torch.empty(0))
        self._generators = _Generators(first.device, model)
        self._random_state = self._generators.state()
        self._is_random: bool | None = None
        for module in modules:
            # Typed as holding Parameters; torch's own functional_call puts plain tensors there too.
            _collect(module._parameters, self._parameter_slots)  # type: ignore[arg-type]
            _collect(module._buffers, self._buffer_slots)

    @property
    def is_special(self) -> bool:
        """Whether a call of the model itself draws random numbers, writes to inputs or weights, or computes otherwise.

        Known once the call has run.
        """
        is_written = self._writes_inputs or self._renormalised
        return bool(self._is_random or is_written or self._has_substitutes or self._sparse)

    def outputs(self, inputs: Inputs) -> Any:
        """Runs the model alone: where there is nothing to compare its outputs with."""
        # What the model leaves for a loss that is not run would be read by the next one that is.
        before = [(container, _listed(container)) for container in self._of_loss]
        try:
            return self._run(inputs, None, lambda outputs: outputs)
        finally:
            for container, listed in before:
                _refill(container, listed)

    def loss(self, inputs: Inputs, targets: Any, replace: Mapping[int, Tensor] | None = None) -> tuple[Any, Any]:
        """Runs model and loss, with `replace[id(parameter)]` in the place of a parameter; gives outputs and loss."""
        return self._run(inputs, replace, lambda outputs: (outputs, self._loss_fn(outputs, targets)))

    def _run(self, inputs: Inputs, replace: Mapping[int, Tensor] | None, then: Callable[[Any], _T]) -> _T:
        with self._swapped(replace), _flags_kept(inputs), self._drawn_anew():
            # The first call finds out whether any operation needs its substitute, and whether inputs are written to.
            given = with_tensors(inputs, Tensor.clone) if self._writes_inputs is not False else inputs
            if self._has_substitutes is False:
                return then(called(self._model, given))
            before = [tensor._version for tensor in tensors_in(given)]
            with Substitutes() as mode:
                result = then(called(self._model, given))
            self._has_substitutes = mode.num_replaced > 0
            if self._writes_inputs is None:
                self._writes_inputs = before != [tensor._version for tensor in tensors_in(given)]
            return result

    @contextmanager
    def _drawn_anew(self) -> Iterator[None]:
        """Begins a call with the random state that the teleport began with; the first call tells whether it draws."""
        if self._is_random is not False:
            self._generators.restore(self._random_state)
        yield
        if self._is_random is None:
            self._is_random = not self._generators.have_stayed(self._random_state)

    @contextmanager
    def isolated(self, left: Left) -> Iterator[None]:
        """Leaves no trace of a backward either, in which checkpointed parts of a model run once more.

        They find on the modules what the call `left` there.
        """
        with self._swapped(None), Substitutes() if self._has_substitutes else nullcontext():
            for attributes, values in left.attributes:
                _put_back(attributes, values)
            for container, listed in left.containers:
                _refill(container, listed)
            yield

    @contextmanager
    def _swapped(self, replace: Mapping[int, Tensor] | None) -> Iterator[None]:
        """Copies buffers and replaces parameters; takes back what is written to modules meanwhile."""
        slots = self._buffer_slots
        swap: dict[int, Tensor] = {id(buffer): buffer for _, _, buffer in slots}
        if swap:
            with torch.no_grad():
                swap = {key: buffer.clone() for key, buffer in swap.items()}
        if replace is not None or self._renormalised:
            slots = slots + self._parameter_slots
            swap.update(replace or {})
            swap.update({id(weight): swap.get(id(weight), weight).clone() for weight in self._renormalised})
        before = [dict(attributes) for attributes in self._attributes]
        try:
            for owner, name, tensor in slots:
                owner[name] = swap.get(id(tensor), tensor)
            for attributes in self._sparse:
                attributes["sparse"] = False
            for module in self._recurrent:
                # Recurrent layers read their weights from a list of their own.
                vars(module)["_flat_weights"] = [swap.get(id(weight), weight) for weight in module._flat_weights]
            with _native_kernels() if self._recurrent else nullcontext():
                yield
        finally:
            buffers = [(buffer, owner.get(name)) for owner, name, buffer in self._buffer_slots]
            for owner, name, tensor in slots:
                owner[name] = tensor
            self.left = self._take_back(before)._replace(buffers=buffers)

    def _take_back(self, before: Sequence[dict[str, Any]]) -> Left:
        """Puts attributes and containers back as they were before a call; gives what it left there."""
        attributes, containers = [], []
        for now, old in zip(self._attributes, before, strict=True):
            written = dict(now)
            if _put_back(now, old):
                attributes.append((now, written))
        for container in self._empty:
            if container:
                containers.append((container, _listed(container)))
                container.clear()
        for container, listed in self._filled:
            held = _listed(container)
            if _refill(container, listed):
                containers.append((container, held))
        return Left(attributes, containers)


@contextmanager
def _native_kernels() -> Iterator[None]:
    """Runs recurrent layers by torch's own kernels: cuDNN's have no double backward, oneDNN's no forward mode."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [backend.enabled for backend in backends]
    try:
        for backend in backends:
            backend.enabled = False
        yield
    finally:
        for backend, is_enabled in zip(backends, before, strict=True):
            backend.enabled = is_enabled


@contextmanager
def _flags_kept(inputs: Inputs) -> Iterator[None]:
    """Puts `requires_grad` of a batch back, which a forward sets that takes a derivative by its inputs."""
    free = [tensor for tensor in tensors_in(inputs) if not tensor.requires_grad]
    try:
        yield
    finally:
        for tensor in free:
            if tensor.requires_grad:
                tensor.requires_grad_(False)


def _referents(function: Any) -> list[Any]:
    """Gives what a loss function can reach by its own names: itself, its object, its closure and its globals."""
    if isinstance(function, functools.partial):
        return [*_referents(function.func), *function.args, *function.keywords.values()]
    if inspect.ismethod(function):
        return [function.__self__, *_referents(function.__func__)]
    if not inspect.isfunction(function):
        return [function, *getattr(function, "__dict__", {}).values()]
    cells = [cell for cell in function.__closure__ or () if cell != CellType()]
    reached = [function.__globals__.get(name) for name in function.__code__.co_names]
    return [*(cell.cell_contents for cell in cells), *reached]


def _containers(values: Iterable[Any]) -> list[Any]:
    """Gives the containers among values, and those inside them."""
    found: dict[int, Any] = {}
    left = list(values)
    while left:
        value = left.pop()
        if id(value) in found or not isinstance(value, (*_CONTAINERS, tuple)):
            continue
        found[id(value)] = value
        left += value.values() if isinstance(value, dict) else value
    return [value for value in found.values() if not isinstance(value, tuple)]


def _put_back(attributes: dict[str, Any], old: dict[str, Any]) -> bool:
    """Says whether there was anything to put back."""
    if attributes.keys() == old.keys() and all(attributes[name] is value for name, value in old.items()):
        return False
    attributes.clear()
    attributes.update(old)
    return True


def _listed(container: Any) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


def _refill(container: Any, old: list[Any]) -> bool:
    """Says whether anything was different; by identity, because tensors have no truth value to compare by."""
    is_dict, now = isinstance(container, dict), _listed(container)
    if len(now) == len(old):
        pairs = (
            zip(itertools.chain(*now), itertools.chain(*old), strict=True) if is_dict else zip(now, old, strict=True)
        )
        if all(one is other for one, other in pairs):
            return False
    container.clear()
    if is_dict:
        for key, value in old:  # not update: a Counter would count the pairs
            container[key] = value
    elif isinstance(container, set):
        container.update(old)
    else:
        container.extend(old)
    return True


def _collect(owner: dict[str, Tensor | None], slots: list[_Slot]) -> None:
    for name, tensor in owner.items():
        if tensor is not None and is_lazy(tensor):
            raise ValueError(
                f"every parameter and buffer must have a shape, but {name!r} has none yet (a lazy module): run the "
                f"model once before the teleport"
            )
        if tensor is not None:
            slots.append((owner, name, tensor))


def called(model: Callable[..., Any], inputs: Inputs) -> Any:
    """Calls a model on a tensor, on a tuple of its arguments, or on a mapping of its keyword arguments."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


@final
class _Generators:
    """What a forward may draw random numbers from: torch's generators, those of modules, Python's and numpy's."""

    def __init__(self, device: torch.device, model: nn.Module) -> None:
        self._device = device
        held = (value for module in model.modules() for value in vars(module).values())
        self._own = [value for value in held if isinstance(value, torch.Generator)]
        self._numpy = sys.modules.get("numpy")

    def state(self) -> tuple[Any, Any, list[Tensor]]:
        """Gives the states of all of them: Python's, numpy's where it is there, and torch's."""
        tensors = [torch.get_rng_state(), *(generator.get_state() for generator in self._own)]
        if self._device.type == "cuda":
            tensors.append(torch.cuda.get_rng_state(self._device))
        of_numpy = None if self._numpy is None else self._numpy.random.get_state()
        plain = None if of_numpy is None else (of_numpy[0], of_numpy[1].tobytes(), *of_numpy[2:])
        return random.getstate(), plain, tensors

    def have_stayed(self, state: tuple[Any, Any, list[Tensor]]) -> bool:
        """Says whether nothing was drawn since `state` was given."""
        *plain, tensors = self.state()
        return plain == list(state[:2]) and all(map(torch.equal, tensors, state[2]))

    def restore(self, state: tuple[Any, Any, list[Tensor]]) -> None:
        """Puts back what `state` gave."""
        of_python, of_numpy, tensors = state
        random.setstate(of_python)
        if self._numpy is not None:
            name, keys, *others = of_numpy
            self._numpy.random.set_state((name, self._numpy.frombuffer(keys, dtype=self._numpy.uint32), *others))
        torch.set_rng_state(tensors[0])
        for generator, one in zip(self._own, tensors[1:], strict=False):
            generator.set_state(one)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors[-1], self._device)


@contextmanager
def _put_back_at_the_end(device: torch.device, model: nn.Module) -> Iterator[None]:
    """Puts back what a forward may draw random numbers from, and the fast path of attention, which it turns off."""
    generators = _Generators(device, model)
    before = generators.state()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        generators.restore(before)


@contextmanager
def untouched(device: torch.device, model: nn.Module) -> Iterator[None]:
    """Turns gradients on, autocast and fused attention off for the length of a teleport, then puts all of it back.

    So are the random states of torch, Python and numpy, and of generators that modules hold. One teleport at a time has
    the global state; those of other threads wait.
    """
    with (
        _TURN,
        _put_back_at_the_end(device, model),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # Flash and memory-efficient attention have neither a double backward nor a forward mode.
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        yield
