"""No message of a spec's fault has pydantic's own words, and numbers that nothing can mean are refused."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import spec_from_text
from orchestrator.spec.options import Options
from tests.orchestrator.specs import TINY, tiny_spec


def below(kind: type[Options]) -> Iterator[type[Options]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def test_every_value_of_several_forms_has_a_discriminator() -> None:
    """Without one pydantic puts names of its own (`constrained-int`, `function-after[…]`) into places and messages."""
    found = [
        f"{kind.__module__}.{kind.__name__}.{name}"
        for kind in below(Options)
        for name, field in kind.model_fields.items()
        if typing.get_origin(field.annotation) in {typing.Union, types.UnionType}
        and sum(arg is not type(None) for arg in typing.get_args(field.annotation)) > 1
        and field.discriminator is None
    ]
    assert found == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("confirm.seeds=-1", "confirm.seeds: must be greater than or equal to 0, is -1"),
        ("confirm.seeds=abc", "confirm.seeds: must be a valid integer, is abc"),
        ("confirm.seeds=[1, 1]", r"confirm.seeds: seeds must differ from each other; they are \[1, 1\]"),
        ("confirm.grid=nome", "confirm.grid: nome is none of the valid values; did you mean 'none'"),
        ("confirm.grid={factr: 2}", "confirm.grid.factr: unknown key factr; did you mean 'factor'"),
        ("search.seeds=[]", r"search.seeds: must be a list of at least 1, is \[\]"),
    ],
)
def test_a_fault_speaks_of_the_form_that_was_meant(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        tiny_spec(override)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("search.trials=-1", "tiny.yaml: --set search.trials"),
        ("search.trails=4", "tiny.yaml: --set search.trails"),
        ("workloads.digits.optimizer={name: sgd, lr: -1}", "tiny.yaml: --set workloads.digits.optimizer.lr"),
        (
            "workloads.digits.optimizer.lr={loguniform: [2, 1]}",
            "tiny.yaml: --set workloads.digits.optimizer.lr.loguniform",
        ),
        ("arms.teleport.teleport.tau={choice: [0.9, 3]}", "tiny.yaml: --set arms.teleport.teleport.tau.choice[1]"),
    ],
)
def test_a_fault_of_an_override_names_the_option_and_no_line_of_the_file(override: str, place: str) -> None:
    with pytest.raises(SpecError, match=r"tiny\.yaml: --set ") as caught:
        tiny_spec(override)
    assert [fault.place for fault in caught.value.faults] == [place]


@pytest.mark.parametrize("values", ["1.0", "{choice: [1.0, 0.99, 0.9]}", "{uniform: [0.5, 1.0]}"])
def test_a_misspelt_key_is_one_fault_however_many_values_it_offers(values: str) -> None:
    text = TINY.replace("tau: {choice: [1.0, 0.99]}", f"tauu: {values}")
    with pytest.raises(SpecError, match="unknown key tauu; did you mean 'tau'") as caught:
        spec_from_text(text, "tiny.yaml")
    [fault] = caught.value.faults
    assert fault.place == "tiny.yaml:16: arms.teleport.teleport.tauu"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"workloads.digits.model.widths=[{10**20}]", r"model.widths\[0\]: must be at most 2\^53, is 1000"),
        (f"search.trials={'9' * 300}", r"search.trials: must be at most 2\^53, is 9+… \(300 characters\)"),
        ("workloads.digits.optimizer.lr=1e40", "optimizer.lr: must be at most 3.4e38, the largest float32, is 1e\\+40"),
        ("workloads.digits.optimizer.lr={loguniform: [0.1, 1e39]}", r"loguniform\[1\]: must be at most 3.4e38"),
    ],
)
def test_numbers_that_nothing_can_mean_are_refused(override: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tiny_spec(override)
