"""What the documents show is real: their specs load, their code runs, their links and commands exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from typer.main import get_command

from orchestrator.cli import app
from orchestrator.spec import spec_from_text
from teleport_engine import GrowthStep, Teleporter
from tests.orchestrator.report.build import sweep

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_code_of_the_report_draws_a_sweep() -> None:
    [code] = blocks(ROOT / "docs" / "report.md", "python")
    names = {"record": sweep()}
    exec(compile(code.replace("mlp_digits", next(iter(names["record"].spec.workloads))), "report.md", "exec"), names)


def test_the_spec_of_the_readme_loads() -> None:
    [text] = blocks(ROOT / "README.md", "yaml")
    assert spec_from_text(text, "README.md").name == "quickstart"


# Those have tests of their own: one is a module, the other draws a sweep.
APART = {"plugins.md", "report.md"}
CODE = [(path, code) for path in DOCUMENTS if path.name not in APART for code in blocks(path, "python")]


@pytest.mark.parametrize(("path", "code"), CODE, ids=[f"{path.name}-{index}" for index, (path, _) in enumerate(CODE)])
@pytest.mark.filterwarnings("ignore")  # of Lightning and transformers, about what a short example leaves at its default
def test_the_code_of_the_documents_runs(path: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # training loops of others leave files where they run
    torch.manual_seed(0)
    last = nn.Linear(32, 3)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), last)
    batches = [(torch.randn(16, 8), torch.randint(3, (16,))) for _ in range(42)]
    before = last.weight.detach().clone()
    inputs, targets = batches[0]
    other, other_targets = batches[1]
    names = {
        "model": model,
        "loss_fn": nn.functional.cross_entropy,
        "loader": batches,
        "batches": batches,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "GrowthStep": GrowthStep,
        "Teleporter": Teleporter,
        "inputs": inputs,
        "targets": targets,
        "sample": batches[2][0],
        "other": other,
        "other_targets": other_targets,
    }
    exec(compile(code, path.name, "exec"), names)
    assert not torch.equal(last.weight, before)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert not missing


def test_the_seams_name_files_and_classes_that_exist() -> None:
    text = (ROOT / "docs" / "seams.md").read_text(encoding="utf-8")
    files = re.findall(r"tests/[a-z_/.]+", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    places = re.findall(r"^\| `((?:orchestrator|teleport_engine)\.[\w.]+)`", text, re.MULTILINE)
    assert len(places) > 10
    for place in places:
        try:
            importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, name = place.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"docs/seams.md names {place}, which is not there"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_are_named_exist(path: Path) -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^(?:\$ )?teleport ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= known


def test_paths_that_are_named_exist() -> None:
    named = {
        word
        for path in DOCUMENTS
        for word in re.findall(
            r"`((?:tests|orchestrator|teleport_engine|sweeps|benchmarks|docs)/[\w./-]+)`", path.read_text()
        )
    }
    assert named
    assert not [word for word in named if not (ROOT / word).exists()]


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "sweeps.md", "yaml"), ids=lambda text: text.partition(":")[0])
def test_the_parts_of_a_spec_in_sweeps_md_load(text: str) -> None:
    [whole] = blocks(ROOT / "README.md", "yaml")
    part, base = yaml.safe_load(text), yaml.safe_load(whole)
    base["workloads"] |= {"another": next(iter(base["workloads"].values()))}  # a shared search has at least two
    spec = yaml.safe_load(spec_from_text(yaml.safe_dump({**base, **part}), "sweeps.md").to_yaml())
    assert part.keys() <= spec.keys()
