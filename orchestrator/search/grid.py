"""Every combination of a conditional space, by its index: nothing is listed, so the grid may be large."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import final

from orchestrator.spec import Branch, Choice, Fixed, Items, Json, Node, Range, Template


@final
class Grid:
    """The combinations of all choices and of some values of each range.

    Args:
        templates: whose distributions; their names must not collide.
        points: values of a range, or as many as it holds.
    """

    def __init__(self, templates: Sequence[Template], points: int) -> None:
        self._roots = [template.root for template in templates]
        self._points = points

    @property
    def num_points(self) -> int:
        """How many combinations there are; only those of options that can be chosen together."""
        return math.prod(self._count(root) for root in self._roots)

    def point(self, index: int) -> dict[str, Json]:
        """Look up a combination.

        Args:
            index: from 0, below the number of points.

        Returns:
            Parameter name -> value, the label for a choice.
        """
        values: dict[str, Json] = {}
        self._put_all(self._roots, index, values)
        return values

    def order(self, seed: int, length: int) -> list[int]:
        """Shuffle the indices.

        Args:
            seed: of the shuffle.
            length: how many are wanted; all where there are fewer.

        Returns:
            Distinct indices.
        """
        num, drawn = self.num_points, random.Random(seed)
        # Not ``sample``, which takes no more points than an address has bits.
        chosen: dict[int, None] = {}
        while len(chosen) < min(length, num):
            chosen[drawn.randrange(num)] = None
        return list(chosen)

    def _count(self, located: Node) -> int:
        match located.node:
            case Fixed():
                return 1
            case Range() as distribution:
                return len(_values(distribution, self._points))
            case Choice(options=options):
                return sum(self._count(option) for option in options)
            case Branch(items):
                return math.prod(self._count(child) for _, child in items)
            case Items(children):
                return math.prod(self._count(child) for child in children)

    def _put(self, located: Node, index: int, values: dict[str, Json]) -> None:
        match located.node:
            case Fixed():
                pass
            case Range() as distribution:
                values[distribution.name] = _values(distribution, self._points)[index]
            case Choice(name=name, labels=labels, options=options):
                for label, option in zip(labels, options, strict=True):
                    size = self._count(option)
                    if index < size:
                        values[name] = label
                        self._put(option, index, values)
                        return
                    index -= size
            case Branch(items):
                self._put_all([child for _, child in items], index, values)
            case Items(children):
                self._put_all(children, index, values)

    def _put_all(self, nodes: Sequence[Node], index: int, values: dict[str, Json]) -> None:
        for node in nodes:
            index, own = divmod(index, self._count(node))
            self._put(node, own, values)


def _values(distribution: Range, points: int) -> list[float]:
    """Choose values of a range, both ends included, a single one in the middle; all where it holds no more."""
    low, high = distribution.low, distribution.high
    step = distribution.step or (1 if distribution.is_integer else None)
    if low == high:
        return [low]
    to, back = _scale(distribution)
    wanted = [to(low) + share * (to(high) - to(low)) for share in _shares(points)]
    if step is None:
        return [min(max(back(value), low), high) for value in wanted]
    last = round((high - low) / step)
    if last + 1 <= points:
        indices = list(range(last + 1))
    else:
        # Rounding may let two fall together where they lie close, at the lower end of a logarithmic range.
        indices = list(dict.fromkeys(min(max(round((back(value) - low) / step), 0), last) for value in wanted))
    return [low + index * step for index in indices]


def _scale(distribution: Range) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (math.log, math.exp) if distribution.is_log else (float, float)


def _shares(points: int) -> list[float]:
    return [0.5] if points == 1 else [index / (points - 1) for index in range(points)]
