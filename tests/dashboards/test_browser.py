"""The live page in a real Chromium: before, while and after a real sweep runs; silent, offline, on every screen."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from orchestrator.home.records import SweepRecord
from orchestrator.search.candidates import stored_id
from tests.dashboards.conftest import PATIENCE, Open, answering, dashboard, start_sweep
from tests.dashboards.homes import write_sweep
from tests.orchestrator.report.build import Effects, failing, sweep
from tests.orchestrator.specs import TINY

pytestmark = pytest.mark.slow

VIEWS = ("Trials", "Trial", "Compare", "Best configuration", "All sweeps", "Overview")
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> ![x](http://192.0.2.1/x) "
    "\u202eback\u202c $x$ :smile: 🚀\nnext line " + "w" * 10_000
)


def turn_to(page: Page, view: str) -> None:
    page.get_by_test_id("stMain").get_by_role("radio", name=view, exact=True).click()


def test_it_follows_a_real_sweep_from_an_empty_home_to_its_end(tmp_path: Path, open_page: Open) -> None:
    home = tmp_path / "home"
    text = TINY.replace("epochs: 1\n", "epochs: 30\n").replace("every: 2}", "every: 6}")
    with answering(dashboard(home), "/_stcore/health") as url:
        opened = open_page(url)
        page = opened.page
        expect(page.get_by_text("No sweep yet")).to_be_visible()
        expect(page.get_by_text(f"teleport run sweeps/quickstart.yaml --home {home}")).to_be_visible()
        with start_sweep(home, text) as process:
            # Nobody touches the page: it finds the sweep, counts, and draws by itself.
            expect(page.get_by_text("running · ")).to_be_visible()
            expect(page.get_by_text("Course of the search")).to_be_visible()
            opened.check()
            _, said = process.communicate(timeout=180)
            assert process.returncode == 0, said
        expect(page.get_by_text("finished · 10 of 10 trials")).to_be_visible()
        opened.check()


@pytest.fixture(scope="module")
def record() -> SweepRecord:
    made = sweep(
        effects=Effects(factor={"teleport": 0.88}),
        change=lambda trial: failing(trial, "crashed", HOSTILE) if trial.config.number == 0 else trial,
    )
    return replace(made, spec=made.spec.model_copy(update={"description": HOSTILE}))


@pytest.fixture(scope="module")
def url(record: SweepRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("hostile")
    write_sweep(home, record)
    with answering(dashboard(home), "/_stcore/health") as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_every_view_is_silent_offline_and_fits(url: str, width: int, scheme: str, open_page: Open) -> None:
    opened = open_page(url, width, scheme)
    page = opened.page
    expect(page.get_by_text("<script>document.title='owned'</script>").first).to_be_visible()
    for view in VIEWS:
        turn_to(page, view)
        marks = {"Trials": "28 of 28 trials", "Trial": "Choose a row", "Compare": "Median steps to target"}
        marks |= {"Best configuration": "The same as:", "All sweeps": "time left", "Overview": "Studies"}
        expect(page.get_by_text(marks[view]).first).to_be_visible()
        opened.check()


def test_a_figure_in_the_dark_is_drawn_in_its_colours(url: str, open_page: Open) -> None:
    page = open_page(f"{url}/?view=Compare", scheme="dark").page
    # The baseline's colour on a dark ground.
    expect(page.locator(".js-plotly-plot .js-line[style*='rgb(163, 173, 186)']").first).to_be_attached()
    assert page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor") != "rgb(255, 255, 255)"


def test_a_link_leads_to_a_trial_whose_error_is_text(record: SweepRecord, url: str, open_page: Open) -> None:
    trial = next(trial for trial in record.trials if trial.config.number == 0)
    opened = open_page(f"{url}/?sweep=quickstart&trial={stored_id(trial)}", 390)
    alert = opened.page.get_by_role("alert")
    expect(alert).to_contain_text("crashed: <script>document.title='owned'</script>")
    expect(alert).to_contain_text("![x](http://192.0.2.1/x)")
    expect(alert).to_contain_text("$x$ :smile: 🚀 next line")
    opened.check()


def test_a_row_that_is_clicked_is_drawn_and_opened(url: str, open_page: Open) -> None:
    page = open_page(f"{url}/?view=Trials").page
    expect(page.get_by_text("28 of 28 trials")).to_be_visible()
    canvas = page.locator("[data-testid=stDataFrame] canvas").first
    place = canvas.bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + 15, place["y"] + 35 + 35 + 17)
    page.get_by_role("button", name="Open mlp_digits/baseline #1").click()
    expect(page.get_by_role("heading", name="mlp_digits/baseline #1")).to_be_visible()
    page.wait_for_url("**trial=**")  # which can be sent to a colleague


def test_the_configuration_is_downloaded_as_it_is_shown(url: str, open_page: Open) -> None:
    page = open_page(f"{url}/?view=Best+configuration").page
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "quickstart.mlp_digits.best.yaml"
    assert "optimizer" in download.value.path().read_text()


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_its_command(wish: signal.Signals, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        program = str(Path(sys.executable).parent / "teleport")
        command = [program, "dashboard", "--home", str(tmp_path), "--port", str(taken)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.readline().startswith(f"port {taken} is taken, so it listens on ")
            greeting = process.stderr.readline()
            port = int(greeting.rpartition(":")[2].partition(";")[0])
            process.send_signal(wish)
            assert process.wait(PATIENCE) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "nothing listens any more"
