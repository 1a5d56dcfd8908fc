"""What is settled of a trial before its sampler is asked, and which sampler that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

from orchestrator.space import Draw, Grid, make_sampler
from orchestrator.spec import Search, Template
from orchestrator.spec.identity import Json
from orchestrator.spec.options import GridOptions, RandomOptions

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLED_DUPLICATES = 8

Point = Mapping[str, Json]


@final
class Draws:
    """The draws of one study.

    Args:
        search: of the spec.
        study: its name.
        templates: whose distributions are searched.
        points: to propose first, in this order.
    """

    def __init__(self, search: Search, study: str, templates: Sequence[Template], points: Sequence[Point]) -> None:
        self._search = search
        self._study = study
        self._templates = templates
        self._points = points
        self._grid: Grid | None = None
        self._order: list[int] = []
        if isinstance(search.sampler, GridOptions):
            self._grid = Grid(templates, search.sampler.points)
            # As many as are needed should every point above be one of the grid's, and every replacement be made.
            length = search.trials + search.num_replaceable + len(points)
            self._order = self._grid.order(self._draw(0, {}).study_seed, length)

    def of(self, number: int) -> Draw | None:
        """Tell what is settled of a trial.

        Args:
            number: of the trial.

        Returns:
            Its draw; None where a grid has no more points.
        """
        at = number - len(self._points)
        if at < 0:
            return self._draw(number, self._points[number])
        if self._grid is None:
            return self._draw(number, {})
        return self._draw(number, self._grid.point(self._order[at])) if at < len(self._order) else None

    def sampler(self, draw: Draw, num_duplicates: int) -> BaseSampler:
        """Make the sampler of a trial.

        Args:
            draw: of the trial.
            num_duplicates: how many proposals before it had been there already, one after the other.

        Returns:
            The study's sampler, or, where that keeps proposing what was there, a random one.
        """
        if num_duplicates >= SAMPLED_DUPLICATES:
            return make_sampler(RandomOptions(name="random"), draw)
        return make_sampler(self._search.sampler, draw)

    def _draw(self, number: int, fixed: Point) -> Draw:
        return Draw(self._search.seed, self._study, number, self._templates, fixed)
