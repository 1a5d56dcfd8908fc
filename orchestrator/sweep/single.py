"""One configuration in this process, without a search: for looking closely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import Fault, UserError, nearest
from orchestrator.home import HistoryRow, SweepPaths, TrialConfig, TrialResult
from orchestrator.spec import SweepSpec, Template, Workload

Show = Callable[[Sequence[HistoryRow]], None]


def single_config(spec: SweepSpec, workload: str | None, arm: str | None, seed: int | None) -> TrialConfig:
    """Pick the one configuration that a spec without open distributions holds.

    Args:
        spec: of a sweep.
        workload: label; None: the first.
        arm: label; None: the last, which is the first treatment where there is one.
        seed: None: the first search seed.

    Returns:
        The configuration, as a search trial of one seed.

    Raises:
        UserError: an unknown label, or distributions that ``--set`` has to fix; all of them.
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
    """List the keys that hold a distribution; one below another is fixed with it, one in a list with the list."""
    names = [distribution.name for distribution in template.distributions()]
    outermost = [name for name in names if not any(name.startswith(f"{other}[") for other in names)]
    return list(dict.fromkeys(name.partition("[")[0] for name in outermost))


def train_one(config: TrialConfig, home: Path, name: str, show: Show) -> tuple[TrialResult, Path]:
    """Train a configuration and put it on file.

    Args:
        config: what to train.
        home: directory of the sweeps.
        name: directory in it, apart from any sweep's.
        show: is handed new rows of the curves.

    Returns:
        How it ended, and the directory with its files.
    """
    from orchestrator.trial import run_trial

    paths = SweepPaths(home, name)
    paths.write_config(config)
    paths.start_history(config.trial_id)

    def report(rows: Sequence[HistoryRow]) -> None:
        paths.append_history(config.trial_id, rows)
        show(rows)

    result = run_trial(config, report)
    paths.write_result(result)
    return result, paths.result(config.trial_id).parent
