"""Every combination of a conditional space, found by its index. The list is never made, so the grid may be large."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import final

from orchestrator.spec import Branch, Choice, Fixed, Items, Json, Node, Range, Template


@final
class Grid:
    """The combinations of all choices with some values of each range.

    Args:
        templates: hold the distributions, whose names must not collide.
        points: number of values of a range; a range that holds fewer gives all it has.
    """

    def __init__(self, templates: Sequence[Template], points: int) -> None:
        self._roots = [template.root for template in templates]
        self._points = points

    @property
    def num_points(self) -> int:
        """Number of combinations; options that exclude each other are not combined."""
        return math.prod(self._count(root) for root in self._roots)

    def point(self, index: int) -> dict[str, Json]:
        """Look up a combination by its index from 0; the value of a choice is its label."""
        values: dict[str, Json] = {}
        self._put_all(self._roots, index, values)
        return values

    def order(self, seed: int, length: int) -> list[int]:
        """Shuffle the indices, and give the first ``length`` of them, or all where there are fewer."""
        num, drawn = self.num_points, random.Random(seed)
        # ``sample`` refuses a range whose length does not fit into an address.
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
    """Choose values of a range: all where it holds at most ``points``, else both ends and values between them.

    A single value is the middle of the range.
    """
    low, high = distribution.low, distribution.high
    step = distribution.step or (1 if distribution.is_integer else None)
    if low == high:
        return [low]
    to, back = (math.log, math.exp) if distribution.is_log else (float, float)
    shares = [0.5] if points == 1 else [index / (points - 1) for index in range(points)]
    wanted = [to(low) + share * (to(high) - to(low)) for share in shares]
    if step is None:
        return [min(max(back(value), low), high) for value in wanted]
    last = round((high - low) / step)
    if last + 1 <= points:
        indices = list(range(last + 1))
    else:
        # At the lower end of a logarithmic range two values may lie so close that both round to the same one.
        indices = list(dict.fromkeys(min(max(round((back(value) - low) / step), 0), last) for value in wanted))
    return [low + index * step for index in indices]
