"""A browser, the page's server, and one real sweep for all who look at what it left."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from orchestrator.cli.servers import Server, dashboard_server
from tests import servers
from tests.orchestrator.specs import TINY

PATIENCE = 25.0
expect.set_options(timeout=PATIENCE * 1_000)
answering = functools.partial(servers.answering, patience=PATIENCE)


def dashboard(home: Path, ui: str = "http://127.0.0.1:5000") -> Server:
    """Make the live page's server, as the command does."""
    return dashboard_server(home, f"sqlite:///{home / 'mlflow.db'}", ui, host="127.0.0.1", port=0)


Open = Callable[..., "Opened"]


class Opened:
    """A page that was opened, and what it said and asked for on the way."""

    def __init__(self, browser: Browser, url: str, width: int = 1200, scheme: str = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self._own = url.split("/?")[0].split("/#")[0].rstrip("/")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(message.text)

    def check(self) -> None:
        """It is silent, asked nobody else, ran nothing of a user's, and fits."""
        elsewhere = [url for url in self.asked if not url.startswith((self._own, "data:", "blob:"))]
        assert elsewhere == []
        assert self.said == []
        assert "owned" not in self.page.title()
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert self.page.locator("[data-testid=stException]").count() == 0

    def close(self) -> None:
        self.page.context.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages, and closes them after the test."""
    opened: list[Opened] = []

    def open_(url: str, width: int = 1200, scheme: str = "light") -> Opened:
        opened.append(Opened(browser, url, width, scheme))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def start_sweep(home: Path, text: str = TINY) -> subprocess.Popen[str]:
    """Run a real sweep in a process of its own, trial by trial."""
    spec = home.parent / f"{home.name}.yaml"
    spec.write_text(text, encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "teleport"),
        "run",
        str(spec),
        "--home",
        str(home),
        "--launcher",
        "inline",
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""}
    )


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a tiny sweep has run."""
    home = tmp_path_factory.mktemp("tiny") / "home"
    process = start_sweep(home)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return home
