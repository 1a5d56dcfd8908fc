"""Durations, budgets and hooks in a spec: strict, told with their place, written again as they were read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.report.best import spec_of
from orchestrator.search.lints import spec_lints
from orchestrator.spec import Duration, HookOptions, spec_from_text
from tests.orchestrator.report.build import sweep
from tests.orchestrator.specs import tiny_spec

PARTS = st.tuples(*(st.integers(0, 50) for _ in "dhms")).filter(any)


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SpecError, match=r".+") as caught:
        tiny_spec(*overrides)
    return [str(fault) for fault in caught.value.faults]


@settings(deadline=None)
@given(PARTS)
def test_a_duration_is_the_sum_of_its_parts(parts: tuple[int, ...]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(parts, "dhms", strict=True) if number)
    days, hours, minutes, seconds = parts
    assert Duration.parse(text).seconds == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90.0), (0.5, 0.5), ("90s", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("2d", 172_800.0), ("1.5h", 5400.0)],
)
def test_a_duration_is_written_as_it_was_read(written: float | str, seconds: float) -> None:
    duration = Duration.parse(written)
    assert (duration.written, duration.seconds) == (written, seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "10",
        "10 m",
        "10m ",
        "-1s",
        "1e3s",
        "5m10m",
        "1m1h",
        "1H",
        "10min",
        "0s",
        "٣s",
        "9" * 400 + "d",
        "3651d",
    ],
)
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(
        ValueError, match=r"must be a time above 0 and at most 3650d: seconds as a number, or text such"
    ):
        Duration.parse(written)


@pytest.mark.parametrize("written", [0, -1, True, None, [1], {}, float("nan"), float("inf")], ids=repr)
def test_what_is_no_number_of_seconds_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"must be a time above 0"):
        Duration.parse(written)


def test_budgets_and_hooks_are_written_again_as_they_were_read() -> None:
    spec = tiny_spec(
        "budget={wall_clock: 1h30m, trials: 100, gpu_hours: 5, per_trial: 90}",
        "hooks={trial_failed: {command: [notify-send, '{trial} failed']}, sweep_finished: {webhook: $SLACK_URL}, "
        "timeout: 5s}",
    )
    text = spec.to_yaml()
    assert "wall_clock: 1h30m" in text
    assert "per_trial: 90\n" in text
    assert "webhook: $SLACK_URL" in text
    assert spec_from_text(text) == spec
    assert spec_from_text(text).to_yaml() == text


def test_budgets_and_hooks_shape_no_result_so_they_may_change_between_runs() -> None:
    spec = tiny_spec("budget.wall_clock=2h", "hooks.sweep_finished.command=[true]".replace("true", "'true'"))
    assert spec.identity == tiny_spec("budget.wall_clock=4h").identity == tiny_spec().identity


def test_budgets_and_hooks_are_no_part_of_an_exported_configuration() -> None:
    spec = tiny_spec("budget.trials=4", "hooks.sweep_finished.webhook=$SLACK_URL")
    record = sweep(spec, phases=("search",))
    text = spec_of(record, record.trials[0])
    assert "budget" not in text
    assert "hooks" not in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.wall_clock=2 h", "budget.wall_clock: must be a time above 0"),
        ("budget.per_trial=0", "budget.per_trial: must be a time above 0"),
        ("budget.wallclock=2h", "budget.wallclock: unknown key wallclock; did you mean 'wall_clock'?"),
        ("budget.trials=0", "budget.trials: must be greater than 0, is 0"),
        ("budget.trials=1.5", "budget.trials: must be a valid integer"),
        ("budget.gpu_hours=.inf", "budget.gpu_hours: must be"),
        ("hooks.trial_failed={}", "hooks.trial_failed: must hold either command or webhook"),
        ("hooks.trial_failed={command: [a], webhook: $A}", "hooks.trial_failed: must hold either command or webhook"),
        ("hooks.trial_failed.command=[]", "hooks.trial_failed.command: must be"),
        ("hooks.trial_failed.command=ls -l", "hooks.trial_failed.command: must be"),
        ("hooks.trial_failed.command=['']", "hooks.trial_failed.command: the first item must be a program"),
        ("hooks.sweep_failed={}", "hooks.sweep_failed: unknown key sweep_failed; did you mean 'sweep_finished'?"),
        ("hooks.timeout=soon", "hooks.timeout: must be a time above 0"),
        (
            "hooks.trial_failed.command=[echo, '{trail}']",
            "hooks: trial_failed.command: the event has no value '{trail}'; did you mean 'trial'?",
        ),
        ("hooks.sweep_finished.command=[echo, '{kind}']", "the event has no value '{kind}'"),
        ("hooks.sweep_finished.webhook=ftp://host/x", "hooks.sweep_finished.webhook: must be an http or https URL"),
        ("hooks.sweep_finished.webhook='http://'", "hooks.sweep_finished.webhook: must be an http or https URL"),
        ("hooks.sweep_finished.webhook='http://host:x/'", "hooks.sweep_finished.webhook: must be an http or https"),
        ("hooks.sweep_finished.webhook='http://a b/'", "hooks.sweep_finished.webhook: must be an http or https URL"),
        ("hooks.sweep_finished.webhook='$A B'", "hooks.sweep_finished.webhook: must be an http or https URL"),
    ],
)
def test_every_mistake_is_told_with_its_place(override: str, message: str) -> None:
    found = faults(override)
    assert any(message in fault for fault in found), found


def test_a_refused_webhook_is_not_repeated_since_it_may_be_a_secret() -> None:
    assert not any("hunter2" in fault for fault in faults("hooks.sweep_finished.webhook=ftp://me:hunter2@host/"))


def test_placeholders_become_what_the_event_says_and_other_braces_stay() -> None:
    hook = HookOptions(command=("say", "{sweep}: {message}", '{"a": {"b": 1}}', "{{sweep}}", "{}"))
    assert hook.arguments({"sweep": "s", "message": "{sweep}"}) == (
        "say",
        "s: {sweep}",
        '{"a": {"b": 1}}',
        "{sweep}",
        "{}",
    )


@pytest.mark.parametrize("url", ["https://me:pw@host/x", "https://token@host/x", "https://host/x?key=1"])
def test_a_webhook_that_holds_a_secret_is_objected_to(url: str) -> None:
    found = spec_lints(tiny_spec("search.trials=16", f"hooks.sweep_finished.webhook={url}"))
    assert found == [
        "hooks.sweep_finished: the webhook's user or query may be a secret, and the spec is stored and tracked; put it "
        "into an environment variable and write $NAME"
    ]


@pytest.mark.parametrize("url", ["https://host/x", "$HOOK"])
def test_a_webhook_without_one_is_not(url: str) -> None:
    assert spec_lints(tiny_spec("search.trials=16", f"hooks.sweep_finished.webhook={url}")) == []
