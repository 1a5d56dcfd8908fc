"""What ``scheduler: wilcoxon`` saves a shared search, and what it costs: searches on a recorded table of candidates.

The table (``racing.json``, made by ``python -m benchmarks.record_racing``) holds what every candidate of a grid cost on
every workload and seed, from real runs on scikit-learn's digits. A replay is the study's own code with the recorded
costs in place of training; its seed shuffles the candidates and the pairs.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from benchmarks.played import played, played_seed
from benchmarks.timing import row
from orchestrator.home.records import SeedResult, Trial, TrialConfig, TrialFailure, TrialResult
from orchestrator.search.candidates import Candidate, Candidates
from orchestrator.search.journal import open_journal
from orchestrator.search.study import Study
from orchestrator.spec import ALL, BASELINE, SweepSpec, Workload, spec_from_text

TABLE = Path(__file__).with_name("racing.json")
ARM = "teleport"
NUM_REPLAYS = 20
TOLERANCE = 1.02

SPEC = """
version: 1
name: racing
workloads:
  sgd:
    model: {name: mlp, widths: [64, 64]}
    data: {name: digits, batch_size: 64}
    optimizer: {name: sgd, lr: {choice: [0.1, 0.2, 0.4, 0.8]}}
    epochs: 10
    evaluate: {every: 2}
    target: {metric: train_loss, value: 0.35}
  tanh:
    model: {name: mlp, widths: [48, 48, 48], activation: tanh}
    data: {name: digits, batch_size: 64}
    optimizer: {name: momentum, lr: {choice: [0.05, 0.1, 0.2, 0.4]}}
    epochs: 8
    evaluate: {every: 2}
    target: {metric: train_loss, value: 0.2}
  adam:
    model: {name: mlp, widths: [96, 32]}
    data: {name: digits, batch_size: 64}
    optimizer: {name: adam, lr: {choice: [0.005, 0.01, 0.02, 0.04]}}
    epochs: 8
    evaluate: {every: 2}
    target: {metric: train_loss, value: 0.2}
  cnn:
    model: {name: cnn, channels: [4, 8]}
    data: {name: digits, batch_size: 64}
    optimizer: {name: momentum, lr: {choice: [0.05, 0.1, 0.2, 0.4]}}
    epochs: 6
    evaluate: {every: 3}
    target: {metric: train_loss, value: 0.5}
arms:
  teleport:
    teleport:
      tau: {choice: [1.0, 0.99]}
      step: {rule: growth, factor: {choice: [1.1, 1.5, 2.0, 4.0]}}
      schedule: {epochs: 2, batches: 2, steps: {choice: [1, 3]}}
search:
  sampler: {name: grid, points: 4}
  trials: 64
  seeds: [0, 1, 2, 3, 4]
  objective: {metric: steps_to_target}
  scope: {name: shared, lr_factor: [0.4, 2.5]}
confirm: {seeds: 1, grid: none}
"""


Key = tuple[tuple[str, str], ...]


def spec_of(*overrides: str) -> SweepSpec:
    """Make the spec whose grid is recorded, changed as ``--set`` would."""
    return spec_from_text(SPEC, "benchmarks/racing.py", overrides)


@final
@dataclass(frozen=True)
class Replay:
    """What one replay came to.

    Args:
        regret: aggregate of the candidate that it chose, over the best one's.
        share: runs that it began, of all.
    """

    regret: float
    share: float


@final
class Recorded:
    """The recorded table.

    Args:
        table: the file's content.
        spec: whose grid it is of.
    """

    def __init__(self, table: Mapping[str, Any], spec: SweepSpec) -> None:
        self.spec = spec
        self.candidates = {key_of(candidate["values"]): candidate for candidate in table["settings"]}
        self.baselines = {
            (label, BASELINE): [self._baseline(label, tuned)] for label, tuned in table["baselines"].items()
        }

    def answer(self, config: TrialConfig) -> TrialResult:
        """Look up how a run ended."""
        candidate = self.candidates[key_of(config.values)]
        place = self.spec.search.seeds.index(config.seeds[0])
        cost, is_capped = candidate["costs"][config.workload][place], candidate["is_capped"][config.workload][place]
        if cost is None:
            failure = TrialFailure(kind="diverged", message="as recorded")
            return played(config, None, (), failure)
        return played(config, cost, (_seed(config.seeds[0], cost, is_capped=is_capped),))

    def _baseline(self, label: str, tuned: Mapping[str, Any]) -> Trial:
        config = TrialConfig(
            workload=label,
            arm=BASELINE,
            phase="search",
            seeds=self.spec.search.seeds,
            training=Workload.model_validate(self.spec.workloads[label].concretise(tuned["values"])),
            method=self.spec.example_of(BASELINE),
            objective=self.spec.search.objective,
            values=tuned["values"],
            number=0,
        )
        seeds = tuple(
            _seed(seed, cost, is_capped=False) for seed, cost in zip(config.seeds, tuned["costs"], strict=True)
        )
        return Trial(config=config, result=played(config, seeds[0].num_steps, seeds))


def key_of(values: Mapping[str, Any]) -> Key:
    """Name a candidate by its values, as far as they are the same on every machine."""
    return tuple(sorted((name, f"{value:.9g}") for name, value in values.items()))


def _seed(seed: int, cost: float, *, is_capped: bool) -> SeedResult:
    steps = round(cost / 2 if is_capped else cost)
    return played_seed(seed, None if is_capped else steps, steps)


def searched(recorded: Recorded, spec: SweepSpec) -> dict[int, Candidate]:
    """Run a shared search on the recorded costs, one run at a time; ``spec`` has its own seed and scheduler."""
    trials = [trial for of in recorded.baselines.values() for trial in of]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(spec, ALL, ARM, open_journal(Path(folder) / "study.journal"), {})
        assert not study.begin(recorded.baselines)
        while (config := study.propose()) is not None:
            result = recorded.answer(config)
            trials.append(Trial(config=config, result=result))
            study.tell(result)
    return {candidate.number: candidate for candidate in Candidates(spec, tuple(trials)).shared[ARM]}


def replay(recorded: Recorded, full: Mapping[Key, float], seed: int, *overrides: str) -> Replay:
    """Search once; ``full`` has the aggregate of every candidate that has one."""
    found = searched(recorded, spec_of(f"search.seed={seed}", "search.scheduler=wilcoxon", *overrides)).values()
    chosen = min((one.aggregate, one.number, key_of(one.values)) for one in found if one.aggregate is not None)
    runs = [run for candidate in found for run in candidate.runs]
    return Replay(full[chosen[2]] / min(full.values()), sum(run.trial is not None for run in runs) / len(runs))


def replays(*overrides: str) -> list[Replay]:
    """Search in 20 orders."""
    recorded = Recorded(json.loads(TABLE.read_text(encoding="utf-8")), spec_of())
    whole = searched(recorded, spec_of(*overrides))
    full = {key_of(one.values): one.aggregate for one in whole.values() if one.aggregate is not None}
    return [replay(recorded, full, seed, *overrides) for seed in range(NUM_REPLAYS)]


def rows() -> list[dict[str, Any]]:
    """Measure."""
    made = replays("search.concurrency=1")
    at_once = replays()
    missed = sum(one.regret > TOLERANCE for one in made)
    share = statistics.mean(one.share for one in made)
    return [
        row(f"of {NUM_REPLAYS} replays, those that miss the full evaluation's best by over 2 %", missed, "replays", 2),
        row("runs that wilcoxon begins over all runs, mean of the replays", share, "ratio", 0.40),
        row("the same with four candidates at once", statistics.mean(one.share for one in at_once), "ratio", 0.45),
        row("the same with one, the costliest replay", max(one.share for one in made), "ratio"),
        row("regret of the worst replay, its choice over the best", max(one.regret for one in made), "ratio"),
    ]
