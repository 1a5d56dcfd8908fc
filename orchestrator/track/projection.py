"""How a sweep looks in a tracking store: the names, parameters, tags and endings of its runs."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from orchestrator.home import Code, SweepRecord, TrialConfig, TrialResult, TrialState
from orchestrator.spec import Json, digest
from orchestrator.spec.options import DataOptions
from orchestrator.track.points import Point, summary_points
from orchestrator.track.text import MAX_PARAM, clean, clean_key

# Tags for our own bookkeeping; people filter by the others.
SWEEP_ID = "teleport.sweep_id"
TRIAL_ID = "teleport.trial_id"
COMPLETE = "teleport.complete"

NOTE = "mlflow.note.content"

STATUS_OF = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAIL: "FAILED"}


@final
@dataclass(frozen=True)
class DataFacts:
    """A data set that a run trains on, as the spec describes it; its files are not looked at.

    Args:
        name: of the data set.
        digest: of all options that decide which samples it has, so neither of its batches nor of where it lies.
        options: these options as JSON.
    """

    name: str
    digest: str
    options: str


@final
@dataclass(frozen=True)
class Facts:
    """What is known of a run when it begins; a sweep's own run trains on no data itself."""

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    data: DataFacts | None = None


@final
@dataclass(frozen=True)
class RunEnd:
    """What is known of a run when it has ended.

    Args:
        status: FINISHED, FAILED or KILLED.
        ended_at: Unix time in milliseconds; None stands for the present.
        points: that sum up the trial.
        tags: to add, among them :data:`COMPLETE`.
    """

    status: str
    ended_at: int | None
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def sweep_id(record: SweepRecord) -> str:
    """Make an id that differs even from that of a sweep with the same name and spec in another home."""
    return digest([record.spec.name, record.provenance.started_at])


def fingerprint(result: TrialResult | None, num_rows: int = 0) -> str:
    """Hash how a trial ended, or, without a result, the number of rows that it had when it was cut off.

    A run in the store is whole if it bears the fingerprint of its trial's ending.
    """
    return digest(["cut off", num_rows] if result is None else result.model_dump(mode="json"))


def sweep_facts(record: SweepRecord) -> Facts:
    """Describe the sweep's own run."""
    spec, provenance = record.spec, record.provenance
    plain = spec.model_dump(mode="json", exclude_unset=True, exclude={"version", "name", "description", "hooks"})
    tags = {
        **_sweep_tags(record),
        "phase": "sweep",
        "command": provenance.command,
        "host": provenance.host,
        "num_workloads": str(len(spec.workloads)),
        "num_arms": str(len(spec.arms)),
        NOTE: spec.description,
    }
    return Facts(spec.name, _params(plain), _cleaned(tags))


def trial_facts(record: SweepRecord, config: TrialConfig) -> Facts:
    """Describe a trial's run. It repeats the sweep's tags, since stores search runs one by one."""
    plain = {
        **config.training.model_dump(mode="json", exclude_none=True),
        **config.method.model_dump(mode="json", exclude_none=True),
    }
    tags = {
        **_sweep_tags(record),
        TRIAL_ID: config.trial_id,
        "trial_id": config.trial_id,
        "configuration_id": config.configuration_id,
        "workload": config.workload,
        "arm": config.arm,
        "arm_kind": config.method.kind,
        "study": config.study,
        "phase": config.phase,
        "seed": str(config.seeds[0]),
        "objective": f"{config.objective.mode} {config.objective.metric}",
    }
    if config.number is not None:
        tags["number"] = str(config.number)
        if record.spec.search.replicates > 1:
            tags["replicate"] = str(config.replicate + 1)
        if record.spec.is_shared(config.arm):
            tags |= {"setting": str(config.number), "search": record.spec.search_of(config.workload, config.arm)}
    if config.origin is not None:
        tags["origin"] = config.origin
    return Facts(_trial_name(record, config), _params(plain), _cleaned(tags), _data_facts(config.training.data))


def run_end(record: SweepRecord, result: TrialResult | None, num_rows: int = 0) -> RunEnd:
    """Describe the end of a trial's run; a trial without a result was cut off after so many rows."""
    tags = {COMPLETE: fingerprint(result, num_rows)}
    if result is None:
        return RunEnd("KILLED", None, (), tags | {"state": "cut off"})
    tags["state"] = result.state.value
    if result.by_user:
        tags["ended_by"] = "user"
    is_diverged = any(seed.outcome == "diverged" for seed in result.seeds)
    if result.failure is not None:
        tags |= {"failure": result.failure.kind, "failure_message": result.failure.message}
        tags[NOTE] = _failure_note(result)
        is_diverged |= result.failure.kind == "diverged"
    if result.seeds:
        reached = "not reached" if result.seeds[0].steps_to_target is None else "reached"
        tags["target"] = f"{reached} before it was stopped" if result.state is TrialState.PRUNED else reached
    if is_diverged:
        tags["diverged"] = "true"
    if result.machine is not None:
        machine = result.machine
        tags |= {"device": machine.device, "host": machine.host, "num_threads": str(machine.num_threads)}
        tags |= {f"version.{name}": version for name, version in machine.versions.items()}
    if result.code is not None:
        tags |= _code_tags(result.code)
    tags |= {f"sha256.{name}": digest for name, digest in result.files.items()}
    points = list(summary_points(record, result, is_diverged=is_diverged))
    return RunEnd(STATUS_OF[result.state], round(result.ended_at * 1000), points, _cleaned(tags))


def _sweep_tags(record: SweepRecord) -> dict[str, str]:
    provenance = record.provenance
    tags = {
        SWEEP_ID: sweep_id(record),
        "sweep": record.spec.name,
        "spec": record.spec.identity,
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": provenance.command,
        **{f"version.{name}": version for name, version in provenance.versions.items()},
    }
    for code in provenance.codes[:1]:
        tags |= _code_tags(code)
    return tags


def _code_tags(code: Code) -> dict[str, str]:
    tags = {"code": code.source}
    if code.commit is not None:
        tags |= {"git_commit": code.commit, "mlflow.source.git.commit": code.commit}
    if code.changes is not None:
        tags["git_dirty"] = str(bool(code.changes)).lower()
    return tags


def _trial_name(record: SweepRecord, config: TrialConfig) -> str:
    if config.phase == "search":
        is_one_of_many = record.spec.is_shared(config.arm) or len(record.spec.search.seeds) > 1
        return f"{config.study} {config.place}{f' seed {config.seeds[0]}' if is_one_of_many else ''}"
    # The best candidates of an arm share their seeds, so their names need the configuration too.
    is_one_of_many = record.spec.confirm.top_k > 1 or len(record.spec.confirm.candidates) > 1
    which = f" of {config.configuration_id[:6]}" if is_one_of_many else ""
    return f"{config.study} {config.phase} seed {config.seeds[0]}{which}"


def _failure_note(result: TrialResult) -> str:
    assert result.failure is not None
    # Markdown shows indented text as code whatever it holds, whereas text could close a fence around it.
    lines = f"{result.failure.message}\n{result.failure.traceback}".splitlines()
    return f"The trial failed: {result.failure.kind}\n\n" + "\n".join(f"    {line}" for line in lines)


def _data_facts(options: DataOptions) -> DataFacts:
    plain = options.model_dump(mode="json", exclude={"batch_size", "root"})
    return DataFacts(options.name, digest(plain), clean(json.dumps(plain, ensure_ascii=False), MAX_PARAM))


def _params(plain: Mapping[str, Json]) -> dict[str, str]:
    return {key[:250]: clean(text, MAX_PARAM) for key, text in _leaves(plain, "")}


def _leaves(plain: Mapping[str, Json], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield each leaf with its dotted path; a list is a leaf, as it is in the YAML."""
    for name, value in plain.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cleaned(tags: Mapping[str, str]) -> dict[str, str]:
    return {clean_key(key): clean(value) for key, value in tags.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container may run a user who is in no passwd file
