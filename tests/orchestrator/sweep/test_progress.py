"""Where a sweep stands, counted from its trials, and how that is shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestrator.cli.display import line, table, watch_sweep
from orchestrator.home.records import Trial
from orchestrator.search.counts import num_planned
from orchestrator.sweep.standing import Progress, TrialCounts, count
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed


def progress(now: float = 11.0, since: float = 1.0) -> Progress:
    """Two trials began at 1 and ended at 2, and one runs; the sweep has been driven since a time."""
    one, two, three = config(lr=0.1), config(lr=0.2, number=1), config(arm="teleport", lr=0.1)
    counts = TrialCounts(tiny_spec(), since)
    for begun in (one, two, three):
        counts.begin(begun)
    counts.end(one, complete(one, 0.5))
    counts.end(two, failed(two))
    return counts.progress(now)


def test_counts_are_by_study_and_phase() -> None:
    counted = progress()
    assert [(s.study, s.phase, s.num_planned, s.num_done, s.num_running, s.num_failed) for s in counted.studies] == [
        ("digits/baseline", "search", 3, 2, 0, 1),
        ("digits/teleport", "search", 3, 0, 1, 0),
        ("digits/baseline", "confirm", 2, 0, 0, 0),
        ("digits/teleport", "confirm", 2, 0, 0, 0),
    ]
    assert (counted.num_planned, counted.num_done, counted.num_running, counted.num_failed) == (10, 2, 1, 1)
    assert [s.best for s in counted.studies] == [0.5, None, None, None]
    assert not counted.is_finished


def test_a_sweep_on_file_counts_the_same() -> None:
    one, two, three = config(lr=0.1), config(lr=0.2, number=1), config(arm="teleport", lr=0.1)
    trials = [
        Trial(config=one, result=complete(one, 0.5)),
        Trial(config=two, result=failed(two)),
        Trial(config=three),
    ]
    counted = progress()
    assert count(tiny_spec(), trials, since=1.0, now=11.0) == counted
    assert count(tiny_spec(), trials).num_running == 0
    assert count(tiny_spec(), trials).seconds_left is None
    before = count(tiny_spec(), trials, since=5.0, now=15.0)
    assert before.seconds_left is None, "the pace of this run is not that of the one before"


def test_confirm_chooses_nothing_so_none_of_its_seeds_is_called_best() -> None:
    of = config(phase="confirm", seeds=(1000,), number=None)
    counted = count(tiny_spec(), [Trial(config=of, result=complete(of, 0.1))])
    assert [(s.num_done, s.best) for s in counted.studies if s.study == "digits/baseline"] == [(0, None), (1, None)]


def test_a_trial_that_was_lost_is_counted_when_it_runs_again() -> None:
    counts, lost = TrialCounts(tiny_spec()), config(lr=0.1)
    counts.begin(lost)
    counts.take_back(lost)
    assert counts.progress().num_running == 0
    counts.begin(lost)
    counts.end(lost, complete(lost, 0.5))
    counted = counts.progress()
    assert (counted.num_done, counted.num_running) == (1, 0)


def test_time_left_is_the_pace_of_this_run() -> None:
    assert progress().seconds_left == pytest.approx(10.0 / 2.5 * 7.5), "the one that runs is half done"
    assert progress(since=3.0).seconds_left is None, "what ended before tells nothing of this run"
    assert progress(since=1.5).seconds_left == pytest.approx(9.5 / 2.5 * 7.5), "it went on from a checkpoint"


def test_time_left_leaves_out_what_passed_before_the_first_trial_began() -> None:
    """Workers take a minute to start, and then eight trials of a second run at once."""
    spec = tiny_spec("search.trials=50", "confirm={seeds: 1, grid: none}")
    counts = TrialCounts(spec, since=-60.0)
    configs = [config(lr=0.001 * (1 + number), number=number) for number in range(8)]
    for each in configs:
        counts.begin(each)
    counts.end(configs[0], complete(configs[0]))
    left = counts.progress(now=2.0).seconds_left
    assert left is not None
    assert 101 / 8 <= left <= 2 * 101 / 8


def test_a_small_space_plans_fewer_trials() -> None:
    spec = tiny_spec("search.trials=9", "workloads.digits.optimizer.lr=0.1", "confirm.top_k=4")
    assert num_planned(spec, "digits", "baseline", "search") == 1
    assert num_planned(spec, "digits", "baseline", "confirm") == 2
    assert num_planned(spec, "digits", "teleport", "confirm") == 8


def test_a_trial_that_is_to_be_replaced_is_planned_for() -> None:
    one, two = config(lr=0.1), config(lr=0.2, number=1)
    trials = [Trial(config=one, result=failed(one, "crashed")), Trial(config=two, result=failed(two))]
    counted = count(tiny_spec(), trials)
    assert [study.num_planned for study in counted.studies] == [4, 3, 2, 2]
    kept = count(tiny_spec("search.max_replaced=0"), trials)
    assert [study.num_planned for study in kept.studies] == [3, 3, 2, 2]


def test_the_first_seed_that_fails_says_whether_its_candidate_is_replaced() -> None:
    first, second = config(seeds=(0,)), config(seeds=(1,))
    trials = [Trial(config=first, result=failed(first, "crashed")), Trial(config=second, result=failed(second))]
    for seed in range(4):
        counted = count(tiny_spec("search.seeds=[0, 1]", f"search.seed={seed}"), trials)
        assert counted.studies[0].num_planned == (3 + 1) * 2, "whatever the order of runs of a shared search"


def test_plain_lines_say_everything_and_only_news(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_sweep() as show:
        show(progress())
        show(progress())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "2/10 trials | 1 running | 1 failed | best train_loss: digits/baseline 0.5 | about 30 s left\n"
    )


def test_time_left_is_not_guessed_before_anything_ended() -> None:
    assert line(progress(since=3.0)).endswith("time left unknown")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=False).print(table(progress(), width))
    assert all(len(text) <= width for text in file.getvalue().splitlines())
    assert "2/10 trials, about 30 s left" in file.getvalue()
