"""What is never imported: each module in a fresh interpreter, by what is then in ``sys.modules``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "mlflow", "scipy", "optuna", "plotly", "pandas", "matplotlib", "sklearn")
LIGHT = (
    "orchestrator.errors",
    "orchestrator.spec",
    "orchestrator.home",
    "orchestrator.search",
    "orchestrator.sweep.plan",
    "orchestrator.sweep.budgets",
    "orchestrator.sweep.hooks",
    "orchestrator.statistics",
    "orchestrator.report",
    "orchestrator.track",
    "orchestrator.launch",
    "orchestrator.sweep.driver",
    "orchestrator.sweep.run",
    "orchestrator.cli",
    "orchestrator.cli.show",
)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys, json; {statement}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_the_program_starts_without_pydantic() -> None:
    assert not loaded_by("import orchestrator.cli") & {*HEAVY, "pydantic", "yaml", "jinja2"}


def test_the_engine_needs_torch_alone() -> None:
    found = loaded_by("import teleport_engine")
    assert "torch" in found
    assert not found & {"orchestrator", "ray", "optuna", "mlflow", "pydantic", "scipy", "sklearn", "pandas"}


def test_the_check_sees_what_is_imported() -> None:
    assert "scipy" in loaded_by("import scipy")
