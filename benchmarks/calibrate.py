"""How often a verdict is false, and how often a real effect is found, in sweeps simulated with the project's own code.

A simulated sweep searches with :class:`~orchestrator.search.study.Study`, confirms on the grid, and is judged as a
report judges it. Only training is replaced: a run looks its steps to target up in a table that was recorded from real
training (``calibration.json``, made by ``python -m benchmarks.record_calibration``). So it is known what is true of
each arm, and every verdict can be called right or wrong.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, final

import optuna

from benchmarks.played import played, played_seed
from benchmarks.timing import row
from orchestrator.home import Provenance, SweepRecord, Trial, TrialConfig
from orchestrator.report.comparisons import comparisons_of
from orchestrator.report.schema import Comparison, Verdict
from orchestrator.report.studies import study_of
from orchestrator.report.summarise import tasks_of
from orchestrator.search import Candidates, Confirmation, confirm_grids, confirmed
from orchestrator.search.study import Study
from orchestrator.spec import BASELINE, Range, SweepSpec, Workload, spec_from_text
from orchestrator.spec.phases import REPLICATE_STRIDE
from orchestrator.statistics import share_interval
from orchestrator.sweep import calibration
from orchestrator.sweep.calibration import EFFECTS

TABLES: Final = Path(__file__).with_name("calibration.json")
# The seeds on which each workload is recorded.
NUM_SEEDS: Final = {"mlp": 40, "cnn": 16, "transformer": 16}
NUM_RATES: Final = {"mlp": 13, "cnn": 13, "transformer": 12}
WORKLOADS: Final = {
    "mlp": """
    model: {name: mlp, widths: [32]}
    data: {name: digits, batch_size: 64}
    optimizer: {name: sgd, lr: {loguniform: [0.02, 2.0]}}
    epochs: 8
    evaluate: {every: 2, num_validation: 16}
    target: {metric: train_loss, value: 0.15}
""",
    "cnn": """
    model: {name: cnn, channels: [4, 8]}
    data: {name: digits, batch_size: 64}
    optimizer: {name: adam, lr: {loguniform: [0.002, 0.2]}}
    epochs: 5
    evaluate: {every: 2, num_validation: 16}
    target: {metric: train_loss, value: 0.15}
""",
    "transformer": """
    model: {name: transformer, d_model: 16, num_heads: 2, num_layers: 1, d_ff: 32}
    data: {name: seq_digits, batch_size: 64}
    optimizer: {name: momentum, lr: {loguniform: [0.01, 1.0]}}
    epochs: 5
    evaluate: {every: 2, num_validation: 16}
    target: {metric: train_loss, value: 1.1}
""",
}
# The arm as a spec has it. Its settings, none or seven that are searched, change nothing in a simulated run.
FIXED = "teleport: {step: {rule: growth, factor: 2.0}}"
SEARCHED = """teleport:
      tau: {choice: [1.0, 0.999, 0.99]}
      step: {rule: growth, factor: {uniform: [1.1, 4.0]}}
      max_loss_drift: {loguniform: [0.01, 1.0]}
      grad_norm_cap: {loguniform: [1.0, 100.0]}
      schedule: {epochs: {int: [1, 5]}, batches: {int: [1, 8]}, steps: {int: [1, 8]}}"""
ARM: Final = "teleport"
FIRST_CONFIRM_SEED: Final = 1_000
PROVENANCE: Final = Provenance(command="calibrate", versions={}, host="", started_at=0.0)
# Search trials and confirm seeds.
BUDGETS: Final = ((8, 8), (12, 10), (16, 8), (24, 8))
CLAIMS: Final = (Verdict.FASTER, Verdict.SLOWER)
MOST_FALSE: Final = 0.05
MOST_NOT_HELD: Final = 0.07
MOST_NOT_FOUND: Final = {"-15 %": 0.10, "-15 % at twice the rate": 0.20}
FOR_PLAN: Final = Path(calibration.__file__).with_name(calibration.FILE)
# What the names of rows end with.
FALSE: Final = "false verdicts"
NOT_FOUND: Final = "effects not found"
NOT_HELD: Final = "intervals without the effect"
ALL_TABLES: Final = "all tables"
# A result holds whole steps. Simulated ones count hundredths of a recorded step, so that rounding makes no ties.
UNIT: Final = 100


@final
@dataclass(frozen=True)
class Truth:
    """What is true of an arm.

    Args:
        template: the arm as the spec has it.
        factor: what the baseline's steps are multiplied by.
        lr_factor: the arm at a rate does what the baseline does at this multiple of it.
        noise: standard deviation of the logarithm of a factor that is drawn anew for each rate and seed.
        luck: standard deviation of the logarithm of a factor that each search's settings have, whatever rate and seed.
    """

    template: str = SEARCHED
    factor: float = 1.0
    lr_factor: float = 1.0
    noise: float = 0.0
    luck: float = 0.0


TRUTHS: Final = {
    "identical, no settings": Truth(FIXED),
    "identical, seven idle settings": Truth(),
    "noisy, no effect": Truth(noise=0.10),
    "learning rate x 2 in disguise": Truth(lr_factor=2.0),
    "learning rate x 0.5 in disguise": Truth(lr_factor=0.5),
    "-5 %": Truth(factor=0.95, noise=0.10),
    "-10 %": Truth(factor=0.90, noise=0.10),
    "-15 %": Truth(factor=0.85, noise=0.10),
    "-25 %": Truth(factor=0.75, noise=0.10),
    "-15 % at twice the rate": Truth(factor=0.85, lr_factor=0.5, noise=0.10),
}
# What a verdict says of the method, and not of the settings that one search found, by the number of searches.
OF_SEARCHES: Final = {
    "no effect, settings alike": Truth(noise=0.10),
    "no effect, settings differ": Truth(noise=0.10, luck=0.10),
    "-15 %, settings differ": Truth(factor=0.85, noise=0.10, luck=0.10),
    "-25 %, settings differ": Truth(factor=0.75, noise=0.10, luck=0.10),
}
REPLICATES: Final = (1, 3)
REPLICATED_BUDGET: Final = (12, 10)


@final
@dataclass(frozen=True)
class Table:
    """Steps to target of a workload's plain baseline.

    Args:
        rates: learning rates, rising.
        steps: at each rate the steps of every recorded seed; infinite where the run missed its target.
        budget: the steps of a whole run.
    """

    rates: tuple[float, ...]
    steps: tuple[tuple[float, ...], ...]
    budget: int

    @property
    def num_seeds(self) -> int:
        """The number of recorded seeds."""
        return len(self.steps[0])

    def at(self, rate: float, seed: int) -> float:
        """Read a recorded seed off at any rate: the logarithm of its steps is straight between two recorded rates.

        Where it missed at one of the two, the nearer one decides. Beyond the ends it does as at the end.
        """
        at = math.log(rate)
        places = [math.log(one) for one in self.rates]
        right = next((place for place, one in enumerate(places) if one >= at), len(places) - 1)
        left = max(right - 1, 0)
        share = min(max((at - places[left]) / (places[right] - places[left]), 0.0), 1.0) if left < right else 0.0
        before, after = self.steps[left][seed], self.steps[right][seed]
        if math.isinf(before) or math.isinf(after):
            return before if share < 0.5 else after
        return math.exp((1.0 - share) * math.log(before) + share * math.log(after))


@cache
def table_of(label: str) -> Table:
    """Read a workload's table."""
    found = json.loads(TABLES.read_text(encoding="utf-8"))["tables"][label]
    steps = tuple(tuple(math.inf if one is None else one for one in of) for of in found["steps"])
    return Table(tuple(found["rates"]), steps, found["budget"])


@cache
def spec_of(
    label: str, template: str = FIXED, trials: int = 1, num_seeds: int = 8, seed: int = 0, replicates: int = 1
) -> SweepSpec:
    """Make the spec of a simulated sweep on one workload."""
    text = f"""
version: 1
name: calibrate
workloads:
  {label}: {WORKLOADS[label]}
arms:
  baseline: {{}}
  {ARM}:
    {template}
search:
  {{sampler: tpe, seed: {seed}, trials: {trials}, seeds: [0, 1], replicates: {replicates},
   objective: {{metric: steps_to_target}}}}
confirm: {{seeds: {num_seeds}}}
"""
    return spec_from_text(text, "benchmarks/calibrate.py")


def rates_of(label: str) -> list[float]:
    """The learning rates at which a workload is recorded: a logarithmic grid over its searched range."""
    (lr,) = spec_of(label).workloads[label].distributions()
    assert isinstance(lr, Range)
    num = NUM_RATES[label] - 1
    return [float(f"{lr.low * (lr.high / lr.low) ** (step / num):.4g}") for step in range(num + 1)]


def training_at(label: str, rate: float) -> Workload:
    """Fix a workload's learning rate."""
    return Workload.model_validate(spec_of(label).workloads[label].concretise({"optimizer.lr": rate}))


@final
@dataclass(frozen=True)
class World:
    """What training comes to in one simulated sweep.

    Args:
        table: what the baseline does.
        truth: what is true of the arm.
        name: draws which recorded seed stands for which seed of the sweep, and the noise.
    """

    table: Table
    truth: Truth
    name: str

    def run(self, config: TrialConfig) -> Trial:
        """Look up how a run ends."""
        (seed,) = config.seeds
        steps = self._steps(config, float(config.training.optimizer.model_dump()["lr"]), seed)
        reached = round(UNIT * steps) if steps <= self.table.budget else None
        budget = UNIT * self.table.budget
        value = 2.0 * budget if reached is None else float(reached)
        result = played(config, value, (played_seed(seed, reached, budget),))
        return Trial(config=config, result=result)

    def _steps(self, config: TrialConfig, rate: float, seed: int) -> float:
        recorded = _permutation(self.name, self.table.num_seeds)[self._place(seed)]
        if config.arm == BASELINE:
            return self.table.at(rate, recorded)
        # With one search the name of the draw is what it was before there were several.
        which = f" of search {config.replicate}" if config.replicate else ""
        noise = random.Random(f"{self.name} {rate:.6g} {seed}{which}").gauss(0.0, self.truth.noise)
        noise += random.Random(f"{self.name} luck{which}").gauss(0.0, self.truth.luck)
        return self.truth.factor * math.exp(noise) * self.table.at(rate * self.truth.lr_factor, recorded)

    @staticmethod
    def _place(seed: int) -> int:
        """Number a sweep's seeds: two of the first search, then those of confirm; further searches take the last."""
        if seed < 2:
            return seed
        replicate, within = divmod(seed, REPLICATE_STRIDE)
        return seed - FIRST_CONFIRM_SEED + 2 if not replicate else -(2 * replicate - within)


@cache
def _permutation(name: str, num: int) -> list[int]:
    return random.Random(f"{name} seeds").sample(range(num), num)


def searched(spec: SweepSpec, arm: str, world: World, replicate: int = 0) -> list[Trial]:
    """Run one whole search of an arm on its workload."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (label,) = spec.workloads
    storage, trials = optuna.storages.InMemoryStorage(), list[Trial]()
    study = Study(spec, label, arm, storage, {}, replicate=replicate)
    while (config := study.propose()) is not None:
        trials.append(world.run(config))
        result = trials[-1].result
        assert result is not None
        study.tell(result)
    return trials


def judged(spec: SweepSpec, search: Sequence[Trial], world: World) -> tuple[Comparison, int]:
    """Confirm what the searches have found and judge it.

    Returns:
        The claim, and how many points the confirm grid came to have.
    """
    trials = list(search)
    confirmation = Confirmation(Candidates(spec, tuple(trials)))
    while not confirmation.is_settled:
        while (config := confirmation.propose()) is not None:
            trials.append(world.run(config))
        confirmation.grow(Candidates(spec, tuple(trials)))
    candidates = Candidates(spec, tuple(trials))
    grids = confirm_grids(candidates)
    best = confirmed(candidates, grids)
    record = SweepRecord(spec, PROVENANCE, candidates.merged)
    studies = [study_of(record, *study, best[study], grids.get(study[0])) for study in spec.studies]
    comparisons = comparisons_of(studies, spec.confirm_seeds, spec.search.trials, tasks=tasks_of(spec))
    (claim,) = (one for one in comparisons if one.is_primary)
    return claim, len(studies[0].grid)


@final
@dataclass(frozen=True)
class Sweep:
    """What came of one simulated sweep.

    Args:
        label: of the workload.
        truth: name of what is true of its arm.
        budget: search trials and confirm seeds.
        verdict: of the claim.
        is_covered: whether the claim's interval holds the true effect.
        num_points: points of the confirm grid.
    """

    label: str
    truth: str
    budget: tuple[int, int]
    verdict: str
    is_covered: bool
    num_points: int


def simulated(
    label: str, number: int, truths: Sequence[str] = tuple(TRUTHS), budgets: Sequence[tuple[int, int]] = BUDGETS
) -> list[Sweep]:
    """Simulate a sweep for each truth and budget.

    A search with few trials is the beginning of one with more, since a proposal knows nothing of those that are still
    to come. So each arm searches once, and each budget takes as many trials from that as it has. The baseline's search
    is the same whatever the arm.
    """
    found, most = [], max(trials for trials, _ in budgets)
    baseline: list[Trial] = []
    for name in truths:
        truth = TRUTHS[name]
        world = World(table_of(label), truth, f"{label} {number}")
        whole = spec_of(label, truth.template, most, seed=number)
        baseline = baseline or searched(whole, BASELINE, world)
        arm = searched(whole, ARM, world)
        for trials, seeds in budgets:
            spec = spec_of(label, truth.template, trials, seeds, number)
            search = [one for one in (*baseline, *arm) if (one.config.number or 0) < trials]
            claim, num_points = judged(spec, search, world)
            ends = claim.interval
            is_covered = ends is not None and ends.low <= truth.factor <= ends.high
            found.append(Sweep(label, name, (trials, seeds), claim.verdict.value, is_covered, num_points))
    spec_of.cache_clear()
    return found


def of_searches(label: str, number: int) -> list[tuple[str, int, str, bool]]:
    """Simulate a sweep with one search of each arm, and one with several, for each truth of :data:`OF_SEARCHES`.

    Returns:
        Truth, number of searches, verdict, and whether the interval holds the method's effect.
    """
    found = []
    for name, truth in OF_SEARCHES.items():
        world = World(table_of(label), truth, f"{label} {number} of searches")
        for num in REPLICATES:
            spec = spec_of(label, truth.template, *REPLICATED_BUDGET, number, num)
            search = [one for arm in spec.arms for r in range(num) for one in searched(spec, arm, world, r)]
            claim, _ = judged(spec, search, world)
            ends = claim.interval
            found.append((name, num, claim.verdict.value, ends is not None and ends.low <= truth.factor <= ends.high))
    spec_of.cache_clear()
    return found


def rows_of_searches(num_sweeps: int, num_workers: int | None = None) -> list[dict[str, Any]]:
    """Count how often verdicts about the method were right with one search of each arm, and with several."""
    labels = [list(WORKLOADS)[number % len(WORKLOADS)] for number in range(num_sweeps)]
    with ProcessPoolExecutor(num_workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        found = [one for sweeps in pool.map(of_searches, labels, range(num_sweeps)) for one in sweeps]
    table = []
    for truth in OF_SEARCHES:
        for num in REPLICATES:
            mine = [
                (verdict, covered) for name, searches, verdict, covered in found if (name, searches) == (truth, num)
            ]
            where = f"{truth}, {num} search{'es' if num > 1 else ''}"
            # One search does not claim to speak of the method, so it has no goal here.
            goals = (MOST_FALSE, MOST_NOT_HELD) if num > 1 else (None, None)
            if OF_SEARCHES[truth].factor == 1.0:
                table.append(_share(f"{where}: {FALSE}", [verdict in CLAIMS for verdict, _ in mine], goals[0]))
            else:
                table.append(_share(f"{where}: {NOT_FOUND}", [verdict != Verdict.FASTER for verdict, _ in mine], None))
            table.append(_share(f"{where}: {NOT_HELD}", [not covered for _, covered in mine], goals[1]))
    return table


def calibrated(num_sweeps: int, num_workers: int | None = None) -> list[Sweep]:
    """Simulate so many sweeps for each truth and budget, the workloads taking turns."""
    labels = [list(WORKLOADS)[number % len(WORKLOADS)] for number in range(num_sweeps)]
    found: list[Sweep] = []
    with ProcessPoolExecutor(num_workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for done, sweeps in enumerate(pool.map(simulated, labels, range(num_sweeps)), start=1):
            found += sweeps
            print(f"\r{done} of {num_sweeps} sweeps", end="", file=sys.stderr, flush=True)
    return found


def rows() -> list[dict[str, Any]]:
    """Measure; the environment variable ``SWEEPS`` says how many sweeps, 400 unless it is set.

    Raises:
        SystemExit: there would be fewer sweeps than tables.
    """
    num_sweeps = int(os.environ.get("SWEEPS", "400"))
    if num_sweeps < len(WORKLOADS):
        raise SystemExit(f"SWEEPS must be at least {len(WORKLOADS)}, one for each table, is {num_sweeps}")
    measured = rows_of(calibrated(num_sweeps)) + rows_of_searches(num_sweeps)
    FOR_PLAN.write_text(json.dumps(for_plan(measured), indent=1) + "\n", encoding="utf-8")
    return measured


def for_plan(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Take from the rows what ``teleport plan`` says of a spec's budgets."""
    by_name = {each["name"]: each for each in measured}
    budgets = []
    for trials, seeds in BUDGETS:
        of_null = by_name[f"noisy, no effect, {told_of((trials, seeds))}: {FALSE}"]
        missed = {effect: by_name[f"{effect}, {told_of((trials, seeds))}: {NOT_FOUND}"]["value"] for effect in EFFECTS}
        budgets.append(
            {
                "trials": trials,
                "seeds": seeds,
                "num_sweeps": of_null["count"],
                "false": [round(of_null[key], 4) for key in ("value", "low", "high")],
                "found": {effect: round(1.0 - share, 4) for effect, share in missed.items()},
            }
        )
    return budgets


def rows_of(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Count how often verdicts and intervals were right: by budget over all tables, and by table over all budgets."""
    table = []
    for truth in TRUTHS:
        of_truth = [sweep for sweep in sweeps if sweep.truth == truth]
        for budget in BUDGETS:
            table.append(_verdicts(truth, told_of(budget), [one for one in of_truth if one.budget == budget]))
        table.append(_intervals(truth, ALL_TABLES, of_truth))
        table.append(row(f"{truth}: points of the grid", statistics.mean(one.num_points for one in of_truth), "mean"))
        for label in WORKLOADS:
            on_label = [one for one in of_truth if one.label == label]
            table += [_verdicts(truth, f"on {label}", on_label), _intervals(truth, f"on {label}", on_label)]
    return table


def told_of(budget: tuple[int, int]) -> str:
    """Write a budget as the names of rows have it."""
    return f"{budget[0]} trials, {budget[1]} seeds"


def _verdicts(truth: str, where: str, sweeps: Sequence[Sweep]) -> dict[str, Any]:
    if TRUTHS[truth].factor == 1.0:
        return _share(f"{truth}, {where}: {FALSE}", [one.verdict in CLAIMS for one in sweeps], MOST_FALSE)
    missed = [one.verdict != Verdict.FASTER for one in sweeps]
    return _share(f"{truth}, {where}: {NOT_FOUND}", missed, MOST_NOT_FOUND.get(truth))


def _intervals(truth: str, where: str, sweeps: Sequence[Sweep]) -> dict[str, Any]:
    return _share(f"{truth}, {where}: {NOT_HELD}", [not one.is_covered for one in sweeps], MOST_NOT_HELD)


def _share(name: str, happened: Sequence[bool], goal: float | None) -> dict[str, Any]:
    """Make a row of how often something happened, with its exact 95 % interval."""
    low, high = share_interval(sum(happened), 0, len(happened))
    return {**row(name, statistics.mean(happened), "share", goal), "low": low, "high": high, "count": len(happened)}


def tables(measured: Sequence[Mapping[str, Any]]) -> str:
    """Write the tables of docs/methodology.md from the rows, in percent with exact 95 % intervals."""
    by_name = {one["name"]: one for one in measured}
    budgets, labels = [told_of(budget) for budget in BUDGETS], [f"on {label}" for label in WORKLOADS]
    return "\n".join(
        (
            *_table(by_name, "% of verdicts, by search trials and confirm seeds", budgets, (FALSE, NOT_FOUND)),
            "",
            *_table(by_name, "% of verdicts, by table, all budgets", labels, (FALSE, NOT_FOUND)),
            "",
            *_table(by_name, "% of intervals that hold the effect, all budgets", [ALL_TABLES, *labels], (NOT_HELD,)),
        )
    )


def _table(
    by_name: Mapping[str, Mapping[str, Any]], what: str, places: Sequence[str], kinds: Sequence[str]
) -> Iterator[str]:
    names = [(truth, kind) for truth in TRUTHS for kind in kinds if f"{truth}, {places[0]}: {kind}" in by_name]
    lines = {(truth, kind): [by_name[f"{truth}, {place}: {kind}"] for place in places] for truth, kind in names}
    counts = sorted({one["count"] for line in lines.values() for one in line})
    yield f"| {what} ({' or '.join(map(str, counts))} in a cell) | {' | '.join(places)} |"
    yield "|---|" + "---|" * len(places)
    for (truth, kind), line in lines.items():
        told = {FALSE: "false", NOT_FOUND: "found", NOT_HELD: "held"}[kind]
        yield f"| {truth}: {told} | {' | '.join(_cell(one, kind) for one in line)} |"


def _cell(found: Mapping[str, Any], kind: str) -> str:
    value, low, high = (100.0 * found[name] for name in ("value", "low", "high"))
    if kind != FALSE:
        value, low, high = 100.0 - value, 100.0 - high, 100.0 - low
    return f"{value:.1f} [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    stored = json.loads(Path(__file__).with_name("results.json").read_text(encoding="utf-8"))["rows"]
    print(tables([one for one in stored if one["part"] == "calibrate"]))
