"""What a trial that was cut off goes on from: ``checkpoint.pt``.

It holds tensors and plain values alone, so ``torch.load(..., weights_only=True)`` reads it and nothing in it can run.
Torch is imported when one is written or read, never before.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, final

VERSION = 2


class UnusableCheckpoint(ValueError):
    """A checkpoint that is damaged, or of something else; the message says which."""


@final
@dataclass(frozen=True)
class Checkpoints:
    """Where a trial's checkpoints come from and go to, whichever machine it runs on.

    Args:
        start: what :meth:`Checkpoint.to_bytes` gave, to go on from; None: from the beginning.
        save: keeps one in place of the one before; rows reported before it are kept before it.
    """

    start: bytes | None
    save: Callable[[bytes], None]


@final
@dataclass(frozen=True)
class Checkpoint:
    """A trial at one of its rows.

    Args:
        trial_id: whose.
        num_rows: rows of its curves so far.
        seconds: wall-clock seconds it has run.
        seed: the state of its seed; see ``orchestrator.trial.loop.State``.
    """

    trial_id: str
    num_rows: int
    seconds: float
    seed: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Write it as ``torch.save`` does.

        Returns:
            The content of a file.
        """
        import torch

        plain = {
            **_identity(self.trial_id),
            "num_rows": self.num_rows,
            "seconds": self.seconds,
            "seed": self.seed,
        }
        file = io.BytesIO()
        torch.save(plain, file)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, trial_id: str) -> Self:
        """Read one back.

        Args:
            data: the content of a file.
            trial_id: whose it must be.

        Returns:
            The checkpoint, its tensors on the CPU.

        Raises:
            UnusableCheckpoint: it is damaged, or of another trial, version or torch.
        """
        import torch

        try:
            # Torch does not look at the checksums that it writes.
            broken = zipfile.ZipFile(io.BytesIO(data)).testzip()
            if broken is not None:
                raise UnusableCheckpoint(f"{broken} in it is damaged")
            plain = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise UnusableCheckpoint(f"it cannot be read: {str(error).splitlines()[0]}") from None
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
    """What must be the same in the checkpoint and in what goes on from it."""
    import torch

    # What an optimizer keeps, and what a seed draws, may differ from one torch to the next; not by how it was built.
    return {"version": VERSION, "torch": str(torch.__version__).partition("+")[0], "trial_id": trial_id}
