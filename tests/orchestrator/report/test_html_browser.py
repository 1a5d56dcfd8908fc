"""The page in a real Chromium: drawn, silent, offline, on every screen."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

from orchestrator.report import full_report, join, render_html, verdict_section
from orchestrator.report.pdf import render_pdf
from tests.orchestrator.report.build import Effects, failing, sweep, sweep_spec

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
    assert num_figures == 13
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
    assert page.locator(".plot").count() == 27
    assert page.locator(".plot:has(.main-svg .trace)").count() == 27
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
    for cell in ("Does teleportation pay", "teleport is faster in steps", *row):
        assert " ".join(cell.split()) in text
    whole = " ".join(" ".join(page.extract_text().split()) for page in reader.pages)
    for drawn in ("optimizer steps to target", "training loss (log scale)"):
        assert drawn in whole


def test_the_button_copies_the_configuration(browser: Browser, report_file: Path) -> None:
    page = Opened(browser, report_file, 1280, "light").page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = page.locator("#best .code").nth(1)
    block.locator(".copy").click()
    block.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == block.locator("pre").text_content()
    page.close()


def test_it_prints_light_with_everything_open(browser: Browser, report_file: Path) -> None:
    page = Opened(browser, report_file, 1280, "dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => [p.clientWidth, p.querySelector('svg').clientWidth])"
    )
    assert all(drawn <= place for place, drawn in widths)
    assert page.pdf()[:4] == b"%PDF"
    page.close()
