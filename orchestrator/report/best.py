"""The best configuration as a spec that runs."""

from __future__ import annotations

import math

from orchestrator.errors import UserError
from orchestrator.home import SweepRecord, Trial, TrialState
from orchestrator.search import Candidates, confirm_grids, confirmed, steps_to_target, stored_id
from orchestrator.spec import BASELINE, Json, digest, dump_yaml
from orchestrator.statistics import censored_median

MAX_NAME = 64


def best_spec(record: SweepRecord, workload: str, arm: str | None = None) -> str:
    """Write an arm's best configuration as a spec that ``teleport run`` accepts: one trial, confirmed alike.

    Args:
        record: the stored sweep.
        workload: label of the workload.
        arm: label of the arm; None: the best arm by confirm (fewest median steps to target, then lowest median training
            loss), or by search where confirm has not run.

    Returns:
        The YAML with every value fixed, and a comment that says which trial it comes from.

    Raises:
        UserError: the study has no trial that ended well, or there is no such study.
    """
    candidates = Candidates.of(record)
    best = confirmed(candidates, confirm_grids(candidates))
    found = {label: trials for (of, label), trials in best.items() if of == workload and trials}
    if not found:
        raise UserError(f"{workload}: no trial of the search ended well yet, so there is no best configuration")
    label = _best_arm(record, found) if arm is None else arm
    if label not in found:
        raise UserError(f"{workload}/{label}: no trial of the search ended well, so there is no best configuration")
    return spec_of(record, found[label][0])


def spec_of(record: SweepRecord, trial: Trial) -> str:
    """Write the configuration of a sweep's search trial as a spec that runs."""
    spec, config = record.spec, trial.config
    arms: dict[str, Json] = {BASELINE: {}}
    if config.arm != BASELINE:
        arms[config.arm] = config.method.model_dump(mode="json", exclude_none=True)
    data = {
        "version": 1,
        "name": best_name(spec.name, config.workload, config.arm),
        "description": spec.description,
        "workloads": {config.workload: config.training.model_dump(mode="json", exclude_none=True)},
        "arms": arms,
        # One trial has no other to be stopped by, and one workload none to share its search with.
        "search": spec.search.model_dump(mode="json", exclude_none=True, exclude={"scheduler", "scope"})
        | {"trials": min(1, spec.search.trials)},
        # Each value is fixed, the learning rate too, so there is no grid to confirm it on.
        "confirm": spec.confirm.model_dump(mode="json", exclude={"candidates"}) | {"grid": "none"},
        "resources": spec.resources.model_dump(mode="json", exclude_none=True),
    }
    return "".join(f"# {line}\n" for line in _comment(record, trial)) + dump_yaml(data)


def best_name(sweep: str, workload: str, arm: str) -> str:
    """Name the sweep that runs a best configuration ``SWEEP-best-WORKLOAD-ARM``.

    A name that would be too long is cut and ends in a digest of the whole, so that two of them stay apart.

    >>> best_name("quick", "mlp", "teleport")
    'quick-best-mlp-teleport'
    """
    name = f"{sweep}-best-{workload}-{arm}"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 7]}-{digest(name, 6)}"


def _comment(record: SweepRecord, trial: Trial) -> list[str]:
    config, provenance = trial.config, record.provenance
    ran = None if trial.result is None else trial.result.code
    code = provenance.code_in_words if ran is None else ran.in_words
    what = f"search trial {stored_id(trial)} ({config.place})" if record.spec.search.trials else "as the spec has it"
    lines = [f"The best of sweep {record.spec.name}, workload {config.workload}, arm {config.arm}: {what}, {code}."]
    if config.arm != BASELINE:
        lines.append(
            f"The {BASELINE} arm in this file runs with the settings of {config.arm}, its learning rate included, and "
            "was not tuned there: this file repeats a configuration, it is no fair comparison."
        )
    # A comment ends at any line break, and a YAML reader knows more of them than "\n".
    return [" ".join(line.split()) for line in lines]


def _best_arm(record: SweepRecord, found: dict[str, tuple[Trial, ...]]) -> str:
    standing = {label: _confirmed(record, trials[0]) for label, trials in found.items()}
    if any(standing.values()):
        return min((label for label in found if standing[label]), key=lambda label: _order(standing[label]))
    sign = 1.0 if record.spec.search.objective.mode == "min" else -1.0
    return min(found, key=lambda label: _loss(found[label][0], sign))


def _confirmed(record: SweepRecord, champion: Trial) -> list[Trial]:
    """List the confirm trials of a champion that say something: a divergence or a timeout does, a crash does not."""
    return [
        trial
        for trial in record.trials
        if trial.config.phase == "confirm" and _is_answer(trial)
        if trial.config.configuration_id == champion.config.configuration_id
    ]


def _is_answer(trial: Trial) -> bool:
    result = trial.result
    if result is None:
        return False
    return result.state is TrialState.COMPLETE or (result.failure is not None and result.failure.is_answer)


def _order(trials: list[Trial]) -> tuple[float, float]:
    """Give median steps to target, then median final training loss; a run that broke off is infinite in both."""
    steps = [steps_to_target(trial) if _is_well(trial) else math.inf for trial in trials]
    losses = [
        seed.metrics.get("train_loss", math.inf) if _is_well(trial) else math.inf
        for trial in trials
        if trial.result is not None
        for seed in trial.result.seeds
    ]
    return censored_median(steps), censored_median(losses or [math.inf])


def _is_well(trial: Trial) -> bool:
    return trial.result is not None and trial.result.state is TrialState.COMPLETE


def _loss(trial: Trial, sign: float) -> float:
    return math.inf if trial.result is None or trial.result.value is None else sign * trial.result.value
