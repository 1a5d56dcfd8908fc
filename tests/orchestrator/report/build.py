"""Builds sweeps whose effects are known: no training, no clock, every number drawn from a seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.home.records import (
    Code,
    HistoryRow,
    LayerSpectrum,
    LayerSummary,
    Machine,
    Provenance,
    SeedResult,
    StepSummary,
    SweepRecord,
    TeleportSummary,
    Trial,
    TrialConfig,
    TrialFailure,
    TrialResult,
    TrialState,
)
from orchestrator.search.counts import num_candidates
from orchestrator.search.early_stopping import pruned_result
from orchestrator.spec import Arm, SweepSpec, Workload, spec_from_text

SPEC = """
version: 1
name: quickstart
description: Does teleportation pay for a small MLP on digits?
workloads:
  mlp_digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 1.0]}}
    epochs: 10
    evaluate: {every: 5}
    target: {metric: train_loss, value: 0.1}
arms:
  baseline: {}
  teleport:
    teleport:
      tau: {choice: [1.0, 0.999, 0.99]}
      step: {choice: [{rule: fixed, lr: {loguniform: [0.001, 1.0]}},
                      {rule: growth, factor: {uniform: [1.1, 4.0]}}]}
      schedule: {epochs: 5, batches: 8, steps: {int: [1, 8]}}
search: {sampler: tpe, seed: 0, trials: 6, seeds: [0, 1], objective: {metric: train_loss, mode: min}}
confirm: {top_k: 1, seeds: 8, grid: none}
resources: {cpu: 1, gpu: 0}
"""
BUDGET = 400
EVERY = 5
MACHINE = Machine(
    host="node-1",
    device="cpu",
    num_threads=1,
    versions={"python": "3.11.2", "torch": "2.14.1", "platform": "Linux"},
)
PROVENANCE = Provenance(
    command="teleport run sweeps/quickstart.yaml",
    codes=(Code(commit="0123456789abcdef0123456789abcdef01234567", changes="", source="89abcdef01234567"),),
    versions={"python": "3.11.2", "torch": "2.14.1", "ray": "2.60.0", "optuna": "5.0.0", "mlflow": "3.17.2"},
    host="node-1",
    started_at=1_760_000_000.0,
)

Run = Callable[[TrialConfig, random.Random], Trial]


@dataclass(frozen=True)
class Effects:
    """What is true of the synthetic runs.

    Args:
        steps: the median steps to target of the baseline.
        factor: by arm, what its steps are multiplied by; an arm not named has 1.
        noise: standard deviation of the log-steps that both arms of a seed share.
        own_noise: of those they do not share.
    """

    steps: float = 200.0
    factor: Mapping[str, float] | None = None
    noise: float = 0.15
    own_noise: float = 0.03

    def time(self, config: TrialConfig, seed: int) -> float:
        """The steps at which a run reaches its target, without a budget."""
        shared = random.Random(f"{config.workload}{seed}").gauss(0.0, self.noise)
        own = random.Random(f"{_key(config)}{seed}").gauss(0.0, self.own_noise)
        factor = (self.factor or {}).get(config.arm, 1.0)
        return self.steps * factor * math.exp(shared + own)


def _key(config: TrialConfig) -> str:
    """What a run's noise follows from: not its id, which changes whenever the catalogue gains a setting."""
    return f"{config.workload}/{config.arm}/{config.phase}/{sorted(config.values.items(), key=str)}"


def sweep_spec(*overrides: str, text: str = SPEC) -> SweepSpec:
    """The spec of the quickstart, changed as ``--set`` would."""
    return spec_from_text(text, "quickstart.yaml", overrides)


def sweep(
    spec: SweepSpec | None = None,
    effects: Effects | None = None,
    *,
    phases: Sequence[str] = ("search", "confirm"),
    change: Callable[[Trial], Trial | None] = lambda trial: trial,
) -> SweepRecord:
    """Make a sweep's record.

    Args:
        spec: of the sweep.
        effects: what is true.
        phases: that ran.
        change: applied to every trial; None leaves it out.
    """
    from orchestrator.search.candidates import Candidates
    from orchestrator.search.confirm import confirm_configs

    spec = spec or sweep_spec()
    effects = effects or Effects()
    trials: list[Trial] = []
    if "search" in phases:
        found = (change(trained(config, effects)) for config in search_configs(spec))
        trials += [trial for trial in found if trial is not None]
    if "confirm" in phases:
        # A grid may grow when what it has is known.
        while True:
            begun = {trial.config.trial_id for trial in trials}
            planned = confirm_configs(Candidates(spec, tuple(trials)))
            new = [config for config in planned if config.trial_id not in begun]
            more = [trial for config in new if (trial := change(trained(config, effects))) is not None]
            trials += more
            if not more:
                break
    return SweepRecord(spec, PROVENANCE, tuple(trials))


def search_configs(spec: SweepSpec) -> list[TrialConfig]:
    """Random configurations, as many as the spec asks for."""
    configs = []
    for workload, arm in spec.studies:
        wanted = itertools.product(range(spec.search.replicates), range(num_candidates(spec, workload, arm)))
        for replicate, number in wanted:
            draw = random.Random(f"{workload}/{arm}/{number}" + (f"#{replicate}" if replicate else ""))
            values: dict[str, object] = {}
            for template in (spec.workloads[workload], spec.arms[arm]):
                template.choose(lambda d, draw=draw: pick(d, draw), values)  # type: ignore[misc,arg-type]
            configs.append(
                TrialConfig(
                    workload=workload,
                    arm=arm,
                    phase="search",
                    seeds=spec.search.seeds_of(replicate),
                    training=Workload.model_validate(spec.workloads[workload].concretise(values)),  # type: ignore[arg-type]
                    method=Arm.model_validate(spec.arms[arm].concretise(values)),  # type: ignore[arg-type]
                    objective=spec.search.objective,
                    values=values,
                    number=number,
                    replicate=replicate,
                )
            )
    return configs


def pick(distribution: object, draw: random.Random) -> object:
    from orchestrator.spec import Choice, Range

    if isinstance(distribution, Choice):
        return draw.choice(distribution.labels)
    assert isinstance(distribution, Range)
    if distribution.is_integer:
        return draw.randint(int(distribution.low), int(distribution.high))
    if distribution.is_log:
        return math.exp(draw.uniform(math.log(distribution.low), math.log(distribution.high)))
    return draw.uniform(distribution.low, distribution.high)


def trained(config: TrialConfig, effects: Effects) -> Trial:
    """A trial whose loss falls as ``2.3 exp(-step / scale)`` to reach its target at a known step."""
    seeds, history = [], []
    for seed in config.seeds:
        rows = _rows(config, seed, effects.time(config, seed))
        history += rows
        seeds.append(_seed_result(config, seed, rows))
    value = sum(seed.metrics["train_loss"] for seed in seeds) / len(seeds)
    result = TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE,
        value=value,
        seeds=tuple(seeds),
        started_at=1.0,
        ended_at=2.0,
        machine=MACHINE,
    )
    return Trial(config=config, result=result, history=tuple(history))


def _rows(config: TrialConfig, seed: int, time: float) -> list[HistoryRow]:
    target = config.training.target.value
    draw = random.Random(f"{_key(config)}{seed}rows")
    teleports = config.arm != "baseline"
    pace = 0.0012 * math.exp(draw.gauss(0.0, 0.05))
    rows = []
    for step in range(0, BUDGET + 1, EVERY):
        loss = 2.3 * (target / 2.3) ** (step / time)
        teleport_seconds = 0.11 * min(1.0, step / (BUDGET / 2)) if teleports else 0.0
        metrics = {
            "train_loss": loss,
            "validation_loss": loss + 0.05 + 0.01 * draw.random(),
            "validation_accuracy": min(0.98, 0.1 + 0.88 * (1 - loss / 2.3)),
        }
        if step:
            metrics["grad_norm"] = math.sqrt(loss)
        if config.phase == "confirm" and step == BUDGET:
            metrics |= {"test_loss": loss + 0.1, "test_accuracy": 0.95 + 0.01 * draw.random()}
        rows.append(
            HistoryRow(
                seed=seed,
                step=step,
                epoch=step / 40,
                seconds=step * pace + teleport_seconds,
                teleport_seconds=teleport_seconds,
                gradient_evaluations=step * (1.4 if teleports else 1.0),
                num_teleports=min(40, step // 5) if teleports else 0,
                metrics=metrics,
            )
        )
    return rows


def _seed_result(config: TrialConfig, seed: int, rows: Sequence[HistoryRow]) -> SeedResult:
    target = config.training.target
    hit = next((row for row in rows if target.is_reached(row.metrics[target.metric])), None)
    last = rows[-1]
    return SeedResult(
        seed=seed,
        outcome="completed",
        num_steps=BUDGET,
        budget_steps=BUDGET,
        steps_to_target=None if hit is None else hit.step,
        seconds_to_target=None if hit is None else hit.seconds,
        gradient_evaluations_to_target=None if hit is None else hit.gradient_evaluations,
        seconds=last.seconds,
        teleport_seconds=last.teleport_seconds,
        gradient_evaluations=last.gradient_evaluations,
        metrics=last.metrics,
        teleports=None if config.arm == "baseline" else _teleports(),
    )


def _teleports() -> TeleportSummary:
    return TeleportSummary(
        count=40,
        outcomes={"moved": 38, "no null space": 2},
        mean_gain=1.9,
        max_loss_drift=3e-7,
        layers=(
            LayerSummary(name="0", d_in=64, mean_rank=None, mean_null_dim=None, moved=0, reason="input is fixed"),
            LayerSummary(name="2", d_in=128, mean_rank=31.5, mean_null_dim=96.5, moved=38, reason="no null space"),
            LayerSummary(name="4", d_in=128, mean_rank=30.0, mean_null_dim=98.0, moved=40, reason=None),
        ),
        steps=(
            StepSummary(step=1, count=38, gain=1.3, loss_drift=0.0),
            StepSummary(step=2, count=30, gain=1.9, loss_drift=2e-7, probe_drift=3e-3),
        ),
        spectra=(LayerSpectrum(name="2", d_in=128, directions=(1, 2, 8, 32), shares=(0.5, 0.75, 0.95, 1.0)),),
        seconds={"capture": 0.01, "subspace": 0.05, "direction": 0.03, "apply": 0.02},
    )


def failing(trial: Trial, kind: str, message: str = "the loss was not finite", after: int = 100) -> Trial:
    """The same trial, ended as FAIL: ``diverged`` keeps what was measured until ``after`` steps."""
    assert trial.result is not None
    history = tuple(row for row in trial.history if row.step <= after) if kind == "diverged" else ()
    seeds: tuple[SeedResult, ...] = ()
    if kind == "diverged":
        first = trial.result.seeds[0]
        reached = first.steps_to_target is not None and first.steps_to_target <= after
        seeds = (
            first.model_copy(
                update={
                    "outcome": "diverged",
                    "num_steps": after,
                    "metrics": history[-1].metrics if history else {},
                    "steps_to_target": first.steps_to_target if reached else None,
                    "seconds_to_target": first.seconds_to_target if reached else None,
                    "gradient_evaluations_to_target": first.gradient_evaluations_to_target if reached else None,
                }
            ),
        )
    result = trial.result.model_copy(
        update={
            "state": TrialState.FAIL,
            "value": None,
            "seeds": seeds,
            "failure": TrialFailure.model_validate({"kind": kind, "message": message, "traceback": "Traceback…"}),
        }
    )
    return trial.model_copy(update={"result": result, "history": history})


def stopped(trial: Trial, after: int = 100) -> Trial:
    """The same trial, ended by the search's scheduler after so many steps of its last seed."""
    assert trial.result is not None
    last = trial.config.seeds[-1]
    rows = tuple(row for row in trial.history if row.seed != last or row.step <= after)
    run = trial.config.model_copy(update={"seeds": (last,)})
    cut = pruned_result(run, [row for row in rows if row.seed == last], started_at=1.0, ended_at=2.0)
    seeds = (*trial.result.seeds[:-1], *cut.seeds)
    result = cut.model_copy(update={"trial_id": trial.result.trial_id, "seeds": seeds, "machine": MACHINE})
    return trial.model_copy(update={"result": result, "history": rows})


def running(trial: Trial) -> Trial:
    """The same trial, not ended yet."""
    return trial.model_copy(update={"result": None, "history": trial.history[:3]})


def missing(trial: Trial) -> Trial:
    """The same trial, all its seeds short of the target."""
    assert trial.result is not None
    update = {"steps_to_target": None, "seconds_to_target": None, "gradient_evaluations_to_target": None}
    seeds = tuple(seed.model_copy(update=update) for seed in trial.result.seeds)
    return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": seeds})})
