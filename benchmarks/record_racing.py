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
from orchestrator.search.candidates import Candidates, baseline_costs
from orchestrator.sweep.run import run
from orchestrator.track import NoTracker


def main() -> None:
    """Run the grid without a race and write what each unit cost."""
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
                "values": dict(setting.values),
                # None: it diverged.
                "costs": {label: [unit.cost for unit in setting.of(label)] for label in spec.workloads},
                "is_capped": {label: [unit.is_capped for unit in setting.of(label)] for label in spec.workloads},
            }
            for setting in Candidates(spec, record.trials).shared[ARM]
        ],
    }
    atomic_write(TABLE, json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
