"""Trains one configuration in this process, without a search, for a close look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import Fault, UserError, nearest
from orchestrator.home import HistoryRow, SweepPaths, TrialConfig, TrialResult
from orchestrator.spec import SweepSpec, Template, Workload
from orchestrator.sweep.driver import without_credentials

Show = Callable[[Sequence[HistoryRow]], None]


def single_config(spec: SweepSpec, workload: str | None, arm: str | None, seed: int | None) -> TrialConfig:
    """Pick the one configuration of a spec without open distributions, as a search trial of one seed.

    Args:
        spec: of a sweep.
        workload: label; None for the first.
        arm: label; None for the last, which is a treatment where there is one.
        seed: None for the first search seed.

    Raises:
        UserError: a label is unknown, or ``--set`` has to fix distributions; the error names all of them.
    """
    workload = workload if workload is not None else next(iter(spec.workloads))
    arm = arm if arm is not None else list(spec.arms)[-1]
    if workload not in spec.workloads:
        raise UserError(f"--workload: {workload!r} is not in the spec; {nearest(workload, spec.workloads)}")
    if arm not in spec.arms:
        raise UserError(f"--arm: {arm!r} is not in the spec; {nearest(arm, spec.arms)}")
    needed = [arm, *([spec.sources[arm]] if arm in spec.sources else [])]
    prefixes = {f"workloads.{workload}": spec.workloads[workload]} | {f"arms.{a}": spec.arms[a] for a in needed}
    keys = [f"{prefix}.{key}" for prefix, template in prefixes.items() for key in _open_keys(template)]
    if keys:
        raise UserError(*(Fault(key, "is a distribution; fix it with --set KEY=VALUE") for key in keys))
    return TrialConfig(
        workload=workload,
        arm=arm,
        phase="search",
        seeds=(spec.search.seeds[0] if seed is None else seed,),
        training=Workload.model_validate(spec.workloads[workload].concretise({})),
        method=spec.example_of(arm),
        objective=spec.search.objective,
        also=spec.search.also,
        share=spec.resources.share("search"),
    )


def _open_keys(template: Template) -> list[str]:
    """List the outermost keys that hold a distribution: to fix such a key fixes the distributions below it."""
    names = [distribution.name for distribution in template.distributions()]
    outermost = [name for name in names if not any(name.startswith(f"{other}[") for other in names)]
    return list(dict.fromkeys(name.partition("[")[0] for name in outermost))


def train_one(config: TrialConfig, home: Path, name: str, show: Show) -> tuple[TrialResult, Path]:
    """Train a configuration and put it on file.

    Args:
        config: what to train.
        home: directory of the sweeps.
        name: directory in it that belongs to no sweep.
        show: is handed new rows of the curves.

    Returns:
        The result, and the directory with the files.
    """
    from orchestrator.trial import run_trial

    paths = SweepPaths(home, name)
    paths.write_config(config)
    paths.start_history(config.trial_id)

    def report(rows: Sequence[HistoryRow]) -> None:
        paths.append_history(config.trial_id, rows)
        show(rows)

    result = without_credentials(run_trial(config, report))
    paths.write_result(result)
    return result, paths.result(config.trial_id).parent
