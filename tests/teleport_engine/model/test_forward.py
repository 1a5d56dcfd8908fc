"""What a teleport leaves as it was (B5)."""

import copy
import importlib
import warnings
from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from teleport_engine import (
    FixedStep,
    GradCurvature,
    GrowthStep,
    Options,
    Outcome,
    RandomMove,
    Teleporter,
    TeleportReport,
)
from teleport_engine.model.layers import FrozenModule, find_layers
from tests.teleport_engine.cases import make, teleporter_of


class TestSurroundings:
    """Bit for bit as before: gradients, optimizer state, buffers, random state, modes, hooks, global switches."""

    def run(self, **options: Any) -> None:
        case = make("batch_norm_in_train_mode", torch.float32)
        model = case.model
        torch.backends.mha.set_fastpath_enabled(True)
        optimizer = torch.optim.Adam(model.parameters())
        case.loss_fn(model(case.inputs), case.targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.get_submodule("2").eval()
        model.get_parameter("0.bias").requires_grad_(False)
        fired: list[str] = []
        model.get_submodule("3").register_forward_hook(lambda *_: fired.append("forward"))
        inputs = case.inputs.clone().requires_grad_()

        def state() -> Any:
            return copy.deepcopy(
                {
                    "buffers": dict(model.named_buffers()),
                    "grads": [p.grad for p in model.parameters()],
                    "optimizer": optimizer.state_dict(),
                    "random": torch.get_rng_state(),
                    "modes": [m.training for m in model.modules()],
                    "requires_grad": [p.requires_grad for p in model.parameters()],
                    "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
                    "fast path": torch.backends.mha.get_fastpath_enabled(),
                    "kernels": torch._C._get_flash_sdp_enabled(),
                    "grad mode": torch.is_grad_enabled(),
                    "input grad": (inputs.grad, inputs.requires_grad),
                }
            )

        identities = [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
        before = state()
        with torch.no_grad():
            report = teleporter_of(model, case.loss_fn, step=GrowthStep(1.2), **options).teleport(
                inputs, case.targets, probe=(case.inputs[:4], case.targets[:4])
            )
        assert report.outcome is Outcome.MOVED
        assert fired, "the user's hooks are part of the model and run"
        torch.testing.assert_close(state(), before, rtol=0.0, atol=0.0)
        assert identities == [id(p) for p in model.parameters()] + [id(b) for b in model.buffers()]
        assert all(type(p) is nn.Parameter for m in model.modules() for p in m._parameters.values() if p is not None)

    def test_tangent_route(self) -> None:
        self.run()

    def test_double_backward_route(self) -> None:
        self.run(route="double_backward")

    def test_below_tau_1(self) -> None:
        self.run(tau=0.99)

    def test_inference_mode(self) -> None:
        case = make("relu", torch.float32)
        with torch.inference_mode():
            report = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.2)).teleport(
                case.inputs * 1.0, case.targets
            )
        assert report.outcome is Outcome.MOVED

    def test_an_error_on_the_way_puts_the_weights_back(self) -> None:
        case = make("relu")
        calls = 0

        def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt
            return case.loss_fn(outputs, targets)

        before = copy.deepcopy(case.model.state_dict())
        with pytest.raises(KeyboardInterrupt):
            Teleporter(case.model, loss_fn, step=FixedStep(0.1)).teleport(case.inputs, case.targets)
        assert calls == 5
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())

    def test_an_error_at_any_call_of_the_loss_puts_the_weights_back(self) -> None:
        case = make("batch_norm_in_train_mode")
        before = copy.deepcopy(case.model.state_dict())
        fatal = num_calls = 0

        def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal num_calls
            num_calls += 1
            if num_calls == fatal:
                raise KeyboardInterrupt
            return case.loss_fn(outputs, targets)

        def run() -> None:
            nonlocal num_calls
            num_calls = 0
            teleporter = Teleporter(case.model, loss_fn, step=GrowthStep(1.2), num_steps=2)
            teleporter.teleport(case.inputs, case.targets, probe=(case.inputs[:4], case.targets[:4]))

        run()
        case.model.load_state_dict(before)
        for fatal in range(1, num_calls + 1):  # noqa: B007
            with pytest.raises(KeyboardInterrupt):
                run()
            torch.testing.assert_close(case.model.state_dict(), before, rtol=0.0, atol=0.0)


class Writes(nn.Module):
    """Counts its calls, keeps what it saw, and caches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 32), nn.Linear(32, 4)
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        self.seen = torch.tanh(self.first(x))
        logits: Tensor = self.last(self.seen)
        return logits


def climb(model: nn.Module, inputs: Any, **options: Any) -> TeleportReport:
    options = {"step": GrowthStep(1.2), "num_steps": 2, **options}
    teleporter = teleporter_of(model, nn.functional.cross_entropy, **options)
    return teleporter.teleport(inputs, torch.arange(6) % 3)


def test_what_a_model_writes_to_itself_is_taken_back() -> None:
    model = Writes()
    assert climb(model, torch.randn(6, 6)).outcome is Outcome.MOVED
    assert model.num_calls == 0
    assert not hasattr(model, "seen")
    model(torch.randn(2, 6))
    seen = model.seen
    climb(model, torch.randn(6, 6))
    assert model.seen is seen
    assert model.num_calls == 1


PARAMETRIZED: dict[str, Any] = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("kind", PARAMETRIZED)
@pytest.mark.parametrize("layer", ["Linear", "Conv1d"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_computed_weights_are_frozen_and_their_buffers_stay(kind: str, layer: str) -> None:
    mid = nn.Linear(24, 24, bias=False) if layer == "Linear" else nn.Conv1d(8, 8, 3, padding=1)
    shapes = [] if layer == "Linear" else [nn.Unflatten(1, (8, 3))]
    model = nn.Sequential(nn.Linear(6, 24), *shapes, PARAMETRIZED[kind](mid), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))
    model = model.double().train()
    before = copy.deepcopy(model.state_dict())
    held = dict(vars(mid))
    report = climb(model, torch.randn(6, 6).double())
    # The power iteration of spectral_norm writes to its buffers by `out=`, which has no forward mode.
    route = "double_backward" if "spectral" in kind else "jvp"
    assert (report.outcome, report.route) == (Outcome.MOVED, route), report.messages
    assert abs(report.loss_drift) <= 1e-12
    reasons = {one.name: one.reason for one in report.layers}
    assert reasons.pop("0") == "input is fixed"
    assert reasons.pop(report.layers[-1].name) == ""
    assert set(reasons.values()) == {"its weight is computed from other parameters: frozen"}
    assert next(name for name, module in model.named_modules() if module is mid) in reasons
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert len(changed) == 1
    assert vars(mid).keys() == held.keys()
    assert all(vars(mid)[name] is value for name, value in held.items())


class Reads(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.mid, self.head = nn.Linear(32, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.mid(self.rnn(x)[0].mean(1))))
        return logits


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recurrent_layers_stay_and_the_rest_moves(kind: Any, dtype: torch.dtype) -> None:
    model, inputs, targets = Reads(kind).to(dtype), torch.randn(6, 5, 3, dtype=dtype), torch.arange(6) % 3
    kernels = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    flat = model.rnn._flat_weights
    before = copy.deepcopy(model.rnn.state_dict())
    loss_fn = nn.functional.cross_entropy
    tangent = Teleporter(model, loss_fn, Options(route="jvp")).direction(inputs, targets)
    backward = Teleporter(model, loss_fn, Options(route="double_backward")).direction(inputs, targets)
    assert tangent.keys() == backward.keys() == {"mid.weight", "head.weight"}
    limit = 1e-10 if dtype == torch.float64 else 1e-3
    for name, part in tangent.items():
        assert float((backward[name] - part).norm()) <= limit * float(part.norm())
    report = climb(model, inputs)
    assert (report.outcome, report.route) == (Outcome.MOVED, "jvp"), report.messages
    assert abs(report.loss_drift) <= (1e-12 if dtype == torch.float64 else 1e-5)
    assert report.layers[0].reason == "a recurrent layer, whose products are not seen one by one: frozen"
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == kernels
    assert model.rnn._flat_weights is flat
    assert all(torch.equal(value, before[key]) for key, value in model.rnn.state_dict().items())


class Casts(nn.Module):
    """Turns autocast on in its own forward, and casts by hand in it, too."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.conv, self.out = Writes(), nn.Conv1d(1, 3, 3), nn.Linear(6, 3)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self.dtype):
            h = torch.tanh(self.inner(x).to(self.dtype)[:, None])
            logits: Tensor = self.out(self.conv(h).flatten(1))
        return logits.float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"route": "double_backward"}, {"move_bias": True}], ids=str)
def test_autocast_inside_a_model_is_off_for_the_teleport(dtype: torch.dtype, options: dict[str, Any]) -> None:
    model, x = Casts(dtype), torch.randn(6, 6)
    twin = copy.deepcopy(model)
    report = climb(model, x, **options)
    assert report.outcome is Outcome.MOVED
    assert abs(report.loss_drift) <= 1e-5
    twin.dtype = torch.float64  # autocast knows no such precision, and does nothing but cast by hand

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = climb(twin.double(), x.double(), **options)
    assert report.loss_before == pytest.approx(expected.loss_before, rel=1e-5)
    assert report.grad_norm_before == pytest.approx(expected.grad_norm_before, rel=1e-5)
    assert [layer.reason for layer in report.layers] == [layer.reason for layer in expected.layers]


def test_autocast_around_a_teleport_is_off_in_it() -> None:
    model, x = Writes(), torch.randn(6, 6)
    plain = copy.deepcopy(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = climb(model, x)
        assert torch.is_autocast_enabled("cpu")
    assert report.loss_before == climb(plain, x).loss_before
    assert torch.equal(model.last.weight, plain.last.weight)


@pytest.mark.parametrize("build", [lambda: nn.LazyLinear(3), lambda: nn.LazyBatchNorm1d()], ids=["weight", "buffer"])
def test_a_lazy_module_must_be_run_once_before(build: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 8), build())
    message = (
        r"every parameter and buffer must have a shape, but '\w+' has none yet \(a lazy module\): run the model once"
    )
    with pytest.raises(ValueError, match=message):
        climb(model, torch.randn(6, 6))
    model(torch.randn(2, 6))
    width = model(torch.randn(2, 6)).shape[1]
    assert climb(nn.Sequential(model, nn.Linear(width, 3)), torch.randn(6, 6)).num_steps == 2


def test_sparse_weights_are_frozen() -> None:
    holder = nn.Module()
    holder.kept = nn.Parameter(torch.eye(3).to_sparse())
    (found,) = find_layers(holder)
    assert isinstance(found, FrozenModule)
    assert found.reason == "its weight is sparse: frozen"


class Checkpointed(nn.Module):
    """A batch norm in train mode that runs again in every backward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(lambda y: nn.functional.hardsigmoid(self.norm(y)), self.first(x), use_reentrant=False)
        logits: Tensor = self.last(hidden)
        return logits


@pytest.mark.parametrize(
    "options",
    [{}, {"route": "double_backward"}, {"tau": 0.99}, {"objective": GradCurvature(), "step": FixedStep(1e-3)}],
    ids=["jvp", "double", "below 1", "triple"],
)
def test_parts_that_run_again_in_a_backward_leave_no_trace(options: dict[str, Any]) -> None:
    model = Checkpointed()
    before = copy.deepcopy(dict(model.named_buffers()))
    assert climb(model, torch.randn(6, 6), **options).outcome is Outcome.MOVED
    torch.testing.assert_close(dict(model.named_buffers()), before, rtol=0.0, atol=0.0)


def test_a_loss_that_is_a_module_keeps_its_state() -> None:
    class Balanced(nn.Module):
        counts: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("counts", torch.zeros(4))
            self.num_calls = 0

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.num_calls += 1
            self.counts += torch.bincount(targets, minlength=4)
            return nn.functional.cross_entropy(outputs, targets)

    loss_fn = Balanced()
    report = Teleporter(Writes(), loss_fn, step=GrowthStep(1.1)).teleport(torch.randn(8, 6), torch.arange(8) % 4)
    assert report.outcome is Outcome.MOVED
    assert (loss_fn.num_calls, float(loss_fn.counts.sum())) == (0, 0.0)


def test_teleports_in_several_threads_take_turns() -> None:
    def run(seed: int) -> list[Outcome]:
        # Made ahead, and not random: no teleport may run while another thread draws.
        model, inputs, targets = models[seed]
        teleporter = Teleporter(model, nn.functional.cross_entropy, tau=0.99, step=GrowthStep(1.05), num_steps=1)
        return [teleporter.teleport(inputs, targets).outcome for _ in range(4)]

    models = [(Writes(), torch.randn(8, 6), torch.arange(8) % 4) for _ in range(3)]
    torch.backends.mha.set_fastpath_enabled(True)
    kernels = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    importlib.import_module("torch._dynamo")  # whose stance is one for all threads
    stance = torch._dynamo.eval_frame._stance.stance
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(run, range(3)))
    assert outcomes == [[Outcome.MOVED] * 4] * 3
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == kernels  # type: ignore[no-untyped-call]
    assert torch._dynamo.eval_frame._stance.stance == stance


def test_a_default_device_is_not_where_random_numbers_are_drawn() -> None:
    model, inputs, targets = Writes(), torch.randn(8, 6), torch.arange(8) % 4
    torch.set_default_device("meta")
    try:
        teleporter = teleporter_of(model, nn.functional.cross_entropy, step=GrowthStep(1.1), move=RandomMove(0))
        assert teleporter.teleport(inputs, targets).outcome is Outcome.MOVED
    finally:
        torch.set_default_device(None)


class Hoards(Writes):
    """Keeps what it saw in containers, registers a buffer late, and has a hook that removes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Tensor] = []
        self.cache: dict[int, Tensor] = {}
        self.sizes: set[int] = set()
        self.handles = [self.last.register_forward_pre_hook(self._only_once)]

    def _only_once(self, *_: Any) -> None:
        self.handles[0].remove()

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(x)
        self.cache[len(self.cache)] = x
        self.sizes.add(len(self.sizes))
        self.register_buffer("mean", x.mean(0))
        return super().forward(x)


def test_what_a_model_keeps_in_containers_is_taken_back() -> None:
    model = Hoards()
    assert climb(model, torch.randn(6, 6)).outcome is Outcome.MOVED
    assert (model.log, model.cache, model.sizes) == ([], {}, set())
    assert "mean" not in dict(model.named_buffers())
    assert len(model.last._forward_pre_hooks) == 1


def test_a_model_that_writes_to_its_inputs_is_given_copies() -> None:
    class Normalises(Writes):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).mul_(2.0))

    model, inputs = Normalises().double(), torch.randn(6, 6).double()
    kept = inputs.clone()
    report = climb(model, inputs)
    assert (report.outcome, report.route, report.messages) == (Outcome.MOVED, "jvp", ())
    assert torch.equal(inputs, kept)
    assert report.loss_before == pytest.approx(
        float(nn.functional.cross_entropy(model(inputs.clone()), torch.arange(6) % 3).detach()), abs=1e-12
    )


class Pair(NamedTuple):
    x: Tensor
    scale: float = 1.0


class Labels(UserDict[str, Tensor]):
    @property
    def label(self) -> Tensor:
        return self.data["label"]


def test_batches_keep_their_classes() -> None:
    class Scales(Writes):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return scale * super().forward(x)

    def loss_fn(outputs: Tensor, targets: Labels) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets.label)

    teleporter = Teleporter(Scales(), loss_fn, step=GrowthStep(1.1))
    targets = Labels(label=torch.arange(6) % 3)
    with torch.inference_mode():
        inputs = Pair(torch.randn(6, 6), 2.0)
    report = teleporter.teleport(inputs, targets)
    assert (report.outcome, report.layers[0].reason) == (Outcome.MOVED, "input is fixed")
