"""Says what a candidate, a trial and a sweep are, and how they lie on disk."""

from orchestrator.home.archive import pack, unpack
from orchestrator.home.checkpoint import Checkpoint, Checkpoints, UnusableCheckpoint
from orchestrator.home.code import changes_here, code_here, difference
from orchestrator.home.files import atomic_write, damage, left_parts, part_of
from orchestrator.home.index import Damage, damages
from orchestrator.home.lock import held_since, locked
from orchestrator.home.paths import SweepPaths, find_sweep, sweep_names
from orchestrator.home.provenance import collect, versions
from orchestrator.home.reading import read_record, record_of, runnable_spec, stored_spec
from orchestrator.home.records import (
    ANSWERS,
    Code,
    FailureKind,
    HistoryRow,
    LayerSpectrum,
    LayerSummary,
    Machine,
    Provenance,
    SeedResult,
    Stage,
    StepSummary,
    SweepOutcome,
    SweepRecord,
    TeleportSummary,
    Trial,
    TrialConfig,
    TrialFailure,
    TrialResult,
    TrialState,
    WarmStart,
    objective_value,
)
from orchestrator.home.tail import NewRows, ReadUpTo, Stamp, Tail, rows_after, stamp_of
from orchestrator.home.target import TimesToTarget, times_to_target, value_between

__all__ = [
    "ANSWERS",
    "Checkpoint",
    "Checkpoints",
    "Code",
    "Damage",
    "FailureKind",
    "HistoryRow",
    "LayerSpectrum",
    "LayerSummary",
    "Machine",
    "NewRows",
    "Provenance",
    "ReadUpTo",
    "SeedResult",
    "Stage",
    "Stamp",
    "StepSummary",
    "SweepOutcome",
    "SweepPaths",
    "SweepRecord",
    "Tail",
    "TeleportSummary",
    "TimesToTarget",
    "Trial",
    "TrialConfig",
    "TrialFailure",
    "TrialResult",
    "TrialState",
    "UnusableCheckpoint",
    "WarmStart",
    "atomic_write",
    "changes_here",
    "code_here",
    "collect",
    "damage",
    "damages",
    "difference",
    "find_sweep",
    "held_since",
    "left_parts",
    "locked",
    "objective_value",
    "pack",
    "part_of",
    "read_record",
    "record_of",
    "rows_after",
    "runnable_spec",
    "stamp_of",
    "stored_spec",
    "sweep_names",
    "times_to_target",
    "unpack",
    "value_between",
    "versions",
]
