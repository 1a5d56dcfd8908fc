"""Whether one setting serves all workloads: what ``teleport transfer`` and ``teleport loao`` print as JSON."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from orchestrator.report.schema.comparison import Interval
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.part import Part
from orchestrator.spec import Aggregate, Json

# ``confirmed``: on seeds that no search saw. ``exploratory``: on the search's own seeds, which flatter what it chose.
EvidenceKind = Literal["confirmed", "exploratory"]
# What a choice has not seen: the workload that it is tested on, or all of that workload's architecture.
Leave = Literal["architecture", "workload"]
LEAVES: tuple[Leave, ...] = get_args(Leave)


class TransferSetting(Part):
    """One way to treat any workload.

    Args:
        key: of its configuration, whatever the sweep calls it.
        label: ``from WORKLOAD`` where the search of a workload chose it, else its number there.
        sources: these workloads; empty where it ran on several and won on none, or was found on all together.
        values: what each distribution became on the first of them.
        method: the whole of it, as an arm of a spec.
        training: what it makes of the workloads' training values, where one search over all of them found it: a
            factor of the learning rate, common parameters.
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
        setting: key.
        workload: label.
        is_own: whether it is itself the one that was tuned there; then all ratios to it are 1.
        evidence: on which seeds.
        seeds: that the setting and the workload's own both ran.
        regret: geometric mean over the seeds of its cost over the own one's, a miss counting as twice its budget.
        estimate: Hodges-Lehmann estimate of the same, misses censored; ``inf`` or 0 where those of one side prevail.
        interval: of that estimate, exact, by the signed-rank test; None unless it is confirmed.
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
    """What was tuned on a workload, on that workload, against its tuned baseline.

    Args:
        workload: label.
        setting: key.
        trial_id: of the search trial that found it.
        tuned: the cost over the baseline's with the training values tuned for it (the learning rate, as a rule), on the
            confirm seeds of its own sweep; None: not confirmed.
        alone: the same with the baseline's training values, as the settings of others run; None: no such run.
        is_same_training: whether these are the same values, so that nothing is lost by taking the baseline's; always so
            where what differs is part of the setting.
    """

    workload: str
    setting: str
    trial_id: str
    tuned: float | None
    alone: float | None
    is_same_training: bool


class SharedSetting(Part):
    """A setting as the one for all workloads.

    Args:
        setting: key.
        evidence: on which seeds.
        geometric_mean: over the workloads, of its cost over the baseline's.
        worst: the largest of these.
        worst_on: the workload of it.
        regret: geometric mean over the workloads of its regret; None where one has no own setting to compare with.
        worst_regret: the largest; None likewise.
        worst_regret_on: the workload of it; empty likewise.
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
        workload: that is left out.
        beside: those that are left out with it, since they share its architecture.
        setting: key of the choice; never one that only the search of a workload left out brought up.
        num_candidates: that it was chosen from.
        others: aggregate over the others of its cost over their baselines', a geometric mean unless ``aggregate`` says
            otherwise: by what it was chosen.
        chosen_on: the seeds that it was chosen by.
        cell: how it does on the workload left out; None: it has not run there.
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
        one: label.
        other: label.
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
        evidence: on which seeds.
        num_settings: that ran on every workload.
        w: Kendall's coefficient of concordance: 0 no agreement, 1 the same order.
        p: of no agreement, by permutation; exploratory.
        method: ``exact``, over all arrangements, or ``permutation``, over 10,000 drawn with a fixed seed.
        pairs: of workloads.
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
        cost: lower quartile of their costs over the best stretch's; None: too few trials to say.
    """

    low: float
    high: float
    count: int
    cost: float | None


class SensitivityBand(Part):
    """Over which values of a parameter the search of a workload was close to its best.

    Args:
        workload: label; ``*`` for all of them in one search.
        num_trials: that have the parameter and gave an answer; settings, where all are in one search.
        bins: along the searched range.
        low: where the band begins; None: too few trials for one.
        high: where it ends.
        is_low_open: whether it may go on below: the range ends there, or too few trials lie next to it.
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
        is_log: searched in the logarithm.
        tolerance: share above the best stretch that still counts as close.
        bands: workload by workload.
        common_low: where the stretch begins that is in every band; None: there is none, or only one band.
        common_high: where it ends.
    """

    parameter: str
    is_log: bool
    tolerance: float
    bands: tuple[SensitivityBand, ...]
    common_low: float | None
    common_high: float | None


class MissingCell(Part):
    """A setting that has no confirmed run on a workload beside the workload's own.

    Args:
        setting: key.
        workload: label.
    """

    setting: str
    workload: str


class Transfer(Part):
    """Does one setting serve all? Of one arm, over the workloads of one sweep or several.

    Args:
        version: of this schema.
        sweeps: names, in the order they were asked for.
        arm: label, in the sweeps that tuned it.
        metric: what a cost is.
        workloads: that the arm was tuned on.
        aggregate: of the one search over all of them; None: each was searched by itself.
        settings: those that won on a workload first, then those that merely ran on several.
        own: workload by workload.
        cells: the transfer matrix, as far as there is something to compare.
        missing: cells of the matrix of winners that are not confirmed.
        shared: the smallest geometric mean first.
        leave: what ``left_out`` leaves out with a workload.
        left_out: what choosing without it comes to, workload by workload.
        stability: None with fewer than three settings that ran on every workload.
        sensitivity: of each numeric parameter of the arm.
    """

    version: Literal[1] = 1
    sweeps: tuple[str, ...]
    arm: str
    metric: TimeMetric
    workloads: tuple[str, ...]
    aggregate: Aggregate | None = None
    settings: tuple[TransferSetting, ...]
    own: tuple[OwnBest, ...]
    cells: tuple[TransferCell, ...]
    missing: tuple[MissingCell, ...]
    shared: tuple[SharedSetting, ...]
    leave: Leave = "workload"
    left_out: tuple[LeftOutWorkload, ...]
    stability: RankStability | None
    sensitivity: tuple[Sensitivity, ...]

    def label(self, setting: str) -> str:
        """Look up how people read a setting."""
        return next(each.label for each in self.settings if each.key == setting)

    def cell(self, setting: str, workload: str) -> TransferCell | None:
        """Look up a cell; None where there is nothing to compare."""
        return next((each for each in self.cells if (each.setting, each.workload) == (setting, workload)), None)

    @property
    def rows(self) -> tuple[TransferSetting, ...]:
        """Settings of the matrix: the best on some workload, and of one search over all what else it confirmed."""
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
