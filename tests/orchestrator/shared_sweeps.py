"""A shared search with made-up costs: the driver's part, one run at a time, files that outlive it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.home.records import Trial, TrialConfig, TrialResult
from orchestrator.search.journal import open_journal
from orchestrator.search.study import Study
from orchestrator.spec import ALL, BASELINE, SweepSpec, Workload
from tests.orchestrator.trials import complete, failed

BUDGET = 10
Answer = Callable[[TrialConfig], TrialResult]


def costing(config: TrialConfig, steps: int | None) -> TrialResult:
    """Make the result of a trial whose seeds all took so many steps to the target; None: they missed it."""
    result = complete(config)
    seeds = tuple(seed.model_copy(update={"steps_to_target": steps}) for seed in result.seeds)
    return result.model_copy(update={"seeds": seeds, "value": float(2 * BUDGET if steps is None else steps)})


def baselines(spec: SweepSpec, steps: int = 4) -> dict[tuple[str, str], list[Trial]]:
    """Make the tuned baseline of each workload."""
    found = {}
    for workload, template in spec.workloads.items():
        values = template.corners()[0]
        config = TrialConfig(
            workload=workload,
            arm=BASELINE,
            phase="search",
            seeds=spec.search.seeds,
            training=Workload.model_validate(template.concretise(values)),
            method=spec.example_of(BASELINE),
            objective=spec.search.objective,
            values=values,
            number=0,
        )
        found[workload, BASELINE] = [Trial(config=config, result=costing(config, steps))]
    return found


class SharedSweep:
    """Runs a shared study to its end, one run after the other."""

    def __init__(self, spec: SweepSpec, journal: Path, answer: Answer, arm: str = "teleport") -> None:
        self.spec = spec
        self.journal = journal
        self.answer = answer
        self.arm = arm
        self.results: dict[str, TrialResult] = {}
        self.runs: list[TrialConfig] = []
        self.dropped: list[TrialConfig] = []

    def open(self) -> Study:
        study = Study(self.spec, ALL, self.arm, open_journal(self.journal), self.results)
        assert study.begin(baselines(self.spec)) == ""
        return study

    def run(self) -> Study:
        study = self.open()
        while (run := study.propose()) is not None:
            if run not in self.runs:
                self.runs.append(run)
            self.results[run.trial_id] = self.answer(run)
            study.tell(self.results[run.trial_id])
        self.dropped += study.take_dropped()
        assert study.is_over
        return study

    @property
    def trials(self) -> list[Trial]:
        """What is on file, the tuned baselines included."""
        tuned = [trial for of in baselines(self.spec).values() for trial in of]
        return tuned + [Trial(config=run, result=self.results.get(run.trial_id)) for run in self.runs]

    def num_runs(self) -> dict[int, int]:
        """Number of each candidate -> runs of it that ran."""
        found: dict[int, int] = {}
        for run in self.runs:
            assert run.number is not None
            found[run.number] = found.get(run.number, 0) + 1
        return found


def lines_of(journal: Path) -> list[dict[str, Any]]:
    """The journal's lines but for times, who wrote them, and that the study was begun."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("datetime") and key != "worker_id"}
        for line in lines
        if line["op_code"] != 0
    ]


def by_number(costs: dict[int, int | None], otherwise: int | None = 4) -> Answer:
    """Answer with the cost of a candidate's number, whatever workload and seed."""

    def answer(config: TrialConfig) -> TrialResult:
        assert config.number is not None
        return costing(config, costs.get(config.number, otherwise))

    return answer


def crashing(answer: Answer, number: int, kind: str) -> Answer:
    """Answer as another does, but let a candidate's second run fail."""
    seen: set[str] = set()

    def failing(config: TrialConfig) -> TrialResult:
        if config.number == number:
            seen.add(config.trial_id)
            if len(seen) == 2:
                return failed(config, kind)
        return answer(config)

    return failing
