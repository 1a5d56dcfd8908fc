"""What the search tried: spaces, importances, fronts, and figures that show the trials and no others."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.home.records import SweepRecord, Trial
from orchestrator.report import Report, full_report, render_html, summarise
from orchestrator.report.figures import curve_figure, figures, search_figures
from orchestrator.report.figures.curves import MAX_DRAWN
from orchestrator.report.figures.search import front, short
from orchestrator.report.schema import SearchTrial
from orchestrator.report.sections.search import fate_section, importance_section
from orchestrator.spec import Objective
from tests.orchestrator.report.build import failing, stopped, sweep, sweep_spec

NUM_TRIALS = 40


def decided_by_lr(trial: Trial) -> Trial:
    """A trial whose value depends on its learning rate alone, with its best at 0.1."""
    if trial.config.phase != "search" or trial.result is None:
        return trial
    lr = trial.config.values["optimizer.lr"]
    assert isinstance(lr, float)
    value = 0.1 + (math.log10(lr) + 1.0) ** 2
    return trial.model_copy(update={"result": trial.result.model_copy(update={"value": value})})


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    return sweep(sweep_spec(f"search.trials={NUM_TRIALS}"), change=decided_by_lr)


@pytest.fixture(scope="module")
def report(record: SweepRecord) -> Report:
    return full_report(record)


def test_a_study_says_what_it_searched_over(report: Report) -> None:
    [lr, tau, step, fixed, *_] = report.study("mlp_digits", "teleport").space
    assert (lr.name, lr.kind, lr.low, lr.high, lr.is_log) == ("optimizer.lr", "float", 0.01, 1.0, True)
    assert (tau.kind, tau.choices) == ("choice", (1.0, 0.999, 0.99))
    assert step.kind == "choice"
    assert fixed.name == "teleport.step[rule=fixed].lr"


def test_the_parameter_that_decides_is_the_most_important_and_shares_add_up(report: Report) -> None:
    importance = report.study("mlp_digits", "teleport").importance
    assert importance[0].parameter == "optimizer.lr"
    assert importance[0].share > 0.5
    assert sum(each.share for each in importance) == pytest.approx(1.0)
    assert {each.parameter for each in importance} == {p.name for p in report.study("mlp_digits", "teleport").space}
    assert importance_section(report).rows[0][:3] == ("mlp_digits", "teleport", "optimizer.lr")


def test_importances_are_the_same_every_time_and_change_nothing_else(record: SweepRecord, report: Report) -> None:
    assert full_report(record) == report
    bare = [study.model_copy(update={"importance": ()}) for study in report.studies]
    assert report.model_copy(update={"studies": tuple(bare)}) == summarise(record)


@pytest.mark.parametrize("num_trials", [1, 2, 9])
def test_a_few_trials_have_no_importance(num_trials: int) -> None:
    found = full_report(sweep(sweep_spec(f"search.trials={num_trials}")))
    assert [study.importance for study in found.studies] == [(), ()]


def test_a_parameter_that_few_trials_had_is_not_called_important() -> None:
    """A parameter of a branch that 4 of 24 trials took came first, by the luck of those four."""

    def rarely_fixed(trial: Trial) -> Trial:
        number = trial.config.number or 0
        if trial.config.phase == "confirm" or trial.config.arm != "teleport":
            return trial
        values = {name: value for name, value in trial.config.values.items() if not name.startswith("teleport.step")}
        is_fixed = number % 6 == 0
        values["teleport.step"] = "rule=fixed" if is_fixed else "rule=growth"
        values |= {"teleport.step[rule=fixed].lr": 0.1} if is_fixed else {"teleport.step[rule=growth].factor": 2.0}
        return decided_by_lr(trial.model_copy(update={"config": trial.config.model_copy(update={"values": values})}))

    study = full_report(sweep(sweep_spec("search.trials=24"), change=rarely_fixed)).study("mlp_digits", "teleport")
    names = {each.parameter for each in study.importance}
    assert "teleport.step[rule=growth].factor" in names
    assert "teleport.step[rule=fixed].lr" not in names


def test_a_parameter_alone_has_no_importance(report: Report) -> None:
    assert report.study("mlp_digits", "baseline").importance == ()


def test_every_complete_trial_is_in_the_course(report: Report) -> None:
    made = {figure.key: figure for figure in search_figures(report, "mlp_digits")}
    points = [trace for trace in made["mlp_digits-history"].data if trace["mode"] == "markers"]
    assert [len(trace["x"]) for trace in points] == [NUM_TRIALS, NUM_TRIALS]
    [best] = [t for t in made["mlp_digits-history"].data if t["mode"] == "lines" and t["name"] == "teleport"]
    assert best["y"] == sorted(best["y"], reverse=True)


def test_figures_that_share_a_place_have_options_that_differ(report: Report) -> None:
    places: dict[str, list[str]] = {}
    for figure in [*figures(report, "mlp_digits"), *search_figures(report, "mlp_digits")]:
        if figure.group:
            places.setdefault(figure.group, []).append(figure.option)
    assert places["mlp_digits-train_loss"] == ["steps", "seconds", "gradients"]
    assert places["mlp_digits-tuning"] == ["trials", "time"]
    assert all(len(set(options)) == len(options) for options in places.values())


objectives = (Objective(metric="train_loss", mode="min"), Objective(metric="validation_accuracy", mode="max"))
values = st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float))


def trial_with(number: int, found: tuple[float, ...]) -> SearchTrial:
    return SearchTrial(
        trial_id=str(number),
        number=number,
        state="COMPLETE",
        value=found[0],
        steps_to_target=None,
        seconds=1.0,
        values={},
        objectives=found,
    )


@given(st.lists(values, min_size=1, max_size=30))
def test_the_front_is_what_no_other_trial_beats(found: list[tuple[float, float]]) -> None:
    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    trials = [trial_with(number, each) for number, each in enumerate(found)]
    expected = [each for each in trials if not any(beats(other.objectives, each.objectives) for other in trials)]
    assert front(trials, objectives) == expected


def test_several_objectives_have_a_front_each_against_the_first() -> None:
    def with_two(trial: Trial) -> Trial:
        if trial.result is None or trial.config.phase != "search":
            return trial
        pair = (trial.result.value, float(trial.config.number or 0))
        return trial.model_copy(update={"result": trial.result.model_copy(update={"values": pair})})

    spec = sweep_spec("search.also=[{metric: seconds, mode: min}]", "search.trials=12")
    report = full_report(sweep(spec, change=with_two))
    figure = next(f for f in search_figures(report, "mlp_digits") if f.key == "mlp_digits-pareto-seconds")
    assert [len(a["x"]) + len(b["x"]) for a, b in zip(figure.data[::2], figure.data[1::2], strict=True)] == [12, 12]
    assert [objective.metric for objective in report.sweep.also] == ["seconds"]
    assert report.study("mlp_digits", "teleport").importance


def test_what_became_of_the_trials_is_counted_by_kind() -> None:
    kinds = {0: "crashed", 1: "diverged", 2: "lost"}

    def change(trial: Trial) -> Trial:
        number = trial.config.number
        if number == 3:
            return stopped(trial)
        return failing(trial, kinds[number]) if number in kinds else trial

    section = fate_section(summarise(sweep(change=change)))
    baseline = section.rows[0]
    told = dict(zip(section.header[2:], baseline[2:], strict=True))
    assert told["search: crashed"] == told["search: diverged"] == told["search: lost"] == told["search: pruned"] == "1"
    assert told["search: complete"] == "2"
    assert told["confirm: reached"] == "8"


def test_many_runs_are_thinned_and_the_caption_says_so() -> None:
    report = summarise(sweep(sweep_spec("confirm.seeds=300", "search.trials=1")))
    studies = list(report.studies)
    figure = curve_figure(studies, dict.fromkeys(report.arms, "#000000"), "train_loss", "step", 0.1)
    thin = [trace for trace in figure.data if trace["line"].get("width") == 1]
    assert sum(len(trace["x"]) for trace in thin) <= 1.3 * MAX_DRAWN
    assert "Of 300 seeds an arm the first 160 are drawn thin." in figure.caption
    assert "point; report.json has all of these." in figure.caption
    assert all(trace["x"][-1] == 400 for trace in thin), "the last point stays"


@pytest.mark.parametrize("name", ["<b>x</b>", "a" * 100, "line\nbreak", "&amp;"])
def test_a_name_in_a_figure_has_no_tags(name: str) -> None:
    assert len(short("a" * 100)) == 34
    assert not set(short(name)) & set("<>\n")


def test_phases_of_a_teleport_are_added_up_over_the_runs(report: Report) -> None:
    price = report.study("mlp_digits", "teleport").price
    assert price is not None
    assert price.seconds_by_phase == pytest.approx({"capture": 0.08, "subspace": 0.4, "direction": 0.24, "apply": 0.16})
    figure = next(f for f in figures(report, "mlp_digits") if f.key.endswith("-phases"))
    assert {trace["name"]: trace["x"] for trace in figure.data} == {
        name: [seconds] for name, seconds in price.seconds_by_phase.items()
    }


def test_importances_are_on_the_page(report: Report) -> None:
    assert "Which parameters mattered in search</summary>" in render_html(report)


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300])
def test_trials_that_are_all_equal_break_nothing(value: float) -> None:
    def equal(trial: Trial) -> Trial:
        if trial.result is None or trial.config.phase != "search":
            return trial
        return trial.model_copy(update={"result": trial.result.model_copy(update={"value": value})})

    report = full_report(sweep(sweep_spec("search.trials=20"), change=equal))
    for study in report.studies:
        assert all(0.0 <= each.share <= 1.0 for each in study.importance)
    assert "Which parameters mattered" in render_html(report)


def test_a_branch_taken_once_and_a_range_of_one_value_break_nothing() -> None:
    spec = sweep_spec("search.trials=20", "arms.teleport.teleport.schedule.batches={int: [8, 8]}")

    def mostly_fixed(trial: Trial) -> Trial | None:
        is_growth = trial.config.values.get("teleport.step") == "rule=growth"
        return None if is_growth and trial.config.number != 2 else decided_by_lr(trial)

    record = sweep(spec, change=mostly_fixed)
    report = full_report(record)
    assert len(report.study("mlp_digits", "teleport").search) < 20
    json.dumps([figure.to_plotly() for figure in search_figures(report, "mlp_digits")], allow_nan=False)
