"""The page, the Markdown and the files: complete, self-contained, and deaf to what users write."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import string
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.report import (
    FORMATS,
    Report,
    full_report,
    render_html,
    render_json,
    render_markdown,
    summarise,
    write_report,
)
from orchestrator.report.figures import across_figures, answer_figures, figures, search_figures
from orchestrator.report.figures.teleports import SMALLEST_DRIFT
from orchestrator.report.html import PLOTLY
from orchestrator.report.palette import arm_colours, dark_of
from orchestrator.report.wording import interval, number, p_value, percent, ratio_change
from orchestrator.spec import load_spec, spec_from_text
from tests.orchestrator.report.build import SPEC, Effects, failing, missing, sweep, sweep_spec
from tests.orchestrator.report.test_summarise import BASELINE_ONLY, TWO_ARMS, UNFINISHED, confirm_only, in_arm

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></pre></textarea>",
    "\"double\" 'single' `back`",
    "line one\nline two\r\nline three",
    "\u202egnirts \u200f\u200e\u2066x\u2069",
    "😀 👩‍👩‍👧 ünïcödé",
    "| a | b | ![x](http://x/y.png) [l](javascript:alert(1)) **b** # h",
    "&lt;b&gt; &amp; {{ 7 * 7 }} {% raw %} ${x}",
    "z" * 10_000,
)
# The edges where misses and open intervals are drawn are places on the paper, not numbers of the sweep.
DRAWN_NOT_MEASURED = {"missed", "beyond", "no change", "pairs", "target"}


class Page(HTMLParser):
    """What a browser would make of a page: its text, its elements, its addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action", "data"}]

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags and self.tags[-1] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def hostile(text: str) -> SweepRecord:
    """A sweep whose every free text is ``text``."""

    def fail(trial: Trial) -> Trial:
        if trial.config.number != 0:
            return trial
        return failing(trial, "crashed", text)

    record = sweep(sweep_spec().model_copy(update={"description": text}), change=fail)
    return SweepRecord(record.spec, record.provenance.model_copy(update={"command": text, "host": text}), record.trials)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_users_write_is_text_on_the_page(text: str) -> None:
    report = summarise(hostile(text))
    html, calm = render_html(report), render_html(summarise(hostile("calm")))
    page = Page(html)
    for line in text.splitlines():
        assert page.text.count(line.strip()) >= 5, "description, failure, lint, command and host"
    tags = set(page.tags)
    assert tags - {"div"} <= set(Page(calm).tags)
    assert page.tags.count("script") == Page(calm).tags.count("script") == 3
    assert "{{" not in page.text.replace("{{ 7 * 7 }}", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_users_write_is_text_in_the_markdown(text: str) -> None:
    markdown = render_markdown(summarise(hostile(text)))
    outside = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    assert "<" not in outside.replace("\\<", "")
    assert not re.search(r"(?<!\\)!\[|(?<!\\)\]\(", outside)
    for block in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, "a table has its columns"
    assert "\u202e" not in outside


def test_a_script_element_cannot_be_ended_from_within() -> None:
    """Names of arms stand in the figures, and these are written with letters that mean nothing to HTML."""
    [packed] = re.findall(r'<script[^>]*id="figures">([^<]*)</script>', render_html(summarise(sweep())))
    assert set(packed) <= set(string.ascii_letters + string.digits + "+/=")
    plain = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert {"mlp_digits-train_loss-step", "effects-steps_to_target"} <= set(plain["figures"])


def test_the_pages_plotly_is_of_the_version_that_is_installed() -> None:
    """Another version of the npm package plotly.js-basic-dist-min must come with another one of plotly."""
    known = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    ours = gzip.decompress(resources.files("orchestrator.report.page").joinpath(PLOTLY).read_bytes()).decode()
    [version, other] = [
        re.search(r"plotly\.js (?:\(basic - minified\) )?(v[\d.]+)", text[:300]) for text in (known, ours)
    ]
    assert version is not None
    assert other is not None
    assert other[1] == version[1]


@pytest.mark.parametrize("num_workloads", [1, 4])
def test_a_page_is_light(num_workloads: int) -> None:
    text = SPEC.replace("  mlp_digits:\n", "  mlp_digits: &mlp\n")
    more = "".join(f"  w{place}: *mlp\n" for place in range(1, num_workloads))
    report = full_report(sweep(spec_from_text(text.replace("arms:\n", f"{more}arms:\n", 1))))
    assert len(report.workloads) == num_workloads
    assert len(render_html(report).encode()) < 1_500_000


RECORDS = [
    sweep(effects=Effects(factor={"teleport": 0.88})),
    sweep(spec_from_text(TWO_ARMS), Effects(steps=390.0)),
    sweep(change=lambda t: missing(t) if t.config.arm == "teleport" else t),
    sweep(spec_from_text(BASELINE_ONLY)),
    *(record for record, *_ in UNFINISHED),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_page_of_any_sweep_is_whole_and_asks_the_network_for_nothing(record: SweepRecord) -> None:
    page = Page(render_html(summarise(record)))
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert record.spec.description in page.text
    assert record.provenance.command in page.text


def test_a_page_without_figures_carries_no_plotly() -> None:
    assert len(render_html(summarise(sweep(phases=())))) < 60_000


def numbers_of(value: Any) -> set[float]:
    """Every number in plain data."""
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, int | float):
        return {float(value)}
    if isinstance(value, str):
        return {float(value)} if re.fullmatch(r"-?Infinity", value) else set()
    return {n for child in (value.values() if isinstance(value, dict) else value) for n in numbers_of(child)}


@pytest.mark.parametrize("record", RECORDS)
def test_every_number_that_is_drawn_is_in_the_json(record: SweepRecord) -> None:
    report = summarise(record)
    known = numbers_of(json.loads(render_json(report)))
    for workload in report.workloads:
        for figure in [*answer_figures(report), *figures(report, workload), *across_figures(report)]:
            for trace in figure.data:
                if trace["name"] in DRAWN_NOT_MEASURED:
                    continue
                drawn = {float(x) for x in trace["x"] if x is not None}
                if figure.key.endswith("-drift"):
                    drawn.discard(SMALLEST_DRIFT)
                if "tickvals" not in figure.layout["yaxis"] and trace["type"] != "bar":
                    drawn |= {float(y) for y in trace["y"] if y is not None}
                if figure.group == "effects":
                    low, *_, high = figure.layout["xaxis"]["tickvals"]
                    drawn = {x for x in drawn if low < x < high}
                assert drawn <= known, (figure.key, trace["name"], sorted(drawn - known)[:3])


class Cells(HTMLParser):
    """The cells of all tables of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._is_inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "td":
            self._is_inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_inside = self._is_inside and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._is_inside:
            self.cells[-1] += data


def numerals(text: str) -> set[str]:
    """Every numeral of a text, without its sign."""
    return set(re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[+−-]?\d+)?", text.replace("\u00a0", " ")))


def as_written(value: float) -> set[str]:
    """Every way in which a page may write a number."""
    if not math.isfinite(value):
        return set()
    texts = [number(value, digits) for digits in (2, 3, 4)]
    texts += [number(value * 100, 2), percent(value), percent(value, 1), ratio_change(abs(value)), p_value(value)]
    texts += [f"{value:g}", str(int(value)) if value == int(value) else repr(value)]
    return {numeral for text in texts for numeral in numerals(text)}


@pytest.mark.parametrize("record", RECORDS)
def test_every_number_in_the_tables_is_in_the_json(record: SweepRecord) -> None:
    report = full_report(record)
    plain = json.loads(render_json(report))
    known = {text for value in numbers_of(plain) for text in as_written(value)}
    # Trial ids, names of layers and choices are texts; how many trials ended how is counted from their list.
    texts = numerals(json.dumps(plain))
    counts = {str(count) for count in range(len(record.trials) + 1)}
    for cell in Cells(render_html(report)).cells:
        assert numerals(cell) <= known | texts | counts, cell


@pytest.mark.parametrize("record", RECORDS)
def test_plotly_accepts_every_figure_and_axes_have_units(record: SweepRecord) -> None:
    report = full_report(record)
    for workload in report.workloads:
        made = [
            *answer_figures(report),
            *figures(report, workload),
            *search_figures(report, workload),
            *across_figures(report),
        ]
        assert len({figure.key for figure in made}) == len(made)
        for figure in made:
            plotly.graph_objects.Figure(**figure.to_plotly())
            assert figure.layout["xaxis"]["title"]["text"]
            json.dumps(figure.to_plotly(), allow_nan=False)


def test_every_colour_of_a_figure_has_a_twin_in_the_dark() -> None:
    report = full_report(sweep(spec_from_text(TWO_ARMS, overrides=["search.trials=20"])))
    made = [*answer_figures(report), *figures(report, "mlp_digits"), *search_figures(report, "mlp_digits")]
    text = json.dumps([figure.to_plotly() for figure in made])
    used = set(re.findall(r"#[0-9a-f]{6}|rgba\([^)]*\)", text)) - {"rgba(0,0,0,0)"}
    assert used
    assert used <= set(dark_of())


def test_arms_keep_their_colour_and_the_baseline_is_neutral() -> None:
    colours = arm_colours(["baseline", *"abcdefgh"])
    assert len(set(colours.values())) == 8
    assert colours["a"] == arm_colours(["baseline", "a"])["a"]


def test_a_miss_is_a_cross_at_the_right_edge() -> None:
    report = summarise(sweep(change=lambda t: missing(t) if t.config.arm == "teleport" else t))
    figure = next(f for f in figures(report, "mlp_digits") if f.key.endswith("-steps_to_target"))
    (missed,) = [trace for trace in figure.data if trace["name"] == "missed"]
    assert len(missed["x"]) == 8
    assert min(missed["x"]) > max(x for trace in figure.data if trace["name"] == "baseline" for x in trace["x"])
    assert "A cross at the right edge is a run that missed its target." in figure.caption


def test_seeds_with_equal_times_do_not_hide_each_other() -> None:
    report = summarise(sweep(effects=Effects(noise=0.0, own_noise=0.0)))
    times = ("steps_to_target", "seconds_to_target")
    made = [*answer_figures(report), *figures(report, "mlp_digits")]
    for figure in (each for each in made if each.key.endswith(times)):
        for trace in figure.data:
            if trace["name"] in {"baseline", "teleport", "seeds"}:
                assert len(set(zip(trace["x"], trace["y"], strict=True))) == 8


def test_a_run_that_goes_through_the_roof_leaves_the_axis_to_the_others() -> None:
    def soaring(trial: Trial) -> Trial:
        rows = [
            row.model_copy(update={"metrics": {**row.metrics, "train_loss": 1e17}}) if index else row
            for index, row in enumerate(trial.history)
        ]
        return trial.model_copy(update={"history": tuple(rows)})

    def of_one_seed(trial: Trial) -> Trial:
        return soaring(trial) if in_arm("teleport", 1000)(trial) else trial

    def made(report: Report) -> Any:
        return next(f for f in figures(report, "mlp_digits") if f.key.endswith("train_loss-step"))

    figure = made(summarise(sweep(change=confirm_only(of_one_seed))))
    low, high = figure.layout["yaxis"]["range"]
    assert 10**low < 0.1 < 10**high < 20.0
    assert "3 times the largest value at the start" in figure.caption
    assert "leave the figure" not in made(summarise(sweep())).caption


def test_the_json_is_strict_and_says_its_version() -> None:
    report = summarise(sweep(change=confirm_only(lambda t: missing(t) if in_arm("teleport")(t) else t)))
    plain = json.loads(render_json(report), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert plain["version"] == 3
    assert {"sweep", "provenance", "studies", "comparisons", "lints"} <= set(plain)
    assert plain["comparisons"][0]["interval"]["high"] == "Infinity"
    assert math.isinf(Report.model_validate(plain).comparisons[0].interval.high)  # type: ignore[union-attr]


def test_it_writes_every_format_and_the_best_configurations(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "quickstart")
    report = write_report(sweep(), paths)
    assert sorted(path.name for path in paths.report.iterdir()) == ["report.html", "report.json", "report.md"]
    assert Report.model_validate_json((paths.report / "report.json").read_text(encoding="utf-8")) == report
    assert report.lints[0] == "search.trials is 6, and tpe proposes its first 10 candidates at random"
    for arm in ("baseline", "teleport"):
        assert load_spec(paths.best_config("mlp_digits", arm)).name == f"quickstart-best-mlp_digits-{arm}"


def test_elsewhere_it_writes_what_was_asked_for_and_leaves_the_sweep_alone(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "home", "quickstart")
    write_report(sweep(), paths, directory=tmp_path / "out", formats=["md"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.md"]
    assert not paths.root.exists()


def test_the_same_sweep_gives_the_same_bytes() -> None:
    record = sweep()
    shuffled = SweepRecord(record.spec, record.provenance, record.trials[::-1])
    for name in set(FORMATS) - {"pdf"}:  # whose bytes have the time of printing in them
        assert FORMATS[name](summarise(record)) == FORMATS[name](summarise(shuffled))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0999, "0.0999"), (999.6, "1,000"), (1e-7, "1.00e-07"), (-0.5, "−0.500"), (1e12, "1e+12"), (float("nan"), "–")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.0, "−100 %"), (0.9999, "0 %"), (0.95, "−5.0 %"), (2.0, "+100 %")])
def test_ratios_are_changes(ratio: float, text: str) -> None:
    assert ratio_change(ratio) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(2.81, 5.06, "[×2.81, ×5.06]"), (0.9, 2.9, "[−10 %, +190 %]"), (2.0, math.inf, "[+100 %, +∞)")],
)
def test_both_ends_of_an_interval_are_said_alike(low: float, high: float, text: str) -> None:
    found = next(c for c in summarise(sweep()).comparisons if c.interval is not None and c.effect is not None)
    assert found.interval is not None
    changed = found.interval.model_copy(update={"low": low, "high": high})
    assert interval(found.model_copy(update={"interval": changed})) == text


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "'torch', 'ray', 'mlflow', 'scipy', 'numpy', 'plotly', 'jinja2', 'matplotlib', 'pandas'"
    code = f"import sys, orchestrator.report; print({{{heavy}}} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


DEPTHS = """
version: 1
name: depths
workloads:
"""
for depth in (1, 2, 4):
    DEPTHS += f"""
  d{depth}:
    model: {{name: mlp, widths: {[8] * depth}}}
    data: {{name: digits, batch_size: 32}}
    optimizer: {{name: sgd, lr: {{loguniform: [0.01, 1.0]}}}}
    epochs: 10
    evaluate: {{every: 5}}
    target: {{metric: train_loss, value: 0.1}}
"""
DEPTHS += (
    "arms: {teleport: {teleport: {step: {rule: growth, factor: 1.5}}}}\nsearch: {trials: 1}\n"
    "confirm: {seeds: 2, grid: none}\n"
)


def deep(trial: Trial) -> Trial:
    """As many layers as the model has, and a time that grows with them."""
    assert trial.result is not None
    depth = len(trial.config.training.model.model_dump()["widths"])
    seeds = []
    for seed in trial.result.seeds:
        if seed.teleports is not None:
            layer = seed.teleports.layers[1]
            layers = tuple(layer.model_copy(update={"name": str(place)}) for place in range(depth + 1))
            seed = seed.model_copy(
                update={
                    "teleports": seed.teleports.model_copy(update={"layers": layers}),
                    "teleport_seconds": 0.5 * (depth + 1),
                }
            )
        seeds.append(seed)
    return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": tuple(seeds)})})


def test_time_against_depth_is_drawn_where_one_model_has_three_depths() -> None:
    report = summarise(sweep(spec_from_text(DEPTHS), change=deep))
    *others, figure = across_figures(report)
    assert {each.group for each in others} == {"profiles"}
    [trace] = figure.data
    assert trace["x"] == [2, 3, 5]
    assert trace["y"] == pytest.approx([0.5 * 2 / 40, 0.5 * 3 / 40, 0.5 * 5 / 40])
    assert set(trace["y"]) <= numbers_of(json.loads(render_json(report)))
    assert "Across workloads" in render_html(report)
    two = spec_from_text(DEPTHS, overrides=["workloads.d2.model.widths=[8]"])
    assert not any(each.key.endswith("-depth") for each in across_figures(summarise(sweep(two, change=deep))))
    other = spec_from_text(DEPTHS, overrides=["workloads.d2.model={name: cnn, channels: [4]}"])
    assert not any(each.key.endswith("-depth") for each in across_figures(summarise(sweep(other))))


def test_gain_is_drawn_against_drift_step_by_step_and_on_the_probe() -> None:
    figure = next(f for f in figures(summarise(sweep()), "mlp_digits") if f.key.endswith("-drift"))
    steps, probe = figure.data
    assert (steps["x"], steps["y"]) == ([SMALLEST_DRIFT, pytest.approx(2e-7)], pytest.approx([1.3, 1.9]))
    assert (probe["x"], probe["y"]) == (pytest.approx([3e-3]), pytest.approx([1.9]))
    assert steps["name"].startswith("teleport (tau ")
    assert "Diamonds" in figure.caption


def test_null_space_and_spectrum_are_drawn_as_shares_of_the_inputs() -> None:
    found = {figure.key: figure for figure in figures(summarise(sweep()), "mlp_digits")}
    [bars] = found["mlp_digits-null-space"].data
    assert (bars["y"], bars["x"]) == (["2", "4"], [96.5 / 128, 98.0 / 128])
    [line] = found["mlp_digits-teleport-spectrum"].data
    assert line["x"] == [1 / 128, 2 / 128, 8 / 128, 32 / 128]
    assert line["y"] == [0.5, 0.75, 0.95, 1.0]


def test_results_from_before_these_were_kept_have_no_such_figures() -> None:
    def old(trial: Trial) -> Trial:
        plain = json.loads(trial.model_dump_json())
        for seed in plain["result"]["seeds"]:
            if seed["teleports"] is not None:
                del seed["teleports"]["steps"], seed["teleports"]["spectra"]
        return Trial.model_validate(plain)

    keys = {figure.key for figure in figures(summarise(sweep(change=old)), "mlp_digits")}
    assert "mlp_digits-null-space" in keys
    assert not {"mlp_digits-drift", "mlp_digits-teleport-spectrum"} & keys
