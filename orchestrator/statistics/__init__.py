"""Estimators for a few paired seeds with right-censoring; see ``docs/methodology.md``.

Nothing is imported here but the standard library, so that the dry run can ask what a number of seeds can show.
"""

from orchestrator.statistics.censored import Measured, Pair, Scale, censored_median
from orchestrator.statistics.correlation import rank_correlation
from orchestrator.statistics.inversion import Inversion
from orchestrator.statistics.multiplicity import ALPHA, Decision, holm, holm_levels, seeds_needed, smallest_p
from orchestrator.statistics.paired import PairedEffect, paired_effect, paired_interval
from orchestrator.statistics.power import smallest_shift
from orchestrator.statistics.profiles import Profile, performance_profiles
from orchestrator.statistics.proportion import probability_of_improvement, share_interval
from orchestrator.statistics.resampling import MIN_BOOTSTRAP, bca_interval, sign_flip_p
from orchestrator.statistics.signed_rank import hodges_lehmann, signed_rank_p, signed_rank_test
from orchestrator.statistics.survival import Arrivals, arrivals, log_rank_differences, log_rank_p
from orchestrator.statistics.tuning import Best, best_by_time, expected_best

__all__ = [
    "ALPHA",
    "MIN_BOOTSTRAP",
    "Arrivals",
    "Best",
    "Decision",
    "Inversion",
    "Measured",
    "Pair",
    "PairedEffect",
    "Profile",
    "Scale",
    "arrivals",
    "bca_interval",
    "best_by_time",
    "censored_median",
    "expected_best",
    "hodges_lehmann",
    "holm",
    "holm_levels",
    "log_rank_differences",
    "log_rank_p",
    "paired_effect",
    "paired_interval",
    "performance_profiles",
    "probability_of_improvement",
    "rank_correlation",
    "seeds_needed",
    "share_interval",
    "sign_flip_p",
    "signed_rank_p",
    "signed_rank_test",
    "smallest_p",
    "smallest_shift",
]
