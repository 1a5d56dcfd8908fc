"""Templates: any leaf may be a distribution; the corners stand for all."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.spec.parse import fixed, parse
from orchestrator.spec.space import Choice, Range, Template
from orchestrator.spec.yaml_text import Document, read_text


def template(text: str) -> Template:
    parsed = parse(read_text(text, "f.yaml"), ())
    assert not parsed.faults
    return parsed.template


def faults(text: str) -> list[str]:
    return [str(fault) for fault in parse(read_text(text, "f.yaml"), ()).faults]


def test_distributions_are_named_by_their_path_and_choices() -> None:
    tree = template("a: {b: {uniform: [0, 1]}}\nc: {choice: [{r: x, d: {int: [1, 3]}}, {r: y}, 7]}\n")
    assert [d.name for d in tree.distributions()] == ["a.b", "c", "c[r=x].d"]
    assert isinstance(tree.distributions()[0], Range)
    choice = tree.distributions()[1]
    assert isinstance(choice, Choice)
    assert choice.labels == ("r=x", "r=y", 7)


def test_concretise_follows_the_choices() -> None:
    tree = template("a: {uniform: [0, 1]}\nc: {choice: [{r: x, d: {int: [1, 3]}}, {r: y}]}\nf: [1, {int: [0, 1]}]\n")
    assert tree.concretise({"a": 0.5, "c": "r=x", "c[r=x].d": 2, "f[1]": 0}) == {
        "a": 0.5,
        "c": {"r": "x", "d": 2},
        "f": [1, 0],
    }
    assert tree.concretise({"a": 0.5, "c": "r=y", "f[1]": 1}) == {"a": 0.5, "c": {"r": "y"}, "f": [1, 1]}
    with pytest.raises(KeyError, match=r".+"):
        tree.concretise({"a": 0.5, "f[1]": 1})


def test_options_that_look_alike_get_labels_of_their_own() -> None:
    choice = template("c: {choice: [{d: {int: [1, 2]}}, {d: {int: [3, 4]}}]}\n").distributions()[0]
    assert isinstance(choice, Choice)
    assert choice.labels == ("d", "d #1")


def test_corners_are_every_bound_and_option_one_at_a_time() -> None:
    tree = template("a: {uniform: [0, 1]}\nb: {choice: [p, q]}\n")
    assert tree.corners() == [{"a": 0, "b": "p"}, {"a": 1, "b": "p"}, {"a": 0, "b": "q"}]


def test_a_corner_in_a_choice_leaves_no_value_of_another_option() -> None:
    tree = template("c: {choice: [{r: x, d: {int: [1, 3]}}, {r: y, e: {int: [5, 6]}}]}\n")
    assert tree.corners() == [
        {"c": "r=x", "c[r=x].d": 1},
        {"c": "r=x", "c[r=x].d": 3},
        {"c": "r=y", "c[r=y].e": 5},
        {"c": "r=y", "c[r=y].e": 6},
    ]


def test_trace_tells_where_a_value_came_from() -> None:
    tree = template("c: {choice: [{r: x, d: {int: [1, 3]}}]}\n")
    data, origins = tree.trace({"c": "r=x", "c[r=x].d": 1})
    assert data == {"c": {"r": "x", "d": 1}}
    assert origins["c", "d"] == ("c", "choice", 0, "d")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a: 1", 1),
        ("a: {int: [1, 4]}", 4),
        ("a: {int: [0, 10], step: 5}", 3),
        ("a: {logint: [1, 8]}", 8),
        ("a: {uniform: [0, 1], step: 0.25}", 5),
        ("a: {uniform: [2, 2]}", 1),
        ("a: {uniform: [0, 1]}", math.inf),
        ("a: {choice: [1, 2]}\nb: {choice: [{c: {int: [1, 3]}}, x]}", 8),
    ],
)
def test_configurations_are_counted(text: str, count: float) -> None:
    assert template(text).num_configurations() == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {uniform: [1, 0]}", "f.yaml:1: a.uniform: low must not be above high, is [1, 0]"),
        ("a: {loguniform: [0, 1]}", "low must be above 0 on a logarithmic scale, is 0"),
        ("a: {logint: [-1, 1]}", "low must be above 0 on a logarithmic scale, is -1"),
        ("a: {uniform: [0]}", "must be [low, high], two finite numbers, is [0]"),
        ("a: {uniform: 3}", "must be [low, high], two finite numbers, is 3"),
        ("a: {uniform: [0, .inf]}", "two finite numbers"),
        ("a: {uniform: [0, true]}", "two finite numbers"),
        ("a: {int: [0, 1.5]}", "two whole numbers"),
        ("a: {int: [0, x]}", "two whole numbers"),
        ("a: {choice: []}", "f.yaml:1: a.choice: must be a list with at least one value, is []"),
        ("a: {choice: 3}", "must be a list with at least one value, is 3"),
        ("a: {choice: [1, 2, 1]}", "a.choice[2]: 1 is listed twice; first as [0]"),
        ("a: {uniform: [0, 1], stp: 1}", "unknown key beside 'uniform'; did you mean 'step'?"),
        ("a: {loguniform: [1, 2], step: 1}", "unknown key beside 'loguniform'"),
        ("a: {choice: [1], int: [0, 1]}", "unknown key beside 'choice'"),
        ("a: {uniform: [0, 1], step: 0.3}", "high - low = 1 must be a multiple of step, is 0.3"),
        ("a: {int: [0, 4], step: 0}", "must be a whole number above 0, is 0"),
        ("a: {logint: [1, 4], step: 2}", "a logarithmic scale has no step; remove it"),
    ],
)
def test_broken_distributions_are_told(text: str, message: str) -> None:
    assert any(message in fault for fault in faults(text)), faults(text)


def test_all_broken_distributions_are_told_at_once() -> None:
    assert len(faults("a: {uniform: [1, 0]}\nb: {choice: []}\nc: {int: [0, 0.5]}\n")) == 3


def test_too_many_corners_are_refused() -> None:
    options = ", ".join(map(str, range(3000)))
    assert "has 3000 bounds and choices; at most 2000" in faults(f"a: {{choice: [{options}]}}")[0]


leaves = st.one_of(
    st.integers(-5, 5),
    st.text("abc", min_size=1, max_size=3),
    st.tuples(st.integers(0, 3), st.integers(4, 9)).map(lambda pair: {"int": list(pair)}),
    st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True).map(lambda options: {"choice": options}),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("pqrst"), inner, max_size=3),
        st.lists(inner, min_size=1, max_size=2, unique_by=repr).map(lambda options: {"choice": options}),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(raw=st.dictionaries(st.sampled_from("uvw"), trees, min_size=1, max_size=3))
def test_every_corner_is_a_configuration_without_distributions(raw: dict[str, Any]) -> None:
    parsed = parse(Document("f.yaml", raw, {}), ())
    if parsed.faults:
        return
    tree = parsed.template
    names = {d.name for d in tree.distributions()}
    seen: set[str] = set()
    for corner in tree.corners():
        seen |= corner.keys()
        concrete = tree.concretise(corner)
        assert not fixed(concrete).distributions()
        chosen: dict[str, Any] = {}
        tree.choose(lambda d, corner=corner: corner[d.name], chosen)  # type: ignore[misc]
        assert chosen == corner
    assert seen == names
    assert len(tree.corners()) <= tree.num_configurations() or math.isinf(tree.num_configurations())


def test_counting_agrees_with_listing() -> None:
    tree = template("a: {choice: [1, 2]}\nc: {choice: [{d: {int: [1, 3]}}, x]}\n")
    listed = {
        str(tree.concretise({"a": a, "c": c, "c[d].d": d}))
        for a, c, d in itertools.product([1, 2], ["d", "x"], [1, 2, 3])
    }
    assert len(listed) == tree.num_configurations()
