"""The sweep spec: reads YAML into a frozen object, or reports every fault at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from orchestrator.errors import Fault, SpecError, nearest
from orchestrator.spec.confirm_grid import grid_faults
from orchestrator.spec.faults import faults_of
from orchestrator.spec.hooks import HooksOptions
from orchestrator.spec.identity import digest
from orchestrator.spec.options import COSTS, WORKLOADS, Options, StoppingOptions
from orchestrator.spec.parse import Parsed, fixed, merged, parse
from orchestrator.spec.phases import ALL, Confirm, Search, SharedScope
from orchestrator.spec.points_file import read_points
from orchestrator.spec.resources import BudgetOptions, CheckpointOptions, Resources, TrackingOptions
from orchestrator.spec.scalars import Name
from orchestrator.spec.sharing import scope_faults, shared_template
from orchestrator.spec.space import Template, path_of
from orchestrator.spec.training import BASELINE, Arm, Workload, target_metrics, unmeasured
from orchestrator.spec.yaml_text import (
    Document,
    KeyPath,
    dotted,
    out_of_reach,
    read_file,
    read_text,
    read_value,
    shorten,
)

TELEPORT = "teleport"


def kind_of(template: Template) -> str:
    """Return the kind of an arm: the one key under its label, whatever its settings turn out to be."""
    raw = template.raw
    return next(iter(raw), "baseline") if isinstance(raw, dict) else "baseline"


def source_of(label: str, arms: Mapping[str, Template]) -> str | None:
    """Find the teleport arm whose chosen settings the arm ``label`` takes; None: the arm has all its settings itself.

    Raises:
        ValueError: there is no such arm, it is of another kind, or several could be meant.
    """
    wanted = _wanted(arms[label])
    if not wanted:
        return None
    if len(wanted) > 1:
        raise ValueError("of must be one arm for the whole search, not a distribution")
    (of,) = wanted
    teleports = [name for name, template in arms.items() if kind_of(template) == TELEPORT]
    if of is None:
        if len(teleports) == 1:
            return teleports[0]
        if not teleports:
            raise ValueError("takes its settings from a teleport arm, and the spec has none")
        raise ValueError(
            f"the spec has several teleport arms ({', '.join(teleports)}): name with of the one whose settings it takes"
        )
    if of not in arms:
        raise ValueError(f"of: the spec has no arm {of!r}; {nearest(of, teleports)}")
    if of not in teleports:
        kind = kind_of(arms[of])
        raise ValueError(f"of: {of!r} is of kind {kind} and must be a teleport arm; {nearest(of, teleports)}")
    return of


def _wanted(template: Template) -> set[str | None]:
    """Collect what ``of`` says wherever settings are lacking, over all that the template may become."""
    found: set[str | None] = set()
    for corner in template.corners():
        arm = _arm(template.concretise(corner))
        if arm is not None and arm.follows:
            found.add(getattr(arm.settings, "of", None))
    return found


def _arm(data: Any) -> Arm | None:
    """Validate an arm; None where it is none: that fault is reported elsewhere, with its place."""
    try:
        return Arm.model_validate(data)
    except ValidationError:
        return None


def _unmeasured(metric: str, template: Template) -> set[str]:
    """Say for which of the tasks that a workload may have a curve is not measured."""
    try:
        tasks = [Workload.model_validate(template.concretise(corner)).task for corner in template.corners()]
    except ValidationError:
        # What is wrong with the workload is reported elsewhere, with its place.
        return set()
    return {fault for task in tasks if (fault := unmeasured(metric, task)) is not None}


FIRST_CONFIRM_SEED = 1_000


class SweepSpec(Options):
    """A whole sweep.

    Args:
        version: the version of the spec's format.
        name: the name of the sweep, of its directory and of its MLflow run.
        description: the question that the sweep asks, in a sentence.
        workloads: what is trained, by label.
        arms: how it is trained, by label; ``baseline`` comes first and is there even when it is not written.
        search: the first phase. Where it is left out, ``confirm`` is not, and no value is drawn, nothing is searched.
        confirm: the second phase; where it is left out, the sweep is a plain search.
        resources: what a trial is given.
        checkpoint: how much of a trial may be lost.
        budget: what the sweep may cost at most.
        hooks: what is called when a trial fails and when the sweep ends.
        tracking: what a tracker records beside the results.
    """

    version: Literal[1]
    name: Name
    description: str = ""
    workloads: Annotated[dict[Name, Template], Field(min_length=1)]
    arms: dict[Name, Template]
    search: Search = Search()
    confirm: Confirm = Confirm(seeds=0)
    resources: Resources = Resources()
    checkpoint: CheckpointOptions = CheckpointOptions()
    budget: BudgetOptions = BudgetOptions()
    hooks: HooksOptions = HooksOptions()
    tracking: TrackingOptions = TrackingOptions()

    @model_validator(mode="after")
    def _confirm_seeds_are_fresh(self) -> Self:
        seen = sorted(set(self.confirm_seeds) & set(self.search.all_seeds))
        if seen:
            of = "search.seeds" if set(seen) <= set(self.search.seeds) else "those of its replicates"
            raise ValueError(f"confirm.seeds: must be seeds that the search never saw, but {seen} are in {of}")
        return self

    @model_validator(mode="after")
    def _replicates_can_be_compared(self) -> Self:
        num = self.search.replicates
        if num == 1:
            return self
        if self.confirm.top_k > 1:
            raise ValueError(f"confirm.top_k: each of {num} replicates confirms its best alone, so must be 1")
        if self.confirm.grid == "none" and self.confirm_seeds:
            raise ValueError("confirm.grid: with search.replicates the arms meet on one grid, so must not be none")
        trials, least = self.budget.trials, num * len(self.search.seeds) * self.search.trials * len(self.studies)
        if trials is not None and trials < least:
            raise ValueError(
                f"search.replicates: the searches of {num} replicates take {least:,} trials, and budget.trials is "
                f"{trials:,}; raise the budget, or lower replicates or search.trials"
            )
        return self

    @model_validator(mode="after")
    def _confirms_no_more_than_it_tries(self) -> Self:
        top_k, trials = self.confirm.top_k, self.search.trials
        if top_k > trials > 0:
            raise ValueError(f"confirm.top_k: must be at most search.trials, which is {trials}, and is {top_k}")
        return self

    @model_validator(mode="after")
    def _has_something_to_run(self) -> Self:
        if self.search.trials:
            return self
        if not self.confirm_seeds:
            raise ValueError("search.trials is 0 and no seeds are confirmed, so nothing would run; write confirm: {}")
        if isinstance(self.search.scope, SharedScope):
            raise ValueError("search.scope: shared is a search, and search.trials is 0; leave scope out")
        drawn = [
            f"{label}: {distribution.name}"
            for label, template in (*self.workloads.items(), *self.arms.items())
            for distribution in template.distributions()
        ]
        if drawn:
            raise ValueError(
                f"search.trials is 0, so every value must be fixed, but some are drawn ({', '.join(drawn)}); fix them, "
                "or give the search at least 1 trial"
            )
        return self

    @model_validator(mode="after")
    def _warm_start_is_another(self) -> Self:
        if self.search.warm_start is not None and self.search.warm_start.sweep == self.name:
            raise ValueError(f"search.warm_start.sweep: must be another sweep, is this one ({self.name})")
        return self

    @model_validator(mode="after")
    def _scheduler_judges_by_one_metric(self) -> Self:
        scheduler = self.search.scheduler
        is_timed = self.search.objective.metric in COSTS
        if not isinstance(scheduler, StoppingOptions) or scheduler.metric is not None or not is_timed:
            return self
        for label, workload in self.workloads.items():
            found = target_metrics(workload)
            if len(found) > 1:
                raise ValueError(
                    f"search.scheduler: {scheduler.name} needs one metric to judge by, and the target of {label} may "
                    f"be on {' or '.join(found)}; write one, for example metric: train_loss"
                )
        return self

    @model_validator(mode="after")
    def _tasks_measure_what_is_asked(self) -> Self:
        wanted = {
            "search.objective.metric": self.search.objective.metric,
            **{f"search.also[{i}].metric": objective.metric for i, objective in enumerate(self.search.also)},
        }
        scheduler = self.search.scheduler
        if isinstance(scheduler, StoppingOptions) and scheduler.metric is not None:
            wanted["search.scheduler.metric"] = scheduler.metric
        faults = [
            f"{place}: {fault} (workload {label})"
            for place, metric in wanted.items()
            if metric not in COSTS
            for label, template in self.workloads.items()
            for fault in _unmeasured(metric, template)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @cached_property
    def confirm_seeds(self) -> tuple[int, ...]:
        """The seeds of the confirm phase, none of them a search seed."""
        if isinstance(self.confirm.seeds, tuple):
            return self.confirm.seeds
        taken = set(self.search.all_seeds)
        fresh = (seed for seed in range(FIRST_CONFIRM_SEED, 2**31) if seed not in taken)
        return tuple(next(fresh) for _ in range(self.confirm.seeds))

    @cached_property
    def sources(self) -> dict[str, str]:
        """Label of a control arm -> label of the teleport arm whose chosen settings it takes."""
        found = {label: source_of(label, self.arms) for label in self.arms}
        return {label: source for label, source in found.items() if source is not None}

    def example_of(self, arm: str) -> Arm:
        """Make one of the arms that ``arm`` may become, with all its settings, to see what all have in common."""
        method = _first(self.arms[arm])
        source = self.sources.get(arm)
        teleport = None if source is None else _first(self.arms[source]).teleport
        return method if teleport is None else method.following(teleport)

    @cached_property
    def corners(self) -> tuple[Workload, ...]:
        """The workloads with every value at one of its bounds, or one of its choices."""
        return tuple(
            Workload.model_validate(template.concretise(corner))
            for template in self.workloads.values()
            for corner in template.corners()
        )

    @cached_property
    def plugins(self) -> tuple[str, ...]:
        """The plug-ins that brought what any workload may become."""
        return tuple(sorted({name for workload in self.corners for name in workload.plugins}))

    @property
    def studies(self) -> list[tuple[str, str]]:
        """Every (workload, arm), workload by workload."""
        return [(workload, arm) for workload in self.workloads for arm in self.arms]

    @property
    def searches(self) -> list[tuple[str, str]]:
        """Every (workload, arm) that has a search of its own; ``*`` stands for all workloads of a shared one."""
        own = [study for study in self.studies if not self.is_shared(study[1])]
        return own + [(ALL, arm) for arm in self.arms if self.is_shared(arm)]

    def is_shared(self, arm: str) -> bool:
        """Tell whether an arm has one search over all workloads."""
        return isinstance(self.search.scope, SharedScope) and arm != BASELINE

    def search_of(self, workload: str, arm: str, replicate: int = 0) -> str:
        """Name the search that an arm's settings on a workload come from, as the journal calls it."""
        which = f"#{replicate + 1}" if replicate else ""
        return f"{ALL if self.is_shared(arm) else workload}/{arm}{which}"

    def space(self, workload: str, arm: str) -> tuple[Template, Template]:
        """Return the templates whose distributions a search tries; the workload counts where the search is its own."""
        return (self._shared_template if self.is_shared(arm) else self.workloads[workload], self.arms[arm])

    @cached_property
    def _shared_template(self) -> Template:
        assert isinstance(self.search.scope, SharedScope)
        return shared_template(self.workloads, self.search.scope)

    @property
    def num_primary(self) -> int:
        """Number of primary comparisons: each teleport arm of each workload against the baseline."""
        return len(self.workloads) * sum(self.example_of(arm).kind == TELEPORT for arm in self.arms)

    @cached_property
    def identity(self) -> str:
        """Hash of all that shapes the results; descriptions, resources, data roots, hooks and the like do not."""
        unshaping = {"description", "resources", "checkpoint", "budget", "hooks", "tracking"}
        plain = self.model_dump(mode="json", exclude=unshaping, exclude_defaults=True)
        for workload in plain["workloads"].values():
            workload["data"].pop("root", None)
        return digest(plain)

    def to_yaml(self) -> str:
        """Write the spec as YAML that reads back to an equal spec."""
        return dump_yaml(self.model_dump(mode="json", exclude_unset=True))


def _first(template: Template) -> Arm:
    return Arm.model_validate(template.concretise(template.corners()[0]))


class _Dumper(yaml.SafeDumper):
    """Writes short lists of plain values on one line, and floats so that YAML 1.1 and 1.2 agree on them."""


def _list(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
    plain = not any(isinstance(item, dict | list | tuple) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)
_Dumper.add_representer(float, _float)


def dump_yaml(data: object) -> str:
    """Write plain data as YAML that people can read and edit; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def load_spec(path: Path, overrides: Sequence[str] = (), *, name: str | None = None) -> SweepSpec:
    """Read a spec from a file.

    Args:
        path: the YAML file.
        overrides: ``KEY=VALUE`` with a dotted key and a YAML value, as ``--set`` gives them.
        name: replaces the sweep's name in the file.

    Raises:
        SpecError: every fault that was found, each with file, line and key path.
    """
    return parse_spec(read_file(path), overrides, name=name)


def spec_from_text(text: str, source: str = "<text>", overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a spec from YAML text; like :func:`load_spec`."""
    return parse_spec(read_text(text, source), overrides)


def parse_spec(document: Document, overrides: Sequence[str] = (), *, name: str | None = None) -> SweepSpec:
    """Check a document and make the spec of it; arguments as in :func:`load_spec`.

    Raises:
        SpecError: every fault that was found, each with its place.
    """
    faults = _override(document, overrides)
    if name is not None:
        document.data["name"] = name
    faults += _expand(document)
    faults += read_points(document)
    faults += [Fault(document.place(path), message) for path, message in out_of_reach(document.data)]
    data = dict(document.data)
    for family, model in (("workloads", Workload), ("arms", Arm)):
        if family == "arms":
            data[family] = _with_baseline(data.get(family))
            document.data[family] = data[family]
        found = data.get(family)
        if isinstance(found, dict):
            data[family], more = _templates(document, family, model)
            faults += more
        if family == "arms" and isinstance(found, dict):
            faults += _source_faults(document, data[family])
    if "search" not in data and "confirm" in data and not faults and not _draws(data):
        data["search"] = {"trials": 0}
    spec: SweepSpec | None = _validated(SweepSpec, data, document.place, faults)
    if not faults and spec is not None:
        found_faults = [
            *scope_faults(spec.workloads, spec.arms, spec.search, spec.confirm),
            *grid_faults(spec.workloads, spec.confirm),
        ]
        faults += [Fault(document.place(path), message) for path, message in found_faults]
    if faults or spec is None:
        raise SpecError(*_unique(faults))
    return spec


def _draws(data: Mapping[str, Any]) -> bool:
    """Tell whether any value of workloads and arms, which are templates by now, is drawn from a distribution."""
    families = (data.get(family) for family in ("workloads", "arms"))
    templates = (template for family in families if isinstance(family, dict) for template in family.values())
    return any(template.distributions() for template in templates)


def _expand(document: Document) -> list[Fault]:
    """Replace the ``name`` of a registered workload by what it holds; the spec's own settings override it."""
    faults = []
    labels = document.data.get("workloads")
    for label, raw in labels.items() if isinstance(labels, dict) else ():
        if isinstance(raw, dict) and "name" in raw:
            own = {key: value for key, value in raw.items() if key != "name"}
            name = raw["name"]
            if isinstance(name, str) and name in WORKLOADS:
                labels[label] = merged(WORKLOADS[name], own)
            else:
                message = f"{shorten(name)} is no registered workload; {nearest(name, WORKLOADS)}; plug-ins bring them"
                faults.append(Fault(document.place(("workloads", label, "name")), message))
    return faults


def _with_baseline(arms: object) -> object:
    """Put the empty arm first, even when it is not written."""
    if arms is None:
        return {BASELINE: {}}
    if not isinstance(arms, dict):
        return arms
    return {BASELINE: arms.get(BASELINE) or {}, **{k: v for k, v in arms.items() if k != BASELINE}}


def _templates(document: Document, family: str, model: type[BaseModel]) -> tuple[dict[str, Template], list[Fault]]:
    templates: dict[str, Template] = {}
    faults: list[Fault] = []
    empty = fixed({})
    for label, raw in document.data[family].items():
        path: KeyPath = (family, label)
        templates[label] = empty
        if not isinstance(raw, dict):
            faults.append(Fault(document.place(path), f"must be a mapping of settings, is {shorten(raw)}"))
            continue
        if family == "workloads" and "name" in raw:
            continue  # no such workload is registered; _expand has reported it
        if family == "arms":
            faults += _kind_faults(document, label, raw)
        parsed = parse(document, path)
        templates[label] = parsed.template
        faults += parsed.faults + _corner_faults(document, parsed, model)
    return templates, faults


def _kind_faults(document: Document, label: str, raw: Mapping[str, Any]) -> list[Fault]:
    """Check that an arm names exactly one kind, and the baseline none."""
    place = document.place(("arms", label))
    if label == BASELINE and raw:
        return [Fault(place, "the baseline arm is the plain optimizer and takes no settings")]
    if label != BASELINE and len(raw) != 1:
        known = ", ".join(sorted(Arm.model_fields))
        return [Fault(place, f"must hold exactly one kind of arm (known: {known}), holds {len(raw)}")]
    return []


def _source_faults(document: Document, arms: Mapping[str, Template]) -> list[Fault]:
    """Check that each control which lacks settings has one teleport arm to take them from."""
    faults = []
    for label in arms:
        try:
            source_of(label, arms)
        except ValueError as error:
            faults.append(Fault(document.place(("arms", label)), str(error)))
    return faults


def _corner_faults(document: Document, parsed: Parsed, model: type[BaseModel]) -> list[Fault]:
    faults: list[Fault] = []
    told = tuple(document.place(path) for path in parsed.broken)
    for corner in parsed.template.corners():
        data, origins = parsed.template.trace(corner)

        def place(path: KeyPath, *, is_key: bool = False, origins: dict[KeyPath, KeyPath] = origins) -> str:
            if is_key:  # a wrong key has one place, however many values it offers
                return document.place((*path_of(origins, path[:-1]), *path[-1:]))
            return document.place(path_of(origins, path))

        _validated(model, data, place, faults)
    return [fault for fault in faults if not fault.place.startswith(told)]


def _validated(model: type[Any], data: object, place: Any, faults: list[Fault]) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults += faults_of(error, model, place)
        return None


def _override(document: Document, overrides: Sequence[str]) -> list[Fault]:
    faults: list[Fault] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            faults.append(Fault("--set", f"must be KEY=VALUE, is {shorten(override)}"))
            continue
        *parents, last = key.split(".")
        node: Any = document.data
        for depth, part in enumerate(parents):
            if isinstance(node, dict):
                node = node.setdefault(part, {})
            if not isinstance(node, dict):
                where = dotted(tuple(parents[: depth + 1]))
                faults.append(Fault(f"--set {shorten(override)}", f"{where} is not a mapping, so it has no keys"))
                break
        else:
            node[last] = read_value(text)
            document.overridden.add((*parents, last))
    return faults


def _unique(faults: list[Fault]) -> list[Fault]:
    """Keep the first of equal faults, in order, since the corners of a space repeat each other's faults."""
    return list(dict.fromkeys(faults))
