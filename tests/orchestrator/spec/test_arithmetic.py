"""The grammar: agrees with Python's arithmetic, and nothing that is written can do anything else."""

from __future__ import annotations

import math
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec.arithmetic import FUNCTIONS, MAX_LENGTH, ExpressionError, read

NAMES = {"fan_in": 64.0, "a": 0.1, "b": -0.5}
NUMBERS = st.floats(0.0, 1e3, allow_nan=False).map(repr)


def _more(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(parts, st.sampled_from(["+", "-", "*", "/", "**"]), parts).map(
        lambda p: f"({p[0]} {p[1]} {p[2]})"
    )
    bare = st.tuples(parts, st.sampled_from(["+", "-", "*", "/", "**"]), parts).map(" ".join)
    unary = st.tuples(st.sampled_from(["-", *(f for f in FUNCTIONS if FUNCTIONS[f] == (1, 1))]), parts).map(
        lambda p: f"{p[0]}({p[1]})"
    )
    several = st.tuples(st.sampled_from(["min", "max"]), st.lists(parts, min_size=2, max_size=3)).map(
        lambda p: f"{p[0]}({', '.join(p[1])})"
    )
    return binary | bare | unary | several


TREES = st.recursive(NUMBERS | st.sampled_from(sorted(NAMES)), _more, max_leaves=8)


def python_value(text: str) -> float | None:
    """Python's own arithmetic; a complex power or an infinite number is none."""
    functions: dict[str, Any] = {name: getattr(math, name) for name in ("sqrt", "log", "exp")}
    functions |= {"min": min, "max": max, "abs": math.fabs}  # unlike abs, fabs refuses a complex number
    try:
        found = eval(text, {"__builtins__": {}}, functions | NAMES)
    except (ArithmeticError, ValueError, TypeError):
        return None
    return found if isinstance(found, float) and math.isfinite(found) else None


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_values_are_those_of_python(text: str) -> None:
    if len(text) > MAX_LENGTH:
        return
    expected = python_value(text)
    try:
        found = read(text).value(NAMES)
    except ExpressionError:
        # Stricter only where a step on the way is not finite, which Python lets pass: 1 / 1e400 is 0 there.
        assert expected is None or "too large" in str(_error(text)), text
        return
    assert expected is not None
    assert found == expected


def _error(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError, match=r"expression .+") as caught:
        read(text).value(NAMES)
    return caught.value


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=60) | st.text("abfin_0123456789.+-*/(), eE", max_size=60) | st.text(string.printable, max_size=220)
)
def test_whatever_is_written_is_a_finite_number_or_the_one_error(text: str) -> None:
    try:
        found = read(text)
        value = found.value(dict.fromkeys(found.names, 0.5))
    except ExpressionError:
        return
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a * fan_in ** b", 0.1 * 64**-0.5),
        ("-2 ** 2", -4.0),
        ("2 ** 3 ** 2", 512.0),
        ("max(1e-3, min(a, 1)) - abs(b)", -0.4),
        ("  sqrt(fan_in) / log(exp(2))  ", 4.0),
        ("1_000 + 0x10", 1016.0),
    ],
)
def test_what_it_says(text: str, value: float) -> None:
    assert read(text).value(NAMES) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("a +", "is not arithmetic"),
        ("a b", "column 3: is not arithmetic|is not arithmetic"),
        ("__import__('os')", r"column 12: \"'\" is not allowed in an expression"),
        ("a[0]", r"column 2: '\[' is not allowed in an expression"),
        ("a.real", r"column 1: 'a.real' is not allowed"),
        ("lambda: 1", "':' is not allowed in an expression"),
        ("a if b else 1", "column 1: 'a if b else 1' is not allowed"),
        ("a // 2", "column 1: 'a // 2' is not allowed"),
        ("a * (1, 2)", r"column 5: '\(1, 2\)' is not allowed"),
        ("max(*a)", r"max takes 2 to 8 numbers, got 1"),
        ("min(*a, *b)", r"column 5: '\*a' is not allowed.*column 9: '\*b' is not allowed"),
        ("True + 1j", "column 8: '1j' is not allowed"),
        ("print(a)", r"column 1: there is no function 'print'.*known: abs, exp, log, max, min, sqrt"),
        ("2 + sqr(a)", r"column 5: there is no function 'sqr'; did you mean 'sqrt'\?"),
        ("log(a, b)", "column 1: log takes 1 number, got 2"),
        ("a ** ~b", "'~' is not allowed in an expression"),
        ("+a", r"column 1: '\+a' is not allowed"),
        ("x" * 201, "has 201 characters; at most 200 are allowed"),
        ("1e999", "'1e999' is too large a number"),
        ("-" * 25 + "1", "is nested deeper than 20 levels"),
        ("(" * 100 + "1" + ")" * 99, "is not arithmetic"),
    ],
)
def test_what_is_no_expression_is_told_with_its_column(text: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=told):
        read(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a / (fan_in - 64)", r"column 1: division by zero in 'a / \(fan_in - 64\)', with fan_in = 64$"),
        ("log(b)", r"column 1: 'log\(b\)': the logarithm of a number that is not above 0, with b = -0.5"),
        ("sqrt(b)", r"the square root of a negative number, with b = -0.5"),
        ("1 + b ** a", r"column 5: 'b \*\* a': this power is no real number"),
        ("0 ** b", "this power is no real number: 0 to a negative power"),
        ("exp(fan_in * fan_in)", r"'exp\(fan_in \* fan_in\)' is too large a number, with fan_in = 64"),
        ("10 ** 10 ** 10", "is too large a number"),
        ("1e300 * 1e300", "is too large a number"),
    ],
)
def test_what_has_no_value_is_told_with_the_values_it_comes_of(text: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=told):
        read(text).value(NAMES)


def test_what_is_known_of_it_before_all_names_are() -> None:
    assert read("a * fan_in").known_value({"a": 1.0}) is None
    assert read("a * 2").known_value({"a": 1.5}) == 3.0
    with pytest.raises(ExpressionError, match=r"division by zero in 'fan_in / \(a - 1\)', with a = 1"):
        read("1 + fan_in / (a - 1)").known_value({"a": 1.0})
