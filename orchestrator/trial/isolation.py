"""Keeps trials of one process apart: named random streams, and torch's global state restored."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def stream_seed(seed: int, stream: str) -> int:
    """Derive from a trial's seed the seed, below 2^63, of a random stream that is named for its use, such as ``order``.

    Streams of different names are independent of each other, whatever is drawn from them.
    """
    return int.from_bytes(hashlib.blake2b(f"{stream}:{seed}".encode(), digest_size=8).digest(), "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (all devices), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the global generators, CUDA's included on a CUDA device, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, list(map(int, keys)), position, has_gauss, gauss],
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set the global generators to a state that :func:`random_state` returned."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    random.setstate(state["python"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def isolated(num_threads: int) -> Iterator[None]:
    """Run the ``with`` block with torch as if freshly imported, then restore what was there before.

    Ray reuses workers and sets only OMP_NUM_THREADS by its CPU request, so without this the number of threads, the
    default dtype, grad mode and random state of one trial would reach the next.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    is_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda_states = torch.cuda.get_rng_state_all() if is_cuda else []
    torch.set_num_threads(num_threads)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            if is_cuda:
                torch.cuda.set_rng_state_all(cuda_states)
            torch.cuda.empty_cache()
