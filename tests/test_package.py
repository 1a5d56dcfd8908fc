"""The wheel: what it carries, that it runs sweeps, and that the engine in it needs torch and nothing else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files, packages_distributions, requires, version
from pathlib import Path

import pytest

from orchestrator.cli.ready import ready_files

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "teleport_engine", "dashboards")
# What README's example of the engine takes for granted.
SETTING = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = batches = [(torch.randn(16, 8), torch.arange(16) % 3) for _ in range(4)]
"""


def declared() -> set[str]:
    """Distributions that the package declares, those of its extras for users included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return {named(line) for line in (*project["dependencies"], *extras["dashboard"], *extras["integrations"])}


def named(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def imported() -> Iterator[str]:
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_every_import_is_declared() -> None:
    # Another name of pytorch_lightning, and a part of pydantic.
    brought = {"lightning", "pydantic_core"}
    own = {*sys.stdlib_module_names, *PACKAGES, *brought}
    distributions = packages_distributions()
    known = declared()
    missing = {
        name for name in set(imported()) - own if not {named(one) for one in distributions.get(name, [name])} & known
    }
    assert not missing


def test_the_version_is_the_newest_of_the_changelog() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert [version("teleport")] == released[:1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = out / "source"
    # The build writes into the tree that it is given, and takes what lies there.
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for file in (ROOT / name for name in names if name.partition("/")[0] not in ("tests", "docs", "benchmarks", "")):
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target, follow_symlinks=False)
    subprocess.run([*build, "--wheel-dir", str(out), str(source)], check=True, capture_output=True)
    [found] = out.glob("*.whl")
    return found


def environment(directory: Path, wheel: Path, paths: list[Path]) -> Path:
    """Make an environment that holds the wheel and sees these further folders; return its Python."""
    venv.create(directory, with_pip=False)
    [packages] = directory.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "seen.pth").write_text("".join(f"{path}\n" for path in paths))
    return directory / "bin" / "python"


def run(python: Path, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TELEPORT", "MLFLOW"))}
    return subprocess.run(
        [python, *arguments], cwd=at, env=plain, capture_output=True, text=True, check=False, timeout=600
    )


def closure(distribution: str) -> set[str]:
    """The distribution and all that it requires, as far as it is installed."""
    found: set[str] = set()
    left = [distribution]
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.add(name)
        left += [named(line) for line in requires(name) or () if "extra ==" not in line]
    return found


@pytest.mark.slow
def test_the_wheel_carries_what_init_hands_out_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name, file in ready_files().items():
            inside = f"orchestrator/cli/ready/{file.relative_to(ROOT / 'orchestrator/cli/ready').as_posix()}"
            assert archive.read(inside) == file.read_bytes(), name
    assert {name.partition("/")[0] for name in names if not name.startswith("teleport-")} == set(PACKAGES)


@pytest.mark.slow
def test_two_commands_in_an_empty_environment_end_in_a_verdict(wheel: Path, tmp_path: Path) -> None:
    installed = [Path(path) for path in sys.path if path.endswith("site-packages")]
    python = environment(tmp_path / "venv", wheel, installed)
    assert run(python, "-m", "orchestrator", "init", "quickstart", at=tmp_path).returncode == 0
    few = ["--set", "search.trials=2", "--set", "confirm={seeds: 2, grid: none}", "--launcher", "inline"]
    done = run(python, "-m", "orchestrator", "run", "quickstart.yaml", *few, at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "teleport" in done.stdout
    assert (tmp_path / "runs/quickstart/report/report.html").is_file()
    provenance = (tmp_path / "runs/quickstart/provenance.json").read_text()
    assert '"commit": null' in provenance or '"commit":null' in provenance, "installed code lies in no repository"


@pytest.mark.slow
def test_the_engine_of_the_wheel_needs_torch_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    """README's example runs where torch and what it requires are installed, and the program says what it lacks."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in closure("torch"):
        for file in files(name) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (bare / top).exists():
                (bare / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / top)
    python = environment(tmp_path / "venv", wheel, [bare])
    [example] = re.findall(r"## The engine alone.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = run(python, "-c", SETTING + example, at=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(python, "-m", "orchestrator", "list", at=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"error: the package \w+ is missing; .*pip install teleport\n", done.stderr)
