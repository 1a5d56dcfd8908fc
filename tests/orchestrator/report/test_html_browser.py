"""The page in a real Chromium: drawn, silent, offline, on every screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from orchestrator.report import render_html, summarise
from tests.orchestrator.report.build import Effects, failing, sweep, sweep_spec

pytestmark = pytest.mark.slow

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">" + "w" * 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no chromium was found; install it: apt-get install chromium (or: make browser)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = sweep_spec().model_copy(update={"description": HOSTILE})
    record = sweep(
        spec,
        Effects(factor={"teleport": 0.88}),
        change=lambda trial: failing(trial, "crashed", HOSTILE) if trial.config.number == 0 else trial,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(summarise(record, [HOSTILE])), encoding="utf-8")
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_drawn_without_error_or_network_and_fits(
    browser: Browser, report_file: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report_file, width, scheme)
    page = opened.page
    num_figures = page.locator(".plot").count()
    assert num_figures == 10
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
