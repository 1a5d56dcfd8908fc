"""A search that is cut off at any moment goes on as if nothing had happened, whoever proposes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SearchNotReproducible
from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.journal import StudyLog, open_journal
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec
from orchestrator.spec.options import SAMPLERS
from tests.orchestrator.kills import run_with_a_kill
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, failed

NUM_TRIALS = 14
# What the driver does to the journal.
STEPS = [(StudyLog, ("draw", "keep", "tell"))]
# Small enough that every sampler is past its random beginning well before the end.
ARGUMENTS = {
    "tpe": "n_startup_trials: 4",
    "gp": "n_startup_trials: 11",
    "cmaes": "popsize: 4",
    "qmc": "qmc_type: sobol",
    "random": "",
    "grid": "points: 3",
    "nsga2": "population_size: 3",
    "nsga3": "population_size: 3",
}


def spec_for(sampler: str, *overrides: str) -> SweepSpec:
    arguments = f", {ARGUMENTS[sampler]}" if ARGUMENTS[sampler] else ""
    chosen = f"search.sampler={{name: {sampler}{arguments}}}"
    return tiny_spec(chosen, f"search.trials={NUM_TRIALS}", *overrides)


def answer(config: TrialConfig) -> TrialResult:
    """One trial in five diverges, one in seven crashes, the others are the better the nearer to a learning rate."""
    assert config.number is not None
    if config.number % 5 == 3:
        return failed(config)
    if config.number % 7 == 5:
        return failed(config, "crashed")
    lr = config.training.optimizer.model_dump()["lr"]
    result = complete(config, abs(lr - 0.1))
    return result.model_copy(update={"values": (abs(lr - 0.1), lr)}) if config.also else result


class Sweep:
    """A driver's part: files that outlive it, and one trial at a time."""

    def __init__(self, spec: SweepSpec, journal: Path) -> None:
        self.spec = spec
        self.journal = journal
        self.results: dict[str, TrialResult] = {}
        self.proposed: list[TrialConfig] = []

    def run(self) -> None:
        study = Study(self.spec, "digits", "teleport", open_journal(self.journal), self.results)
        while (config := study.propose()) is not None:
            if config not in self.proposed:
                self.proposed.append(config)
            self.results[config.trial_id] = answer(config)
            study.tell(self.results[config.trial_id])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"gp"}))
def test_a_kill_at_any_step_changes_no_proposal(sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_kills(sampler, 1, tmp_path, monkeypatch) > 4 * NUM_TRIALS


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"gp"}))
def test_a_kill_at_some_steps_changes_no_proposal(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert count_kills(sampler, 31, tmp_path, monkeypatch) >= 2


def count_kills(sampler: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kill and take up at every so many steps, until there are no more; each time nothing may be otherwise."""
    spec = spec_for(sampler)
    whole = Sweep(spec, tmp_path / "whole")
    whole.run()
    assert len({config.trial_id for config in whole.proposed}) >= NUM_TRIALS
    for number in itertools.count():
        at = number * every + every - 1
        cut = Sweep(spec, tmp_path / f"cut{at}")
        if not run_with_a_kill(cut.run, STEPS, monkeypatch, at):
            return number
        assert cut.proposed == whole.proposed, f"killed at step {at}"
        assert lines_of(cut.journal) == lines_of(whole.journal), f"killed at step {at}"
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("at", range(60, 84, 4))
def test_a_kill_changes_no_proposal_of_a_gaussian_process(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = Sweep(spec_for("gp"), tmp_path / "whole"), Sweep(spec_for("gp"), tmp_path / "cut")
    whole.run()
    assert run_with_a_kill(cut.run, STEPS, monkeypatch, at)
    assert cut.proposed == whole.proposed


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3"])
@pytest.mark.parametrize("at", [41, 62])
def test_so_it_is_with_several_objectives_and_divergence_as_a_constraint(
    sampler: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(sampler, "search.also=[{metric: seconds}]", "search.divergence=constraint")
    whole, cut = Sweep(spec, tmp_path / "whole"), Sweep(spec, tmp_path / "cut")
    whole.run()
    assert run_with_a_kill(cut.run, STEPS, monkeypatch, at)
    assert cut.proposed == whole.proposed


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"gp"}))
def test_duplicates_are_counted_across_a_kill(sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = "workloads.digits.optimizer.lr={choice: [0.01, 0.02, 0.05, 0.1, 0.2, 0.4]}"
    spec = spec_for(sampler, few, "arms.teleport.teleport={step: {rule: fixed, lr: 0.1}}")
    whole = Sweep(spec, tmp_path / "whole")
    whole.run()
    assert len(whole.proposed) == 6
    for at in (13, 29):
        cut = Sweep(spec, tmp_path / f"cut{at}")
        run_with_a_kill(cut.run, STEPS, monkeypatch, at)
        assert cut.proposed == whole.proposed, f"killed at step {at}"


def lines_of(journal: Path) -> list[dict[str, Any]]:
    """The journal's lines but for times and who wrote them; a constraint that is set again is no second line."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [
        {key: value for key, value in line.items() if not key.startswith("datetime") and key != "worker_id"}
        for line in lines
        if line["op_code"] != 0  # a study that was begun twice is there once
    ]


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"gp"}))
def test_nothing_in_a_journal_is_a_pickle(sampler: str, tmp_path: Path) -> None:
    sweep = Sweep(spec_for(sampler), tmp_path / "study.journal")
    sweep.run()
    text = sweep.journal.read_text(encoding="utf-8")
    assert "optimizer:" not in text
    assert not any(start in text for start in ("800495", "800595", "gASV", "gAWV", "cma:optimizer"))


def test_another_version_of_cma_es_is_told_and_not_continued(tmp_path: Path) -> None:
    sweep = Sweep(spec_for("cmaes"), tmp_path / "study.journal")
    sweep.run()
    lines = sweep.journal.read_text(encoding="utf-8").splitlines()
    name = "optimizer.lr"
    at = next(i for i, line in enumerate(lines) if name in json.loads(line).get("params", {}))
    changed = json.loads(lines[at])
    changed["params"][name] *= 1.0001
    lines[at] = json.dumps(changed)
    sweep.journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(SearchNotReproducible, match=r"cmaes proposes .* for trial 0, .* is on file"):
        sweep.run()


@pytest.mark.parametrize("length", [1, 30])
def test_a_line_that_a_kill_cut_short_is_no_harm(length: int, tmp_path: Path) -> None:
    spec = spec_for("random")
    whole, cut = Sweep(spec, tmp_path / "whole"), Sweep(spec, tmp_path / "cut")
    whole.run()
    study = Study(spec, "digits", "teleport", open_journal(cut.journal), {})
    config = study.propose()
    assert config is not None
    cut.journal.write_bytes(cut.journal.read_bytes()[:-length])
    (tmp_path / "cut.lock").symlink_to(cut.journal)
    cut.run()
    assert cut.proposed == whole.proposed
