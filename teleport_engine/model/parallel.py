"""Independent layers at the same time (open question 2 of the method: time flat in depth)."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, final

import torch

__all__ = ["Workers"]

T = TypeVar("T")

_PIN = threading.RLock()


@final
class Workers:
    """Threads that work on layers; torch and LAPACK let go of Python's lock.

    With a number of threads, each layer's work is done by one intra-op thread, whether there is one worker or
    there are many: a product or a factorisation split over threads adds up in another order, and the results
    would not be bit for bit those of one worker. Without a number, the layers take their turns in the calling
    thread with torch's own intra-op threads.

    On CUDA each worker issues its kernels to a stream of its own, behind what the calling thread's stream has been
    given so far, and that stream goes on behind all of them.
    """

    def __init__(self, num_threads: int | None = None) -> None:
        self._num_threads = num_threads

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Runs tasks that do not depend on each other; gives their results in order, or raises the first error."""
        if self._num_threads is None or not tasks:
            return [task() for task in tasks]
        with _one_intra_op_thread():
            if self._num_threads == 1 or len(tasks) == 1:
                return [task() for task in tasks]
            size = min(self._num_threads, len(tasks))
            origin = torch.cuda.current_stream() if torch.cuda.is_available() else None
            with ThreadPoolExecutor(size, "layers", torch.set_num_threads, (1,)) as pool:
                return list(pool.map(lambda task: _detached(task, origin), tasks))


def _detached(task: Callable[[], T], origin: "torch.cuda.Stream | None") -> T:
    """Runs one task in a pool's thread, where modes of the calling thread do not reach."""
    with torch.no_grad():
        if origin is None:
            return task()
        side = torch.cuda.Stream(origin.device)  # type: ignore[no-untyped-call]
        side.wait_stream(origin)
        with torch.cuda.stream(side):
            result = task()
        # What the task made is used on the calling thread's stream; waiting here makes its memory safe to reuse too.
        side.synchronize()
        return result


@contextmanager
def _one_intra_op_thread() -> Iterator[None]:
    """Allows one intra-op thread in the calling thread, and in those that start meanwhile."""
    with _PIN:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
