"""Estimators for a few paired seeds with right-censoring; see ``docs/methodology.md``.

Nothing is imported here but the standard library, so that the dry run can ask what a number of seeds can show.
"""

from orchestrator.statistics.censored import Measured, Pair, Scale, censored_median, probability_of_improvement
from orchestrator.statistics.correlation import rank_correlation
from orchestrator.statistics.multiplicity import ALPHA, holm, seeds_needed, smallest_p
from orchestrator.statistics.paired import PairedEffect, paired_effect
from orchestrator.statistics.power import smallest_shift
from orchestrator.statistics.signed_rank import hodges_lehmann, shift_interval, signed_rank_p

__all__ = [
    "ALPHA",
    "Measured",
    "Pair",
    "PairedEffect",
    "Scale",
    "censored_median",
    "hodges_lehmann",
    "holm",
    "paired_effect",
    "probability_of_improvement",
    "rank_correlation",
    "seeds_needed",
    "shift_interval",
    "signed_rank_p",
    "smallest_p",
    "smallest_shift",
]
