"""Train the tables of ``benchmarks/calibrate.py`` again and write them: ``python -m benchmarks.record_calibration``.

A table holds, for one workload, the steps to target of the plain baseline by learning rate and seed. To train all three
takes about 6 minutes of one core. A table must be recorded again only where its workload in that file changes; the
command trains the workloads that it is given by name, or all.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.__main__ import machine
from benchmarks.calibrate import NUM_SEEDS, TABLES, rates_of, training_at
from orchestrator.home.files import atomic_write
from orchestrator.home.records import TrialConfig
from orchestrator.spec import BASELINE, Arm
from orchestrator.trial.clock import Budget


def main() -> None:
    """Train workloads at every rate on every seed, on all cores."""
    labels = sys.argv[1:] or list(NUM_SEEDS)
    tables = json.loads(TABLES.read_text(encoding="utf-8"))["tables"] if TABLES.is_file() else {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for label in labels:
            rates = rates_of(label)
            steps = pool.map(steps_at, [label] * len(rates), rates)
            workload = training_at(label, rates[0])
            budget = Budget.of(workload, workload.data.train_size).num_steps
            # None: the run missed its target, or diverged.
            tables[label] = {"budget": budget, "rates": rates, "steps": list(steps)}
            atomic_write(TABLES, json.dumps({"machine": machine(), "tables": tables}) + "\n")


def steps_at(label: str, rate: float) -> list[float | None]:
    """Train a workload at one learning rate on the seeds from 0 on."""
    from orchestrator.trial import run_trial

    found: list[float | None] = []
    for seed in range(NUM_SEEDS[label]):
        training = training_at(label, rate)
        config = TrialConfig(
            workload=label, arm=BASELINE, phase="search", seeds=(seed,), training=training, method=Arm()
        )
        result = run_trial(config, lambda rows: None)
        assert not result.is_no_answer, result.failure
        found.append(None if result.failure is not None else result.seeds[0].steps_to_target)
    return found


if __name__ == "__main__":
    main()
