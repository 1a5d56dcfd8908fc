"""Makes the space of a search that all workloads of a spec share, and finds what keeps them from sharing one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.errors import nearest
from orchestrator.spec.options import NoSchedulerOptions, WilcoxonOptions
from orchestrator.spec.phases import LR_FACTOR, Confirm, Search, SharedScope
from orchestrator.spec.space import Branch, Choice, Fixed, Items, Located, Node, Range, Template
from orchestrator.spec.training import BASELINE, Workload
from orchestrator.spec.yaml_text import KeyPath

LEARNING_RATE = "optimizer.lr"

# A ratio of these is a share of work; a ratio of losses would depend on where the loss happens to have its zero.
RATIO_METRICS = (
    "steps_to_target",
    "seconds_to_target",
    "gradient_evaluations_to_target",
    "seconds",
    "gradient_evaluations",
)

ScopeFault = tuple[KeyPath, str]


def shared_template(workloads: Mapping[str, Template], scope: SharedScope) -> Template:
    """Make the part of a shared search's space that is not the arm's: common parameters, then the learning-rate factor.

    The workloads must have passed :func:`scope_faults`.
    """
    outer = _outer(next(iter(workloads.values())).root)
    parts = [(name, outer[name]) for name in scope.common if name in outer]
    if scope.lr_factor is not None:
        low, high = scope.lr_factor
        path = ("search", "scope", LR_FACTOR)
        parts.append((LR_FACTOR, Located(Range(LR_FACTOR, low, high, False, True, None), path)))
    return Template(Located(Branch(tuple(parts)), ("search", "scope")), None)


def scope_faults(
    workloads: Mapping[str, Template], arms: Mapping[str, Template], search: Search, confirm: Confirm
) -> Iterator[ScopeFault]:
    """Yield the key path and message of each fault of a spec's scope; the spec must be right in all other respects."""
    scope = search.scope
    if isinstance(scope, SharedScope):
        yield from _search_faults(workloads, search)
        yield from _common_faults(workloads, scope)
        yield from _empty_arms(workloads, arms, scope)
        yield from _one_architecture(workloads, confirm)
        return
    if isinstance(search.scheduler, WilcoxonOptions):
        yield (
            ("search", "scheduler"),
            "wilcoxon compares settings over pairs of workload and seed, and with search.scope: own no setting has "
            "several workloads; write search.scope: shared, or take asha, median or hyperband",
        )
    others = [role for role in confirm.candidates if role != "chosen"]
    if others:
        yield (
            ("confirm", "candidates"),
            f"{' and '.join(others)} need search.scope: shared; with own every choice is a workload's own",
        )


def _search_faults(workloads: Mapping[str, Template], search: Search) -> Iterator[ScopeFault]:
    if len(workloads) < 2:
        yield (
            ("search", "scope"),
            "shared needs at least two workloads, and the spec has one; leave scope out",
        )
    if search.objective.metric not in RATIO_METRICS:
        yield (
            ("search", "objective"),
            f"with search.scope: shared, workloads are compared by ratios to their baselines, and a ratio of "
            f"{search.objective.metric} says nothing; take one of {', '.join(RATIO_METRICS)}",
        )
    if search.also:
        yield (
            ("search", "also"),
            "with search.scope: shared, a setting has one value, the aggregate over the workloads; leave also out",
        )
    if not isinstance(search.scheduler, NoSchedulerOptions | WilcoxonOptions):
        yield (
            ("search", "scheduler"),
            f"{search.scheduler.name} compares the curves of one workload's trials, and with search.scope: shared "
            "a candidate runs on all workloads; take wilcoxon, or none",
        )


def _one_architecture(workloads: Mapping[str, Template], confirm: Confirm) -> Iterator[ScopeFault]:
    models = [template.raw.get("model") for template in workloads.values() if isinstance(template.raw, dict)]
    names = {str(model.get("architecture", model.get("name"))) for model in models if isinstance(model, dict)}
    if "leave_architecture_out" in confirm.candidates and len(names) == 1:
        yield (
            ("confirm", "candidates"),
            f"leave_architecture_out needs workloads of at least two architectures, but all are {names.pop()}; "
            "leave_one_out leaves out one workload",
        )


def _common_faults(workloads: Mapping[str, Template], scope: SharedScope) -> Iterator[ScopeFault]:
    path: KeyPath = ("search", "scope")
    outer = {label: _outer(template.root) for label, template in workloads.items()}
    for name in dict.fromkeys(scope.common):
        found = {label: nodes[name] for label, nodes in outer.items() if name in nodes}
        lacking = [label for label in workloads if label not in found]
        if lacking:
            told = "; ".join(f"{label} {_what_it_has(workloads[label], outer[label], name)}" for label in lacking)
            known = [each for nodes in outer.values() for each in nodes]
            hint = "" if found else f"; {nearest(name, known)}"
            yield (*path, "common"), f"{name} must be a parameter of every workload; {told}{hint}"
            continue
        first = next(iter(found.values()))
        if not all(_is_same(first, node) for node in found.values()):
            told = ", ".join(f"{label} {_told(node)}" for label, node in found.items())
            yield (*path, "common"), f"{name} must have the same range in every workload; has {told}"
    if len(set(scope.common)) < len(scope.common):
        yield (*path, "common"), f"parameters must differ from each other; they are {', '.join(scope.common)}"
    if scope.lr_factor is None:
        return
    tuned = [name for name in scope.common if name in (LEARNING_RATE, "optimizer")]
    if tuned:
        yield (
            (*path, LR_FACTOR),
            f"{tuned[0]} is common already, so the learning rate would be chosen twice; leave one of them out",
        )
    for label, template in workloads.items():
        trained = (Workload.model_validate(template.concretise(corner)) for corner in template.corners())
        without = sorted({one.optimizer.name for one in trained if "lr" not in type(one.optimizer).model_fields})
        if without:
            yield (*path, LR_FACTOR), f"{label}: optimizer {' or '.join(without)} has no lr to multiply"


def _empty_arms(
    workloads: Mapping[str, Template], arms: Mapping[str, Template], scope: SharedScope
) -> Iterator[ScopeFault]:
    """Find the arms whose search would have nothing to choose."""
    if scope.common or scope.lr_factor is not None:
        return
    for arm, template in arms.items():
        if arm != BASELINE and not template.distributions():
            has = "; ".join(f"{label}: {_names(each)}" for label, each in workloads.items())
            yield (
                ("arms", arm),
                f"the arm has no parameter, and the workloads share none, so there is nothing to search; name common "
                f"ones in search.scope.common, or give search.scope.lr_factor. Parameters of {has}",
            )


def _names(template: Template) -> str:
    return ", ".join(each.name for each in template.distributions()) or "none"


def _what_it_has(template: Template, outer: Mapping[str, Node], name: str) -> str:
    choice = next((key for key, node in outer.items() if name in _inner(node)), None)
    if choice is not None:
        return f"has it under {choice} only (name that instead)"
    return f"has {_names(template)}"


def _inner(located: Node) -> set[str]:
    return {each.name for each in Template(located, None).distributions()} - {_name(located)}


def _name(located: Node) -> str:
    assert isinstance(located.node, Range | Choice)
    return located.node.name


def _outer(located: Node) -> dict[str, Node]:
    """Find the parameters that depend on no choice, by name."""
    match located.node:
        case Range(name=name) | Choice(name=name):
            return {name: located}
        case Branch(children=children) | Items(children=children):
            return {name: node for child in children for name, node in _outer(child).items()}
        case Fixed():
            return {}


def _is_same(one: Node, other: Node) -> bool:
    """Tell whether two distributions are alike, wherever they stand in the spec."""
    return _plain(one) == _plain(other)


def _plain(located: Node) -> object:
    match located.node:
        case Choice(name=name, labels=labels, options=options):
            return ["choice", name, [(type(label).__name__, label) for label in labels], list(map(_plain, options))]
        case Branch(items):
            return ["branch", {key: _plain(child) for key, child in items}]
        case Items(children):
            return ["items", list(map(_plain, children))]
        case Fixed(value):
            return ["fixed", type(value).__name__, value]
        case Range() as distribution:
            return distribution


def _told(located: Node) -> str:
    node = located.node
    if isinstance(node, Choice):
        return f"choice {list(node.labels)}"
    assert isinstance(node, Range)
    kind = ("log" if node.is_log else "") + ("int" if node.is_integer else "uniform")
    return f"{kind} [{node.low:g}, {node.high:g}]" + (f" step {node.step:g}" if node.step else "")
