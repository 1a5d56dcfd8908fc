"""Settings of an arm that may be an expression of what the engine measures, and what each may name."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

from pydantic import Field, model_validator

from orchestrator.errors import nearest
from orchestrator.spec.arithmetic import FUNCTIONS, ExpressionError, is_name, read
from orchestrator.spec.options.entry import Options

_OF_LAYER = {
    "fan_in": "inputs of one output unit: channels times taps for a convolution",
    "fan_out": "outputs that one input unit reaches: channels times taps",
    "width": "output units, or channels",
    "position": "of the layer among the model's linear maps, from 1",
    "num_layers": "linear maps of the model",
    "weight_norm": "‖W‖ (Frobenius) of the layer",
    "grad_norm": "‖g‖ of the layer's weight on the teleport batch",
    "stable_rank": "‖X‖² over the largest eigenvalue of XᵀX: how slowly the spectrum of the layer's inputs decays",
}
_OF_NULL_SPACE = {
    "rank": "dimensions of the inputs that are kept",
    "null_dim": "dimensions of the null space",
    "null_share": "null_dim over both",
}
_OF_MODEL = {
    "loss": "on the teleport batch",
    "grad_norm": "‖g‖ over all trainable parameters",
    "weight_norm": "‖W‖ of the weights that move",
    "num_layers": "linear maps of the model",
}
_FOLLOWS_FROM_TAU = "follows from tau, so tau cannot depend on it"
_OF_A_LAYER = "belongs to one layer, and this number is for the whole model"


@final
@dataclass(frozen=True)
class Leaf:
    """A setting that may be an expression.

    Args:
        key: the setting's key under ``teleport:``.
        names: the names that its expression may use -> what each means.
        must: the rule for its value, such as ``be above 0``.
        is_valid: tells whether a value keeps the rule.
        elsewhere: names that only other settings know -> why this one does not.
    """

    key: str
    names: Mapping[str, str]
    must: str
    is_valid: Callable[[float], bool]
    elsewhere: Mapping[str, str]


LEAVES: dict[str, Leaf] = {
    "lr": Leaf("step.lr", {**_OF_LAYER, **_OF_NULL_SPACE}, "be above 0", lambda value: value > 0.0, {}),
    "tau": Leaf(
        "tau",
        _OF_LAYER,
        "lie in (0, 1]",
        lambda value: 0.0 < value <= 1.0,
        dict.fromkeys(_OF_NULL_SPACE, _FOLLOWS_FROM_TAU),
    ),
    "factor": Leaf(
        "step.factor",
        _OF_MODEL,
        "be above 1",
        lambda value: value > 1.0,
        dict.fromkeys([name for name in (*_OF_LAYER, *_OF_NULL_SPACE) if name not in _OF_MODEL], _OF_A_LAYER),
    ),
}
_ANYWHERE = frozenset(name for leaf in LEAVES.values() for name in leaf.names)


class ExpressionOptions(Options, ABC):
    """A number that a rule gives, for each layer or each step; ``leaf`` is the setting that it stands for.

    Args:
        expression: the rule, in the grammar of :mod:`orchestrator.spec.arithmetic`.
        where: its coefficients, each a number or a distribution.
    """

    expression: str
    where: dict[str, float] = Field(default_factory=dict)
    leaf: ClassVar[Leaf]

    @model_validator(mode="before")
    @classmethod
    def _is_written_as_one(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(f"must be a number, or an expression written as {{expression: {data!r}}}")
        return data

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        found = read(self.expression)
        leaf = self.leaf
        wrong: list[tuple[int, str]] = []
        for name in self.where:
            if name in _ANYWHERE or not is_name(name):
                taken = "what the engine measures" if name in _ANYWHERE else "a function" if name in FUNCTIONS else ""
                wrong.append((0, f"where.{name}: {f'is the name of {taken}' if taken else 'is no name'}; take another"))
            elif name not in found.names:
                wrong.append((0, f"where.{name}: the expression does not use it"))
        known = {*leaf.names, *self.where}
        for name, column in found.names.items():
            if name not in known:
                why = leaf.elsewhere.get(name)
                said = f"{name!r} {why}; (known: {', '.join(sorted(known))})" if why else ""
                wrong.append((column, said or f"unknown name {name!r}; {nearest(name, known)}"))
        if wrong:
            raise ExpressionError(self.expression, *wrong)
        value = found.known_value(self.where)
        if value is not None:
            self._check(value, self.where)
        return self

    def value(self, measured: Mapping[str, float], of: str = "") -> float:
        """Evaluate the expression.

        Args:
            measured: a value for every measured name that it uses.
            of: what the value belongs to, for a message.

        Raises:
            ExpressionError: it has no value, or one out of range; the message holds all values.
        """
        found = read(self.expression)
        values = {name: self.where[name] if name in self.where else measured[name] for name in found.names}
        place = self.leaf.key + (f" of {of}" if of else "")
        try:
            value = found.value(values)
        except ExpressionError as error:
            raise ExpressionError(self.expression, *error.faults, values=values, place=place) from None
        self._check(value, values, place)
        return value

    def uses(self, name: str) -> bool:
        """Tell whether the expression uses a name."""
        return name in read(self.expression).names

    def _check(self, value: float, values: Mapping[str, float], place: str = "") -> None:
        leaf = self.leaf
        if not leaf.is_valid(value):
            own = {name: values[name] for name in read(self.expression).names if name in values}
            raise ExpressionError(self.expression, (0, f"must {leaf.must}, is {value:.6g}"), values=own, place=place)


@final
class LrExpression(ExpressionOptions):
    """The teleport learning rate of each layer, by a rule; see :class:`ExpressionOptions`."""

    leaf = LEAVES["lr"]


@final
class TauExpression(ExpressionOptions):
    """Tau of each layer, by a rule; see :class:`ExpressionOptions`."""

    leaf = LEAVES["tau"]


@final
class FactorExpression(ExpressionOptions):
    """The growth factor of each step, by a rule; see :class:`ExpressionOptions`."""

    leaf = LEAVES["factor"]


def is_expression(value: Any) -> bool:
    """Tell whether plain data or options are meant as an expression."""
    return isinstance(value, ExpressionOptions) or (
        isinstance(value, dict) and bool({"expression", "where"} & set(value))
    )


def form_of_number(value: Any) -> str:
    """Tell whether a number or an expression is meant, so that messages speak of that one alone."""
    return "expression" if is_expression(value) or isinstance(value, str) else "number"
