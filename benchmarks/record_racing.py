"""Run the whole grid of ``benchmarks/racing.py`` and write its table: ``python -m benchmarks.record_racing``.

It takes about 8 minutes of one core and need be repeated only where the spec in that file changes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from benchmarks.__main__ import machine
from benchmarks.racing import ARM, TABLE, spec_of
from orchestrator.home.files import atomic_write
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.launch import InlineLauncher
from orchestrator.search.candidates import Candidate, Candidates
from orchestrator.search.costs import baseline_costs, run_cost
from orchestrator.sweep.run import run
from orchestrator.track import NoTracker


def main() -> None:
    """Run the grid in full and write what each run cost."""
    torch.set_num_threads(1)
    spec = spec_of()
    with tempfile.TemporaryDirectory() as home:
        paths = SweepPaths(Path(home), spec.name)
        run(spec, paths, InlineLauncher(), NoTracker(), command="record_racing", observe=lambda progress: None)
        record = read_record(paths, with_history=False)
    tuned = Candidates(spec, record.trials).baselines
    costs = baseline_costs(spec, tuned)
    table = {
        "machine": machine(),
        "baselines": {
            label: {"values": trial.config.values, "costs": [costs[label, seed] for seed in spec.search.seeds]}
            for label, trial in tuned.items()
        },
        "settings": [
            {
                "values": dict(candidate.values),
                # None: it diverged.
                "costs": {label: [each[0] for each in _costs(candidate, label)] for label in spec.workloads},
                "is_capped": {label: [each[1] for each in _costs(candidate, label)] for label in spec.workloads},
            }
            for candidate in Candidates(spec, record.trials).shared[ARM]
        ],
    }
    atomic_write(TABLE, json.dumps(table) + "\n")


def _costs(candidate: Candidate, workload: str) -> list[tuple[float | None, bool]]:
    """Cost of each run on a workload, and whether it missed its target."""
    found: list[tuple[float | None, bool]] = []
    for one in candidate.runs:
        if one.workload == workload and one.result is not None:
            cost = run_cost(one.result.seeds[0], one.objective.metric) if one.state == "COMPLETE" else None
            found.append((None, False) if cost is None else (cost.value, cost.is_miss))
    return found


if __name__ == "__main__":
    main()
