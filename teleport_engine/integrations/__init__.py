"""Teleports inside other libraries' training loops: PyTorch Lightning's, and Hugging Face's Trainer.

A library is imported when its callback is asked for, so the engine itself needs torch alone.
"""

from typing import TYPE_CHECKING, Any

from teleport_engine.integrations.batches import model_loss

if TYPE_CHECKING:
    from teleport_engine.integrations.hugging_face import TrainerTeleportCallback
    from teleport_engine.integrations.lightning import LightningTeleportCallback

__all__ = ["LightningTeleportCallback", "TrainerTeleportCallback", "model_loss"]


def __getattr__(name: str) -> Any:
    """Imports a library where its callback is asked for."""
    if name == "LightningTeleportCallback":
        from teleport_engine.integrations.lightning import LightningTeleportCallback

        return LightningTeleportCallback
    if name == "TrainerTeleportCallback":
        from teleport_engine.integrations.hugging_face import TrainerTeleportCallback

        return TrainerTeleportCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
