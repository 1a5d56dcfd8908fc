"""Whether one setting serves all workloads: what ``teleport transfer`` prints as JSON."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from orchestrator.report.schema.comparison import Interval
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.part import Part
from orchestrator.spec import Aggregate, Json

# ``confirmed``: on seeds that no search saw. ``exploratory``: on the search's own seeds, which flatter what it chose.
EvidenceKind = Literal["confirmed", "exploratory"]
# What a choice has not seen: the workload that it is tested on, or all workloads of its architecture.
Leave = Literal["architecture", "workload"]
LEAVES: tuple[Leave, ...] = get_args(Leave)


class TransferCandidate(Part):
    """One way to treat any workload.

    Args:
        key: identity of its configuration, whatever the sweep calls it.
        label: ``from WORKLOAD`` where the search of a workload chose it, else its number there.
        sources: the workloads whose search chose it; empty where none did, or where it was found on all together.
        values: parameter -> its value on the first of them.
        method: all of it, as an arm of a spec.
        training: what it changes of the workloads' training values (a factor of the learning rate, common parameters),
            where one search over all of them found it.
    """

    key: str
    label: str
    sources: tuple[str, ...] = ()
    values: dict[str, Json] = Field(default_factory=dict)
    method: dict[str, Json] = Field(default_factory=dict)
    training: dict[str, Json] = Field(default_factory=dict)


class TransferCell(Part):
    """A setting on a workload, with the training values of its tuned baseline, against the setting tuned on it.

    Args:
        setting: the setting's key.
        is_own: whether the setting itself was tuned there; then all ratios to it are 1.
        evidence: the kind of its seeds.
        seeds: those that the setting and the workload's own both ran.
        regret: geometric mean over the seeds of its cost over the own one's; a miss counts as twice its budget.
        estimate: Hodges-Lehmann estimate of the same with misses censored; ``inf`` or 0 where those of one side
            prevail.
        interval: the estimate's exact interval by the signed-rank test; None unless it is confirmed.
        against_baseline: its cost over the tuned baseline's; None where they have no seed in common.
        num_misses: seeds on which the setting missed.
        num_own_misses: seeds on which the own setting missed.
    """

    setting: str
    workload: str
    is_own: bool
    evidence: EvidenceKind
    seeds: tuple[int, ...]
    regret: float
    estimate: float
    interval: Interval | None
    against_baseline: float | None
    num_misses: int
    num_own_misses: int


class OwnBest(Part):
    """The setting tuned on a workload, on that workload, against its tuned baseline.

    Args:
        setting: the setting's key.
        trial_id: id of the search trial that found it.
        tuned: its cost over the baseline's, with the training values tuned for it (the learning rate, as a rule), on
            the confirm seeds of its own sweep; None where it is not confirmed.
        alone: the same with the baseline's training values, as the settings of others run; None where there is no such
            run.
        is_same_training: whether both have the same training values, so that the baseline's lose nothing; always so
            where what differs is part of the setting.
    """

    workload: str
    setting: str
    trial_id: str
    tuned: float | None
    alone: float | None
    is_same_training: bool


class CandidateForAll(Part):
    """A setting as the one for all workloads.

    Args:
        setting: the setting's key.
        evidence: the kind of its seeds.
        geometric_mean: over the workloads, of its cost over the baseline's.
        worst: the largest of these ratios.
        worst_on: the workload of that ratio.
        regret: geometric mean over the workloads of its regret; None where a workload has no own setting to compare
            with.
        worst_regret: the largest regret; None likewise.
        worst_regret_on: the workload of that regret; empty likewise.
    """

    setting: str
    evidence: EvidenceKind
    geometric_mean: float
    worst: float
    worst_on: str
    regret: float | None
    worst_regret: float | None
    worst_regret_on: str


class LeftOutWorkload(Part):
    """What is chosen on the other workloads, tested on the one left out.

    Args:
        beside: workloads that are left out with it, since they share its architecture.
        setting: key of the choice; never one that only the search of a workload left out brought up.
        num_candidates: how many settings it was chosen from.
        others: what it was chosen by: the aggregate over the other workloads of its cost over their baselines', a
            geometric mean unless ``aggregate`` says otherwise.
        chosen_on: the kind of the seeds that it was chosen by.
        cell: how it does on the workload left out; None where it has not run there.
    """

    workload: str
    beside: tuple[str, ...] = ()
    setting: str
    num_candidates: int
    others: float
    chosen_on: EvidenceKind
    cell: TransferCell | None


class RankAgreement(Part):
    """Whether two workloads put the settings in the same order.

    Args:
        tau: Kendall's tau-b; None where one of them tells no two settings apart.
        low: lower end of its 95 % interval, by bootstrap over the settings; None below 20 settings.
        high: upper end; likewise.
    """

    one: str
    other: str
    tau: float | None
    low: float | None = None
    high: float | None = None


class RankStability(Part):
    """Whether all workloads put the settings in the same order.

    Args:
        evidence: the kind of the seeds.
        num_settings: settings that ran on every workload.
        w: Kendall's coefficient of concordance, from 0 (no agreement) to 1 (the same order).
        p: that of no agreement, by permutation; exploratory.
        method: ``exact``: over all arrangements; ``permutation``: over 10,000 drawn with a fixed seed.
    """

    evidence: EvidenceKind
    num_settings: int
    w: float
    p: float
    method: Literal["exact", "permutation"]
    pairs: tuple[RankAgreement, ...]


class SensitivityBin(Part):
    """A stretch of a parameter.

    Args:
        low: where it begins, or its first whole number.
        high: where it ends, or its last whole number.
        count: search trials in it.
        cost: lower quartile of their costs over the best stretch's; None where there are too few trials.
    """

    low: float
    high: float
    count: int
    cost: float | None


class SensitivityBand(Part):
    """Over which values of a parameter the search of a workload was close to its best.

    Args:
        workload: label; ``*`` for all of them in one search.
        num_trials: trials, or candidates of a shared search, that have the parameter and gave an answer.
        bins: along the searched range.
        low: where the band begins; None where there are too few trials for one.
        high: where it ends.
        is_low_open: whether it may go on below, since the range ends there or too few trials lie next to it.
        is_high_open: likewise above.
    """

    workload: str
    num_trials: int
    bins: tuple[SensitivityBin, ...]
    low: float | None
    high: float | None
    is_low_open: bool
    is_high_open: bool


class Sensitivity(Part):
    """How sensitive the workloads are to one parameter of the arm; always exploratory.

    Args:
        parameter: dotted path, with the choices it depends on.
        is_log: whether the logarithm is searched.
        tolerance: the share above the best stretch that still counts as close.
        common_low: where the stretch begins that lies in every band; None where there is none, or only one band.
        common_high: where it ends.
    """

    parameter: str
    is_log: bool
    tolerance: float
    bands: tuple[SensitivityBand, ...]
    common_low: float | None
    common_high: float | None


class MissingCell(Part):
    """A setting that has no confirmed run on a workload beside the workload's own."""

    setting: str
    workload: str


class Transfer(Part):
    """Does one setting serve all? What is known of one arm over the workloads of one sweep or several.

    Args:
        version: the version of this schema.
        sweeps: names, in the order in which they were asked for.
        arm: its label in the sweeps that tuned it.
        metric: what a cost is.
        workloads: those that the arm was tuned on.
        aggregate: that of the one search over all of them; None where each was searched by itself.
        settings: those that won on a workload first, then those that merely ran on several.
        cells: the transfer matrix, as far as there is something to compare.
        missing: cells of the matrix of winners that are not confirmed.
        shared: settings as the one for all, the smallest geometric mean first.
        leave: what ``left_out`` leaves out with a workload.
        left_out: what choosing without each workload comes to.
        stability: None with fewer than three settings that ran on every workload.
        sensitivity: each numeric parameter of the arm.
    """

    version: Literal[1] = 1
    sweeps: tuple[str, ...]
    arm: str
    metric: TimeMetric
    workloads: tuple[str, ...]
    aggregate: Aggregate | None = None
    settings: tuple[TransferCandidate, ...]
    own: tuple[OwnBest, ...]
    cells: tuple[TransferCell, ...]
    missing: tuple[MissingCell, ...]
    shared: tuple[CandidateForAll, ...]
    leave: Leave = "workload"
    left_out: tuple[LeftOutWorkload, ...]
    stability: RankStability | None
    sensitivity: tuple[Sensitivity, ...]

    def label(self, setting: str) -> str:
        """Look up the label of a setting."""
        return next(each.label for each in self.settings if each.key == setting)

    def cell(self, setting: str, workload: str) -> TransferCell | None:
        """Look up a cell; None where there is nothing to compare."""
        return next((each for each in self.cells if (each.setting, each.workload) == (setting, workload)), None)

    @property
    def rows(self) -> tuple[TransferCandidate, ...]:
        """Settings of the matrix: the best on some workload, and what one search over all has confirmed besides."""
        shown = {each.setting for each in self.own}
        if self.aggregate is not None:
            shown |= {cell.setting for cell in self.cells if cell.evidence == "confirmed"}
        return tuple(each for each in self.settings if each.key in shown)

    @property
    def has_findings(self) -> bool:
        """Whether it says more than what every workload's own study does."""
        is_across = self.aggregate is not None or any(not cell.is_own for cell in self.cells)
        return (
            is_across or self.stability is not None or any(b.low is not None for s in self.sensitivity for b in s.bands)
        )
