"""The sentence that answers a sweep: each case, and never more than verdicts and intervals say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.report import Report, Verdict, headline, join, render_html, render_markdown, summarise, write_report
from orchestrator.report.caveats import caveats_of
from orchestrator.report.headline import arms_asked_about
from orchestrator.report.sections import best_sections
from orchestrator.spec import spec_from_text
from tests.orchestrator.report.build import SPEC, Effects, failing, missing, sweep, sweep_spec
from tests.orchestrator.report.test_summarise import BASELINE_ONLY, TWO_ARMS, WITH_CONTROLS, in_arm

FOUR = SPEC.replace("  mlp_digits:\n", "  mlp_digits: &mlp\n").replace(
    "arms:\n", "  b: *mlp\n  c: *mlp\n  d: *mlp\narms:\n", 1
)
SEARCH_ONLY = SPEC.replace("confirm: {top_k: 1, seeds: 8, grid: none}", "confirm: {seeds: 0}")


def spread(factors: dict[str, float]) -> Callable[[Trial], Trial]:
    """Multiply the steps to target of the teleport arm on each workload."""

    def change(trial: Trial) -> Trial:
        factor = factors.get(trial.config.workload, 1.0)
        if trial.config.arm == "baseline" or trial.result is None:
            return trial
        seeds = tuple(
            seed.model_copy(update={"steps_to_target": seed.steps_to_target * factor})
            for seed in trial.result.seeds
            if seed.steps_to_target is not None
        )
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": seeds})})

    return change


CASES: list[tuple[str, SweepRecord, str]] = [
    (
        "faster, at a price",
        sweep(effects=Effects(factor={"teleport": 0.88})),
        r"teleport needs fewer steps than the baseline on mlp_digits \(\d+ % to \d+ % fewer\); but takes \d+ % to "
        r"\d+ % more seconds to the target\.",
    ),
    (
        "slower",
        sweep(effects=Effects(factor={"teleport": 1.4})),
        r"teleport needs more steps on mlp_digits \(\d+ % to \d+ % more\); takes .* seconds to the target\.",
    ),
    (
        "nothing found",
        sweep(),
        r"teleport shows no gain on mlp_digits; from \d\.?\d* % on a difference would most likely have shown; takes "
        r".*\.",
    ),
    (
        "misses that tell",
        sweep(change=lambda t: missing(t) if t.config.arm == "teleport" and t.config.seeds[0] > 1002 else t),
        r"teleport needs more steps on mlp_digits \(at least 1 % more\); takes at least .*",
    ),
    (
        "nothing could be found",
        sweep(change=lambda t: missing(t) if t.config.arm == "teleport" and t.config.seeds[0] > 1003 else t),
        r"teleport shows no gain on mlp_digits; too many runs miss the target to see one on mlp_digits; takes .*",
    ),
    (
        "faster somewhere, slower elsewhere",
        sweep(spec_from_text(FOUR), change=spread({"b": 0.5, "c": 2.0})),
        r"teleport needs fewer steps than the baseline on 1 of 4 workloads: b \(.* fewer\); needs more steps on c "
        r"\(.*\); from .* on a difference would most likely have shown on mlp_digits and d; .*",
    ),
    (
        "nowhere",
        sweep(spec_from_text(FOUR)),
        r"teleport shows no gain on any of 4 workloads; from .* on a difference would most likely have shown on .*",
    ),
    (
        "no arm to claim for",
        sweep(spec_from_text(BASELINE_ONLY.replace("arms:", "arms:\n  init: {init_scaled: {factor: 2.0}}", 1))),
        r"No claim: the sweep has no arm of kind teleport, and what it compares is exploratory\.",
    ),
    ("baseline alone", sweep(spec_from_text(BASELINE_ONLY)), r"Only the baseline .* 8 of 8 seeds \(mlp_digits\)\."),
    ("search alone", sweep(spec_from_text(SEARCH_ONLY)), r"No claim: this sweep only searches, .*"),
    ("not begun", sweep(phases=()), r"No answer yet: search is running\."),
    ("not confirmed", sweep(phases=("search",)), r"No answer yet: confirm has not run yet\."),
    (
        "ended early",
        dataclasses.replace(sweep(phases=("search",)), ended_early="budget.trials: 12 of 12 trials are used"),
        r".*The sweep ended early: budget\.trials: 12 of 12 trials are used\.",
    ),
    (
        "damaged",
        dataclasses.replace(sweep(), damage=("trials/x/result.json is not what was written",)),
        r"No claim is made: files of the sweep are damaged or gone: trials/x/result\.json is not what was written\.",
    ),
]


@pytest.mark.parametrize(("record", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_case_has_its_sentence_wherever_a_report_begins(record: SweepRecord, words: str) -> None:
    report = summarise(record)
    sentence = headline(report)
    assert re.fullmatch(words, sentence), sentence
    markdown = render_markdown(report).replace("\\", "")
    assert markdown.split("\n")[2] == f"**{sentence}**"
    assert sentence.replace("\u00a0", " ") in render_html(report).replace("\u00a0", " ").replace("&#39;", "'")


@pytest.mark.parametrize("record", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_it_claims_no_more_than_the_verdicts(record: SweepRecord) -> None:
    report = summarise(record)
    sentence = headline(report)
    verdicts = [each.verdict for each in report.comparisons if each.is_primary]
    assert ("needs fewer steps" in sentence) == (Verdict.FASTER in verdicts)
    assert ("needs more steps" in sentence) == (Verdict.SLOWER in verdicts)
    for each in report.comparisons:
        if each.is_primary and each.verdict is Verdict.FASTER:
            assert each.interval is not None
            assert each.interval.high <= 1.0


def test_the_arm_that_is_asked_about_comes_first() -> None:
    assert arms_asked_about("Does teleport, or gentle, pay?", ["gentle", "teleport"]) == ["gentle", "teleport"]
    assert arms_asked_about("Does teleport pay?", ["gentle", "teleport"]) == ["teleport", "gentle"]
    spec = spec_from_text(TWO_ARMS.replace("Does teleportation pay", "Does teleport pay"))
    sentence = headline(summarise(sweep(spec, Effects(factor={"teleport": 0.7}))))
    assert sentence.index("teleport needs fewer steps") < sentence.index("gentle shows no gain")


def test_controls_are_counted_and_called_no_claims() -> None:
    report = summarise(sweep(spec_from_text(WITH_CONTROLS), Effects(factor={"teleport": 0.7, "init": 0.7})))
    told = "Of 2 comparisons with its controls, which are no claims: faster in 1, no difference seen in 1."
    assert told in headline(report)


def test_several_sweeps_have_a_sentence_each() -> None:
    joint = join([summarise(sweep(sweep_spec(f"name={name}"))) for name in ("one", "two")])
    assert re.fullmatch(r"one: teleport shows no gain .* two: teleport shows no gain .*", headline(joint))


def caveats(report: Report) -> tuple[str, ...]:
    [claim] = [each for each in report.comparisons if each.is_primary]
    return caveats_of(report, claim)


def test_what_limits_a_verdict_stands_beside_it() -> None:
    assert caveats(summarise(sweep(effects=Effects(factor={"teleport": 0.7})))) == (
        "settings of one search",
        "no control in this sweep",
    )
    nothing = caveats(summarise(sweep()))
    assert re.fullmatch(r"less than .* would not have shown", nothing[0])
    gone = summarise(sweep(change=lambda t: failing(t, "crashed") if in_arm("teleport", 1000)(t) else t))
    assert "7 of 8 seeds" in caveats(gone)
    edge = summarise(sweep(sweep_spec("confirm.grid={factor: 1.4}", "confirm.seeds=4")))
    assert any("end of the list" in told for told in caveats(edge)) == any(
        "end of its grid" in each for each in edge.lints
    )


def test_the_best_configurations_are_a_table_of_differences() -> None:
    report = summarise(sweep())
    [table] = best_sections(report)
    assert table.header == ("parameter", "baseline", "teleport", "searched")
    rows = {row[0]: row[1:] for row in table.rows}
    first = list(rows)[:3]
    assert first[:2] == ["optimizer.lr", "teleport.tau"]
    assert rows["optimizer.lr"][1].startswith("≠ ")
    assert rows["optimizer.lr"][2] == "0.01 to 1 (log)"
    assert rows["teleport.tau"] == ("–", rows["teleport.tau"][1], "one of 1.0, 0.999, 0.99")
    assert {"teleport.schedule.epochs", "teleport.schedule.batches"} <= set(rows), "what the spec fixes is there too"
    assert rows["teleport.schedule.epochs"] == ("–", "5", "not searched")
    assert "median steps to target" in rows


def test_a_written_report_begins_with_it(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "quickstart")
    report = write_report(sweep(), paths, formats=["md"])
    text = (paths.report / "report.md").read_text(encoding="utf-8")
    assert headline(report).partition(";")[0] in text.replace("\\", "").split("\n")[2]
