"""Extends a sweep: more search trials, confirm seeds or independent searches, and nothing that ran runs again.

Once a sweep has ended, its p-values can be read. So what is added then makes claims of its own, on fresh confirm seeds,
in one Holm family with those that stand. A sweep that has not ended has shown no p yet; it simply becomes larger.
"""

from __future__ import annotations

import itertools

from orchestrator.errors import UserError
from orchestrator.home import Stage, SweepPaths, SweepRecord, locked, read_record, runnable_spec
from orchestrator.spec import FIRST_CONFIRM_SEED, SweepSpec, parse_spec, read_file


def extend(paths: SweepPaths, *, trials: int = 0, confirm_seeds: int = 0, replicates: int = 0) -> SweepSpec:
    """Store what a sweep is from now on, and what it was; running it then does what is lacking.

    Args:
        paths: of a sweep that was begun.
        trials: candidates to add to each search.
        confirm_seeds: confirm seeds to add. Of a sweep that has ended, so many fresh seeds carry the new claims; where
            this is 0, as many as before.
        replicates: independent searches to add to each arm on each workload.

    Raises:
        UserError: nothing is added, or the sweep cannot become what is asked for.
        SweepLocked: another process drives the sweep.
    """
    if not (trials or confirm_seeds or replicates):
        raise UserError("nothing to add: give at least one of --trials, --confirm-seeds and --replicates")
    with locked(paths):
        spec = runnable_spec(paths)
        if not spec.search.trials and (trials or replicates):
            raise UserError(f"sweep {paths.name!r} searches nothing, so only --confirm-seeds can be added")
        record = read_record(paths)
        end = paths.read_outcome()
        has_claims = end is not None and end.is_whole and bool(spec.confirm_seeds)
        overrides = _overrides(record, trials, confirm_seeds, replicates, has_claims=has_claims)
        larger = parse_spec(read_file(paths.spec), overrides)
        if has_claims:
            paths.write_earlier([_stage(each) for each in (*record.earlier, record)])
        paths.write_spec(larger)
        # It has not ended any more.
        paths.outcome.unlink(missing_ok=True)
    return larger


def _stage(record: SweepRecord) -> Stage:
    ended = tuple(trial.trial_id for trial in record.trials if trial.result is not None)
    return Stage(spec=record.spec.to_yaml(), trial_ids=ended)


def _overrides(record: SweepRecord, trials: int, confirm_seeds: int, replicates: int, *, has_claims: bool) -> list[str]:
    """Write what changes in the spec as ``--set`` would have it."""
    spec = record.spec
    overrides = [
        *([f"search.trials={spec.search.trials + trials}"] if trials else []),
        *([f"search.replicates={spec.search.replicates + replicates}"] if replicates else []),
    ]
    kept = () if has_claims else spec.confirm_seeds
    num_new = (confirm_seeds or len(spec.confirm_seeds)) if has_claims else confirm_seeds
    if num_new:
        seeds = [*kept, *_fresh_seeds(record, num_new, spec.search.replicates + replicates)]
        overrides.append(f"confirm.seeds={seeds}")
    return overrides


def _fresh_seeds(record: SweepRecord, num: int, num_replicates: int) -> list[int]:
    """Choose seeds that neither a search nor an earlier confirm has seen, or will see."""
    search = record.spec.search.model_copy(update={"replicates": num_replicates})
    seen = {seed for each in (record, *record.earlier) for seed in each.spec.confirm_seeds} | set(search.all_seeds)
    fresh = (seed for seed in itertools.count(FIRST_CONFIRM_SEED) if seed not in seen)
    return list(itertools.islice(fresh, num))
