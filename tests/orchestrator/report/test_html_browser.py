"""The page in a real Chromium: drawn, silent, offline, on every screen."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from orchestrator.home.records import Trial
from orchestrator.report import full_report, headline, join, render_html, verdict_section
from orchestrator.report.pdf import render_pdf
from orchestrator.spec import spec_from_text
from tests.orchestrator.report.build import SPEC, Effects, failing, sweep, sweep_spec

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">" + "w" * 10_000


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = sweep_spec("search.trials=20").model_copy(update={"description": HOSTILE})
    record = sweep(
        spec,
        Effects(factor={"teleport": 0.88}),
        change=lambda trial: failing(trial, "crashed", HOSTILE) if trial.config.number == 0 else trial,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(full_report(record)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def joint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    specs = [sweep_spec("search.trials=20", f"name={name}") for name in ("one", "two")]
    reports = [full_report(sweep(spec, Effects(factor={"teleport": 0.88}))) for spec in specs]
    path = tmp_path_factory.mktemp("joint") / "report.html"
    path.write_text(render_html(join(reports)), encoding="utf-8")
    return path


class Opened:
    """A page that was opened, and what it said and asked for on the way."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: str) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn]", state="attached")


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours as ``rgb(r, g, b)``."""

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_drawn_without_error_or_network_and_fits(
    browser: Browser, report_file: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report_file, width, scheme)
    page = opened.page
    num_figures = page.locator(".plot").count()
    assert num_figures == 13, "none is in a closed fold, since there is one workload"
    # Each curve figure has its lines, each figure of points its points, all inside the page.
    assert page.locator(".plot:has(.main-svg .trace)").count() == num_figures
    assert page.evaluate("[...document.querySelectorAll('.plot')].every(p => p.clientWidth > 250)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "quickstart"
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def test_the_dark_page_is_dark_and_its_figures_have_twin_colours(browser: Browser, report_file: Path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = Opened(browser, report_file, 1280, scheme).page
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        line = page.evaluate("getComputedStyle(document.querySelector('.plot .js-line')).stroke")
        colours[scheme] = (body, line)
        page.close()
    assert colours["light"][0] == "rgb(255, 255, 255)"
    assert colours["dark"][0] == "rgb(21, 24, 29)"
    assert colours["light"][1] != colours["dark"][1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_legible_on_its_ground(browser: Browser, report_file: Path, scheme: str) -> None:
    page = Opened(browser, report_file, 1280, scheme).page
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    colours = page.evaluate(
        "[...new Set([...document.querySelectorAll('body :not(script):not(style)')]"
        ".filter(e => !e.closest('.plot') && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"
        ".map(e => getComputedStyle(e).color))]"
    )
    ticks = page.evaluate(
        "[...new Set([...document.querySelectorAll('.plot .xtick text, .plot .ytick text, .plot .annotation-text')]"
        ".map(e => getComputedStyle(e).fill))]"
    )
    assert colours
    assert ticks
    assert {colour: contrast(colour, ground) for colour in (*colours, *ticks) if contrast(colour, ground) < 4.4} == {}
    page.close()


def test_several_sweeps_are_drawn_on_one_page_that_fits_a_phone(browser: Browser, joint_file: Path) -> None:
    opened = Opened(browser, joint_file, 390, "light")
    page = opened.page
    assert page.locator(".plot").count() == 25
    assert page.locator(".plot:has(.main-svg .trace)").count() == 25
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.title() == "one, two"
    assert opened.said == []
    page.close()


def test_curves_can_be_seen_against_steps_seconds_and_gradient_evaluations(browser: Browser, report_file: Path) -> None:
    opened = Opened(browser, report_file, 1280, "dark")
    figure = opened.page.locator("#curves figure").first
    titles = []
    for option in ("gradients", "seconds", "steps"):
        figure.get_by_role("button", name=option).click()
        titles.append(figure.locator(".xtitle").text_content())
        assert figure.locator(".js-line").count() > 16
        assert figure.locator("figcaption:visible").count() == 1
        assert figure.locator("[aria-pressed=true]").text_content() == option
    assert titles == ["gradient evaluations", "seconds (optimizer clock)", "optimizer steps"]
    assert opened.said == []
    opened.page.close()


def test_each_parameter_and_each_pair_can_be_chosen(browser: Browser, report_file: Path) -> None:
    opened = Opened(browser, report_file, 1280, "light")
    for select in opened.page.locator("#search select").all():
        figure = select.locator("xpath=ancestor::figure")
        for option in select.locator("option").all():
            select.select_option(option.get_attribute("value"))
            assert figure.locator(".main-svg .trace").count() > 0
            assert figure.locator("figcaption:visible").count() == 1
    assert opened.said == []
    opened.page.close()


def test_the_pdf_has_the_answer_the_verdict_table_and_the_figures() -> None:
    record = sweep(sweep_spec(), Effects(factor={"teleport": 0.88}))
    report = full_report(record)
    reader = PdfReader(io.BytesIO(render_pdf(report)))
    text = " ".join(reader.pages[0].extract_text().split())
    [row] = verdict_section(report).rows
    for cell in ("Does teleportation pay", headline(report), *row):
        assert " ".join(cell.split()) in text
    whole = " ".join(" ".join(page.extract_text().split()) for page in reader.pages)
    for drawn in ("optimizer steps to target", "training loss (log scale)"):
        assert drawn in whole


def test_the_button_copies_the_configuration(browser: Browser, report_file: Path) -> None:
    page = Opened(browser, report_file, 1280, "light").page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = page.locator("#best .yaml").nth(1)
    assert not block.locator("pre").is_visible(), "the file is behind a fold, and is copied all the same"
    block.locator(".copy").click()
    block.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == block.locator("pre").text_content()
    page.close()


def test_it_prints_light_and_open_but_for_lists_and_files(browser: Browser, report_file: Path) -> None:
    page = Opened(browser, report_file, 1280, "dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open], .shut)").count() == 0
    assert page.locator("details.shut[open]").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => [p.clientWidth, p.querySelector('svg').clientWidth])"
    )
    assert all(drawn <= place for place, drawn in widths)
    assert page.pdf()[:4] == b"%PDF"
    page.close()


FOUR = SPEC.replace("  mlp_digits:\n", "  mlp_digits: &mlp\n").replace(
    "arms:\n", "  deep: *mlp\n  wide: *mlp\n  slow: *mlp\narms:\n", 1
)
TICKS = """plot => {
  const axis = plot._fullLayout.xaxis;
  const read = (letter) => [...plot.querySelectorAll(`.${letter}tick text`)].map((text) => {
    const box = text.getBoundingClientRect();
    return {text: text.textContent, left: box.left, right: box.right, top: box.top, bottom: box.bottom};
  });
  const frame = plot.getBoundingClientRect();
  return {
    x: read("x"), y: read("y"), frame: {left: frame.left, right: frame.right},
    types: [axis.type, plot._fullLayout.yaxis.type],
    isNumeric: [axis, plot._fullLayout.yaxis].map((each) => {
      const labels = each.ticktext || [];
      return each.type !== "category" && labels.every((label) => /^[\u2212+\u00d7]?[0-9]|^none$/.test(label));
    }),
    titles: [axis.title.text, plot._fullLayout.yaxis.title.text],
    ends: [axis.range, plot._fullLayout.yaxis.range], vals: [axis.tickvals, plot._fullLayout.yaxis.tickvals],
  };
}"""


def scaled(factor: float) -> Callable[[Trial], Trial]:
    """Change the clock and the losses of every run by a factor, so that figures have other ranges."""

    def change(trial: Trial) -> Trial:
        assert trial.result is not None
        seeds = tuple(
            seed.model_copy(
                update={
                    "seconds": seed.seconds * factor,
                    "seconds_to_target": None if seed.seconds_to_target is None else seed.seconds_to_target * factor,
                }
            )
            for seed in trial.result.seeds
        )
        rows = tuple(
            row.model_copy(
                update={
                    "seconds": row.seconds * factor,
                    "metrics": {k: v * factor if k.endswith("loss") else v for k, v in row.metrics.items()},
                }
            )
            for row in trial.history
        )
        value = None if trial.result.value is None else trial.result.value * factor
        result = trial.result.model_copy(update={"seeds": seeds, "value": value})
        return trial.model_copy(update={"result": result, "history": rows})

    return change


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    ("factor", "effects"),
    [
        (1e-5, Effects(steps=9.0, factor={"teleport": 0.99}, noise=0.02)),
        (1.0, Effects(factor={"teleport": 0.5}, noise=0.4)),
        (1e7, Effects(steps=390.0, factor={"teleport": 4.0})),
    ],
    ids=["small", "large", "extreme"],
)
def test_every_numeric_axis_can_be_read(
    browser: Browser, tmp_path: Path, factor: float, effects: Effects, width: int
) -> None:
    """It has three labels or more that do not meet, one at or beyond each end, and says where it is logarithmic."""
    report = full_report(
        sweep(sweep_spec("search.trials=20", "confirm.grid={factor: 1.4}"), effects, change=scaled(factor))
    )
    path = tmp_path / "report.html"
    path.write_text(render_html(report), encoding="utf-8")
    opened = Opened(browser, path, width, "light")
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    keys = page.evaluate("[...document.querySelectorAll('.choice [value]')].map(each => each.value)")
    for turn in range(3):
        for plot in page.locator(".plot").all():
            _check_axes(plot.evaluate(TICKS), str(plot.get_attribute("data-figure")))
        for group in page.locator(".choice[role=group]").all():
            buttons = group.locator("button").all()
            buttons[min(turn + 1, len(buttons) - 1)].click()
    assert len(keys) > 10
    assert opened.said == []
    page.close()


def _check_axes(found: dict[str, Any], name: str) -> None:
    for place, letter in enumerate("xy"):
        labels, ticks = found[letter], found["vals"][place]
        if not found["isNumeric"][place]:
            continue
        assert len(labels) >= 3, (name, letter, labels)
        low, high = found["ends"][place]
        ends = [math.log10(tick) if found["types"][place] == "log" else tick for tick in (ticks[0], ticks[-1])]
        assert low <= ends[0] <= low + 0.06 * (high - low), (name, letter)
        assert high - 0.06 * (high - low) <= ends[1] <= high, (name, letter)
        assert (found["types"][place] == "log") == ("(log scale)" in found["titles"][place].replace("<br>", " ")), name
        side = ("left", "right") if letter == "x" else ("bottom", "top")
        for one, other in itertools.pairwise(sorted(labels, key=lambda each: each["left" if letter == "x" else "top"])):
            if letter == "x":
                assert one[side[1]] <= other[side[0]] + 1.0, (name, one["text"], other["text"])
            else:
                assert one["bottom"] <= other["top"] + 6.0, (name, one["text"], other["text"])
        assert all(each["right"] <= found["frame"]["right"] + 1.0 for each in labels), (name, letter, labels)
        assert all(each["left"] >= found["frame"]["left"] - 1.0 for each in labels), (name, letter, labels)


@pytest.fixture(scope="module")
def four_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("four") / "report.html"
    report = full_report(sweep(spec_from_text(FOUR), Effects(factor={"teleport": 0.88})))
    path.write_text(render_html(report), encoding="utf-8")
    return path


def test_the_answer_with_its_figure_stands_on_the_first_screen(browser: Browser, four_file: Path) -> None:
    page = Opened(browser, four_file, 1280, "light").page
    assert page.locator(".answer").bounding_box()["y"] < 200  # type: ignore[index]
    box = page.locator("header .plot").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800
    shapes = page.evaluate("[...document.querySelectorAll('header .plot .ytick text')].map(each => each.textContent)")
    assert all("▼ faster" in shape for shape in shapes)
    page.close()


def test_a_page_of_four_workloads_is_short_and_opens_one_of_them(browser: Browser, four_file: Path) -> None:
    opened = Opened(browser, four_file, 1280, "light")
    page = opened.page
    assert page.evaluate("document.documentElement.scrollHeight") <= 8_000
    for chapter in ("best", "curves", "search"):
        assert page.locator(f"#{chapter} > details.workload").count() == 4
        assert page.locator(f"#{chapter} > details.workload[open]").count() == 1
    closed = page.locator("#curves > details.workload").nth(2)
    assert closed.locator(".main-svg").count() == 0
    closed.locator("summary").first.click()
    closed.locator(".main-svg").first.wait_for()
    assert closed.locator(".plot:has(.main-svg .trace)").count() == closed.locator(".plot").count()
    assert len(PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True))).pages) <= 16
    assert opened.said == []
    page.close()


def test_no_table_is_cut_on_a_desk_and_on_a_phone_they_say_that_they_scroll(browser: Browser, four_file: Path) -> None:
    for width in (1280, 390):
        page = Opened(browser, four_file, width, "light").page
        page.evaluate("document.querySelectorAll('details:not(.shut)').forEach(each => each.open = true)")
        page.wait_for_timeout(200)
        wide = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)"
            ".map(each => [each.querySelector('th').textContent, !each.querySelector('.wider').hidden])"
        )
        assert width == 390 or wide == []
        assert all(is_said for _, is_said in wide)
        page.close()
