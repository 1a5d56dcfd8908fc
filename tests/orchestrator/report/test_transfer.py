"""Whether one setting serves all: from stored sweeps whose effects are known to tables and pages."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas
import plotly.graph_objects
import pytest

from orchestrator.home.records import SweepRecord, Trial, TrialConfig
from orchestrator.report import join, render_csv, render_html, render_json, render_latex, render_markdown, summarise
from orchestrator.report.costs import costs_of, table_of
from orchestrator.report.figures import transfer_figures
from orchestrator.report.identity import method_id
from orchestrator.report.palette import SHADES
from orchestrator.report.schema import TIME_METRICS, SensitivityBand, Transfer
from orchestrator.report.sections.transfer import band_text, cell_text, short_text, transfer_sections
from orchestrator.report.sources import Source, mismatches, sources_of
from orchestrator.report.transfer import transfer_of, transfers_of
from orchestrator.search.candidates import Candidate, Candidates, run_order, training_of
from orchestrator.spec import ALL, Arm, SweepSpec, dump_yaml, spec_from_text
from orchestrator.spec.identity import Json
from tests.orchestrator.report.build import (
    BUDGET,
    PROVENANCE,
    Effects,
    failing,
    missing,
    pick,
    search_configs,
    stopped,
    sweep,
    trained,
)

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
confirm: {{seeds: 8, grid: none}}
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


def all_of(records: Iterable[SweepRecord]) -> list[Candidates]:
    return [Candidates.of(record) for record in records]


def found_in(*records: SweepRecord) -> tuple[list[Candidates], tuple[Source, ...]]:
    """The candidates of sweeps and the workloads on which they tuned ``teleport``."""
    sweeps = all_of(records)
    sources, faults = sources_of(sweeps, "teleport")
    assert faults == ()
    return sweeps, sources


def evaluated(*records: SweepRecord) -> Transfer:
    sweeps, sources = found_in(*records)
    return transfer_of(sweeps, "teleport", sources)


def carried_spec(record: SweepRecord) -> SweepSpec:
    """A sweep of the user's own, on fresh seeds: the setting of each workload on every workload."""
    _, sources = found_in(record)
    methods = {each.key: (each.workload, each.best.config.method) for each in reversed(sources)}
    plain = {
        "version": 1,
        "name": f"{record.spec.name}_transfer",
        "workloads": {
            s.workload: s.baseline.config.training.model_dump(mode="json", exclude_none=True) for s in sources
        },
        "arms": {
            f"from_{label}": method.model_dump(mode="json", exclude_none=True)
            for label, method in reversed(methods.values())
        },
        "search": {"sampler": "random", "trials": 1, "seeds": [0], "objective": {"metric": "steps_to_target"}},
        "confirm": {"seeds": list(range(2000, 2000 + len(record.spec.confirm_seeds)))},
    }
    return spec_from_text(dump_yaml(plain))


def carried(record: SweepRecord, change: Callable[[Trial], Trial | None] = lambda trial: trial) -> SweepRecord:
    return sweep(carried_spec(record), Bowl(), change=lambda t: change(with_value(t)))


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
        table = table_of(*found_in(*both), "confirm")
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
        _, sources = found_in(source)
        table = table_of(all_of([source, replace(made, trials=trials)]), sources, "confirm")
        for runs in (*table.costs.values(), *table.baseline.values()):
            assert not runs.keys() & {0, 2001}

    def test_two_sweeps_that_tuned_the_same_are_told_apart(self, source: SweepRecord) -> None:
        again = replace(source, spec=across_spec(WORKLOADS, "name=again"))
        _, faults = sources_of(all_of([source, again]), "teleport")
        assert "small/teleport was tuned in across too, and each has its own best; name one of them" in str(faults[0])

    def test_a_study_without_a_best_is_named(self) -> None:
        record = across(lambda t: failing(t, "diverged") if t.config.study == "middle/teleport" else t)
        found, faults = sources_of(all_of([record]), "teleport")
        assert [each.workload for each in found] == ["small", "large"]
        assert "no trial of the search of middle/teleport ended well" in str(faults[0])

    def test_the_same_label_for_another_target_is_named(self, source: SweepRecord) -> None:
        other = across(spec=across_spec(("small",), "name=other", "workloads.small.target.value=0.2"))
        sweeps, sources = found_in(source)
        [fault] = mismatches([*sweeps, Candidates.of(other)], sources)
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
    from orchestrator.search.confirm import confirm_configs
    from tests.orchestrator.report.build import search_configs, trained

    configs = search_configs(spec)
    methods = {c.number: (c.method, c.values) for c in configs if c.study == "small/teleport"}
    trials = []
    for config in configs:
        method, values = methods[config.number]
        shared = config.model_copy(update={"method": method, "values": values})
        trials.append(with_value(trained(shared if config.arm == "teleport" else config, Bowl())))
    record = SweepRecord(spec, sweep(spec, phases=()).provenance, tuple(trials))
    return replace(
        record, trials=(*trials, *(with_value(trained(c, Bowl())) for c in confirm_configs(Candidates.of(record))))
    )


BEST_LR_FACTOR = {"small": 0.6, "middle": 1.0, "large": 1.6}
TUNED_LR = 0.1
NUM_SETTINGS = 24


@dataclass(frozen=True)
class Valley(Bowl):
    """Beside the growth factor the learning rate counts, as the share of the baseline's that it is."""

    noise: float = 0.0

    def time(self, config: TrialConfig, seed: int) -> float:
        workload = config.workload.split("_")[0]
        share = config.training.optimizer.model_dump()["lr"] / TUNED_LR / BEST_LR_FACTOR[workload]
        known = config.model_copy(update={"workload": workload})
        loss = 1.0 if config.method.teleport is None else 1.0 + 0.5 * math.log(share) ** 2
        return super().time(known, seed) * loss


def together_spec(*overrides: str) -> SweepSpec:
    return across_spec(
        WORKLOADS,
        "name=together",
        "search.trials=4",
        "search.scope={name: shared, common: [data.batch_size], lr_factor: [0.5, 2.0]}",
        *(f"workloads.{w}.optimizer.lr={TUNED_LR}" for w in WORKLOADS),
        *(f"workloads.{w}.data.batch_size={{choice: [32, 64]}}" for w in WORKLOADS),
        "confirm.candidates=[chosen, own, leave_one_out]",
        *overrides,
    )


def together(spec: SweepSpec) -> SweepRecord:
    """One search over all workloads, each candidate of which has run in full, and what it confirms."""
    from orchestrator.search.confirm import confirm_configs

    trials = [with_value(trained(c, Valley())) for c in search_configs(spec) if c.arm == "baseline"]
    tuned = {label: trial.config for label, trial in Candidates(spec, tuple(trials)).baselines.items()}
    for number in range(NUM_SETTINGS):
        draw = random.Random(number)
        values: dict[str, Json] = {}
        for template in spec.space(ALL, "teleport"):
            template.choose(lambda d, draw=draw: pick(d, draw), values)  # type: ignore[misc, arg-type]
        # The first two differ in the learning rate alone, and to the second it is what it is to the baseline.
        values |= {0: {"teleport.step.factor": 2.0}, 1: {"teleport.step.factor": 2.0, "lr_factor": 1.0}}.get(number, {})
        method = Arm.model_validate(spec.arms["teleport"].concretise(values))
        runs = (
            TrialConfig(
                workload=workload,
                arm="teleport",
                phase="search",
                seeds=(seed,),
                training=training_of(spec, tuned[workload], values),
                method=method,
                objective=spec.search.objective,
                values=values,
                number=number,
            )
            for workload, seed in run_order(spec)
        )
        trials += [with_value(trained(config, Valley())) for config in runs]
    record = SweepRecord(spec, PROVENANCE, tuple(trials))
    confirmed = tuple(with_value(trained(c, Valley())) for c in confirm_configs(Candidates.of(record)))
    return replace(record, trials=(*trials, *confirmed))


@pytest.fixture(scope="module")
def joined() -> SweepRecord:
    return together(together_spec())


def steps_of(record: SweepRecord, phase: str) -> dict[tuple[str, int, int], float]:
    """Workload, number of a setting (-1: the tuned baseline) and seed -> steps, read off the trials one by one."""
    tuned = {w: min((t for t in of(record, w, "baseline", "search")), key=value_of) for w in record.spec.workloads}
    numbers = {
        t.trial_id: t.config.number or 0 for w in record.spec.workloads for t in of(record, w, "teleport", "search")
    }
    found = {}
    for workload, best in tuned.items():
        for trial in (*of(record, workload, "baseline", phase), *of(record, workload, "teleport", phase)):
            assert trial.result is not None
            is_plain = trial.config.arm == "baseline"
            if is_plain and trial.config.training != best.config.training:
                continue
            number = -1 if is_plain else numbers[trial.trial_id if phase == "search" else str(trial.config.origin)]
            for seed in trial.result.seeds:
                assert seed.steps_to_target is not None
                found[workload, number, seed.seed] = float(seed.steps_to_target)
    return found


def of(record: SweepRecord, workload: str, arm: str, phase: str) -> list[Trial]:
    place = (workload, arm, phase)
    return [t for t in record.trials if (t.config.workload, t.config.arm, t.config.phase) == place]


def value_of(trial: Trial) -> float:
    assert trial.result is not None
    assert trial.result.value is not None
    return trial.result.value


def mean_ratio(steps: dict[tuple[str, int, int], float], workload: str, number: int, other: int = -1) -> float:
    seeds = [seed for label, n, seed in steps if (label, n) == (workload, number)]
    logs = [math.log(steps[workload, number, seed] / steps[workload, other, seed]) for seed in seeds]
    return math.exp(np.mean(logs))


class TestShared:
    """One search over all workloads: a setting is more than its method."""

    def test_a_setting_is_its_method_with_what_it_makes_of_the_training_values(self, joined: SweepRecord) -> None:
        sweeps, sources = found_in(joined)
        made = transfer_of(sweeps, "teleport", sources)
        first, second = (next(s for s in made.settings if s.label.startswith(f"#{n} (")) for n in (0, 1))
        assert first.method == second.method
        assert first.key != second.key
        assert first.training == {name: first.values[name] for name in ("data.batch_size", "lr_factor")}
        assert second.training == {"data.batch_size": second.values["data.batch_size"]}
        assert {each.sources for each in made.settings} == {()}
        steps = steps_of(joined, "search")
        table = table_of(sweeps, sources, "search")
        assert len(table.settings) == NUM_SETTINGS
        for setting in table.settings:
            number = int(setting.label[1:].split(" ")[0])
            for workload in WORKLOADS:
                runs = {seed: cost.value for seed, cost in table.runs(setting.key, workload).items()}
                assert runs == {seed: steps[workload, number, seed] for seed in (0, 1)}

    def test_settings_of_another_arm_are_not_among_those_it_had_to_choose_of(self, joined: SweepRecord) -> None:
        """Two arms of a kind, with the same numbers: each is evaluated by its own search alone."""
        spec = together_spec("arms.other={teleport: {adaptive: {growth: {uniform: [1.1, 2.0]}}}}")
        other = {"teleport": {"adaptive": {"growth": 1.5}}}
        theirs = [
            Trial(
                config=trial.config.model_copy(update={"arm": "other", "method": Arm.model_validate(other)}),
                result=trial.result,
            )
            for trial in joined.trials
            if trial.config.arm == "teleport"
        ]
        both = replace(joined, spec=spec, trials=(*joined.trials, *theirs))
        for phase in ("search", "confirm"):
            alone, beside = (table_of(*found_in(one), phase) for one in (joined, both))
            assert [each.key for each in beside.settings] == [each.key for each in alone.settings]
            assert beside.costs == alone.costs

    @pytest.mark.parametrize("aggregate", ["geometric_mean", "worst"])
    def test_own_and_left_out_are_chosen_as_a_table_made_by_hand_says(
        self, joined: SweepRecord, aggregate: str
    ) -> None:
        common = f"{{name: shared, aggregate: {aggregate}, common: [data.batch_size], lr_factor: [0.5, 2.0]}}"
        record = replace(joined, spec=together_spec(f"search.scope={common}"))
        made = evaluated(record)
        steps = steps_of(record, "search")
        ratios = {w: [mean_ratio(steps, w, n) for n in range(NUM_SETTINGS)] for w in WORKLOADS}
        over = max if aggregate == "worst" else lambda found: math.prod(found) ** (1.0 / len(found))
        chosen = {each.workload: each for each in made.left_out}
        for at, workload in enumerate(WORKLOADS):
            own = int(np.argmin(ratios[workload]))
            assert made.label(made.own[at].setting).startswith(f"#{own} (")
            others = [over([ratios[w][n] for w in WORKLOADS if w != workload]) for n in range(NUM_SETTINGS)]
            best = int(np.argmin(others))
            left = chosen[workload]
            assert made.label(left.setting).startswith(f"#{best} (")
            assert left.others == pytest.approx(others[best])
            assert (left.num_candidates, left.chosen_on) == (NUM_SETTINGS, "exploratory")
        assert made.aggregate == aggregate
        assert len({each.setting for each in made.left_out}) > 1

    def test_a_workloads_whole_architecture_has_no_say_in_what_is_chosen_for_it(self) -> None:
        """Two MLPs and a CNN: for an MLP the CNN chooses alone, and confirm has run what it chose."""
        cnn = "workloads.large.model={name: cnn, channels: [4]}"
        record = together(together_spec(cnn, "confirm.candidates=[chosen, own, leave_architecture_out]"))
        steps = steps_of(record, "search")
        ratios = {w: [mean_ratio(steps, w, n) for n in range(NUM_SETTINGS)] for w in WORKLOADS}
        judges = {"small": ["large"], "middle": ["large"], "large": ["small", "middle"]}
        made = evaluated(record)
        assert made.leave == "architecture"
        assert [each.beside for each in made.left_out] == [("middle",), ("small",), ()]
        for left in made.left_out:
            over = [math.prod(ratios[w][n] for w in judges[left.workload]) for n in range(NUM_SETTINGS)]
            assert made.label(left.setting).startswith(f"#{int(np.argmin(over))} (")
            assert left.cell is not None
            assert left.cell.evidence == "confirmed"
        (block,) = (each for each in transfer_sections(made) if each.key == "transfer-workloads")
        assert [row[0] for row in block.rows] == ["small, (middle)", "middle, (small)", "large"]
        assert "in brackets share the architecture" in block.note
        sweeps, sources = found_in(record)
        alone = transfer_of(sweeps, "teleport", sources, leave="workload")
        assert [each.beside for each in alone.left_out] == [()] * 3
        assert [each.setting for each in alone.left_out] != [each.setting for each in made.left_out]

    def test_the_choice_is_tested_on_fresh_seeds_against_the_workloads_own(self, joined: SweepRecord) -> None:
        made = evaluated(joined)
        steps = steps_of(joined, "confirm")
        number = {each.key: int(each.label[1:].split(" ")[0]) for each in made.settings}
        for left, own in zip(made.left_out, made.own, strict=True):
            cell = left.cell
            assert cell is not None
            assert (cell.evidence, cell.seeds) == ("confirmed", joined.spec.confirm_seeds)
            here, there = number[left.setting], number[own.setting]
            assert cell.regret == pytest.approx(mean_ratio(steps, left.workload, here, there))
            assert cell.against_baseline == pytest.approx(mean_ratio(steps, left.workload, here))
            assert own.tuned == pytest.approx(mean_ratio(steps, left.workload, there))
            assert own.alone == own.tuned
            assert own.is_same_training
            if not cell.is_own:
                assert cell.interval is not None
                assert cell.interval.low <= cell.estimate <= cell.interval.high
        assert not all(left.cell.is_own for left in made.left_out if left.cell is not None)
        assert {each.evidence for each in made.shared[:1]} == {"confirmed"}, "the chosen setting, confirmed everywhere"
        assert made.stability is not None
        assert (made.stability.num_settings, made.stability.evidence) == (NUM_SETTINGS, "exploratory")

    def test_what_early_stopping_gave_up_is_neither_ranked_nor_chosen_from(self) -> None:
        record = together(together_spec("search.scheduler=wilcoxon"))
        states = [candidate.state for candidate in Candidates.of(record).shared["teleport"]]
        num_complete = states.count("COMPLETE")
        assert set(states) == {"COMPLETE", "PRUNED"}
        assert 5 <= num_complete <= NUM_SETTINGS - 5
        made = evaluated(record)
        assert len([each for each in made.settings if each.label.startswith("#")]) == num_complete
        assert {each.num_candidates for each in made.left_out} == {num_complete}
        assert made.stability is not None
        assert made.stability.num_settings == num_complete

    @pytest.mark.parametrize("scheduler", ["none", "wilcoxon"])
    def test_bands_are_of_the_aggregate_and_what_was_given_up_is_a_miss(self, scheduler: str) -> None:
        record = together(together_spec(f"search.scheduler={scheduler}"))
        baselines = [math.log(steps) for (_, number, _), steps in steps_of(record, "search").items() if number == -1]
        miss = 2.0 * BUDGET / math.exp(np.mean(baselines))
        candidates = Candidates.of(record).shared["teleport"]
        assert {each.state for each in candidates} == {"COMPLETE", *(["PRUNED"] if scheduler == "wilcoxon" else [])}
        bands = {each.parameter: each.bands for each in evaluated(record).sensitivity}
        assert list(bands) == ["teleport.step.factor", "lr_factor"]
        [band] = bands["lr_factor"]
        assert (band.workload, band.num_trials) == (ALL, NUM_SETTINGS)
        inside = inside_of(band, candidates, miss)
        best = min(float(np.quantile(costs, 0.25)) for costs in inside if len(costs) >= 5)
        for each, costs in zip(band.bins, inside, strict=True):
            assert each.count == len(costs)
            expected = float(np.quantile(costs, 0.25)) / best if len(costs) >= 5 else None
            assert each.cost == (None if expected is None else pytest.approx(expected))

    def test_a_shared_and_an_ordinary_search_of_an_arm_do_not_mix(
        self, joined: SweepRecord, source: SweepRecord
    ) -> None:
        for records in ([joined, source], [source, joined]):
            [fault] = sources_of(all_of(records), "teleport")[1]
            assert str(fault).startswith(
                f"sweep {records[1].spec.name}: teleport was searched on all workloads of together"
            )
            assert "those of across; name one of the two" in str(fault)

    def test_every_format_has_it(self, joined: SweepRecord) -> None:
        report = summarise(joined)
        [made] = report.transfers
        assert made == evaluated(joined)
        page, text = render_html(report), render_markdown(report).replace("\\", "")
        for block in transfer_sections(made):
            assert f">{block.title}</summary>" in page
            assert f"## {block.title}" in text
        assert "all together" in text
        matrix, *bands = transfer_figures([made])
        assert len(matrix.data) == len(made.rows) > len({each.setting for each in made.own})
        assert {trace["name"] for figure in bands for trace in figure.data[:1]} == {"all together"}
        assert Transfer.model_validate_json(made.model_dump_json()) == made


def inside_of(band: SensitivityBand, candidates: Sequence[Candidate], miss: float) -> list[list[float]]:
    """The aggregates of the candidates in each stretch of the factor of the learning rate; the last one has its end."""
    found = []
    for each in band.bins:
        is_last = each is band.bins[-1]
        at = [(c.values["lr_factor"], miss if c.aggregate is None else c.aggregate) for c in candidates]
        found.append([cost for x, cost in at if each.low <= x < each.high or (is_last and x == each.high)])  # type: ignore[operator]
    return found


class TestReport:
    def test_one_workload_or_nothing_to_compare_has_no_section(self) -> None:
        assert transfers_of(all_of([across(spec=across_spec(("small",)))])) == ()
        few = across(spec=across_spec(WORKLOADS, "search.trials=3"))
        assert transfers_of(all_of([few])) == ()
        report = summarise(few)
        assert "Does one setting serve all?" not in render_html(report)
        assert "Sensitivity bands" not in render_markdown(report)
        assert "transfer.csv" not in render_csv(report)

    def test_every_format_has_it(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        joint = join([summarise(record) for record in both], transfers_of(all_of(both)))
        assert [each.arm for each in joint.transfers] == ["teleport"]
        assert all(report.transfers == () for report in joint.sweeps)
        page, text = render_html(joint), render_markdown(joint)
        for block in transfer_sections(joint.transfers[0]):
            assert block.rows
            assert f">{block.title}</summary>" in page
            assert f"## {block.title}" in text.replace("\\", "")
            assert f"caption{{{block.title}}}" in render_latex(joint)["tables.tex"].replace("\\", "")
        assert 'id="transfer"' in page
        again = json.loads(render_json(joint))["transfers"][0]
        assert Transfer.model_validate(again) == joint.transfers[0]
        tables = render_csv(joint)
        assert len(tables["transfer.csv"].splitlines()) == 1 + 9
        frame = pandas.read_csv(io.StringIO(tables["transfer.csv"]))
        assert frame["regret"].tolist() == pytest.approx([cell.regret for cell in joint.transfers[0].cells])

    def test_a_sweep_alone_shows_its_bands_and_says_what_is_not_confirmed(self, source: SweepRecord) -> None:
        page = render_html(summarise(source))
        assert "Sensitivity bands" in page
        assert "Transfer matrix" not in page
        assert "9 pairs of a setting and a workload have not been confirmed" in page

    def test_figures_show_the_numbers_of_the_report(self, both: tuple[SweepRecord, SweepRecord]) -> None:
        made = evaluated(*both)
        matrix, *bands = transfer_figures([made])
        assert [trace["type"] for trace in matrix.data] == ["bar"] * len(made.settings)
        for setting, row in zip(made.settings, matrix.data, strict=True):
            cells = {workload: made.cell(setting.key, workload) for workload in WORKLOADS}
            known = {workload: cell for workload, cell in cells.items() if cell is not None}
            assert row["x"] == list(known)
            assert row["text"] == [short_text(cell) for cell in known.values()]
            shades = zip(known.values(), row["marker"]["color"], strict=True)
            for (one, its), (other, others) in itertools.combinations(shades, 2):
                ranks = [
                    next(place for place, pair in enumerate(SHADES) if pair[0] == shade) for shade in (its, others)
                ]
                assert (one.regret - other.regret) * (ranks[0] - ranks[1]) >= 0.0, "the fainter, the larger"
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
