"""Every sweep that is shipped: loaded, planned, claims within reach of its seeds, and its first trials run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from orchestrator.home.records import TrialConfig, TrialResult, TrialState
from orchestrator.spec import BASELINE, SweepSpec, Workload, load_spec
from orchestrator.statistics import smallest_p
from orchestrator.sweep.plan import make_plan
from orchestrator.trial.clock import Budget
from orchestrator.trial.data import images, locations
from orchestrator.trial.run import run_trial
from tests.orchestrator.trial.data import cifar_files, idx_files

ROOT = Path(__file__).parents[3]
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))
NUM_TINY = 2_000  # training images that every data set of these tests has
IDS = [str(path.relative_to(ROOT / "sweeps")) for path in SWEEPS]
WHOLE = Budget.of
every_sweep = pytest.mark.parametrize("path", SWEEPS, ids=IDS)


def comment(path: Path) -> str:
    """The comment at the top, on one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.lstrip("# ") for line in top)


def small_line(path: Path) -> list[str]:
    """The settings after ``Small:``."""
    found = re.search(r"(?:Small|Smaller): ((?:--set (?:'[^']*'|\S+) ?)+)", comment(path))
    assert found, "no line `Small: --set ...`"
    words = shlex.split(found[1])
    return words[1::2]


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root with each set in its real format, with images for the largest teleport batch and a probe."""
    root = tmp_path_factory.mktemp("data")
    for name in ("MNIST", "FashionMNIST"):
        idx_files.write(root / name / "raw", idx_files.arrays(num_train=2_600), is_gz=False)
    for name in ("cifar10", "cifar100"):
        cifar_files.write(root, name, num_images=4)
    return str(root)


def first_trials(spec: SweepSpec) -> list[TrialConfig]:
    """The first workload under the baseline, then every workload and kind of arm; distributions at their first."""
    labels = list(spec.workloads)
    own = list({spec.example_of(arm).kind: arm for arm in reversed(spec.arms) if arm != BASELINE}.values())
    pairs = [(labels[i % len(labels)], own[i % len(own)]) for i in range(max(len(labels), len(own)))]
    return [config_of(spec, workload, arm) for workload, arm in [(labels[0], BASELINE), *pairs]]


def config_of(spec: SweepSpec, workload: str, arm: str) -> TrialConfig:
    template = spec.workloads[workload]
    training = template.concretise(template.corners()[0])
    if training["model"]["name"] == "resnet18":
        training["model"]["width"] = 4  # as it is a teleport of it takes half a minute
    if training["data"].get("num_train") is not None:
        training["data"]["num_train"] = min(training["data"]["num_train"], NUM_TINY)
    return TrialConfig(
        workload=workload,
        arm=arm,
        phase="search",
        seeds=spec.search.seeds[:1],
        training=Workload.model_validate(training),
        method=spec.example_of(arm),
        objective=spec.search.objective,
    )


def two_steps(config: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> TrialResult:
    def of(workload: Workload, num_train: int) -> Budget:
        return dataclasses.replace(WHOLE(workload, num_train), num_steps=2, evaluate_every=2)

    monkeypatch.setattr(Budget, "of", of)
    return run_trial(config, lambda rows: None)


@every_sweep
def test_it_says_which_claim_it_tests_and_what_that_costs(path: Path) -> None:
    text = comment(path)
    assert text.startswith("Claim")
    assert re.search(r"Cost: .*two cores", text)


@every_sweep
def test_the_document_lists_it_with_its_question(path: Path) -> None:
    rows = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8").splitlines()
    [row] = [row for row in rows if f"(../{path.relative_to(ROOT)})" in row]
    assert load_spec(path).description in row


@every_sweep
def test_its_seeds_can_carry_its_claims(path: Path) -> None:
    """One claim per workload and teleport arm; Holm's first step multiplies by their number."""
    spec = load_spec(path)
    num_arms = sum(spec.example_of(arm).teleport is not None for arm in spec.arms)
    assert smallest_p(len(spec.confirm_seeds)) * len(spec.workloads) * num_arms <= 0.05


@every_sweep
def test_its_line_for_two_cores_makes_it_smaller(path: Path) -> None:
    whole, small = make_plan(load_spec(path)), make_plan(load_spec(path, small_line(path)))
    assert small.num_steps < whole.num_steps


# The fast tests train only the sweeps beside quickstart.yaml, and the slow tests those in folders.
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * ("/" in name)) for path, name in zip(SWEEPS, IDS, strict=True)],
    ids=IDS,
)
def test_its_first_trials_run(path: Path, tiny_data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (locations, images):
        monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setenv("TELEPORT_DATA", tiny_data)
    spec = load_spec(path)
    assert not [warning for warning in make_plan(spec).warnings if "is not here" in warning]
    for config in first_trials(spec):
        result = two_steps(config, monkeypatch)
        assert result.state is TrialState.COMPLETE, result.failure
        assert result.seeds[0].num_steps == 2
