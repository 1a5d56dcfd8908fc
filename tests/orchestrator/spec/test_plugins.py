"""Plug-ins: the worked example of the document, and every way in which one can be wrong."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.cli import exit_code
from orchestrator.cli.doctor import _plugins
from orchestrator.errors import PluginError, SpecError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialState
from orchestrator.launch.cluster import _travelling
from orchestrator.spec import load_spec, plugins, spec_from_text, stand_ins
from orchestrator.spec.options import DATASETS, MODELS, WORKLOADS, DataOptions
from orchestrator.trial.data.dataset import _CACHE, load_cached
from tests.orchestrator.specs import TINY

DOCUMENT = Path(__file__).parents[3] / "docs" / "plugins.md"
PARTS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
[SPEC] = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
EXAMPLE = "\n".join(PARTS)


REGISTRIES: list[dict[str, Any]] = [WORKLOADS, *(family.registry for family in plugins.FAMILIES.values())]
OURS = [dict(registry) for registry in REGISTRIES]


def forget(folder: Path) -> None:
    """Leave nothing in this process of the plug-ins in a folder: the next command starts as a new process would."""
    for registry, own in zip(REGISTRIES, OURS, strict=True):
        registry.clear()
        registry.update(own)
    plugins._loaded.clear()
    _CACHE.clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The document's files in a working directory."""
    (tmp_path / "my_plugin.py").write_text(EXAMPLE)
    (tmp_path / "wine.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a finished sweep of the document's plug-in."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "my_plugin.py").write_text(EXAMPLE)
    (folder / "wine.yaml").write_text(SPEC)
    few = ("--set", "search.trials=1", "--set", "confirm={seeds: 2, grid: none}")
    done = program("run", "wine.yaml", "--plugin", "my_plugin", "--launcher", "inline", *few, cwd=folder)
    assert done.returncode == 0, done.stderr
    yield folder
    forget(folder)


@pytest.fixture
def wine(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield finished
    forget(finished)


HEAD = """from typing import Literal
from orchestrator.spec import options as catalog
from orchestrator.spec.options import Entry, ModelOptions
"""
NESTED = """
from orchestrator.spec.options import Options

class Inner(Options):
    size: int = 2
    depth: int = 1

class NestedOptions(ModelOptions):
    input_kinds = frozenset({"image"})
    name: Literal["nested"]
    inner: Inner = Inner()

    def misfit(self, sample_shape):
        return None

MODELS = {"nested": Entry(NestedOptions, "nested:build")}

def build(*arguments):
    raise NotImplementedError
"""
Write = Callable[[str, str], None]


@pytest.fixture
def write(here: Path) -> Write:
    def written(name: str, text: str) -> None:
        (here / f"{name}.py").write_text(HEAD + text)
        importlib.invalidate_caches()

    return written


def faults(*names: str) -> list[str]:
    with pytest.raises(PluginError, match="plug-in") as caught:
        plugins.load(names)
    return [str(fault) for fault in caught.value.faults]


def test_each_part_of_the_example_is_under_thirty_lines() -> None:
    assert len(PARTS) == 4
    for part in PARTS:
        assert len([line for line in part.splitlines() if line.strip()]) < 30


def test_the_example_runs_from_plan_to_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["plan", "wine.yaml", "--plugin", "my_plugin"]) == 0
    assert "optimizer.lr" in capsys.readouterr().out
    assert exit_code(["run", "wine.yaml", "--plugin", "my_plugin", "--launcher", "inline"]) == 0
    record = read_record(SweepPaths(here / "runs", "wine"))
    assert {trial.result.state for trial in record.trials if trial.result} == {TrialState.COMPLETE}
    workload = record.trials[0].config.training
    assert workload.plugins == ("my_plugin",)
    assert (workload.epochs, workload.model.model_dump()) == (5, {"name": "bottleneck", "rank": 4})
    assert record.provenance.versions["plug-in my_plugin"].startswith("sha256 ")
    assert "name: wine\n" in (here / "runs" / "wine" / "spec.yaml").read_text()
    capsys.readouterr()
    assert [(each.mark, each.detail) for each in _plugins(["my_plugin", "no_such"])] == [
        ("ok", "model bottleneck; data set wine; task robust; workload wine"),
        ("MISSING", "cannot be imported: ModuleNotFoundError: No module named 'no_such'"),
    ]
    assert exit_code(["data", "list", "--plugin", "my_plugin"]) == 0
    assert "the plug-in my_plugin brings it" in capsys.readouterr().out
    assert exit_code(["data", "fetch", "wine", "--plugin", "my_plugin"]) == 0


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, which finds only what an installed one would find."""
    code = "from orchestrator.cli import main; main()"
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": ""}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_a_stored_sweep_knows_its_plugins(
    here: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "wine.yaml", "--launcher", "inline", "--set", "confirm.seeds=1", "--set", "search.trials=1"]
    assert exit_code([*run, "--plugin", "my_plugin"]) == 0
    for command in (["status"], ["report"], ["export", "--arm", "baseline"], ["resume", "--launcher", "inline"]):
        forget(here)
        assert exit_code([command[0], "wine", *command[1:]]) == 0
    forget(here)
    assert exit_code(["list"]) == 0
    capsys.readouterr()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    home = str(here / "runs")
    done = program("resume", "wine", "--home", home, cwd=elsewhere)
    assert done.returncode == 2
    assert "sweep 'wine': plug-in my_plugin: cannot be imported" in done.stderr
    assert "run from the directory that holds it" in done.stderr
    assert "Traceback" not in done.stderr
    (elsewhere / "tiny.yaml").write_text(TINY)
    done = program("plan", "tiny.yaml", "--home", home, cwd=elsewhere)
    assert (done.returncode, "leaves out" in done.stdout + done.stderr) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["status", "wine"],
        ["report", "wine", "--format", "json,md"],
        ["export", "wine", "--arm", "teleport"],
        ["track", "sync", "wine"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_reading_needs_no_plugin(wine: Path, tmp_path: Path, command: list[str]) -> None:
    """The same words come with the plug-in and from another directory without it."""
    home = str(wine / "runs")
    without = program(*command, "--home", home, cwd=tmp_path)
    assert (without.returncode, without.stderr) == (0, "")
    with_it = program(*command, "--home", home, cwd=wine)
    assert (without.stdout, with_it.stderr) == (with_it.stdout, "")


def test_ids_are_the_same_without_the_plugin(wine: Path) -> None:
    forget(wine)
    paths = SweepPaths(wine / "runs", "wine")
    record = read_record(paths)
    assert plugins.loaded() == ()
    assert {trial.trial_id for trial in record.trials} == {path.name for path in paths.trials.iterdir()}
    assert record.spec.plugins == ("my_plugin",)
    plugins.load(["my_plugin"])
    assert read_record(paths).spec.identity == record.spec.identity
    assert MODELS["bottleneck"].builder, "the plug-in takes the place of what stood for it"


@pytest.mark.slow
def test_a_plugin_that_was_edited_is_other_code(wine: Path, tmp_path: Path) -> None:
    for name in ("my_plugin.py", "wine.yaml"):
        (tmp_path / name).write_text((wine / name).read_text())
    few = ("--launcher", "inline", "--set", "search.trials=1", "--set", "confirm={seeds: 2, grid: none}")
    run = ("run", "wine.yaml", "--plugin", "my_plugin", *few)
    begun = program(*run, "--set", "budget.trials=3", cwd=tmp_path)
    assert "ended early" in begun.stderr
    with (tmp_path / "my_plugin.py").open("a") as file:
        file.write("\n# a remark\n")
    refused = program(*run, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "sweep 'wine' has run with other code: plug-in my_plugin (its files were " in refused.stderr
    assert "--accept-code-change" in refused.stderr
    assert len(read_record(SweepPaths(tmp_path / "runs", "wine")).trials) == 3
    mixed = program(*run, "--accept-code-change", cwd=tmp_path)
    assert mixed.returncode == 0, mixed.stderr
    assert "trials ran with different code: plug-in my_plugin" in mixed.stdout
    record = read_record(SweepPaths(tmp_path / "runs", "wine"))
    codes = [trial.result.code.plugins["my_plugin"] for trial in record.trials if trial.result and trial.result.code]
    assert len(codes) == len(record.trials)
    assert len(set(codes)) == 2
    assert [code.plugins["my_plugin"] in set(codes) for code in record.provenance.codes] == [True, True]
    page = (tmp_path / "runs" / "wine" / "report" / "report.json").read_text()
    primary = [each for each in json.loads(page)["comparisons"] if each["is_primary"]]
    assert {each["verdict"] for each in primary} == {"refused"}
    assert program("run", "wine.yaml", "--plugin", "my_plugin", *few, cwd=tmp_path).returncode == 0, "it is over"


def test_options_that_no_stand_in_can_copy_are_read_with_the_plugin_alone(write: Write) -> None:
    write("nested", NESTED)
    plugins.load(["nested"])
    spec = spec_from_text(TINY.replace("{name: mlp, widths: [16]}", "{name: nested, inner: {size: 3}}"))
    assert spec.plugins == ("nested",)
    assert stand_ins.describe(spec.corners) == {}


@pytest.mark.slow
def test_the_example_runs_through_ray(here: Path) -> None:
    few = ("--set", "confirm={seeds: 2, grid: none}")
    done = program("run", "wine.yaml", "--plugin", "my_plugin", *few, cwd=here)
    assert done.returncode == 0, done.stderr
    plugins.load(["my_plugin"])
    record = read_record(SweepPaths(here / "runs", "wine"))
    assert len(record.trials) == 8
    assert {trial.result.state for trial in record.trials if trial.result} == {TrialState.COMPLETE}


def test_a_cluster_gets_the_module_or_its_package(here: Path) -> None:
    (here / "my_package").mkdir()
    (here / "my_package" / "__init__.py").write_text("")
    (here / "my_package" / "plugin.py").write_text('WORKLOADS = {"own": {}}')
    plugins.load(["my_plugin", "my_package.plugin"])
    assert _travelling()["py_modules"][2:] == [str(here / "my_plugin.py"), str(here / "my_package")]
    assert plugins.folder_of("my_plugin") == plugins.folder_of("my_package.plugin") == str(here)


def test_a_worker_loads_from_where_the_sweep_was_started(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("worker"))
    plugins.load_travelled({"my_plugin": str(here)})
    assert plugins.loaded() == ("my_plugin",)
    plugins.load_travelled({"my_plugin": "/no/such/directory"})


def test_what_is_said_beside_a_registered_workload_goes_before(here: Path) -> None:
    plugins.load(["my_plugin"])
    before = copy.deepcopy(WORKLOADS)
    spec = load_spec(
        here / "wine.yaml", ["workloads.wine.optimizer.lr=0.1", "workloads.wine.model={name: mlp, widths: [4]}"]
    )
    raw = spec.workloads["wine"].raw
    assert isinstance(raw, dict)
    assert raw["optimizer"] == {"name": "sgd", "lr": 0.1}
    assert raw["model"] == {"name": "mlp", "widths": [4]}
    assert raw["data"] == {"name": "wine", "batch_size": 16}
    assert raw["epochs"] == 5
    spec = load_spec(here / "wine.yaml", ["workloads.wine.optimizer.lr={uniform: [0.1, 0.2]}"])
    assert [d.name for d in spec.workloads["wine"].distributions()] == ["optimizer.lr"]
    assert before == WORKLOADS
    assert spec_from_text(spec.to_yaml()).identity == spec.identity


def test_faults_of_a_plugins_options_are_told_like_our_own(here: Path) -> None:
    plugins.load(["my_plugin"])
    with pytest.raises(
        SpecError, match=r"wine.yaml: --set workloads.wine.model.rnak: unknown key rnak; did you mean 'rank'"
    ):
        load_spec(here / "wine.yaml", ["workloads.wine.model.rnak=3"])
    with pytest.raises(SpecError, match="model bottleneck does not fit data set wine: rank must be above 0"):
        load_spec(here / "wine.yaml", ["workloads.wine.model.rank=0"])
    with pytest.raises(SpecError, match="name: wien is no registered workload; did you mean 'wine'"):
        load_spec(here / "wine.yaml", ["workloads.wine.name=wien"])


def test_without_its_plugin_a_spec_is_refused_in_one_line(here: Path) -> None:
    with pytest.raises(
        SpecError, match=r"^wine.yaml:5: workloads.wine.name: wine is no registered .* plug-ins bring them$"
    ):
        load_spec(Path("wine.yaml"))


MODEL = """
class WideOptions(ModelOptions):
    name: Literal["wide"]
    input_kinds = frozenset({"image"})
    def misfit(self, sample_shape): return None
def build(options, input_shape, num_classes): ...
"""
LACKING = "class A(ModelOptions):\n  name: Literal['wide']\nMODELS = {'wide': Entry(A, 'x:y')}"
KINDLESS = MODEL.replace("input_kinds", "kinds: int #") + "MODELS = {'wide': Entry(WideOptions, 'x:y')}"
DIGITS = "MODELS = {'wide': Entry(catalog.DATASETS['digits'].options, 'x:y')}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(.*broken.py:4\)"),
        ("def f(:", r"cannot be imported: SyntaxError: invalid syntax"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "registers nothing; it must have at least one of MODELS, DATASETS"),
        ("MODELS = [1]", "MODELS must be a dict of names, is list"),
        ("MODELS = {'mlp': catalog.MODELS['mlp']}", r"MODELS\['mlp'\] is registered already, it is one of ours"),
        ("MODELS = {'Wide': 3}", "must be named with small letters"),
        ("MODELS = {3: 3}", "must be named with small letters"),
        ("MODELS = {'wide': 3}", r"must be Entry\(options, builder\), is int"),
        (DIGITS, "a subclass of ModelOptions, has DigitsOptions"),
        ("MODELS = {'wide': Entry(3, 'x:y')}", "a subclass of ModelOptions, has 3"),
        ("MODELS = {'wide': Entry(catalog.MODELS['mlp'].options, 'x:y')}", r'options with name: Literal\["wide"\]'),
        (LACKING, "options that lack misfit"),
        (KINDLESS, "must have options that say input_kinds"),
        (MODEL + "MODELS = {'wide': Entry(WideOptions, 'build')}", 'must name its builder as "module:attribute"'),
        (MODEL + "MODELS = {'wide': Entry(WideOptions, 'broken:biuld')}", "names broken:biuld, and there is no such"),
        ("WORKLOADS = {'own': 3}", "must be a dict as a spec would hold it, is int"),
    ],
)
def test_a_broken_plugin_is_told_and_registers_nothing(write: Write, text: str, message: str) -> None:
    write("broken", text)
    known = set(MODELS)
    [fault] = faults("broken")
    assert fault.startswith("plug-in broken: ")
    assert re.search(message, fault)
    assert set(MODELS) == known
    assert plugins.loaded() == ()


@pytest.mark.parametrize("name", ["./my_plugin.py", "my_plugin.py:MODELS", "", "my-plugin"])
def test_a_plugin_is_named_as_a_module(here: Path, name: str) -> None:
    assert "must be a module's name as `import` has it" in faults(name)[0]


def test_every_fault_of_every_plugin_is_told_at_once_and_the_program_exits_with_2(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one", "MODELS = {'mlp': catalog.MODELS['mlp'], 'x': 3}")
    write("two", "1 / 0")
    assert exit_code(["plan", "wine.yaml", "--plugin", "one", "--plugin", "two"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: plug-in one: ") == 2
    assert captured.err.count("error: plug-in two: ") == 1
    assert "Traceback" not in captured.err


def test_two_plugins_with_one_name(write: Write) -> None:
    for name in ("one", "two"):
        write(name, f"{MODEL}MODELS = {{'wide': Entry(WideOptions, '{name}:build')}}")
    assert faults("one", "two") == [
        "plug-in two: MODELS['wide'] is registered already, by the plug-in one; take another name"
    ]
    assert plugins.loaded() == ("one",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train_size: ClassVar[int] = 125", "its options say train_size 125, it has 126"),
        ("sample_shape: ClassVar[tuple[int, ...]] = (1, 13)", r"sample_shape \(1, 13\), it has \(1, 1, 13\)"),
    ],
)
def test_a_data_set_that_is_not_what_it_said_is_refused(here: Path, wrong: str, message: str) -> None:
    attribute = wrong.partition(":")[0]
    (here / "my_plugin.py").write_text(re.sub(rf"    {attribute}: .*", f"    {wrong}", EXAMPLE))
    plugins.load(["my_plugin"])
    options = DATASETS["wine"].options.model_validate({"name": "wine", "batch_size": 4})
    assert isinstance(options, DataOptions)
    with pytest.raises(ValueError, match=message):
        load_cached(options, torch.device("cpu"))


def test_a_plugin_may_say_where_its_data_lies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find = """
def find(root):
    from pathlib import Path
    from orchestrator.errors import DataNotFound
    if root is None:
        raise DataNotFound("put wine.csv into ROOT")
    return Path(root) / "cellar"
"""
    entry = 'Entry(WineOptions, "my_plugin:wine", locate="my_plugin:find")'
    text = EXAMPLE.replace('Entry(WineOptions, "my_plugin:wine")', entry) + find
    (here / "my_plugin.py").write_text(text)
    assert exit_code(["plan", "wine.yaml", "--plugin", "my_plugin"]) == 0
    assert "wine: data set wine is not here: put wine.csv into ROOT" in capsys.readouterr().err
    assert exit_code(["plan", "wine.yaml", "--plugin", "my_plugin", "--set", "workloads.wine.data.root=/r"]) == 0
    assert "is not here" not in capsys.readouterr().err
    assert exit_code(["data", "fetch", "wine", "--plugin", "my_plugin"]) == 2
    assert "error: wine: put wine.csv into ROOT" in capsys.readouterr().err


def test_installed_plugins_come_by_themselves_and_a_broken_one_is_a_warning(
    write: Write, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("broken", "1 / 0")
    metadata = here / "own-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[teleport.plugins]\nwine = my_plugin\nworse = broken\n")
    (metadata / "top_level.txt").write_text("my_plugin\nbroken\n")
    monkeypatch.syspath_prepend(str(here))
    assert plugins.installed() == ["broken", "my_plugin"]
    assert exit_code(["plan", "wine.yaml"]) == 0
    assert "warning: plug-in broken: cannot be imported: ZeroDivisionError" in capsys.readouterr().err
    assert plugins.version_of("my_plugin") == "1.0"
