"""The journal of a sweep's searches: Optuna's own format, and what it says of a proposal beside its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from orchestrator.errors import FileUnreadable
from orchestrator.home.files import damage

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

NOTE = "teleport"
STOPPED_AT = "stopped_at"


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the sweep's Optuna storage; only the driver that holds the sweep's lock writes it.

    Args:
        path: of the journal file.

    Returns:
        The storage.

    Raises:
        FileUnreadable: it is no journal.
    """
    if path.is_file():
        _mend(path)
    return _load(path)


def read_journal(path: Path) -> dict[str, list[FrozenTrial]]:
    """Read a journal without touching it, also while another process writes it.

    Args:
        path: of the journal file.

    Returns:
        Name of the study -> its trials, by number; empty where there is no file.

    Raises:
        FileUnreadable: it is no journal.
    """
    import optuna

    if not path.is_file():
        return {}
    storage = _load(path)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False) for name in names}


def _load(path: Path) -> optuna.storages.BaseStorage:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Its INFO lines would break into the live display; the sweep's own log says more.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - Optuna checks no line before it uses it
        reason = " ".join(str(error).split())[:200]
        raise FileUnreadable(damage(path, f"is no journal of Optuna ({type(error).__name__}: {reason})")) from None


def _mend(path: Path) -> None:
    """Remove what a driver that was killed left: a line cut short, to which Optuna would append, and its lock."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    with open(path, "rb+") as file:
        end = file.seek(0, 2)
        keep = end
        while keep:
            start = max(0, keep - 65_536)
            file.seek(start)
            found = file.read(keep - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)


@final
@dataclass(frozen=True)
class Note:
    """What the journal says of a proposal beside its values.

    Args:
        told: numbers of the trials that had been told since the proposal before it.
        attributes: what the sampler set in the study meanwhile.
        is_duplicate: whether its configuration had been proposed before, so that it was dismissed.
    """

    told: tuple[int, ...]
    attributes: Mapping[str, Any]
    is_duplicate: bool

    @classmethod
    def of(cls, trial: FrozenTrial) -> Note | None:
        """Read the note of a trial; None where an older version wrote it."""
        written = trial.system_attrs.get(NOTE)
        if written is None:
            return None
        return cls(tuple(written["told"]), written["study"], written["duplicate"])

    def to_json(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"told": list(self.told), "study": dict(self.attributes), "duplicate": self.is_duplicate}
