"""Tells which code runs here: the commit, what differs from it, and hashes of the files that results depend on."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.home.records import Code
from orchestrator.spec import plugins

ROOT = Path(__file__).resolve().parents[2]
# What shows results and does not make them may change while a sweep runs.
SHOWING = frozenset({"__main__.py", "cli", "report", "track"})
DIGITS = 16


def code_here(plugin_names: Iterable[str] = ()) -> Code:
    """Tell which code runs in this process, as it was when the process first asked.

    Args:
        plugin_names: modules of the plug-ins that the sweep needs, all of them loaded.
    """
    commit, changes = _commit_and_changes()
    return Code(
        commit=commit,
        changes=None if changes is None else _digest(changes) if changes else "",
        source=_source(),
        plugins={name: _source_of_plugin(name) for name in plugin_names},
    )


def changes_here() -> bytes:
    """Return what differs from the commit in the packages that results depend on, as git writes it; empty: nothing."""
    return _commit_and_changes()[1] or b""


def difference(before: Code, now: Code) -> str:
    """Say in which parts two codes differ; empty where both are the same code as far as both tell."""
    parts = []
    if before.source != now.source:
        parts.append(f"teleport (it was {before.in_words}, is {now.in_words})")
    for name in sorted(before.plugins.keys() & now.plugins.keys()):
        then, here = before.plugins[name], now.plugins[name]
        if then != here:
            parts.append(f"plug-in {name} (its files were {then}, are {here})")
    return "; ".join(parts)


@functools.cache
def _source() -> str:
    packages = [ROOT / "teleport_engine", *(ROOT / "orchestrator").iterdir()]
    kept = [path for path in packages if path.name not in SHOWING]
    return _digest_of_files(ROOT, kept)


@functools.cache
def _source_of_plugin(name: str) -> str:
    code = Path(plugins.code_of(name))
    return _digest_of_files(code.parent, [code])


def _digest_of_files(root: Path, places: Iterable[Path]) -> str:
    """Hash the Python files among and below these places, with their names relative to ``root``."""
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    found = hashlib.sha256()
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files if file.suffix == ".py"):
        found.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:DIGITS]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


@functools.cache
def _commit_and_changes() -> tuple[str | None, bytes | None]:
    """Ask git; both are None where this code lies in no repository that tracks it."""
    # Code that is installed in another project's environment may lie in a repository that does not track it.
    if _git("ls-files", "--error-unmatch", Path(__file__).relative_to(ROOT).as_posix()) is None:
        return None, None
    commit = _git("rev-parse", "HEAD")
    packages = ("orchestrator", "teleport_engine")
    changes = _git("diff", "--no-ext-diff", "--binary", "HEAD", "--", *packages)
    new = _git("ls-files", "--others", "--exclude-standard", "--", *packages)
    if commit is None or changes is None or new is None:
        return None, None
    added = (_git("diff", "--no-index", "--no-ext-diff", "--", "/dev/null", name, codes=(0, 1)) for name in _lines(new))
    return commit.decode().strip(), changes + b"".join(filter(None, added))


def _lines(output: bytes) -> list[str]:
    return output.decode(errors="surrogateescape").splitlines()


def _git(*arguments: str, codes: Sequence[int] = (0,)) -> bytes | None:
    """Run git where this code lies, or return None if it does not answer or ends with another exit code."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode in codes else None
