"""Run the benchmarks, print them as a table and write ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.home.files import atomic_write

PARTS = (
    "adaptive",
    "calibrate",
    "cli",
    "dashboard",
    "data",
    "engine",
    "engine_second_backward",
    "engine_subspace",
    "fetch",
    "house",
    "launch",
    "racing",
    "report",
    "scale",
    "tracking",
    "tracking_steps",
    "training",
    "waiting",
)
# This takes a quarter of an hour of two cores, so it runs only where it is asked for: ``make calibrate``.
ON_DEMAND = ("calibrate",)
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part alone; repeatable")
    parts = parser.parse_args().only or [part for part in PARTS if part not in ON_DEMAND]
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    kept = [row for row in known["rows"] if row["part"] not in parts]
    rows = kept + [{"part": part, **row} for part in parts for row in _rows(part)]
    rows.sort(key=lambda row: PARTS.index(row["part"]))
    atomic_write(RESULTS, json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    draw(rows)


def _rows(part: str) -> list[dict[str, Any]]:
    measure: Callable[[], list[dict[str, Any]]] = importlib.import_module(f"benchmarks.{part}").rows
    return measure()


def machine() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu_count": os.cpu_count(),
        "architecture": platform.machine(),
        "gpus": gpus,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def draw(rows: list[dict[str, Any]]) -> None:
    table = Table("part", "name", "value", "unit", "goal", "met")
    for row in rows:
        goal = "-" if row["goal"] is None else f"≤ {row['goal']:.4g}"
        met = "-" if row["met"] is None else "yes" if row["met"] else "NO"
        table.add_row(row["part"], row["name"], f"{row['value']:.4g}", row["unit"], goal, met)
    Console().print(table)


if __name__ == "__main__":
    main()
