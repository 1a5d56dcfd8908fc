"""Arrivals, the best of less search, performance profiles: what is drawn and tabulated is what the report says."""

from __future__ import annotations

import json
import math

import pytest

from orchestrator.home.records import Trial
from orchestrator.report import Report, join, render_csv, render_html, render_json, render_markdown, summarise
from orchestrator.report.figures import Figure, across_figures, figures, search_figures
from orchestrator.report.figures.tuning import clock_axis
from orchestrator.report.sections.effects import further_section, interval_note, profile_section
from orchestrator.spec import spec_from_text
from tests.orchestrator.report.build import Effects, failing, missing, sweep, sweep_spec
from tests.orchestrator.report.test_evidence import FASTER, TWO_WORKLOADS
from tests.orchestrator.report.test_pages import numbers_of

AXES = ["steps", "seconds", "gradients"]


def group_of(made: list[Figure], group: str) -> list[Figure]:
    return [figure for figure in made if figure.group == group]


def lines_of(figure: Figure) -> dict[str, dict[str, object]]:
    """The lines that the legend names."""
    return {trace["name"]: trace for trace in figure.data if trace.get("showlegend", True)}


def two_miss(trial: Trial) -> Trial:
    is_cut = trial.config.phase == "confirm" and trial.config.arm == "teleport" and trial.config.seeds[0] < 1002
    return missing(trial) if is_cut else trial


class TestArrivalFigures:
    def test_a_line_rises_at_each_arrival_to_the_share_that_arrives(self) -> None:
        report = summarise(sweep(effects=FASTER, change=two_miss))
        drawn = group_of(figures(report, "mlp_digits"), "mlp_digits-arrivals")
        assert [figure.option for figure in drawn] == AXES
        curve = report.study("mlp_digits", "teleport").arrivals[0]
        line = lines_of(drawn[0])["teleport"]
        assert line["x"] == [0.0, *curve.x, 400.0]
        assert line["y"] == [0.0, *curve.share, curve.share[-1]]
        assert curve.share[-1] == pytest.approx(0.75)

    def test_a_miss_is_marked_where_it_was_cut_off_and_the_caption_says_so(self) -> None:
        first = group_of(
            figures(summarise(sweep(effects=FASTER, change=two_miss)), "mlp_digits"), "mlp_digits-arrivals"
        )[0]
        [marks] = [trace for trace in first.data if trace["mode"] == "markers"]
        assert (marks["name"], marks["x"], marks["y"]) == ("teleport", [400.0] * 2, pytest.approx([0.75] * 2))
        assert "missed the target and was cut off" in first.caption
        whole = group_of(figures(summarise(sweep(effects=FASTER)), "mlp_digits"), "mlp_digits-arrivals")[0]
        assert not [trace for trace in whole.data if trace["mode"] == "markers"]
        assert "cut off" not in whole.caption

    def test_an_arm_that_never_arrives_has_a_line_at_nothing(self) -> None:
        report = summarise(sweep(change=lambda t: missing(t) if t.config.arm == "teleport" else t))
        line = lines_of(group_of(figures(report, "mlp_digits"), "mlp_digits-arrivals")[0])["teleport"]
        assert (line["x"], line["y"]) == ([0.0, 400.0], [0.0, 0.0])

    def test_a_run_that_diverged_is_no_mark_and_holds_the_line_down(self) -> None:
        def change(trial: Trial) -> Trial:
            return failing(trial, "diverged") if trial.config.seeds == (1000,) else trial

        first = group_of(figures(summarise(sweep(change=change)), "mlp_digits"), "mlp_digits-arrivals")[0]
        assert not [trace for trace in first.data if trace["mode"] == "markers"]
        assert lines_of(first)["baseline"]["y"][-1] == pytest.approx(7 / 8)  # type: ignore[index]

    def test_before_confirm_there_is_none(self) -> None:
        assert group_of(figures(summarise(sweep(phases=("search",))), "mlp_digits"), "mlp_digits-arrivals") == []


class TestTuningFigures:
    def test_lines_are_the_expected_best_of_trials_and_of_time(self) -> None:
        report = summarise(sweep(effects=FASTER))
        trials, time = group_of(search_figures(report, "mlp_digits"), "mlp_digits-tuning")
        assert (trials.option, time.option) == ("trials", "time")
        tuning = report.study("mlp_digits", "teleport").tuning
        assert tuning is not None
        assert lines_of(trials)["teleport"]["y"] == [best.mean for best in tuning.by_trials]
        finite = [best.x for best in tuning.by_seconds if math.isfinite(best.mean)]
        assert lines_of(time)["teleport"]["x"] == finite
        assert 0 < len(finite) < len(tuning.by_seconds)

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_what_may_have_no_value_is_not_drawn(self, mode: str) -> None:
        metric = {"min": "train_loss", "max": "validation_accuracy"}[mode]
        spec = sweep_spec(f"search.objective={{metric: {metric}, mode: {mode}}}")
        report = summarise(sweep(spec, change=lambda t: failing(t, "diverged") if t.config.number in {0, 1} else t))
        drawn = group_of(search_figures(report, "mlp_digits"), "mlp_digits-tuning")
        for figure in drawn:
            json.dumps(figure.to_plotly(), allow_nan=False)
            known = numbers_of(json.loads(render_json(report)))
            assert {float(y) for trace in figure.data for y in trace["y"]} <= known
        assert lines_of(drawn[0])["teleport"]["x"] == [3, 4, 5, 6]
        assert ("lower" if mode == "min" else "higher") in drawn[0].caption

    def test_a_search_that_found_nothing_has_no_figure(self) -> None:
        report = summarise(sweep(phases=("search",), change=lambda t: failing(t, "diverged")))
        assert search_figures(report, "mlp_digits") == []

    @pytest.mark.parametrize(
        ("longest", "last"),
        [(1e-3, "1 ms"), (1.5, "1,500 ms"), (90.0, "100 s"), (600.0, "10 min"), (4e4, "15 h"), (1e6, "15 d")],
    )
    def test_time_is_read_in_the_unit_that_suits_it(self, longest: float, last: str) -> None:
        found = clock_axis(longest)
        ticks, labels = found["tickvals"], found["ticktext"]
        assert isinstance(ticks, list)
        assert isinstance(labels, list)
        assert (labels[-1], len(ticks)) == (last, len(labels))
        assert longest <= ticks[-1] < 2 * longest
        assert 3 <= len(ticks) <= 5


class TestProfileFigures:
    def test_each_arm_has_its_profile_and_one_workload_has_none(self) -> None:
        report = summarise(sweep(spec_from_text(TWO_WORKLOADS), FASTER))
        drawn = group_of(across_figures(report), "profiles")
        assert [figure.option for figure in drawn] == AXES
        lines = lines_of(drawn[0])
        for profile in report.profiles[:2]:
            assert lines[profile.arm]["y"] == list(profile.share)
        assert "the share of 2 workloads" in drawn[0].caption
        assert group_of(across_figures(summarise(sweep(effects=FASTER))), "profiles") == []

    def test_several_sweeps_have_each_their_own(self) -> None:
        reports = [
            summarise(sweep(spec_from_text(TWO_WORKLOADS, overrides=[f"name={name}"]), FASTER))
            for name in ("one", "two")
        ]
        keys = [figure.key for figure in across_figures(join(reports))]
        assert {"one-profiles-steps", "two-profiles-steps"} < set(keys)
        assert len(set(keys)) == len(keys)

    def test_twenty_seeds_have_bands(self) -> None:
        report = summarise(sweep(spec_from_text(TWO_WORKLOADS, overrides=["confirm.seeds=20"]), FASTER))
        first = group_of(across_figures(report), "profiles")[0]
        assert sum("fill" in trace for trace in first.data) == 2
        assert "bootstrap" in first.caption


@pytest.fixture(scope="module")
def report() -> Report:
    return summarise(sweep(spec_from_text(TWO_WORKLOADS), FASTER))


class TestTables:
    def test_the_share_its_interval_and_the_log_rank_test_stand_beside_each_effect(self, report: Report) -> None:
        section = further_section(report)
        first = dict(zip(section.header, section.rows[0], strict=True))
        assert first["metric"] == "steps to target"
        assert first["arm is better on"] == "100 % of 8 seeds"
        assert first["95 % interval"] == "[63 %, 100 %]"
        assert first["p (log-rank, raw)"] == "0.008"
        losses = [row for row in section.rows if "loss" in row[2]]
        assert {row[5] for row in losses} == {"–"}

    def test_the_mean_has_a_column_from_twenty_seeds_on(self, report: Report) -> None:
        assert further_section(report).header[-1] == "p (log-rank, raw)"
        section = further_section(summarise(sweep(sweep_spec("confirm.seeds=20"), FASTER)))
        assert section.header[-1] == "mean change, 95 % interval"
        assert section.rows[0][-1].startswith("−29 % [")

    def test_each_arm_has_its_ratio_on_each_workload(self, report: Report) -> None:
        section = profile_section(report)
        assert section.header[3:] == ("mlp_digits, of the best", "mlp_again, of the best")
        assert section.rows[1] == ("steps to target", "teleport", "100 %", "×1", "×1")
        assert len(section.rows) == 3 * 2
        assert profile_section(summarise(sweep(effects=FASTER))).rows == []

    def test_the_tables_are_on_the_page_in_the_markdown_and_in_the_files(self, report: Report) -> None:
        html, markdown, files = render_html(report), render_markdown(report), render_csv(report)
        for told in ("How often better", "Over all workloads"):
            assert told in html
            assert told.lower() in markdown.lower()
        assert len(files["profiles.csv"].splitlines()) == 1 + 3 * 2 * 2


def test_the_note_says_which_interval_the_verdict_table_has() -> None:
    one = summarise(sweep(effects=FASTER))
    assert interval_note([one]) == "Interval: 95 % interval for each claim."
    two = summarise(sweep(spec_from_text(TWO_WORKLOADS), FASTER))
    assert interval_note([two]).startswith("Interval: simultaneous 95 % interval for each claim, so that all")
    assert interval_note([two]) in render_html(two).replace("\u00a0", " ")
    assert interval_note([summarise(sweep(phases=("search",)))]) == ""


def test_an_interval_at_its_holm_step_is_named_with_its_claim() -> None:
    report = summarise(sweep(spec_from_text(TWO_WORKLOADS), Effects(factor={"teleport": 0.7})))
    first = report.comparisons[0]
    assert first.interval is not None
    at_step = first.interval.model_copy(update={"method": "holm", "confidence": 0.95})
    changed = (first.model_copy(update={"interval": at_step}), *report.comparisons[1:])
    note = interval_note([report.model_copy(update={"comparisons": changed})])
    assert "95 % interval at its Holm step for mlp_digits/teleport" in note
    assert "simultaneous 95 % interval for mlp_again/teleport" in note
