"""Which points of another sweep a search begins with."""

from __future__ import annotations

import itertools

from orchestrator.errors import Fault, SweepNotFound, nearest
from orchestrator.home import SweepPaths, SweepRecord, sweep_names
from orchestrator.search.candidates import Candidates
from orchestrator.search.points import restricted
from orchestrator.search.selection import ranked
from orchestrator.spec import ALL, Json, SweepSpec


def best_points(record: SweepRecord, spec: SweepSpec) -> dict[str, list[dict[str, Json]]]:
    """Choose the points of another sweep with which the studies of a sweep begin.

    Args:
        record: of the sweep that the points come from.
        spec: of the sweep that begins with them.

    Returns:
        Name of a study -> its distinct best ``top_k`` points, by the objective of the other sweep, among those that lie
        in the study's space. Parameters that the space lacks are left out. A shared search takes the best points of
        each workload in turn, by rank.
    """
    assert spec.search.warm_start is not None
    best = ranked(Candidates.of(record))
    chosen: dict[str, list[dict[str, Json]]] = {}
    for workload, arm in spec.searches:
        points: list[dict[str, Json]] = []
        sources = spec.workloads if workload == ALL else [workload]
        ranks = itertools.zip_longest(*(best.get((source, arm), ()) for source in sources))
        for trial in filter(None, itertools.chain.from_iterable(ranks)):
            point = restricted(spec.space(workload, arm), trial.config.values)
            if point is not None and point not in points:
                points.append(point)
        if points:
            chosen[f"{workload}/{arm}"] = points[: spec.search.warm_start.top_k]
    return chosen


def refuse_unknown_source(spec: SweepSpec, paths: SweepPaths) -> None:
    """Check that the sweep of ``search.warm_start`` exists, unless its points have been taken already.

    Raises:
        SweepNotFound: there is none of that name in the home; the message has the nearest one.
        FileUnreadable: another version of teleport wrote that sweep.
    """
    wanted = spec.search.warm_start
    if wanted is None or paths.warm_start.is_file():
        return
    known = sweep_names(paths.home)
    if wanted.sweep not in known:
        message = f"no sweep {wanted.sweep!r} in {paths.home}; {nearest(wanted.sweep, known)}"
        raise SweepNotFound(Fault("search.warm_start.sweep", message))
    SweepPaths(paths.home, wanted.sweep).check_format()
