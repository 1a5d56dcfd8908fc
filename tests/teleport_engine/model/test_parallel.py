"""Layers at the same time: the same bits as one after the other."""

import copy
import threading

import pytest
import torch

from teleport_engine import FixedStep, Options, Teleporter
from teleport_engine.model.parallel import Workers
from tests.teleport_engine.cases import CASES, make


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("tau", [1.0, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_number_of_threads_gives_the_same_bits(name: str, tau: float, seed: int) -> None:
    case = make(name, torch.float32)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    moved = []
    for num_threads in (1, 2, 5):
        model = copy.deepcopy(case.model)
        teleporter = Teleporter(
            model, case.loss_fn, Options(tau=tau, step=FixedStep(1e-3), num_steps=2, num_threads=num_threads)
        )
        report = teleporter.teleport(case.inputs, case.targets)
        moved.append((model.state_dict(), [(layer.rank, layer.step_length) for layer in report.layers]))
    assert any(length > 0.0 for _, length in moved[0][1])
    for state, layers in moved[1:]:
        assert layers == moved[0][1]
        assert all(torch.equal(value, moved[0][0][key]) for key, value in state.items())


def test_tasks_run_at_the_same_time_with_one_intra_op_thread_each() -> None:
    before = torch.get_num_threads()
    meeting = threading.Barrier(3, timeout=20)

    def task() -> tuple[int, bool]:
        meeting.wait()
        return torch.get_num_threads(), torch.is_grad_enabled()

    assert Workers(3).run([task] * 3) == [(1, False)] * 3
    assert torch.get_num_threads() == before
    assert [threads for threads, _ in Workers(1).run([lambda: (torch.get_num_threads(), True)])] == [1]
    assert torch.get_num_threads() == before


def test_results_come_in_the_order_of_the_tasks_and_faults_come_out() -> None:
    assert Workers(4).run([lambda index=index: index for index in range(20)]) == list(range(20))  # type: ignore[misc]

    def fail() -> int:
        raise ValueError("task 7")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="task 7"):
        Workers(2).run([lambda: 1, fail])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("num_threads", [0, -1, 1.5, True])
def test_a_number_of_threads_that_is_none_is_refused(num_threads: int) -> None:
    case = make("tanh")
    with pytest.raises(ValueError, match="num_threads must be a whole number >= 1, got"):
        Teleporter(case.model, case.loss_fn, Options(num_threads=num_threads))
