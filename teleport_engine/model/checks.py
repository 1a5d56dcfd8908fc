"""What users hand in, checked and normalised once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from teleport_engine.model.types import Inputs, tensors_in, with_tensors

__all__ = ["checked_data", "checked_inputs", "checked_model", "is_whole", "num_samples"]


def is_whole(value: Any, least: int) -> bool:
    """Says whether a value is a whole number, no bool, and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def checked_model(model: nn.Module) -> torch.device:
    """Gives the one device that the parameters of a model are on; the CPU for a model without any.

    Raises:
        ValueError: if a parameter is in a precision too low to teleport in, or they lie on several devices.
    """
    device: torch.device | None = None
    for name, parameter in model.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64) and parameter.requires_grad:
            raise ValueError(
                f"trainable weights must be float32 or float64 to teleport (a move must cancel to rounding), "
                f"got {str(parameter.dtype).removeprefix('torch.')} in {name!r}"
            )
        if device is None:
            device = parameter.device
        elif parameter.device != device:
            raise ValueError(
                f"all parameters must be on one device, got {name!r} on {parameter.device} and others on {device}"
            )
    return device or torch.device("cpu")


def _detached(tensor: Tensor) -> Tensor:
    """Frees a tensor of the caller's graph, and of inference mode, whose tensors no backward may save.

    It requires a gradient where it did: a forward may take a derivative by it.
    """
    return tensor.clone() if tensor.is_inference() else tensor.detach().requires_grad_(tensor.requires_grad)


def checked_data(name: str, value: Any, device: torch.device) -> Any:
    """Detaches inputs or targets: a tensor or a structure of tensors. Anything else passes as it is.

    Raises:
        ValueError: if a tensor is on another device, or all are empty (one may be: the boxes of a picture with none).
    """
    tensors = list(tensors_in(value))
    for tensor in tensors:
        if tensor.device != device:
            raise ValueError(f"{name} must be on the device of the model, {device}, got {tensor.device}")
    if tensors and all(tensor.numel() == 0 for tensor in tensors):
        raise ValueError(f"{name} must not be an empty batch, got shape {tuple(tensors[0].shape)}")
    # What holds nothing to detach stays the very object: a mapping may be more than a dict.
    if not any(one.requires_grad or one.is_inference() for one in tensors):
        return value
    return with_tensors(value, _detached)


def checked_inputs(name: str, value: Any, device: torch.device) -> Inputs:
    """Detaches inputs of the model: a tensor, or a tuple or dict of what the model takes.

    Raises:
        ValueError: if it is none of these, or as `checked_data`.
    """
    if not isinstance(value, (Tensor, tuple, Mapping)):
        raise ValueError(
            f"{name} must be a tensor, a tuple or a dict of what the model takes, got {type(value).__name__}"
        )
    found: Inputs = checked_data(name, value, device)
    return found


def num_samples(inputs: Inputs) -> int:
    """Counts the samples of a batch: the length of its first tensor, or 1 where no tensor says it."""
    first = next(tensors_in(inputs), None)
    return 1 if first is None or first.ndim == 0 else max(1, first.shape[0])
