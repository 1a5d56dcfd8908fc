"""A second backward in few passes is torch's own to rounding, and values and gradients are its bit for bit."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from teleport_engine import FixedStep, Outcome, Teleporter
from teleport_engine.objective import problem as objective_module
from teleport_engine.objective.second_backward import Decomposed, Twice

Call = Callable[..., Tensor]


def differentiated(call: Call, given: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Value and gradients; and the second backward to the first one's cotangent and to what was given."""
    out = call(*given)
    generator = torch.Generator().manual_seed(1)

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    wanted = [one for one in given if one is not None and one.requires_grad]
    delta = drawn(out).requires_grad_()
    grads = torch.autograd.grad(out, wanted, delta, create_graph=True)
    cotangents = [drawn(grad) for grad in grads]
    seconds = torch.autograd.grad(grads, [delta, *wanted], cotangents, allow_unused=True)
    return [out.detach(), *(grad.detach() for grad in grads)], list(seconds)


def compare(call: Call, given: Sequence[Tensor | None], rtol: float = 1e-12, mode_of_twin: Any = None) -> None:
    with mode_of_twin or nullcontext():
        expected, expected_seconds = differentiated(call, given)
    with Twice() as mode:
        found, seconds = differentiated(call, given)
    assert mode.num_replaced == 1
    assert mode_of_twin or all(map(torch.equal, found, expected))
    for mine, twin in zip(seconds, expected_seconds, strict=True):
        if twin is None or mine is None:
            assert mine is None or not mine.any()
            assert twin is None or not twin.any()
        else:
            assert mine.shape == twin.shape
            assert float((mine - twin).norm()) <= rtol * max(1.0, float(twin.norm()))


SHAPES = [(9, 4), (5, 4, 6), (3, 4, 5, 2), (2, 4, 3, 2, 2), (1, 3, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batch_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = (3.0 * torch.randn(shape, dtype=dtype) + 2.0).requires_grad_()
    weight, bias = (torch.randn(shape[1], dtype=dtype, requires_grad=True) for _ in range(2))
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    for given in ((weight, bias), (None, None), (weight, None)):
        compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (inputs, *given), rtol)
    # torch's own second backward fails here, "argument #1 'other'".
    compare(lambda x, b: F.batch_norm(x, None, None, None, b, True), (inputs, bias), rtol, Decomposed())
    compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (inputs.detach(), weight, bias), rtol)
    frozen = (inputs, weight.detach(), bias.detach())
    compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.3), frozen, rtol)
    zero = torch.zeros_like(weight).requires_grad_()  # how the last one of a residual block may begin
    compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (inputs, zero, bias), rtol)


def test_batch_norm_in_other_layouts() -> None:
    weight, bias = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    base = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    for inputs in (base.to(memory_format=torch.channels_last), base.mT, base.transpose(0, 1)[:, :3], base[..., ::2]):
        channels = inputs.shape[1]
        given = (inputs.requires_grad_(), weight.detach()[:channels].requires_grad_(), bias[:channels])
        compare(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), given)
        inputs.requires_grad_(False)


def test_running_statistics_move_as_torch_moves_them() -> None:
    inputs = torch.randn(6, 3, 4, requires_grad=True)

    def states(momentum: float | None) -> list[Tensor]:
        torch.manual_seed(3)
        norm = nn.BatchNorm1d(3, momentum=momentum)
        for _ in range(3):
            norm(inputs + torch.randn(()))
        return [norm.running_mean, norm.running_var, norm.num_batches_tracked]  # type: ignore[list-item]

    for momentum in (0.1, 0.7, None):
        expected = states(momentum)
        with Twice() as mode:
            found = states(momentum)
        assert mode.num_replaced == 3
        assert all(map(torch.equal, found, expected))


CONVOLUTIONS: list[tuple[Call, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (F.conv1d, (3, 4, 9), (6, 4, 3), {}),
    (F.conv1d, (3, 4, 9), (6, 2, 3), {"padding": "same", "groups": 2, "dilation": 2}),
    (F.conv2d, (2, 3, 7, 6), (4, 3, 3, 3), {"padding": 1}),
    (F.conv2d, (2, 4, 7, 6), (6, 2, 3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    (F.conv2d, (2, 4, 5, 6), (8, 1, 3, 3), {"padding": 1, "groups": 4}),
    (F.conv2d, (2, 3, 6, 6), (4, 3, 1, 1), {"stride": 2, "padding": "valid"}),
    (F.conv3d, (2, 3, 4, 5, 3), (4, 3, 2, 3, 1), {"stride": (1, 2, 1), "padding": (1, 0, 1)}),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: f"{case[0].__name__} {case[2]} {case[3]}")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_convolutions(case: tuple[Call, tuple[int, ...], tuple[int, ...], dict[str, Any]], dtype: torch.dtype) -> None:
    function, shape, kernel, options = case
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    sizes: tuple[tuple[int, ...], ...] = (shape, kernel, kernel[:1])
    for learnt in itertools.product((False, True), repeat=3):
        if not any(learnt):
            continue
        given = [torch.randn(size, dtype=dtype).requires_grad_(own) for size, own in zip(sizes, learnt, strict=True)]
        compare(lambda x, w, b: function(x, w, b, **options), given, rtol)
    compare(lambda x, w: function(x, w, None, **options), [one.requires_grad_() for one in given[:2]], rtol)


def test_some_cotangents_of_a_convolution_alone() -> None:
    given = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 5, 5), (4, 3, 3, 3), (4,))]
    delta = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    def second(index: int) -> list[Tensor | None]:
        grads = torch.autograd.grad(F.conv2d(given[0], given[1], given[2]), given, delta, create_graph=True)
        return list(torch.autograd.grad(grads[index].pow(2).sum(), [delta, *given], allow_unused=True))

    for index in range(3):
        expected = second(index)
        with Twice():
            found = second(index)
        for mine, twin in zip(found, expected, strict=True):
            assert (mine is None) == (twin is None)
            assert mine is None or twin is None or torch.allclose(mine, twin, rtol=1e-12, atol=1e-12)


def test_against_finite_differences() -> None:
    x, w, b = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 2, 4), (3, 2, 2), (3,)))

    def both(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        with Twice() as mode:
            out = F.batch_norm(F.conv1d(x, w), None, None, b, None, True)
        assert mode.num_replaced == 2
        return out

    assert torch.autograd.gradgradcheck(both, (x, w, b))


def third(call: Call, *given: Tensor) -> Tensor:
    value = call(*given).pow(3).sum()
    for _ in range(2):
        grads = torch.autograd.grad(value, given, create_graph=True)
        value = torch.stack([grad.pow(2).sum() for grad in grads]).sum()
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(value, given)])


def test_third_derivatives() -> None:
    """A model may take gradients in its own forward."""
    x, w, b, scale = (
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 5, 5), (4, 3, 3, 3), (4,), (3,))
    )

    def norm(x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return F.batch_norm(x, None, None, scale, shift, True)

    calls: list[tuple[Call, list[Tensor]]] = [
        (F.conv2d, [x, w]),
        (F.conv2d, [x, w, b]),
        (norm, [x]),
        (norm, [x, scale]),
        (norm, [x, scale, scale]),
        (lambda x: norm(x, scale.detach()), [x]),
    ]
    for call, given in calls:
        with Decomposed():  # torch's own derivatives of BatchNorm end at the second
            expected = third(call, *given)
        with Twice() as mode:
            found = third(call, *given)
        assert mode.num_replaced == 1
        assert float((found - expected).norm()) <= 1e-10 * float(expected.norm())


@pytest.mark.filterwarnings("ignore:Using padding='same'", "ignore:.*torch.jit.script.* is deprecated")
def test_what_is_left_to_torch() -> None:
    x, w = torch.randn(4, 3, 5, requires_grad=True), torch.randn(6, 3, 2, requires_grad=True)
    low = x.detach().bfloat16().requires_grad_()
    with Twice() as mode:
        F.batch_norm(x, torch.zeros(3), torch.ones(3))
        F.conv1d(x[0], w)  # one sample without its batch
        F.conv1d(x, w, padding="same")  # the odd zero comes after
        F.conv1d(low, w.bfloat16())
        F.batch_norm(low, None, None, training=True)
        F.conv1d(x.detach(), w.detach())
        with torch.no_grad():
            F.batch_norm(x, None, None, training=True)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))  # type: ignore[no-untyped-call]
            F.batch_norm(dual, None, None, training=True)
            F.conv1d(dual, w)
        torch.func.vmap(lambda one: F.conv1d(one[None], w))(x)
        torch.func.grad(lambda one: F.batch_norm(one, None, None, training=True).pow(3).sum())(x)
        checkpoint(lambda one: F.batch_norm(F.conv1d(one, w), None, None, training=True), x, use_reentrant=False)
        with torch.autograd.graph.save_on_cpu():
            F.conv1d(x, w)
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            F.batch_norm(x[:1, :, 0], None, None, training=True)
    assert mode.num_replaced == 0


class Residual(nn.Module):
    def __init__(self, is_checkpointed: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.block = nn.Sequential(
            nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        )
        self.head = nn.Linear(8, 3)
        self.is_checkpointed = is_checkpointed

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + (checkpoint(self.block, h, use_reentrant=False) if self.is_checkpointed else self.block(h))
        logits: Tensor = self.head(torch.tanh(h).mean((2, 3)))
        return logits


def _teleporter(model: nn.Module) -> Teleporter:
    return Teleporter(model, F.cross_entropy, tau=0.9, step=FixedStep(1e-3), num_steps=2)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_direction_is_that_of_torchs_own_second_backward(
    is_checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, x, targets = Residual(is_checkpointed).double(), torch.randn(6, 2, 5, 5).double(), torch.arange(6) % 3
    found = _teleporter(model).direction(x, targets)
    assert _teleporter(model).teleport(x, targets).outcome is Outcome.MOVED
    torch.manual_seed(0)
    model.load_state_dict(Residual(is_checkpointed).double().state_dict())
    monkeypatch.setattr(
        Twice, "__torch_function__", lambda self, func, types, args=(), kwargs=None: func(*args, **kwargs or {})
    )
    expected = _teleporter(model).direction(x, targets)
    assert found.keys() == expected.keys() >= {"block.2.weight", "head.weight"}
    for name, part in found.items():
        assert float((part - expected[name]).norm()) <= 1e-11 * float(part.norm())


def test_where_there_is_nothing_to_serve_it_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []

    class Counted(Twice):  # type: ignore[misc]
        def __enter__(self) -> Any:
            entered.append(1)
            return super().__enter__()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(objective_module, "Twice", Counted)
    model, targets = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), torch.arange(6) % 3
    _teleporter(model).teleport(torch.randn(6, 6), targets)
    assert len(entered) == 1
    _teleporter(Residual(False)).teleport(torch.randn(6, 2, 5, 5), targets)
    assert len(entered) == 4
