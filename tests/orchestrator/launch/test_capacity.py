"""A trial has to fit on one node, whatever all nodes have together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.launch.cluster import Node, num_concurrent, request, shortfall, this_machine
from orchestrator.spec import Share


def node(name: str = "a", **resources: float) -> Node:
    return Node(name, resources)


def test_a_request_is_in_rays_words() -> None:
    assert request(Share()) == {"CPU": 1.0}
    share = Share(cpu=2.0, gpu=0.5, memory=1.5, custom={"A100": 1.0})
    assert request(share) == {"CPU": 2.0, "GPU": 0.5, "memory": 1.5e9, "A100": 1.0}


def test_totals_do_not_make_a_node() -> None:
    """Two nodes with two GPUs each hold no trial of four."""
    nodes = [node("a", CPU=8, GPU=2), node("b", CPU=8, GPU=2)]
    assert num_concurrent(nodes, Share(gpu=4.0)) == 0
    assert num_concurrent(nodes, Share(gpu=2.0)) == 2
    assert shortfall(nodes, Share(gpu=4.0)) == (
        "a trial asks for 1 CPU, 4 GPU on one node; a, the closest of 2 nodes, has 8 CPU, 2 GPU"
    )
    assert shortfall(nodes, Share(gpu=2.0)) == ""


def test_every_resource_that_lacks_is_told_of_the_node_that_comes_closest() -> None:
    nodes = [node("small", CPU=1), node("large", CPU=16, GPU=1, memory=64e9)]
    told = shortfall(nodes, Share(cpu=32.0, gpu=1.0, memory=128.0, custom={"A100": 1.0}))
    assert told == (
        "a trial asks for 32 CPU, 1 GPU, 128 GB memory, 1 A100 on one node; large, the closest of 2 nodes, has 16 CPU, "
        "1 GPU, 64 GB memory, 0 A100; no node has any A100 (ray start --resources='{\"A100\": 1}')"
    )


def test_the_closest_is_the_one_that_lacks_least() -> None:
    nodes = [node("gpu", CPU=2, GPU=8), node("cpu", CPU=64)]
    assert "; gpu, the closest" in shortfall(nodes, Share(cpu=4.0, gpu=1.0))


def test_without_nodes_nothing_fits() -> None:
    assert shortfall([], Share()) == "a trial asks for 1 CPU on one node; there is no node"


def test_a_custom_resource_limits_how_many_run_on_a_node() -> None:
    nodes = [node("a", CPU=64, trials=4), node("b", CPU=64, trials=2), node("c", CPU=64)]
    assert num_concurrent(nodes, Share(custom={"trials": 1.0})) == 6


@given(st.integers(1, 64), st.integers(1, 40))
def test_as_many_fractions_fit_as_there_are_in_a_whole(num_gpus: int, parts: int) -> None:
    """Binary fractions do not add up: 1 / 0.1 is ten, 3 / 0.3 is not nine."""
    share = Share(gpu=1 / parts if parts > 1 else 1.0)
    assert num_concurrent([node(CPU=1e6, GPU=num_gpus)], share) == num_gpus * parts


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), max_size=5), st.integers(1, 8), st.integers(0, 4))
def test_whatever_fits_is_no_shortfall(sizes: list[tuple[int, int]], cpu: int, gpu: int) -> None:
    nodes = [node(str(index), CPU=cpus, GPU=gpus) for index, (cpus, gpus) in enumerate(sizes)]
    share = Share(cpu=float(cpu), gpu=float(gpu))
    fits = any(cpus >= cpu and gpus >= gpu for cpus, gpus in sizes)
    assert (num_concurrent(nodes, share) > 0) == fits
    assert (shortfall(nodes, share) == "") == fits


def test_this_machine_holds_a_trial() -> None:
    assert not shortfall([this_machine()], Share(memory=0.1))
