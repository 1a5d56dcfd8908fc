"""The report as data: the documented schema of ``report.json``, and the whole of what the pages show.

JSON has no infinity: an infinite number (a miss, an open interval) is written as the string ``"Infinity"`` or
``"-Infinity"`` and read back as a number.

``version`` is raised when a field goes, or comes to mean something else; a field with a default may be added.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from orchestrator.home import Machine, Provenance
from orchestrator.report.schema.comparison import (
    Comparison,
    Effect,
    Interval,
    IntervalMethod,
    PointEffect,
    SeedPair,
    Verdict,
)
from orchestrator.report.schema.evidence import TIME_METRICS, Arrival, Best, Profile, TimeMetric, Tuning
from orchestrator.report.schema.part import Part
from orchestrator.report.schema.search import Importance, Parameter, SearchTrial, SharedSearch
from orchestrator.report.schema.study import (
    Axis,
    Band,
    ConfirmCandidate,
    ConfirmSeed,
    EqualTime,
    GridResult,
    Lapse,
    Price,
    SeedCurve,
    Spectrum,
    StudyReport,
)
from orchestrator.report.schema.transfer import (
    LEAVES,
    CandidateForAll,
    EvidenceKind,
    Leave,
    LeftOutWorkload,
    MissingCell,
    OwnBest,
    RankAgreement,
    RankStability,
    Sensitivity,
    SensitivityBand,
    SensitivityBin,
    Transfer,
    TransferCandidate,
    TransferCell,
)
from orchestrator.spec import Json, Objective, Phase, Target

__all__ = [
    "LEAVES",
    "TIME_METRICS",
    "Answer",
    "Arrival",
    "Axis",
    "Band",
    "Best",
    "CandidateForAll",
    "Comparison",
    "ConfirmCandidate",
    "ConfirmSeed",
    "Earlier",
    "Effect",
    "EqualTime",
    "EvidenceKind",
    "Failure",
    "GridResult",
    "Importance",
    "Interval",
    "IntervalMethod",
    "JointReport",
    "Lapse",
    "Leave",
    "LeftOutWorkload",
    "MissingCell",
    "OwnBest",
    "Parameter",
    "Part",
    "PointEffect",
    "Price",
    "Profile",
    "RankAgreement",
    "RankStability",
    "Report",
    "SearchTrial",
    "SeedCurve",
    "SeedPair",
    "Sensitivity",
    "SensitivityBand",
    "SensitivityBin",
    "SharedSearch",
    "Spectrum",
    "StudyReport",
    "Sweep",
    "SweepStage",
    "TimeMetric",
    "Transfer",
    "TransferCandidate",
    "TransferCell",
    "Tuning",
    "Verdict",
    "reports_of",
]


# 2: several sweeps together; search spaces, importances, several objectives; curves against gradient evaluations.
# 3: codes in provenance; the confirm grid, replicates, and claims before an extension; steps between evaluations.
VERSION: Literal[3] = 3


class SweepStage(StrEnum):
    """How far the sweep is."""

    SEARCH = "search is running"
    NOT_CONFIRMED = "confirm has not run yet"
    CONFIRM = "confirm is running"
    FINISHED = "finished"
    ENDED_EARLY = "ended early"


class Sweep(Part):
    """What was asked.

    Args:
        description: its question, as the user wrote it.
        standing: how far the sweep is.
        objective: what the search improved.
        search_seeds: the seeds of every candidate of the search.
        confirm_seeds: fresh seeds, one per confirm trial; arms are paired by them.
        targets: label of a workload -> what it must reach.
        spec: the spec as plain data without its hooks, which change no result and may hold a secret address.
        ended_early: which budget ended the sweep before its last trial, in a sentence; empty where none did.
        also: further objectives of the search.
    """

    name: str
    description: str
    standing: SweepStage
    objective: Objective
    search_seeds: tuple[int, ...]
    confirm_seeds: tuple[int, ...]
    targets: dict[str, Target]
    spec: dict[str, Json]
    ended_early: str = ""
    also: tuple[Objective, ...] = ()


class Answer(Part):
    """What the sweep says about one workload: its primary verdicts in words."""

    workload: str
    sentence: str


class Failure(Part):
    """A trial whose state is FAIL.

    Args:
        number: its place in its study; None in confirm.
        kind: such as diverged, timeout, crashed or lost.
        message: one line.
        traceback: that of a crash; else empty.
    """

    trial_id: str
    workload: str
    arm: str
    phase: Phase
    number: int | None
    seeds: tuple[int, ...]
    kind: str
    message: str
    traceback: str


class Earlier(Part):
    """What a sweep claimed before it was extended.

    Args:
        num_trials: search trials an arm then.
        num_replicates: independent searches an arm then.
        confirm_seeds: the seeds that these claims rest on.
        comparisons: the primary ones, their p adjusted over all claims of the sweep, those of today included.
    """

    num_trials: int
    num_replicates: int
    confirm_seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]


class Report(Part):
    """A sweep's report: ``report.json``.

    Args:
        version: the version of this schema; a reader that knows another version must not guess.
        machines: every kind of machine that trials ran on.
        answers: one sentence per workload.
        studies: workload by workload, the baseline first.
        comparisons: the primary ones of each workload first.
        failures: every trial whose state is FAIL.
        lints: what a careful reader would object to, a sentence each.
        profiles: every arm over the workloads, by metric; empty where there is one workload, or one arm.
        transfers: whether one setting of an arm serves all workloads; empty where no result says so.
        earlier: the claims of the sweep before each time that it was extended.
    """

    version: Literal[3] = VERSION
    sweep: Sweep
    provenance: Provenance
    machines: tuple[Machine, ...]
    answers: tuple[Answer, ...]
    studies: tuple[StudyReport, ...]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...]
    lints: tuple[str, ...]
    profiles: tuple[Profile, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    earlier: tuple[Earlier, ...] = ()

    def study(self, workload: str, arm: str) -> StudyReport:
        """Look up a study."""
        return next(study for study in self.studies if (study.workload, study.arm) == (workload, arm))

    @property
    def workloads(self) -> tuple[str, ...]:
        """The labels of the workloads, in order."""
        return tuple(dict.fromkeys(study.workload for study in self.studies))

    @property
    def arms(self) -> tuple[str, ...]:
        """The labels of the arms, the baseline first."""
        return tuple(dict.fromkeys(study.arm for study in self.studies))


class JointReport(Part):
    """Several sweeps on one page: ``report.json`` of ``teleport report A B``.

    Each comparison stays within its own sweep. The primary ones of all sweeps are one family, so ``p_adjusted``, the
    verdicts and the answers may differ from those in each sweep's own report.

    Args:
        version: the version of this schema, the same as that of a sweep's own report.
        sweeps: in the order in which they were asked for; their names differ.
        num_primary: how many primary comparisons are in the family.
        transfers: like those of a sweep, over the workloads and runs of all; the sweeps' own reports here have none.
    """

    version: Literal[3] = VERSION
    sweeps: tuple[Report, ...]
    num_primary: int
    transfers: tuple[Transfer, ...] = ()


def reports_of(report: Report | JointReport) -> tuple[Report, ...]:
    """Give the report of each sweep."""
    return report.sweeps if isinstance(report, JointReport) else (report,)
