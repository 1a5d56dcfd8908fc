"""Dense, obvious twins of the engine, in float64: what each routine must agree with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[Any, Any], Tensor]


def energies(rows: Tensor) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Squared singular values, largest first."""
    return np.linalg.svd(rows.detach().double().numpy(), compute_uv=False) ** 2


def rank(rows: Tensor, tau: float, epsilon: float = 1e-13) -> int:
    """The smallest k whose dropped energy is at most the share 1 - tau, by trying each k."""
    values = energies(rows)
    for k in range(len(values) + 1):
        if values[k:].sum() <= max(1.0 - tau, epsilon) * values.sum():
            return k
    raise AssertionError("the last k drops nothing")


def projector(rows: Tensor, tau: float) -> Tensor:
    """P = I - B B^T, d x d."""
    k = rank(rows, tau)
    basis = torch.linalg.svd(rows.detach().double().T, full_matrices=False).U[:, :k]
    P: Tensor = torch.eye(rows.shape[1], dtype=torch.float64) - basis @ basis.T
    return P


def half_square_norm_gradient(
    model: nn.Module, loss_fn: Loss, inputs: Any, targets: Any, wanted: Sequence[nn.Parameter]
) -> list[Tensor]:
    """(Hg) of some parameters, g over all trainable ones, by double backward."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        loss = loss_fn(model(inputs), targets)
    grads = torch.autograd.grad(loss, trainable, create_graph=True)
    half = 0.5 * sum(((grad**2).sum() for grad in grads), torch.zeros((), dtype=loss.dtype))
    return [part.detach() for part in torch.autograd.grad(half, wanted)]


def half_square_norm(model: nn.Module, loss_fn: Loss, inputs: Any, targets: Any) -> float:
    """1/2 ||g||^2 by one gradient."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss_fn(model(inputs), targets), trainable)
    return 0.5 * float(sum((grad.double() ** 2).sum() for grad in grads))


def linear_rows(model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """What each nn.Linear of a model multiplies, by hooks, all its calls stacked."""
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):

            def note(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                seen.setdefault(name, []).append(args[0].detach().reshape(-1, args[0].shape[-1]))

            hooks.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(rows) for name, rows in seen.items()}
