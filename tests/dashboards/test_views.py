"""What each view shows, in this process and without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import app
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.report import best_spec
from orchestrator.search.candidates import stored_id
from tests.dashboards.homes import write_sweep, write_trial
from tests.orchestrator.report.build import failing, running, sweep
from tests.waiting import PATIENCE

HOSTILE = "<script>alert(1)</script> ![x](http://evil.example) $x$ :smile:\n\u202eback\u202c 'q' \"d\" " + "w" * 10_000


def page(monkeypatch: pytest.MonkeyPatch, home: Path, **query: str) -> AppTest:
    monkeypatch.setenv("TELEPORT_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    at = AppTest.from_file(str(app.__file__), default_timeout=PATIENCE)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def text_of(at: AppTest) -> str:
    """Everything the page says."""
    assert not at.exception, at.exception
    kinds = (at.markdown, at.caption, at.code, at.info, at.warning, at.error, at.title, at.subheader, at.get("html"))
    return "\n".join(str(getattr(each, "value", "") or each.proto.body) for kind in kinds for each in kind)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home")
    record = sweep(change=lambda trial: failing(trial, "crashed", HOSTILE) if trial.config.number == 0 else trial)
    spec = record.spec.model_copy(update={"description": HOSTILE})
    write_sweep(path, replace(record, spec=spec))
    return path


def record_of(home: Path) -> SweepRecord:
    return read_record(SweepPaths(home, "quickstart"))


@pytest.mark.parametrize("view", app.VIEWS)
def test_every_view_is_drawn(view: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(monkeypatch, home, view=view)
    assert "<script>" not in text_of(at).replace(at.code[0].value if at.code else "", "")
    markdown = [*at.markdown, *at.caption, *at.info, *at.warning, *at.error, *at.subheader]
    assert not [each.value for each in markdown if "![x]" in each.value or "$x$" in each.value]


def test_the_overview_says_what_the_report_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.report import summarise

    shown = text_of(page(monkeypatch, home))
    assert summarise(record_of(home)).answers[0].sentence in shown
    assert "(10," in shown, "a question of 10,000 characters is cut"
    assert "Failures (2)" in [expander.label for expander in page(monkeypatch, home).expander]


def test_a_home_without_a_sweep_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(monkeypatch, tmp_path / "none")
    assert f"teleport run sweeps/quickstart.yaml --home {tmp_path / 'none'}" in text_of(at)
    write_sweep(tmp_path / "none", sweep())
    assert "mlp\\_digits" in text_of(at.run())


def test_a_link_to_a_sweep_that_is_not_here_names_the_nearest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [warning] = page(monkeypatch, home, sweep="quickstrat").warning
    assert "quickstart" in warning.value


def test_a_sweep_that_cannot_be_read_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path, sweep()).spec.write_text("version: [")
    shown = text_of(page(monkeypatch, tmp_path))
    assert "cannot be read" in shown
    assert f"teleport status quickstart --home {tmp_path}" in shown


def test_an_interrupted_sweep_says_how_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path, sweep(phases=("search",)), is_ended=False)
    [info] = page(monkeypatch, tmp_path).info
    assert "teleport resume quickstart" in info.value


def find(home: Path, **wanted: object) -> Trial:
    trials = record_of(home).trials
    return next(t for t in trials if all(getattr(t.config, name) == value for name, value in wanted.items()))


def test_a_link_leads_to_a_trial_and_its_teleports(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = find(home, arm="teleport", phase="confirm")
    shown = text_of(page(monkeypatch, home, sweep="quickstart", trial=stored_id(trial)))
    assert "40 teleports (moved: 38, no null space: 2), mean gain of ‖g‖² 1.90" in shown
    assert "gain of ‖g‖²" in shown
    assert "mlflow" in shown.lower()


def test_a_crash_is_shown_as_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(monkeypatch, home, trial=stored_id(find(home, number=0)))
    [error] = at.error
    assert error.value.startswith("crashed\\: \\<script\\>alert")
    assert "Traceback…" in text_of(at)


def test_a_trial_that_is_not_there_names_the_nearest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [warning] = page(monkeypatch, home, trial="0").warning
    assert warning.value.startswith("No trial")


def test_trials_are_filtered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(monkeypatch, home, view="Trials")
    assert len(at.dataframe[0].value) == 28
    by_label = {group.label: group for group in at.button_group}
    by_label["Arm"].set_value(["teleport"])
    by_label["Phase"].set_value(["search"])
    assert len(at.run().dataframe[0].value) == 6
    at.text_input(key="filter_text").set_value("CRASHED script #0")
    [row] = at.run().dataframe[0].value.to_dict("records")
    assert row["trial"] == "mlp_digits/teleport #0"
    assert len(row["error"]) < 300


def test_chosen_trials_have_their_curves_and_can_be_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = find(home, arm="teleport", number=1)
    at = page(monkeypatch, home, view="Trials")
    at.session_state["chosen"] = [stored_id(trial)]
    at.run()
    assert at.selectbox(key="curve_metric").value == "train_loss"
    at.button(key=f"open_{stored_id(trial)}").click()
    assert "mlp\\_digits\\/teleport \\#1" in text_of(at.run()), "turned to the trial"


@pytest.mark.parametrize("arm", [None, "baseline"])
def test_the_exported_configuration_is_that_of_the_command(
    arm: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(monkeypatch, home, view="Best configuration")
    if arm is not None:
        at.selectbox(key="export_arm").set_value(arm)
        at.run()
    assert at.code[0].value == best_spec(record_of(home), "mlp_digits", arm).strip("\n")


def test_a_running_trial_shows_its_curve_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = running(sweep().trials[0])
    paths = write_sweep(tmp_path, sweep(change=lambda trial: None), is_ended=False)
    write_trial(paths, trial)
    at = page(monkeypatch, tmp_path, trial=trial.trial_id)
    assert "cut off" in text_of(at)
    assert len(at.get("plotly_chart")) == 4


def test_a_password_is_asked_for_before_anything_is_sent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.gate.WRONG_SECONDS", 0.0)
    monkeypatch.setenv("TELEPORT_DASHBOARD_PASSWORD", "hunter2")
    at = page(monkeypatch, home)
    assert not at.selectbox
    at.text_input[0].set_value("hunter3")
    at.button[0].click()
    assert "That is not the password" in text_of(at.run())
    assert not at.selectbox
    at.text_input[0].set_value("hunter2")
    at.button[0].click()
    assert at.run().selectbox(key="sweep").value == "quickstart"
    assert "hunter2" not in text_of(at)
