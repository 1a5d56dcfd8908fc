"""A search of several trials at once can be repeated, whatever ends first the second time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest

from orchestrator.errors import UserError
from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.journal import open_journal
from orchestrator.search.replay import Order, Turns, read_orders
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete

STUDY = "digits/teleport"
NUM_TRIALS = 18


def spec_for(sampler: str) -> SweepSpec:
    return tiny_spec(f"search.trials={NUM_TRIALS}", f"search.sampler={sampler}")


def answer(config: TrialConfig) -> TrialResult:
    return complete(config, abs(config.training.optimizer.model_dump()["lr"] - 0.1))


def search(
    spec: SweepSpec,
    journal: Path,
    seed: int,
    order: Order | None = None,
    results: Mapping[str, TrialResult] | None = None,
    stop: int = NUM_TRIALS,
) -> tuple[list[TrialConfig], dict[str, TrialResult]]:
    """Run up to four trials at once; which of them ends next is drawn."""
    drawn = random.Random(seed)
    told = dict(results or {})
    study = Study(spec, "digits", "teleport", open_journal(journal), told, order=order)
    running: list[TrialConfig] = []
    proposed: list[TrialConfig] = []
    while len(proposed) < stop:
        config = study.propose() if len(running) < 4 and drawn.random() < 0.7 else None
        if config is not None:
            proposed.append(config)
            running.append(config)
        elif running:
            ended = running.pop(drawn.randrange(len(running)))
            told[ended.trial_id] = answer(ended)
            study.tell(told[ended.trial_id])
        elif study.is_exhausted:
            break
    return proposed, told


@pytest.mark.parametrize("sampler", ["{name: tpe, n_startup_trials: 3}", "{name: nsga2, population_size: 3}", "qmc"])
def test_a_search_that_follows_an_order_proposes_the_same(sampler: str, tmp_path: Path) -> None:
    spec = spec_for(sampler)
    first, _ = search(spec, tmp_path / "first", 0)
    order = read_orders(tmp_path / "first")[STUDY]
    for seed in (1, 2):
        assert search(spec, tmp_path / f"again{seed}", seed, order)[0] == first


def test_without_an_order_what_ends_first_decides(tmp_path: Path) -> None:
    spec = spec_for("{name: tpe, n_startup_trials: 3}")
    assert search(spec, tmp_path / "a", 0)[0] != search(spec, tmp_path / "b", 1)[0]


def test_a_search_that_follows_an_order_may_be_cut_off(tmp_path: Path) -> None:
    spec = spec_for("{name: cmaes, popsize: 4}")
    first, _ = search(spec, tmp_path / "first", 0)
    order = read_orders(tmp_path / "first")[STUDY]
    begun, told = search(spec, tmp_path / "again", 1, order, stop=9)
    ended = [config for config in begun if config.trial_id in told]
    rest, _ = search(spec, tmp_path / "again", 2, order, told)
    assert [config.trial_id for config in first] == list(
        dict.fromkeys(config.trial_id for config in [*begun, *rest])
    ), f"{len(ended)} had ended"


def test_behind_its_end_an_order_holds_nothing_back(tmp_path: Path) -> None:
    spec = spec_for("random")
    search(spec, tmp_path / "first", 0, stop=6)
    order = read_orders(tmp_path / "first")[STUDY]
    assert len(order.told) == 6
    assert len(search(spec, tmp_path / "again", 1, order)[0]) == NUM_TRIALS


def test_turns() -> None:
    turns = Turns(Order(told=((), (), (1,), (0,))))
    assert turns.may_propose(1)
    assert not turns.may_propose(2)
    assert not turns.may_tell(0, 2)
    assert turns.may_tell(1, 2)
    turns.on_told(1)
    assert turns.may_propose(2)
    assert turns.may_tell(0, 3)
    assert turns.may_propose(4)
    assert turns.may_tell(3, 4)


def test_a_journal_without_an_order_says_so(tmp_path: Path) -> None:
    old = optuna.create_study(storage=open_journal(tmp_path / "old"), study_name=STUDY)
    old.ask()
    with pytest.raises(UserError, match="was begun by a version that recorded no order, so it cannot be replayed"):
        read_orders(tmp_path / "old")


def test_a_sweep_without_a_journal_has_no_order(tmp_path: Path) -> None:
    assert read_orders(tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()
