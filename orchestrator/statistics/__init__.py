"""Estimates effects from a few paired seeds, some of them cut off, and imports nothing of this project.

Importing this package imports only the standard library, so ``teleport plan`` can ask what a number of seeds can show
and stays fast. Functions import numpy and scipy when they are called.
"""

from orchestrator.statistics.agreement import (
    Concordance,
    concordance,
    rank_agreement,
    rank_agreement_interval,
    rank_correlation,
)
from orchestrator.statistics.censored import Measured, Pair, Scale, censored_median, on_scale
from orchestrator.statistics.crossed import Cell, CrossedEffect
from orchestrator.statistics.multiplicity import (
    ALPHA,
    Decision,
    holm,
    holm_levels,
    seeds_needed,
    smallest_p,
    smallest_shift,
)
from orchestrator.statistics.paired import Inversion, PairedEffect, paired_effect, paired_interval, rejects_beyond
from orchestrator.statistics.profiles import PerformanceProfile, performance_profiles
from orchestrator.statistics.resampling import (
    MIN_BOOTSTRAP,
    bca_interval,
    probability_of_improvement,
    share_interval,
    sign_flip_p,
)
from orchestrator.statistics.sensitivity import TOLERANCE, Bin, ParameterSensitivity, sensitivity
from orchestrator.statistics.signed_rank import hodges_lehmann, signed_rank_p, signed_rank_test
from orchestrator.statistics.survival import Arrivals, arrivals, log_rank_differences, log_rank_p
from orchestrator.statistics.transfer import (
    MISS_FACTOR,
    Aggregate,
    ComparedSetting,
    Cost,
    Costs,
    LeftOut,
    Regret,
    SettingSummary,
    SettingTable,
    against_baseline,
    cost_ratio,
    geometric_mean,
    leave_one_out,
    regret_of,
    shared_settings,
)
from orchestrator.statistics.tuning import ExpectedBest, best_by_time, expected_best

__all__ = [
    "ALPHA",
    "MIN_BOOTSTRAP",
    "MISS_FACTOR",
    "TOLERANCE",
    "Aggregate",
    "Arrivals",
    "Bin",
    "Cell",
    "ComparedSetting",
    "Concordance",
    "Cost",
    "Costs",
    "CrossedEffect",
    "Decision",
    "ExpectedBest",
    "Inversion",
    "LeftOut",
    "Measured",
    "Pair",
    "PairedEffect",
    "ParameterSensitivity",
    "PerformanceProfile",
    "Regret",
    "Scale",
    "SettingSummary",
    "SettingTable",
    "against_baseline",
    "arrivals",
    "bca_interval",
    "best_by_time",
    "censored_median",
    "concordance",
    "cost_ratio",
    "expected_best",
    "geometric_mean",
    "hodges_lehmann",
    "holm",
    "holm_levels",
    "leave_one_out",
    "log_rank_differences",
    "log_rank_p",
    "on_scale",
    "paired_effect",
    "paired_interval",
    "performance_profiles",
    "probability_of_improvement",
    "rank_agreement",
    "rank_agreement_interval",
    "rank_correlation",
    "regret_of",
    "rejects_beyond",
    "seeds_needed",
    "sensitivity",
    "share_interval",
    "shared_settings",
    "sign_flip_p",
    "signed_rank_p",
    "signed_rank_test",
    "smallest_p",
    "smallest_shift",
]
