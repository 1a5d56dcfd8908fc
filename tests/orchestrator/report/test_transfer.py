"""Whether one setting serves all: from stored sweeps whose effects are known to tables, pages and the missing sweep."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas
import plotly.graph_objects
import pytest

from orchestrator.report import join, render_csv, render_html, render_json, render_latex, render_markdown, summarise
from orchestrator.report.figures import transfer_figures
from orchestrator.report.missing import missing_of_left_out, missing_of_transfer, missing_sweep
from orchestrator.report.schema import TIME_METRICS, Transfer
from orchestrator.report.settings import costs_of, method_id, mismatches, sources_of, table_of
from orchestrator.report.transfer import transfer_of, transfers_of
from orchestrator.report.transfer_tables import band_text, cell_text, transfer_blocks
from orchestrator.results import SweepRecord, Trial, TrialConfig
from orchestrator.spec import SweepSpec, spec_from_text
from tests.orchestrator.report.build import BUDGET, Effects, failing, missing, stopped, sweep

WORKLOADS = ("small", "middle", "large")
BEST_FACTOR = {"small": 1.3, "middle": 2.0, "large": 3.2}
SPEC = """
version: 1
name: across
workloads:
{workloads}
arms:
  teleport:
    teleport: {{step: {{rule: growth, factor: {{loguniform: [1.1, 4.0]}}}}, schedule: {{epochs: 5, batches: 8}}}}
search: {{sampler: random, trials: 48, seeds: [0, 1], objective: {{metric: steps_to_target}}}}
confirm: {{seeds: 8}}
"""
WORKLOAD = """  {label}:
    model: {{name: mlp, widths: [{width}]}}
    data: {{name: digits, batch_size: 32}}
    optimizer: {{name: sgd, lr: {{loguniform: [0.01, 1.0]}}}}
    epochs: 10
    target: {{metric: train_loss, value: 0.1}}
"""


def across_spec(labels: tuple[str, ...] = WORKLOADS, *overrides: str) -> SweepSpec:
    made = "".join(WORKLOAD.format(label=label, width=32 * (1 + WORKLOADS.index(label))) for label in labels)
    return spec_from_text(SPEC.format(workloads=made), "across.yaml", overrides)


@dataclass(frozen=True)
class Bowl(Effects):
    """A growth factor costs the more the farther it is, in logarithms, from what is best for the workload."""

    own_noise: float = 0.01

    def time(self, config: TrialConfig, seed: int) -> float:
        return super().time(config, seed) * loss_of(config)


def loss_of(config: TrialConfig) -> float:
    teleport = config.method.teleport
    if teleport is None:
        return 1.0
    return 0.5 * (1.0 + 0.5 * math.log(teleport.step.factor / BEST_FACTOR[config.workload]) ** 2)  # type: ignore[union-attr, operator]


def across(change: Callable[[Trial], Trial | None] = lambda trial: trial, spec: SweepSpec | None = None) -> SweepRecord:
    return sweep(spec or across_spec(), Bowl(), change=lambda t: change(with_value(t)))


def with_value(trial: Trial) -> Trial:
    """The builder's value is the loss; here it is the objective."""
    assert trial.result is not None
    steps = [2 * BUDGET if s.steps_to_target is None else s.steps_to_target for s in trial.result.seeds]
    return trial.model_copy(update={"result": trial.result.model_copy(update={"value": float(np.mean(steps))})})


def evaluated(*records: SweepRecord, arm: str = "teleport") -> Transfer:
    sources, faults = sources_of(records, arm)
    assert faults == ()
    return transfer_of(records, arm, sources)


def carried(record: SweepRecord, change: Callable[[Trial], Trial | None] = lambda trial: trial) -> SweepRecord:
    """The sweep that runs what is missing, run."""
    transfer = evaluated(record)
    sources, _ = sources_of([record], "teleport")
    made = missing_sweep([record], sources, transfer, missing_of_transfer(transfer))
    spec = spec_from_text(made.yaml)
    return sweep(spec, Bowl(), change=lambda t: change(with_value(t)))


@pytest.fixture(scope="module")
def source() -> SweepRecord:
    return across()


@pytest.fixture(scope="module")
def both(source: SweepRecord) -> tuple[SweepRecord, SweepRecord]:
    return source, carried(source)


@pytest.fixture(scope="module")
def shared() -> SweepRecord:
    return shared_search(across_spec(WORKLOADS, *(f"workloads.{w}.optimizer.lr=0.1" for w in WORKLOADS)))


class TestTable:
    def test_a_setting_is_recognised_by_its_configuration(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        sources, _ = sources_of(both, "teleport")
        table = table_of(both, sources, "confirm")
        assert table.workloads == WORKLOADS
        assert [each.label for each in table.settings] == [f"from {label}" for label in WORKLOADS]
        seeds = {tuple(sorted(runs)) for runs in table.costs.values()}
        assert seeds == {tuple(range(2000, 2008))}
        assert len(table.costs) == 9
        assert set(table.own.values()) == {each.key for each in table.settings}

    def test_costs_are_steps_and_misses_twice_the_budget(self, source: SweepRecord) -> None:
        trial = next(t for t in source.trials if t.config.phase == "search")
        assert trial.result is not None
        hit = costs_of(trial, "steps_to_target")
        assert [hit[seed.seed].value for seed in trial.result.seeds] == [s.steps_to_target for s in trial.result.seeds]
        assert {cost.value for cost in costs_of(missing(trial), "steps_to_target").values()} == {2.0 * BUDGET}
        assert costs_of(failing(trial, "crashed"), "steps_to_target") == {}
        assert costs_of(stopped(trial), "steps_to_target") == {}

    def test_a_divergence_is_a_miss_on_every_seed_also_without_a_result(self, source: SweepRecord) -> None:
        trial = next(t for t in source.trials if t.config.phase == "search")
        for metric in TIME_METRICS:
            found = costs_of(failing(trial, "diverged"), metric)
            assert list(found) == list(trial.config.seeds)
            assert all(cost.is_miss for cost in found.values())
        assert {c.value for c in costs_of(failing(trial, "diverged"), "steps_to_target").values()} == {2.0 * BUDGET}
        assert costs_of(failing(trial, "timeout"), "steps_to_target") == {}
        assert {c.value for c in costs_of(failing(trial, "timeout"), "steps_to_target", 50.0).values()} == {100.0}

    def test_seeds_that_a_search_saw_confirm_nothing(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        """A sweep of the user's own that takes a search seed of the source for confirm."""
        source, made = both
        trials = tuple(reseeded(t, 0) if t.config.seeds == (2001,) else t for t in made.trials)
        sources, _ = sources_of([source], "teleport")
        table = table_of([source, replace(made, trials=trials)], sources, "confirm")
        for runs in (*table.costs.values(), *table.baseline.values()):
            assert not runs.keys() & {0, 2001}

    def test_two_sweeps_that_tuned_the_same_are_told_apart(self, source: SweepRecord) -> None:
        again = replace(source, spec=across_spec(WORKLOADS, "name=again"))
        _, faults = sources_of([source, again], "teleport")
        assert "small/teleport was tuned in across too, and each has its own best; name one of them" in str(faults[0])

    def test_a_study_without_a_best_is_named(self) -> None:
        record = across(lambda t: failing(t, "diverged") if t.config.study == "middle/teleport" else t)
        found, faults = sources_of([record], "teleport")
        assert [each.workload for each in found] == ["small", "large"]
        assert "no trial of the search of middle/teleport ended well" in str(faults[0])

    def test_the_same_label_for_another_target_is_named(self, source: SweepRecord) -> None:
        other = across(spec=across_spec(("small",), "name=other", "workloads.small.target.value=0.2"))
        sources, _ = sources_of([source], "teleport")
        [fault] = mismatches([source, other], sources)
        assert "is not the same in across and other: target (train_loss 0.1 and train_loss 0.2) differ" in str(fault)


class TestTransfer:
    def test_one_sweep_alone_lacks_the_matrix(self, source: SweepRecord) -> None:
        made = evaluated(source)
        assert made.cells == ()
        assert len(made.missing) == 9
        assert made.left_out == ()
        assert {each.tuned is not None and each.alone is None for each in made.own} == {True}

    def test_every_cell_is_what_the_settings_were_made_to_cost(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        made = evaluated(*both)
        assert made.missing == ()
        assert len(made.cells) == 9
        methods = {method_id(t.config.method): t.config.method for record in both for t in record.trials}
        for cell in made.cells:
            assert cell.evidence == "confirmed"
            assert cell.seeds == tuple(range(2000, 2008))
            config = both[1].trials[0].config.model_copy(update={"workload": cell.workload})
            own = next(each.setting for each in made.own if each.workload == cell.workload)
            here, there = (loss_of(config.model_copy(update={"method": methods[key]})) for key in (cell.setting, own))
            assert cell.regret == pytest.approx(here / there, rel=0.03)
            assert cell.against_baseline == pytest.approx(here, rel=0.03)
            if not cell.is_own:
                assert cell.interval is not None
                assert cell.interval.low <= cell.estimate <= cell.interval.high
                assert cell.interval.excludes_none == (not cell.interval.low <= 1.0 <= cell.interval.high)
            else:
                assert (cell.regret, cell.interval) == (1.0, None)

    def test_the_middle_setting_serves_all_best_and_the_farthest_workload_is_its_worst(
        self, both: tuple[SweepRecord, SweepRecord]
    ) -> None:
        made = evaluated(*both)
        first = made.shared[0]
        assert made.label(first.setting) == "from middle"
        assert [each.evidence for each in made.shared] == ["confirmed"] * 3
        of_small = next(each for each in made.shared if made.label(each.setting) == "from small")
        assert of_small.worst_regret_on == "large"
        cells = [made.cell(of_small.setting, workload) for workload in WORKLOADS]
        regrets = [cell.regret for cell in cells if cell is not None]
        assert of_small.regret == pytest.approx(np.prod(regrets) ** (1 / 3))
        assert of_small.worst_regret == max(regrets)

    def test_leaving_one_out_chooses_the_nearest_of_the_others(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        made = evaluated(*both)
        assert [each.workload for each in made.left_out] == list(WORKLOADS)
        for each in made.left_out:
            candidates = {
                setting.key: math.prod(
                    ratio
                    for workload in WORKLOADS
                    if (cell := made.cell(setting.key, workload)) is not None
                    and (ratio := cell.against_baseline) is not None
                    and workload != each.workload
                )
                for setting in made.settings
                if setting.sources != (each.workload,)
            }
            assert each.setting == min(candidates, key=candidates.__getitem__)
            assert each.others == pytest.approx(candidates[each.setting] ** 0.5)
            assert (each.num_candidates, each.chosen_on) == (2, "confirmed")
            assert each.cell == made.cell(each.setting, each.workload)

    def test_three_settings_have_an_order_and_no_interval(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        found = evaluated(*both).stability
        assert found is not None
        assert (found.num_settings, found.evidence, found.method) == (3, "confirmed", "exact")
        assert [(each.one, each.other, each.low) for each in found.pairs] == [
            ("small", "middle", None),
            ("small", "large", None),
            ("middle", "large", None),
        ]
        assert found.pairs[1].tau == pytest.approx(-1.0)

    def test_bands_lie_about_what_is_best(self, source: SweepRecord) -> None:
        [found] = evaluated(source).sensitivity
        assert found.parameter == "teleport.step.factor"
        assert found.is_log
        assert [band.workload for band in found.bands] == list(WORKLOADS)
        for band in found.bands:
            assert band.num_trials == 48
            assert sum(each.count for each in band.bins) == 48
            assert min(each.cost for each in band.bins if each.cost is not None) == 1.0
        middle = found.bands[1]
        assert middle.low is not None
        assert middle.high is not None
        assert middle.low < BEST_FACTOR["middle"] * 1.3
        assert middle.high > BEST_FACTOR["middle"] / 1.3

    def test_what_was_stopped_early_counts_as_a_miss_in_a_band(self) -> None:
        def stop(trial: Trial) -> Trial:
            is_high = trial.config.values.get("teleport.step.factor", 0.0) > 2.0  # type: ignore[operator]
            return stopped(trial) if trial.config.phase == "search" and is_high else trial

        [found] = evaluated(across(stop)).sensitivity
        for band in found.bands:
            assert band.high is not None
            assert band.high < 2.5
            assert band.num_trials == 48

    def test_a_setting_that_misses_elsewhere_is_told_without_a_number(self, source: SweepRecord) -> None:
        def cut(trial: Trial) -> Trial:
            config = trial.config
            return missing(trial) if (config.workload, config.arm) == ("large", "from_small") else trial

        made = evaluated(source, carried(source, cut))
        key = next(each.key for each in made.settings if each.label == "from small")
        cell = made.cell(key, "large")
        assert cell is not None
        assert cell.num_misses == 8
        assert math.isinf(cell.estimate)
        assert math.isfinite(cell.regret)
        assert cell_text(cell).startswith("misses")
        assert all(math.isfinite(each.geometric_mean) for each in made.shared)

    def test_the_same_setting_twice_is_one(self) -> None:
        """Two workloads that chose the same: it stays a candidate for either."""
        spec = across_spec(("small", "middle"), "arms.teleport.teleport.step.factor=1.5")
        record = across(spec=spec)
        made = evaluated(record)
        assert [(each.label, each.sources) for each in made.settings] == [("from small, middle", ("small", "middle"))]
        again = evaluated(record, carried(record))
        assert [each.workload for each in again.left_out] == ["small", "middle"]
        assert all(cell.is_own for cell in again.cells)

    def test_settings_that_ran_everywhere_in_search_are_ranked_and_chosen_from_exploratorily(
        self, shared: SweepRecord
    ) -> None:
        """With training values that are not searched a grid runs the same settings on every workload."""
        made = evaluated(shared)
        assert made.stability is not None
        assert (made.stability.num_settings, made.stability.evidence) == (48, "exploratory")
        assert all(each.low is not None for each in made.stability.pairs)
        assert {(each.chosen_on, each.num_candidates >= 45) for each in made.left_out} == {("exploratory", True)}
        away = [cell for cell in made.cells if not cell.is_own]
        assert {(cell.evidence, cell.interval) for cell in away} == {("exploratory", None)}
        assert {cell.evidence for cell in made.cells if cell.is_own} == {"confirmed"}


def reseeded(trial: Trial, seed: int) -> Trial:
    assert trial.result is not None
    seeds = tuple(each.model_copy(update={"seed": seed}) for each in trial.result.seeds)
    return trial.model_copy(
        update={
            "config": trial.config.model_copy(update={"seeds": (seed,)}),
            "result": trial.result.model_copy(update={"seeds": seeds}),
        }
    )


def shared_search(spec: SweepSpec) -> SweepRecord:
    """The same settings in the same order on every workload."""
    from orchestrator.confirmation import confirm_configs
    from orchestrator.report import champions
    from tests.orchestrator.report.build import search_configs, trained

    configs = search_configs(spec)
    methods = {c.number: (c.method, c.values) for c in configs if c.study == "small/teleport"}
    trials = []
    for config in configs:
        method, values = methods[config.number]
        shared = config.model_copy(update={"method": method, "values": values})
        trials.append(with_value(trained(shared if config.arm == "teleport" else config, Bowl())))
    record = SweepRecord(spec, sweep(spec, phases=()).provenance, tuple(trials))
    chosen = [trial for best in champions(record).values() for trial in best]
    return replace(record, trials=(*trials, *(with_value(trained(c, Bowl())) for c in confirm_configs(spec, chosen))))


class TestMissing:
    def test_the_sweep_runs_each_setting_on_each_workload_with_the_baselines_training(
        self, both: tuple[SweepRecord, SweepRecord]
    ) -> None:
        source, made = both
        assert made.spec.name == "across_transfer"
        assert list(made.spec.arms) == ["baseline", "from_small", "from_middle", "from_large"]
        assert made.spec.confirm_seeds == tuple(range(2000, 2008))
        sources, _ = sources_of([source], "teleport")
        for each in sources:
            runs = [t.config for t in made.trials if t.config.workload == each.workload]
            assert {run.training.model_dump_json() for run in runs} == {each.baseline.config.training.model_dump_json()}
        methods = {method_id(each.best.config.method) for each in sources}
        assert {method_id(t.config.method) for t in made.trials if t.config.arm != "baseline"} == methods

    def test_a_hole_is_filled_on_the_seeds_that_are_there(self, source: SweepRecord) -> None:
        def lose(trial: Trial) -> Trial | None:
            return None if trial.config.study == "large/from_small" and trial.config.phase == "confirm" else trial

        first = carried(source, lose)
        records = [source, first]
        made = evaluated(*records)
        [hole] = made.missing
        assert (made.label(hole.setting), hole.workload) == ("from small", "large")
        sources, _ = sources_of(records, "teleport")
        filled = missing_sweep(records, sources, made, missing_of_transfer(made), taken={"across_transfer_2"})
        spec = spec_from_text(filled.yaml)
        assert (list(spec.workloads), list(spec.arms)) == (["large"], ["baseline", "from_small"])
        assert spec.confirm_seeds == tuple(range(2000, 2008))
        assert spec.name == "across_transfer_3"
        assert (filled.num_missing, filled.num_beside) == (1, 0)
        again = sweep(spec, Bowl(), change=with_value)
        assert evaluated(*records, again).missing == ()

    def test_seeds_are_none_that_any_of_the_sweeps_has_used(self) -> None:
        record = across(spec=across_spec(WORKLOADS, "confirm.seeds=[2, 2001]"))
        sources, _ = sources_of([record], "teleport")
        made = missing_sweep([record], sources, evaluated(record), missing_of_transfer(evaluated(record)))
        assert spec_from_text(made.yaml).confirm_seeds == (2002, 2003)

    def test_leaving_one_out_after_a_shared_search_lacks_the_choices_alone(self, shared: SweepRecord) -> None:
        made = evaluated(shared)
        places = missing_of_left_out(made)
        choices = {(each.setting, each.workload) for each in made.left_out}
        own = {(each.setting, each.workload) for each in made.own}
        assert set(places) == choices | own
        sources, _ = sources_of([shared], "teleport")
        spec = spec_from_text(missing_sweep([shared], sources, made, places, suffix="loao").yaml)
        assert spec.name == "across_loao"
        again = evaluated(shared, sweep(spec, Bowl(), change=with_value))
        assert [each.cell.evidence for each in again.left_out if each.cell is not None] == ["confirmed"] * 3
        assert missing_of_left_out(again) == ()
        # The winners alone have confirmed runs elsewhere: fewer to choose from than the search has.
        assert {(each.chosen_on, each.num_candidates > 3) for each in again.left_out} == {("exploratory", True)}

    def test_the_seeds_of_the_sweep_itself_are_no_beginning(self) -> None:
        """With nothing but the arm searched a winner's own confirm runs count, and yet it runs on the fresh seeds."""
        record = across(
            spec=across_spec(("small", "large"), *(f"workloads.{w}.optimizer.lr=0.1" for w in ("small", "large")))
        )
        made = evaluated(record)
        assert len(made.missing) == 2
        sources, _ = sources_of([record], "teleport")
        found = missing_sweep([record], sources, made, missing_of_transfer(made))
        spec = spec_from_text(found.yaml)
        assert list(spec.arms) == ["baseline", "from_small", "from_large"]
        assert spec.confirm_seeds == tuple(range(2000, 2008))
        assert (found.num_missing, found.num_beside) == (2, 2)
        one = missing_sweep([record], sources, made, [(made.own[0].setting, "large")])
        alone = spec_from_text(one.yaml)
        assert (list(alone.workloads), list(alone.arms)) == (["large"], ["baseline", "from_small", "from_large"])
        again = evaluated(record, sweep(spec, Bowl(), change=with_value))
        assert again.missing == ()
        assert {len(cell.seeds) for cell in again.cells} == {8, 16}

    def test_a_control_brings_the_teleports_that_it_measures(self) -> None:
        control = "{teleport: {step: {rule: growth, factor: 1.5}}, scale: {uniform: [0.5, 2.0]}}"
        record = across(spec=across_spec(("small", "large"), f"arms.control.random_move={control}"))
        sources, _ = sources_of([record], "control")
        made = transfer_of([record], "control", sources)
        spec = spec_from_text(missing_sweep([record], sources, made, missing_of_transfer(made)).yaml)
        assert list(spec.arms) == ["baseline", "from_small", "from_large"]
        again = transfer_of([record, sweep(spec, Bowl(), change=with_value)], "control", sources)
        assert again.missing == ()
        assert {key for each in again.settings for key in each.method} == {"random_move"}

    def test_long_labels_make_valid_names(self) -> None:
        long = "w" * 64
        text = SPEC.format(workloads=WORKLOAD.format(label=long, width=32) + WORKLOAD.format(label="other", width=64))
        record = sweep(spec_from_text(text.replace("name: across", f"name: {'n' * 64}")), change=with_value)
        made = evaluated(record)
        sources, _ = sources_of([record], "teleport")
        spec = spec_from_text(missing_sweep([record], sources, made, missing_of_transfer(made)).yaml)
        assert len(spec.name) <= 64
        assert len(spec.arms) == 3


class TestReport:
    def test_one_workload_or_nothing_to_compare_has_no_section(self) -> None:
        assert transfers_of([across(spec=across_spec(("small",)))]) == ()
        few = across(spec=across_spec(WORKLOADS, "search.trials=3"))
        assert transfers_of([few]) == ()
        report = summarise(few)
        assert "Does one setting serve all?" not in render_html(report)
        assert "Does one setting serve all?" not in render_markdown(report)
        assert "transfer.csv" not in render_csv(report)

    def test_every_format_has_it(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        joint = join([summarise(record) for record in both], transfers_of(both))
        assert [each.arm for each in joint.transfers] == ["teleport"]
        assert all(report.transfers == () for report in joint.sweeps)
        page, text = render_html(joint), render_markdown(joint)
        for block in transfer_blocks(joint.transfers[0]):
            assert block.rows
            assert f"<h3>{block.title}</h3>" in page
            assert f"Does one setting serve all? {block.title}" in text.replace("\\", "")
            assert f"teleport: {block.title}" in render_latex(joint)["tables.tex"].replace("\\", "")
        assert 'id="transfer"' in page
        again = json.loads(render_json(joint))["transfers"][0]
        assert Transfer.model_validate(again) == joint.transfers[0]
        tables = render_csv(joint)
        assert len(tables["transfer.csv"].splitlines()) == 1 + 9
        frame = pandas.read_csv(io.StringIO(tables["transfer.csv"]))
        assert frame["regret"].tolist() == pytest.approx([cell.regret for cell in joint.transfers[0].cells])

    def test_a_sweep_alone_shows_its_bands_and_says_how_to_get_the_rest(self, source: SweepRecord) -> None:
        page = render_html(summarise(source))
        assert "Sensitivity bands" in page
        assert "Transfer matrix" not in page
        assert "teleport transfer across --arm teleport --missing FILE" in page

    def test_figures_show_the_numbers_of_the_report(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        made = evaluated(*both)
        matrix, *bands = transfer_figures([made])
        assert [trace["type"] for trace in matrix.data] == ["heatmap"]
        keys = [each.key for each in made.settings]
        expected = [[made.cell(key, workload) for workload in WORKLOADS] for key in keys]
        assert matrix.data[0]["z"] == [[cell.regret for cell in row if cell] for row in expected]
        [band] = bands
        drawn = [y for trace in band.data if trace.get("showlegend") is True for y in trace["y"] if y is not None]
        costs = [each.cost for b in made.sensitivity[0].bands for each in b.bins if each.cost is not None]
        assert drawn == [cost for cost in costs for _ in range(2)]
        for figure in (matrix, band):
            plotly.graph_objects.Figure(**figure.to_plotly())

    def test_exploratory_is_said(self, shared: SweepRecord) -> None:
        text = render_markdown(summarise(shared)).replace("\\", "")
        assert "(search)" in text
        assert "exploratory: on the search's own seeds" in text

    def test_open_ends_of_a_band_have_arrows(self, source: SweepRecord) -> None:
        [found] = evaluated(source).sensitivity
        for band in found.bands:
            assert band_text(band).startswith("←") == band.is_low_open
            assert band_text(band).endswith("→") == band.is_high_open
        one = found.bands[0].model_copy(update={"low": 2.0, "high": 2.0, "is_low_open": True, "is_high_open": False})
        assert band_text(one) == "← 2"
