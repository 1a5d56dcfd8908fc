"""Runs the mutation tests: ``python -m tests.mutation [--only PART] [--sample N] [--jobs N]``.

Each mutant is tested in a forked process of its own, which inherits the imported libraries, so that it costs little
more than its tests. A mutant is killed when a test fails, or when the tests take far longer than without a fault.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, final

import hypothesis
import pytest

from tests.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
TARGETS = Path(__file__).with_name("targets.toml")
OWN = {"orchestrator", "teleport_engine", "dashboards", "tests"}
LEAST_SHARE = 0.95
# A mutant may take this many times the processor time of the tests without a fault, and some seconds more.
PATIENCE, GRACE = 3, 5
# A mutant may use this many bytes, because some faults make an array grow without end.
MEMORY = 3 << 30


@final
@dataclass(frozen=True)
class Target:
    """A module whose mutants are tested.

    Args:
        module: its path from the root of the repository.
        tests: the paths of the tests that judge it, beside its own doctests.
        equivalent: mutant -> the reason why it changes no behaviour.
    """

    module: str
    tests: tuple[str, ...]
    equivalent: dict[str, str]

    @property
    def name(self) -> str:
        """The module's name in an import statement."""
        return self.module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def targets(only: str) -> list[Target]:
    """Read ``targets.toml``; keep the modules whose path contains ``only``."""
    told = tomllib.loads(TARGETS.read_text())
    equivalent = told.get("equivalent", {})
    found = [
        Target(module, tuple(group["tests"]), equivalent.get(module, {}))
        for group in told["target"]
        for module in group["modules"]
    ]
    unknown = equivalent.keys() - {target.module for target in found}
    if unknown:
        raise SystemExit(f"{TARGETS.name}: equivalent mutants of modules that are no target: {', '.join(unknown)}")
    return [target for target in found if only in target.module]


@final
class _Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module with a fault in it, and leaves all others alone."""

    def __init__(self, target: Target, code: CodeType) -> None:
        self._target, self._code = target, code

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        if fullname != self._target.name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(ROOT / self._target.module))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(ROOT / self._target.module)
        exec(self._code, module.__dict__)


def _test(target: Target, tree: ast.Module | None) -> int:
    """Test a mutant, or the module as it is, in this process; return pytest's exit code."""
    if tree is not None:
        sys.meta_path.insert(0, _Faulty(target, compile(tree, target.module, "exec")))
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=phases)
    options = [
        "-x",
        "-q",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-m",
        "not slow and not gpu",
        "--hypothesis-profile=mutation",
    ]
    return int(pytest.main([*options, *target.tests, target.module]))


def _fork(target: Target, tree: ast.Module | None, seconds: int, scratch: Path) -> int:
    """Start a process that tests a mutant, or the module as it is, and return the process's id.

    Without a fault it writes into the folder ``scratch`` what pytest printed, and which modules were imported.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        output = os.open(os.devnull if tree else scratch / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        code = _test(target, tree)
        if tree is None:
            (scratch / "modules").write_text(json.dumps(list(sys.modules)))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)


def _measure(target: Target) -> int:
    """Test a module as it is, import the libraries that its tests use, and return a mutant's limit in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _, status = os.waitpid(_fork(target, None, 600, Path(scratch)), 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if status:
            raise SystemExit(f"{target.module}: its tests fail as it is:\n{(Path(scratch) / 'output').read_text()}")
        for name in json.loads((Path(scratch) / "modules").read_text()):
            if name.partition(".")[0] not in OWN and not name.startswith("_"):
                # Some modules can be imported only by their own package.
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return PATIENCE * int(used) + GRACE


def survivors(target: Target, mutants: Sequence[Mutant], jobs: int) -> Iterator[Mutant]:
    """Test the mutants of a module, ``jobs`` at a time, and yield those that no test notices."""
    seconds = _measure(target)
    running: dict[int, Mutant] = {}
    with tempfile.TemporaryDirectory() as scratch:
        waiting = list(reversed(mutants))
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                running[_fork(target, mutant.tree, seconds, Path(scratch))] = mutant
            child, status = os.wait()
            ended = running.pop(child)
            if status == 0:
                yield ended


def sampled(mutants: Sequence[Mutant], size: int | None) -> Sequence[Mutant]:
    """Draw so many mutants, the same ones in every run of the same code; None keeps all."""
    if size is None or len(mutants) <= size:
        return mutants
    # A changed line changes few of the draws, because each mutant's own name decides about it.
    return sorted(mutants, key=lambda mutant: random.Random(mutant.name).random())[:size]


def judge(target: Target, sample: int | None, jobs: int) -> tuple[int, int]:
    """Test a module, print what its tests do not notice, and return how many mutants were killed, and of how many.

    Equivalent mutants are not counted. One that a test kills, or that does not exist, is a survivor of the list itself.
    """
    mutants = sampled(list(mutants_of((ROOT / target.module).read_text())), sample)
    found = sorted(survivors(target, mutants, jobs), key=lambda mutant: mutant.line)
    missed = [mutant for mutant in found if mutant.name not in target.equivalent]
    is_all = sample is None or len(mutants) < sample
    tested = target.equivalent.keys() if is_all else {mutant.name for mutant in mutants} & target.equivalent.keys()
    stale = tested - {mutant.name for mutant in found}
    total = len(mutants) - (len(found) - len(missed))
    print(
        f"{target.module}: {total - len(missed)} of {total} killed, {len(found) - len(missed)} equivalent", flush=True
    )
    for mutant in missed:
        print(f"  survives, line {mutant.line}: {mutant.name}", flush=True)
    for name in sorted(stale):
        print(f"  no longer survives, and is to leave {TARGETS.name}: {name}", flush=True)
    return total - len(missed) - len(stale), total


def main() -> int:
    """Test the targets, and return 1 where fewer than 95 % of all their mutants are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="test only modules whose path contains this")
    parser.add_argument("--sample", type=int, metavar="N", help="test at most so many mutants of each module")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants tested at a time")
    parsed = parser.parse_args()
    os.chdir(ROOT)
    chosen = targets(parsed.only)
    if not chosen:
        raise SystemExit(f"no target has {parsed.only!r} in its path; {TARGETS.name} lists the targets")
    counts = {target.module: judge(target, parsed.sample, parsed.jobs) for target in chosen}
    killed, total = map(sum, zip(*counts.values(), strict=True))
    print(f"{killed} of {total} mutants killed; at least {LEAST_SHARE:.0%} must be")
    return int(killed < LEAST_SHARE * total)


if __name__ == "__main__":
    sys.exit(main())
