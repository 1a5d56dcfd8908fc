"""Dense, obvious twins of the engine, in float64: what each routine must agree with."""

import itertools
from collections.abc import Callable, Mapping, Sequence
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


def called(model: nn.Module, inputs: Any) -> Any:
    """Calls a model with a batch in any of the forms that the engine takes."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def half_square_norm_gradient(
    model: nn.Module, loss_fn: Loss, inputs: Any, targets: Any, wanted: Sequence[nn.Parameter]
) -> list[Tensor]:
    """(Hg) of some parameters, g over all trainable ones, by double backward."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        loss = loss_fn(called(model, inputs), targets)
    grads = torch.autograd.grad(loss, trainable, create_graph=True, materialize_grads=True)
    half = 0.5 * sum(((grad**2).sum() for grad in grads), torch.zeros((), dtype=loss.dtype))
    return [part.detach() for part in torch.autograd.grad(half, wanted)]


def half_square_norm(model: nn.Module, loss_fn: Loss, inputs: Any, targets: Any) -> float:
    """1/2 ||g||^2 by one gradient."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss_fn(called(model, inputs), targets), trainable)
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


Rows = dict[str, list[Tensor]]
"""Parameter name to what each row block of it multiplies, `[N, d]`, all uses stacked."""

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def conv_rows(
    inputs: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
    mode: str = "zeros",
) -> list[Tensor]:
    """What a convolution multiplies, by loops over samples, groups and places; inputs [n, C, *sizes]."""
    spans = [tap * (size - 1) for tap, size in zip(dilation, kernel, strict=True)]
    if padding == "same":
        ends = [(span // 2, span - span // 2) for span in spans]
    else:
        ends = [(0, 0)] * len(spans) if isinstance(padding, str) else [(one, one) for one in padding]
    x = np.pad(inputs.detach().numpy(), [(0, 0), (0, 0), *ends], mode=_PAD_MODES[mode])  # type: ignore[call-overload]
    places = [range(0, size - span, step) for size, span, step in zip(x.shape[2:], spans, stride, strict=True)]
    width = x.shape[1] // groups
    rows = []
    for group in range(groups):
        of_group = []
        for sample in x:
            for place in itertools.product(*places):
                taps = [slice(p, p + span + 1, tap) for p, span, tap in zip(place, spans, dilation, strict=True)]
                of_group.append(sample[(slice(group * width, (group + 1) * width), *taps)].ravel())
        rows.append(torch.from_numpy(np.array(of_group)))
    return rows


def attention_out_rows(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """What the output projection of an attention multiplies: the heads side by side; q, k, v [n, T, E]."""
    if module.in_proj_weight is None:
        weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    else:
        weights = list(module.in_proj_weight.chunk(3))
    biases = [0.0] * 3 if module.in_proj_bias is None else list(module.in_proj_bias.chunk(3))
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weights, biases, strict=True))
    heads = []
    size = module.head_dim
    for head in range(module.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].mT / size**0.5
        heads.append(torch.softmax(scores if mask is None else scores + mask, -1) @ v[..., part])
    return torch.cat(heads, -1).reshape(-1, module.embed_dim).detach()


def _module_rows(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Any, list[Tensor]]]:
    """Each weight of a module that is a linear map, with what its blocks multiply in one call."""
    if isinstance(module, nn.Linear):
        return [(module.weight, [args[0].detach().reshape(-1, args[0].shape[-1])])]
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        padding: Any = module.padding
        options = (module.kernel_size, module.stride, padding, module.dilation, module.groups, module.padding_mode)
        return [(module.weight, conv_rows(args[0], *options))]
    if isinstance(module, nn.MultiheadAttention):
        inputs = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)]
        assert kwargs.get("key_padding_mask") is None
        q, k, v = (x if module.batch_first else x.transpose(0, 1) for x in inputs)
        rows = [x.detach().reshape(-1, x.shape[-1]) for x in (q, k, v)]
        out = attention_out_rows(module, q, k, v, kwargs.get("attn_mask"))
        found: list[tuple[Any, list[Tensor]]] = [(module.out_proj.weight, [out])]
        packed: Any = module.in_proj_weight
        if packed is not None:
            return [(packed, rows), *found]
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        return [*((weight, [part]) for weight, part in zip(weights, rows, strict=True)), *found]
    return []


def map_rows(model: nn.Module, inputs: Any, only: str = "") -> Rows:
    """What each Linear, convolution and attention of a model (of one name) multiplies, by hooks, its calls stacked."""
    names: dict[int, str] = {id(parameter): name for name, parameter in model.named_parameters()}
    seen: dict[str, list[list[Tensor]]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for weight, blocks in _module_rows(module, args, kwargs):
            seen.setdefault(names[id(weight)], []).append(blocks)

    watched = [model.get_submodule(only)] if only else list(model.modules())
    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in watched]
    with torch.no_grad():
        called(model, inputs)
    for hook in hooks:
        hook.remove()
    return {name: [torch.cat(blocks) for blocks in zip(*calls, strict=True)] for name, calls in seen.items()}


def with_ones(rows: Rows) -> Rows:
    """The same for biases that move along."""
    return {name: [torch.cat([x, torch.ones_like(x[:, :1])], 1) for x in blocks] for name, blocks in rows.items()}


def projected(gradient: Tensor, rows: Sequence[Tensor], tau: float) -> Tensor:
    """A gradient of a weight's shape, the row blocks times their own I - B B^T."""
    blocks = gradient.reshape(len(rows), -1, rows[0].shape[1])
    parts = [block @ projector(of_block, tau) for block, of_block in zip(blocks, rows, strict=True)]
    return torch.stack(parts).reshape(gradient.shape)


def gradient_and_hessian(model: nn.Module, loss_fn: Loss, inputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """g [p] and H [p, p] over all trainable parameters, one backward per row."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss_fn(model(inputs), targets), trainable, create_graph=True)
    g = torch.cat([grad.flatten() for grad in grads])
    rows = [
        torch.cat([part.flatten() for part in torch.autograd.grad(entry, trainable, retain_graph=True)]) for entry in g
    ]
    return g.detach(), torch.stack(rows)


def lowered_null_dim(rows: Tensor, gradient: Tensor, asked: int, least: float, allowance: float) -> int:
    """Dimensions that may be moved along, by trying each number of them: X [N, d], g [rows, d]."""
    gram = rows.double().T @ rows.double()
    values, vectors = np.linalg.eigh(gram.numpy())
    exact = rows.shape[1] - rank(rows, 1.0)
    best = exact
    for null_dim in range(exact + 1, asked + 1):
        P = torch.from_numpy(vectors[:, :null_dim] @ vectors[:, :null_dim].T)
        is_gentle = float((gradient @ P).norm()) <= allowance
        if is_gentle and values[:null_dim].clip(min=0).sum() <= (1.0 - least) * values.sum():
            best = null_dim
    return best
