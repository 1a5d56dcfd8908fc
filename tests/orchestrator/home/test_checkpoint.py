"""A trial that goes on from a checkpoint is the one that never stopped, bit for bit; what cannot be used is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import Interrupted
from orchestrator.home.checkpoint import DIGEST_BYTES, Checkpoint, Checkpoints, UnusableCheckpoint
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.launch import InlineLauncher, Launcher, TrialSource
from orchestrator.spec import SweepSpec
from orchestrator.spec.options import ARMS, OPTIMIZERS
from orchestrator.sweep.driver import NUM_RETRIES
from orchestrator.sweep.run import Outcome, run
from orchestrator.track import NoTracker, Tracker
from orchestrator.track.projection import TRIAL_ID
from orchestrator.trial.run import run_trial
from tests.orchestrator.launchers import ReadyLauncher, Relay
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.sweep.test_run import outcomes
from tests.orchestrator.track.faulty_store import FaultyStore, in_memory
from tests.orchestrator.trial.tasks import config
from tests.orchestrator.trial.test_arms import METHODS
from tests.orchestrator.trial.test_run import without_times
from tests.orchestrator.trials import complete

ALWAYS = 1e-9
DAMAGED = "it is damaged, or another version of teleport wrote it"
TELEPORT: dict[str, Any] = {
    "tau": 0.99,
    "step": {"rule": "growth", "factor": 1.2},
    "schedule": {"epochs": 2, "batches": 6, "steps": 1},
}

Kept = list[tuple[int, bytes]]


def watched(of: TrialConfig, start: bytes | None = None) -> tuple[TrialResult, list[HistoryRow], Kept]:
    """Run a trial; gives its end, its rows, and each checkpoint with the number of rows before it."""
    rows: list[HistoryRow] = []
    kept: Kept = []
    checkpoints = Checkpoints(start, lambda data: kept.append((len(rows), data)))
    result = run_trial(of, rows.extend, checkpoints)
    assert result.state is TrialState.COMPLETE, result.failure
    return result, rows, kept


def plain(result: TrialResult, rows: Sequence[HistoryRow]) -> Any:
    return without_times([result.model_dump(), [row.model_dump() for row in rows]])


def goes_on_anywhere(of: TrialConfig, *, at: slice = slice(None)) -> list[HistoryRow]:
    """Check that from each checkpoint of a trial all that follows is as in one run."""
    result, rows, kept = watched(of)
    assert len(kept) == len(rows) - 2, "after each row but the first and the last"
    torch.rand(3)
    for num_rows, data in kept[at]:
        again, later, _ = watched(of, data)
        assert plain(again, [*rows[:num_rows], *later]) == plain(result, rows), f"from row {num_rows}"
        assert later[0].seconds > rows[num_rows - 1].seconds, "the clock goes on"
    return rows


def often(method: dict[str, Any], **training: Any) -> TrialConfig:
    """A trial with checkpoints at 4, 8, 12 and 16 of 18 steps."""
    return config(method, checkpoint_every=ALWAYS, training=training)


def on_both_sides(settings: dict[str, Any]) -> dict[str, Any]:
    """Act six times in each of two epochs of nine steps, so on either side of every checkpoint."""
    if "teleport" in settings:
        return settings | {"teleport": on_both_sides(settings["teleport"])}
    return settings | {"schedule": {"epochs": 2, "batches": 6, "steps": 1}} if "schedule" in settings else settings


@pytest.mark.parametrize("kind", ["baseline", *ARMS])
def test_every_kind_of_arm_goes_on_as_if_never_stopped(kind: str) -> None:
    method = {} if kind == "baseline" else {kind: on_both_sides(METHODS[kind])}
    model = {"name": "mlp", "widths": [160], "activation": "tanh"}
    momentum = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    goes_on_anywhere(often(method, model=model, optimizer=momentum, data={"name": "digits", "batch_size": 128}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_as_if_never_stopped(name: str) -> None:
    method = {"random_move": {"teleport": TELEPORT}}
    of = often(method, optimizer={"name": name, "lr": 0.01}, lr_schedule={"name": "cosine", "warmup": 3})
    goes_on_anywhere(of, at=slice(1, 4, 2))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tau": 0.9, "factorisation": "randomised"},
        {"batch_size": 24, "subspace_size": 40, "probe_size": 200, "max_probe_drift": 10.0},
        {"schedule": {"epochs": 2, "batches": 9, "steps": 1, "stop_below_gain": 0.001, "patience": 7}},
        {"tau": 1.0, "step": None, "schedule": {"epochs": 2, "batches": 9}, "adaptive": {"payback": 1000.0}},
    ],
    ids=["plain", "randomised", "own batches", "while it pays", "adaptive"],
)
def test_teleports_go_on_with_what_they_have_drawn_and_learnt(more: dict[str, Any]) -> None:
    rows = goes_on_anywhere(often({"teleport": TELEPORT | more}), at=slice(0, 4, 3))
    assert rows[1].num_teleports < rows[5].num_teleports


def test_a_schedule_that_no_longer_pays_stays_ended() -> None:
    """Nothing gains so much: it ends after seven teleports, six of them before the first checkpoint."""
    ends = {"epochs": 2, "batches": 9, "steps": 1, "stop_below_gain": 1e6, "patience": 7}
    rows = goes_on_anywhere(often({"teleport": TELEPORT | {"schedule": ends}}))
    assert [row.num_teleports for row in rows[:6]] == [0, 4, 7, 7, 7, 7]


@pytest.mark.parametrize(
    "model",
    [
        {"name": "vit", "patch_size": 4, "d_model": 16, "num_heads": 2, "num_layers": 1, "dropout": 0.2},
        {"name": "resnet18", "width": 4},
    ],
    ids=lambda model: model["name"],
)
def test_dropout_and_batch_norm_go_on_as_if_never_stopped(model: dict[str, Any]) -> None:
    goes_on_anywhere(often({}, model=model, optimizer={"name": "adam", "lr": 0.01}), at=slice(1, 4, 2))


def test_a_trial_cut_off_again_and_again_comes_to_the_same_end() -> None:
    of = often({"random_move": {"teleport": TELEPORT}})
    result, whole, _ = watched(of)
    rows: list[HistoryRow] = []
    at: list[tuple[int, bytes]] = []

    def save(data: bytes) -> None:
        at.append((len(rows), data))
        raise KeyboardInterrupt

    again = None
    while again is None:
        num_rows, start = at[-1] if at else (0, None)
        del rows[num_rows:]
        try:
            again = run_trial(of, rows.extend, Checkpoints(start, save))
        except KeyboardInterrupt:
            continue
    assert len(at) == 4
    assert plain(again, rows) == plain(result, whole)


def test_without_an_interval_or_before_it_is_over_there_is_none() -> None:
    for every in (None, 60.0):
        assert watched(config({}, checkpoint_every=every))[2] == []


def test_the_interval_is_no_part_of_what_a_trial_or_a_sweep_is() -> None:
    assert config({}, checkpoint_every=5.0).trial_id == config({}).trial_id
    spec = tiny_spec("checkpoint.every=5")
    assert (spec.checkpoint.every, spec.identity) == (5.0, tiny_spec().identity)
    assert tiny_spec("checkpoint={every: null}").checkpoint.every is None


@pytest.fixture(scope="module")
def kept() -> bytes:
    return watched(often({"teleport": TELEPORT}))[2][1][1]


def test_a_checkpoint_holds_nothing_that_could_run(kept: bytes) -> None:
    plain = torch.load(io.BytesIO(kept[DIGEST_BYTES:]), weights_only=True)
    assert plain["trial_id"] == often({"teleport": TELEPORT}).trial_id
    assert plain["seed"]["parts"].keys() == {"model", "optimizer", "batches", "extra_batches", "arm", "clock"}
    assert len(kept) < 300_000


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda data: data[: len(data) // 2], DAMAGED),
        (lambda data: b"", DAMAGED),
        (lambda data: flipped(data), DAMAGED),
        (lambda data: whole(b"no archive of torch's"), "it cannot be read: "),
        (lambda data: changed(data, version=1), "its version is 1, not 4"),
        (lambda data: changed(data, torch="1.0"), "its torch is '1.0', not '"),
        (lambda data: changed(data, trial_id="other"), "its trial_id is 'other', not '"),
        (lambda data: saved([1]), "its version is None, not 4"),
    ],
    ids=["cut", "empty", "a bit", "not torch", "version", "torch", "trial", "something else"],
)
def test_what_cannot_be_used_is_refused(kept: bytes, spoil: Any, rule: str) -> None:
    with pytest.raises(UnusableCheckpoint, match=rule):
        Checkpoint.from_bytes(spoil(kept), often({"teleport": TELEPORT}).trial_id)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return whole(file.getvalue())


def whole(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


def changed(data: bytes, **more: object) -> bytes:
    return saved({**torch.load(io.BytesIO(data[DIGEST_BYTES:]), weights_only=True), **more})


def flipped(data: bytes) -> bytes:
    """Turn one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class Watched(Relay):
    """A source that is cut off at a checkpoint, and counts the rows that come."""

    def __init__(self, source: TrialSource, cut_at: int | None) -> None:
        super().__init__(source)
        self.cut_at = cut_at
        self.rows: dict[str, list[HistoryRow]] = {}

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        self.rows.setdefault(config.trial_id, []).extend(rows)
        goes_on = super().on_history(config, rows)
        if self.cut_at == 0:
            raise KeyboardInterrupt
        return goes_on

    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        super().on_checkpoint(config, data)
        self.cut_at = None if self.cut_at is None else self.cut_at - 1


class CutAt(ReadyLauncher):
    """Runs inline, and is cut off at the first rows after so many checkpoints."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.cut_at = cut_at
        self.source: Watched | None = None

    def launch(self, source: TrialSource) -> None:
        self.source = Watched(source, self.cut_at)
        InlineLauncher().launch(self.source)


SPEC = tiny_spec("checkpoint.every=1e-9", "search.trials=2", "search.seeds=[0, 1]")


def go(home: Path, launcher: Launcher, spec: SweepSpec = SPEC, tracker: Tracker | None = None) -> Outcome:
    paths = SweepPaths(home, spec.name)
    tracker = tracker or NoTracker()
    return run(spec, paths, launcher, tracker, command="teleport run tiny.yaml", observe=lambda progress: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return go(tmp_path_factory.mktemp("home"), InlineLauncher())


@pytest.mark.parametrize("cut_at", [1, 5, 11, 30])
def test_a_sweep_goes_on_within_the_trial_that_was_cut_off(undisturbed: Outcome, tmp_path: Path, cut_at: int) -> None:
    paths, store = SweepPaths(tmp_path, "tiny"), FaultyStore()
    with pytest.raises(Interrupted, match="sweep 'tiny' was interrupted"):
        go(tmp_path, CutAt(cut_at), tracker=in_memory(store))
    [file] = paths.trials.glob("*/checkpoint.pt")
    trial_id = file.parent.name
    at = Checkpoint.from_bytes(file.read_bytes(), file.parent.name).num_rows
    on_file = paths.read_trial(trial_id).history
    assert len(on_file) > at, "there is a row to be cut off again"
    again = CutAt()
    go(tmp_path, again, tracker=in_memory(store))
    assert outcomes(read_record(paths)) == outcomes(read_record(undisturbed.paths))
    whole = paths.read_trial(trial_id).history
    assert whole[:at] == on_file[:at], "what was before the checkpoint stays, its seconds too"
    assert again.source is not None
    assert tuple(again.source.rows[trial_id]) == whole[at:], "only what came after it was trained again"
    assert f"({trial_id}) from step {whole[at - 1].step} of seed {whole[at - 1].seed}" in paths.log.read_text()
    assert not list(paths.trials.glob("*/checkpoint.pt"))
    [tracked] = [run for run in store.runs.values() if run.tags.get(TRIAL_ID) == trial_id]
    losses = {point for point in tracked.points if point.key.endswith("train_loss")}
    of_one_seed = {(row.metrics["train_loss"], row.step) for row in whole if row.seed == 0}
    assert of_one_seed <= {(point.value, point.step) for point in losses}


@pytest.mark.parametrize("spoiled", ["checkpoint", "history"])
def test_a_sweep_goes_on_without_a_checkpoint_that_cannot_be_used(
    undisturbed: Outcome, tmp_path: Path, spoiled: str
) -> None:
    paths = SweepPaths(tmp_path, "tiny")
    with pytest.raises(Interrupted, match="sweep 'tiny' was interrupted"):
        go(tmp_path, CutAt(5))
    [file] = paths.trials.glob("*/checkpoint.pt")
    at = Checkpoint.from_bytes(file.read_bytes(), file.parent.name).num_rows
    assert at > 0
    if spoiled == "checkpoint":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        paths.history(file.parent.name).write_text("")
    go(tmp_path, InlineLauncher())
    assert outcomes(read_record(paths)) == outcomes(read_record(undisturbed.paths))
    told = {
        "checkpoint": f"is not used, so it begins anew: {DAMAGED}",
        "history": f"trials/{file.parent.name}/history.jsonl is not as it was stored: the trial runs again",
    }
    assert told[spoiled] in paths.log.read_text()


class Losing(ReadyLauncher):
    """Loses the worker of each trial so many times before it ends it."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.num_started = 0

    def launch(self, source: TrialSource) -> None:
        losses: dict[str, int] = {}
        while not source.is_exhausted:
            config = source.propose()
            assert config is not None
            source.on_started(config)
            self.num_started += 1
            losses[config.trial_id] = losses.get(config.trial_id, 0) + 1
            if losses[config.trial_id] <= self.times:
                source.on_ended(config, TrialResult.lost(config.trial_id, "the worker died", 1.0, 2.0))
            else:
                source.on_ended(config, complete(config))


def test_a_lost_workers_trial_runs_again_and_fails_where_that_does_not_help(tmp_path: Path) -> None:
    for times in (NUM_RETRIES, NUM_RETRIES + 1):
        losing, home = Losing(times), tmp_path / str(times)
        go(home, losing)
        num_trials = len(list(SweepPaths(home, "tiny").trials.iterdir()))
        assert num_trials == 12 if times == NUM_RETRIES else num_trials >= 4, "search and confirm, or search alone"
        assert losing.num_started == num_trials * (NUM_RETRIES + 1)
        states = {trial.result.state for trial in read_record(SweepPaths(home, "tiny")).trials if trial.result}
        assert states == {TrialState.COMPLETE if times == NUM_RETRIES else TrialState.FAIL}
        log = SweepPaths(home, "tiny").log.read_text()
        assert log.count(", it runs again: the worker died") == NUM_RETRIES * log.count("started") / (NUM_RETRIES + 1)
