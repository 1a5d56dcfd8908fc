"""What a teleport leaves as it was (B5)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import FixedStep, GrowthStep, Outcome, Teleporter
from tests.teleport_engine.cases import make


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
            report = Teleporter(model, case.loss_fn, step=GrowthStep(1.2), **options).teleport(
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
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
