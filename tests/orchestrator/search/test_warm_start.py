"""A search that begins with the best points of another sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError, SweepNotFound, UserError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialConfig
from orchestrator.launch import TrialSource
from orchestrator.search.warm_start import best_points
from orchestrator.spec import SweepSpec, load_spec, spec_from_text
from orchestrator.sweep.plan import make_plan
from orchestrator.sweep.run import run
from orchestrator.track import NoTracker
from tests.orchestrator.launchers import ReadyLauncher
from tests.orchestrator.specs import TINY, tiny_spec
from tests.orchestrator.trials import complete

FROM_OLD = ("name=new", "search.warm_start={sweep: old, top_k: 2}")


class Simulated(ReadyLauncher):
    """Gives each trial a made-up end, the better the nearer its learning rate is to 0.1."""

    def __init__(self) -> None:
        self.ran: list[TrialConfig] = []

    def launch(self, source: TrialSource) -> None:
        while not source.is_exhausted:
            config = source.propose()
            assert config is not None
            source.on_started(config)
            self.ran.append(config)
            source.on_ended(config, complete(config, abs(config.training.optimizer.model_dump()["lr"] - 0.1)))


def go(spec: SweepSpec, home: Path) -> list[TrialConfig]:
    launcher = Simulated()
    paths = SweepPaths(home, spec.name)
    run(spec, paths, launcher, NoTracker(), command="teleport run", observe=lambda progress: None)
    return [config for config in launcher.ran if config.phase == "search"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    go(tiny_spec("name=old", "search.trials=8"), tmp_path)
    return tmp_path


def rates(configs: list[TrialConfig], arm: str = "baseline") -> list[float]:
    return [float(config.values["optimizer.lr"]) for config in configs if config.arm == arm]  # type: ignore[arg-type]


def test_the_best_points_of_each_study_come_first(home: Path) -> None:
    old = rates([t.config for t in read_record(SweepPaths(home, "old")).trials if t.config.phase == "search"])
    found = go(tiny_spec(*FROM_OLD, "search.trials=5"), home)
    assert rates(found)[:2] == sorted(old, key=lambda lr: abs(lr - 0.1))[:2]
    assert len(rates(found)) == len(rates(found, "teleport")) == 5


def test_what_a_point_leaves_open_the_sampler_chooses(home: Path) -> None:
    more = "workloads.digits.optimizer={name: momentum, lr: {loguniform: [0.01, 0.5]}, momentum: {uniform: [0.1, 0.9]}}"
    found = [config for config in go(tiny_spec(*FROM_OLD, more), home) if config.arm == "baseline"]
    momenta = [config.values["optimizer.momentum"] for config in found]
    assert len(set(momenta)) == len(momenta) == 3


def test_points_outside_the_space_are_dropped(home: Path) -> None:
    narrow = "workloads.digits.optimizer.lr={loguniform: [0.3, 0.5]}"
    points = best_points(read_record(SweepPaths(home, "old")), tiny_spec(*FROM_OLD, narrow))
    assert all(0.3 <= float(point["optimizer.lr"]) <= 0.5 for found in points.values() for point in found)  # type: ignore[arg-type]


def test_the_points_are_fixed_when_the_sweep_begins(home: Path) -> None:
    spec = tiny_spec(*FROM_OLD)
    first = go(spec, home)
    paths = SweepPaths(home, "new")
    assert (
        paths.read_warm_start()["digits/baseline"]
        == [config.values for config in first if config.arm == "baseline"][:2]
    )
    for trial in read_record(paths).trials:
        paths.result(trial.trial_id).unlink()
    paths.journal.unlink()
    paths.index.unlink()
    for path in (home / "old").rglob("*.json"):
        path.unlink()
    assert go(spec, home) == first


def test_an_unknown_sweep_is_told_before_anything_begins(home: Path) -> None:
    spec = tiny_spec("name=new", "search.warm_start={sweep: odl}")
    message = r"search.warm_start.sweep: no sweep 'odl' in .*; did you mean 'old'\? \(known: old\)"
    with pytest.raises(SweepNotFound, match=message):
        go(spec, home)
    assert not (home / "new").exists()


def test_plan_warns_of_an_unknown_sweep() -> None:
    spec = tiny_spec(*FROM_OLD)
    message = "search.warm_start: this home has no sweep 'old'; did you mean 'odl'? (known: odl)"
    assert message in make_plan(spec, sweeps=["odl"]).warnings
    assert message not in make_plan(spec, sweeps=["old"]).warnings
    assert message not in make_plan(spec).warnings


POINTS = "search.points=[{optimizer.lr: 0.2}, {optimizer.lr: 0.3, teleport.tau: 0.99, arm: teleport}]"


def test_points_of_the_spec_come_first_in_the_searches_that_they_are_for(tmp_path: Path) -> None:
    found = go(tiny_spec(POINTS), tmp_path)
    assert rates(found)[0] == 0.2
    assert rates(found, "teleport")[:2] == [0.2, 0.3]
    second = [config.values for config in found if config.arm == "teleport"][1]
    assert second["teleport.tau"] == 0.99
    assert rates(go(tiny_spec(), tmp_path / "without"))[0] != 0.2


def test_points_of_the_spec_come_before_those_of_another_sweep(home: Path) -> None:
    old = rates([t.config for t in read_record(SweepPaths(home, "old")).trials if t.config.phase == "search"])
    found = go(tiny_spec(*FROM_OLD, "search.trials=5", POINTS), home)
    assert rates(found)[:3] == [0.2, *sorted(old, key=lambda rate: abs(rate - 0.1))[:2]]


def test_a_file_of_points_is_read_into_the_spec(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("arm,optimizer.lr,teleport.tau\nbaseline,0.2,\nteleport,0.3,0.99\n")
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    spec = load_spec(file, ["search.points=good.csv"])
    rows = ({"arm": "baseline", "optimizer.lr": 0.2}, {"arm": "teleport", "optimizer.lr": 0.3, "teleport.tau": 0.99})
    assert spec.search.points == rows
    assert spec_from_text(spec.to_yaml()) == spec, "the stored spec needs no file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "points.csv cannot be read: No such file or directory"),
        ("", "points.csv holds no point: a line of names"),
        ("optimizer.lr\n", "points.csv holds no point: a line of names"),
        ("optimizer.lr\n0.1,0.2\n", "points.csv:2: has more cells than the first line has names"),
        (b"\xff\xfe", "points.csv is no CSV file in UTF-8"),
    ],
)
def test_a_file_of_points_that_is_none_is_refused(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / "points.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    with pytest.raises(SpecError, match=message):
        load_spec(file, ["search.points=points.csv"])


BAD_POINTS = [
    (
        "{optimizer.lrr: 0.1}",
        r"search.points\[0\].optimizer.lrr: is no parameter that is searched; did you mean 'optimi",
    ),
    ("{optimizer.lr: 5.0}", r"search.points\[0\]: a value lies outside of what is searched, in every study"),
    ("{teleport.tau: 0.99, arm: baseline}", r"search.points\[0\].teleport.tau: is no parameter that is searched"),
    ("{optimizer.lr: 0.1, arm: telport}", r"search.points\[0\].arm: 'telport' is not in this sweep; did you mean 'tel"),
    ("{optimizer.lr: 0.1, workload: dig}", r"search.points\[0\].workload: 'dig' is not in this sweep"),
]


@pytest.mark.parametrize(("point", "message"), BAD_POINTS)
def test_a_point_that_no_search_can_begin_with_is_refused_by_plan_and_run(
    tmp_path: Path, point: str, message: str
) -> None:
    spec = tiny_spec(f"search.points=[{point}]")
    with pytest.raises(UserError, match=message):
        make_plan(spec)
    with pytest.raises(UserError, match=message):
        go(spec, tmp_path)
    assert not SweepPaths(tmp_path, spec.name).exists(), "nothing was begun"


def test_all_bad_points_are_told_at_once() -> None:
    points = ", ".join(point for point, _ in BAD_POINTS)
    with pytest.raises(UserError, match="is no parameter") as caught:
        make_plan(tiny_spec(f"search.points=[{points}]"))
    assert len(caught.value.faults) == len(BAD_POINTS)


def test_more_points_than_trials_are_refused() -> None:
    points = ", ".join(f"{{optimizer.lr: {0.1 + index / 100}}}" for index in range(4))
    with pytest.raises(UserError, match=r"4 points are for digits/baseline, and search\.trials is 3; raise it"):
        make_plan(tiny_spec(f"search.points=[{points}]"))
