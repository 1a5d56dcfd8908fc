"""Grids over conditional spaces, points that lie in a space or do not, and the seeds of a draw."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.grid import Grid
from orchestrator.search.points import num_points, restricted
from orchestrator.search.samplers import Draw
from orchestrator.spec import Template
from orchestrator.spec.identity import canonical_json
from orchestrator.spec.options import GridOptions, RandomOptions
from tests.orchestrator.specs import tiny_spec


def template(text: str) -> Template:
    return tiny_spec(f"arms.teleport.teleport={text}").arms["teleport"]


NESTED = """{tau: {choice: [1.0, 0.99]}, step: {choice: [{rule: fixed, lr: {loguniform: [0.001, 0.1]}},
{rule: growth, factor: {uniform: [1.1, 2.0]}}]}, schedule: {epochs: 1, batches: 2, steps: {int: [1, 3]}}}"""


SPACE = template(NESTED)


def points(grid: Grid) -> list[dict[str, object]]:
    return [dict(grid.point(index)) for index in range(grid.num_points)]


def test_a_grid_has_every_combination_once_and_none_that_cannot_be() -> None:
    found = points(Grid([template(NESTED)], 3))
    assert len(found) == 2 * (3 + 3) * 3
    assert len({canonical_json(point) for point in found}) == len(found)
    assert all(("teleport.step[rule=fixed].lr" in point) == (point["teleport.step"] == "rule=fixed") for point in found)


def test_a_grid_is_even_in_the_logarithm_where_the_range_is() -> None:
    grid = Grid([template(NESTED)], 3)
    rates = {point.get("teleport.step[rule=fixed].lr") for point in points(grid)} - {None}
    assert sorted(map(float, rates)) == pytest.approx([0.001, 0.01, 0.1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distribution", "number", "values"),
    [
        ("{int: [1, 9]}", 3, [1, 5, 9]),
        ("{int: [1, 9], step: 4}", 5, [1, 5, 9]),
        ("{logint: [1, 100]}", 3, [1, 10, 100]),
        ("{logint: [1, 3]}", 5, [1, 2, 3]),
        ("{int: [4, 4]}", 5, [4]),
        ("{int: [1, 9]}", 1, [5]),
    ],
)
def test_values_of_a_range(distribution: str, number: int, values: list[int]) -> None:
    text = f"{{step: {{rule: fixed, lr: 0.1}}, schedule: {{epochs: 1, batches: 2, steps: {distribution}}}}}"
    found = [point["teleport.schedule.steps"] for point in points(Grid([template(text)], number))]
    assert found == values
    assert all(type(value) is int for value in found)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 3))
def test_every_point_of_a_grid_lies_in_the_space(number: int, seed: int) -> None:
    space = [SPACE]
    grid = Grid(space, number)
    for index in grid.order(seed, 20):
        assert restricted(space, grid.point(index)) == grid.point(index)


def test_a_large_grid_is_not_listed() -> None:
    grid = Grid([template(NESTED)] * 12, 1_000)
    assert len(set(grid.order(0, 50))) == 50


def test_num_points_is_of_the_grid_or_of_the_space() -> None:
    space = [template(NESTED)]
    assert math.isinf(num_points(space, RandomOptions(name="random")))
    assert num_points(space, GridOptions(name="grid", points=2)) == 2 * 4 * 2


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"teleport.tau": 1.0, "other": 3}, {"teleport.tau": 1.0}),
        ({"teleport.tau": 0.5}, None),
        ({"other": 3}, None),
        ({"teleport.schedule.steps": 3}, {"teleport.schedule.steps": 3}),
        ({"teleport.schedule.steps": 2.5}, None),
        ({"teleport.schedule.steps": 4}, None),
        ({"teleport.schedule.steps": True}, None),
        (
            {
                "teleport.step": "rule=growth",
                "teleport.step[rule=growth].factor": 1.5,
                "teleport.step[rule=fixed].lr": 9,
            },
            {"teleport.step": "rule=growth", "teleport.step[rule=growth].factor": 1.5},
        ),
    ],
    ids=range(8),
)
def test_a_point_is_restricted_to_a_space(values: dict[str, bool | int | float | str], kept: object) -> None:
    assert restricted([template(NESTED)], values) == kept


def test_a_study_has_one_seed_and_each_trial_its_own() -> None:
    draws = [Draw(0, study, number, (), {}) for study in ("a/b", "a/c") for number in (0, 1)]
    assert len({draw.own_seed for draw in draws}) == 4
    assert len({draw.study_seed for draw in draws}) == 2
