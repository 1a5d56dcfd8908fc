"""Takes the pictures of the pages that README and docs show: the report's first screen and the live page."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.dashboard import wait_for
from orchestrator.cli.servers import dashboard_server
from orchestrator.home.paths import find_sweep

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 1200
DRAWN = ".js-plotly-plot .main-svg .trace"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screenshots", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="holds the sweep, finished")
    parser.add_argument("--name", required=True, help="of the sweep")
    arguments = parser.parse_args()
    paths = find_sweep(arguments.home, arguments.name)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        _report(browser, paths.report_page)
        _dashboard(browser, paths.home, paths.name)
        browser.close()


def _report(browser: Browser, file: Path) -> None:
    page = _page(browser, 760)
    page.goto(file.absolute().as_uri())
    page.wait_for_selector(".plot .main-svg")
    page.screenshot(path=DOCS / "report.png")


def _dashboard(browser: Browser, home: Path, name: str) -> None:
    server = dashboard_server(home, f"sqlite:///{home}/mlflow.db", "http://127.0.0.1:5000", host="127.0.0.1", port=0)
    with server.running():
        wait_for(f"{server.url}/_stcore/health")
        page = _page(browser, 1260)
        page.goto(f"{server.url}/?sweep={name}")
        page.wait_for_selector(DRAWN)
        page.wait_for_timeout(1_000)  # until nothing moves any more
        page.screenshot(path=DOCS / "dashboard.png")


def _page(browser: Browser, height: int) -> Page:
    return browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")


if __name__ == "__main__":
    main()
