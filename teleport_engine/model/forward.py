"""Running a user's model without leaving a trace in it.

Every forward of a teleport goes through here: buffers are handed out as copies (BatchNorm in train mode would
move its running statistics), the random state is put back, and a forward that draws random numbers is refused.
Not one module, hook, mode or `requires_grad` is touched.
"""

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from teleport_engine.model.torch_gaps import Substitutes
from teleport_engine.model.types import Inputs, tensors_in, with_tensors

__all__ = ["Forward", "RandomState", "untouched"]

_CONTAINERS = (dict, list, set, deque)

# Switches and generators are the process's: teleports in several threads take turns.
_TURN = threading.RLock()

_Slot = tuple[dict[str, Tensor | None], str, Tensor]


@final
class Forward:
    """The forward of a model, with its buffers copied and its parameters replaced on demand.

    What the model writes to attributes of its modules on the way (a counter, a cached tensor, the weight that an old
    `weight_norm` computes, what a list, dict or set holds, a hook that removes itself) is taken back after each call;
    a model that writes to its inputs is given copies.

    Args:
        model: any module; its structure is read once, here.

    Raises:
        ValueError: if a parameter or buffer has no shape yet.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameter_slots: list[_Slot] = []
        self._buffer_slots: list[_Slot] = []
        self._has_substitutes: bool | None = None
        self._writes_inputs: bool | None = None
        self._attributes = [vars(module) for module in model.modules()]
        containers = [value for old in self._attributes for value in old.values() if isinstance(value, _CONTAINERS)]
        # As they are now, so they are before each call; most are empty, and looked at fast.
        self._empty = [container for container in containers if not container]
        self._filled = [(container, _listed(container)) for container in containers if container]
        self._recurrent = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
        embeddings = [module for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
        # Sparse gradients have neither a second backward nor a norm; `max_norm` writes to the weight itself.
        self._sparse = [vars(module) for module in embeddings if module.sparse]
        self._renormalised = [module.weight for module in embeddings if module.max_norm is not None]
        for module in model.modules():
            # Typed as holding Parameters; torch's own functional_call puts plain tensors there too.
            _collect(module._parameters, self._parameter_slots)  # type: ignore[arg-type]
            _collect(module._buffers, self._buffer_slots)

    def __call__(self, inputs: Inputs, replace: Mapping[int, Tensor] | None = None) -> Any:
        """Runs the model once, with `replace[id(parameter)]` in the place of a parameter."""
        with self._swapped(replace):
            # The first call finds out whether any operation needs its substitute, and whether inputs are written to.
            given = with_tensors(inputs, Tensor.clone) if self._writes_inputs is not False else inputs
            if self._has_substitutes is False:
                return _call(self._model, given)
            before = [tensor._version for tensor in tensors_in(given)]
            with Substitutes() as mode:
                outputs = _call(self._model, given)
            self._has_substitutes = mode.num_replaced > 0
            if self._writes_inputs is None:
                self._writes_inputs = before != [tensor._version for tensor in tensors_in(given)]
            return outputs

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Leaves no trace of a backward either, in which checkpointed parts of a model run once more."""
        with self._swapped(None), Substitutes() if self._has_substitutes else nullcontext():
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
            for owner, name, tensor in slots:
                owner[name] = tensor
            for attributes, old in zip(self._attributes, before, strict=True):
                _put_back(attributes, old)
            for container in self._empty:
                if container:
                    container.clear()
            for container, listed in self._filled:
                _refill(container, listed)


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


def _put_back(attributes: dict[str, Any], old: dict[str, Any]) -> None:
    if attributes.keys() != old.keys() or any(attributes[name] is not value for name, value in old.items()):
        attributes.clear()
        attributes.update(old)


def _listed(container: Any) -> list[Any]:
    return list(container.items()) if isinstance(container, dict) else list(container)


def _refill(container: Any, old: list[Any]) -> None:
    """Compares by identity, because tensors have no truth value to compare by."""
    is_dict, now = isinstance(container, dict), _listed(container)
    if len(now) == len(old):
        pairs = (
            zip(itertools.chain(*now), itertools.chain(*old), strict=True) if is_dict else zip(now, old, strict=True)
        )
        if all(one is other for one, other in pairs):
            return
    container.clear()
    if is_dict:
        for key, value in old:  # not update: a Counter would count the pairs
            container[key] = value
    elif isinstance(container, set):
        container.update(old)
    else:
        container.extend(old)


def _collect(owner: dict[str, Tensor | None], slots: list[_Slot]) -> None:
    for name, tensor in owner.items():
        if tensor is not None and is_lazy(tensor):
            raise ValueError(
                f"every parameter and buffer must have a shape, but {name!r} has none yet (a lazy module): run the "
                f"model once before the teleport"
            )
        if tensor is not None:
            slots.append((owner, name, tensor))


def _call(model: nn.Module, inputs: Inputs) -> Any:
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


@final
class RandomState:
    """The state of torch's random generators that a forward on one device can draw from."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = self._read()

    def _read(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def refuse_if_moved(self) -> None:
        """Refuses a forward that drew random numbers since this object was made: its loss has no level set.

        Raises:
            ValueError: if a generator has moved.
        """
        if not all(map(torch.equal, self._states, self._read())):
            raise ValueError(
                "the forward must not be random, but it drew random numbers (dropout or stochastic depth is "
                "active): put those modules in eval mode for the teleport, e.g. model.eval()"
            )

    def restore(self) -> None:
        """Puts the generators back."""
        torch.set_rng_state(self._states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._states[1], self._device)


@contextmanager
def _put_back_at_the_end(device: torch.device) -> Iterator[RandomState]:
    random_state = RandomState(device)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield random_state
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        random_state.restore()


@contextmanager
def untouched(device: torch.device) -> Iterator[RandomState]:
    """Turns gradients on, autocast and fused attention off for the length of a teleport, then puts all of it back.

    Gives the random state at the start, which is restored at the end. One teleport at a time has the global state;
    those of other threads wait.
    """
    with (
        _TURN,
        _put_back_at_the_end(device) as random_state,
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # Flash and memory-efficient attention have neither a double backward nor a forward mode.
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        yield random_state
