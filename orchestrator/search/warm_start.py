"""Which points a search begins with: those that the spec gives, and the best of another sweep."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from orchestrator.errors import Fault, SweepNotFound, UserError, nearest
from orchestrator.home import SweepPaths, SweepRecord, sweep_names
from orchestrator.search.candidates import Candidates
from orchestrator.search.points import restricted
from orchestrator.search.selection import ranked
from orchestrator.spec import ALL, Json, SweepSpec

# Keys of a point that name no parameter, but which searches it is for.
FILTERS = ("workload", "arm")


def given_points(spec: SweepSpec) -> dict[str, list[dict[str, Json]]]:
    """Say which points of ``search.points`` each study begins with.

    Returns:
        Name of a study -> its points, in their order, without the parameters that its space lacks.

    Raises:
        UserError: every point that no study can begin with, and every study that has more points than trials.
    """
    faults: list[Fault] = []
    chosen: dict[str, list[dict[str, Json]]] = {f"{workload}/{arm}": [] for workload, arm in spec.searches}
    for index, point in enumerate(spec.search.points):
        place = f"search.points[{index}]"
        studies, told = _studies_of(spec, point, place)
        values = {name: value for name, value in point.items() if name not in FILTERS}
        known = {each.name for study in studies for part in spec.space(*study) for each in part.distributions()}
        told += [
            Fault(f"{place}.{name}", f"is no parameter that is searched; {nearest(name, known)}")
            for name in values.keys() - known
            if studies
        ]
        found = {study: restricted(spec.space(*study), values) for study in studies}
        if not told and not any(found.values()):
            told.append(Fault(place, "a value lies outside of what is searched, in every study that it is for"))
        for (workload, arm), values_there in found.items():
            if values_there and not told and values_there not in chosen[f"{workload}/{arm}"]:
                chosen[f"{workload}/{arm}"].append(values_there)
        faults += told
    for name, points in chosen.items():
        if len(points) > spec.search.trials:
            message = f"{len(points)} points are for {name}, and search.trials is {spec.search.trials}; raise it"
            faults.append(Fault("search.points", message))
    if faults:
        raise UserError(*faults)
    return {name: points for name, points in chosen.items() if points}


def _studies_of(spec: SweepSpec, point: Mapping[str, Json], place: str) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Find the studies that a point is for, and what is wrong with the labels that it names."""
    studies, faults = list(spec.searches), []
    for position, (key, labels) in enumerate(zip(FILTERS, (spec.workloads, spec.arms), strict=True)):
        if key not in point:
            continue
        if point[key] not in labels:
            faults.append(
                Fault(f"{place}.{key}", f"{point[key]!r} is not in this sweep; {nearest(point[key], labels)}")
            )
        studies = [study for study in studies if study[position] == point[key]]
    if not studies and not faults:
        faults.append(Fault(place, "no search of its own is there for this workload and arm"))
    return studies, faults


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
