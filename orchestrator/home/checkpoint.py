"""The checkpoint from which a trial that was cut off goes on: ``checkpoint.pt``.

The file is a SHA-256 (32 bytes) of what follows it, which holds only tensors and plain values, so that
``torch.load(..., weights_only=True)`` reads it and nothing in it is executed. Torch is imported when a checkpoint is
written or read, and not before.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, final

VERSION = 4
DIGEST_BYTES = hashlib.sha256().digest_size


class UnusableCheckpoint(ValueError):
    """The checkpoint is damaged, or belongs to another trial, version or torch; the message says which."""


@final
@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint that a trial starts from, and where it sends new ones, on whichever machine it runs.

    Args:
        start: from :meth:`Checkpoint.to_bytes`; None starts the trial at its beginning.
        save: stores a checkpoint in place of the previous one, after the rows that were reported before it.
    """

    start: bytes | None
    save: Callable[[bytes], None]


@final
@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial right after one of its rows.

    Args:
        trial_id: of the trial.
        num_rows: rows of its curves so far.
        seconds: wall-clock seconds that it has run.
        seed: the state of its seed; see ``orchestrator.trial.loop.State``.
    """

    trial_id: str
    num_rows: int
    seconds: float
    seed: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Give the content of the checkpoint's file, with its digest in front."""
        import torch

        plain = {
            **_identity(self.trial_id),
            "num_rows": self.num_rows,
            "seconds": self.seconds,
            "seed": self.seed,
        }
        file = io.BytesIO()
        torch.save(plain, file)
        content = file.getvalue()
        return hashlib.sha256(content).digest() + content

    @classmethod
    def from_bytes(cls, data: bytes, trial_id: str) -> Self:
        """Read a checkpoint of this trial from the content of its file, with its tensors on the CPU.

        Raises:
            UnusableCheckpoint: the content is damaged, or belongs to another trial, version or torch.
        """
        import torch

        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise UnusableCheckpoint("it is damaged, or another version of teleport wrote it")
        try:
            plain = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - torch raises what it likes
            raise UnusableCheckpoint(f"it cannot be read: {type(error).__name__}: {error}".splitlines()[0]) from None
        for key, value in _identity(trial_id).items():
            found = plain.get(key) if isinstance(plain, dict) else None
            if found != value:
                raise UnusableCheckpoint(f"its {key} is {found!r}, not {value!r}")
        return cls(
            trial_id=trial_id,
            num_rows=plain["num_rows"],
            seconds=plain["seconds"],
            seed=plain["seed"],
        )


def _identity(trial_id: str) -> dict[str, Any]:
    """List what must be the same in a checkpoint and in the program that goes on from it."""
    import torch

    # An optimizer's state and a seed's draws may differ between torch's releases, but not between builds of one.
    return {"version": VERSION, "torch": str(torch.__version__).partition("+")[0], "trial_id": trial_id}
