"""The code that ran is told by commit, changes and hashes of files, and two codes are compared in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.home.code import changes_here, code_here, difference
from orchestrator.home.records import Code

ONE = Code(commit="a" * 40, changes="", source="1" * 16, plugins={"mine": "2" * 16})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository with the same packages, whose code asks what it is."""
    for package in ("orchestrator/home", "orchestrator/report", "teleport_engine"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "part.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    (tmp_path / "orchestrator/home/code.py").write_text("")
    git(tmp_path, "add", ".")
    commit(tmp_path)
    return tmp_path


def git(where: Path, *arguments: str) -> str:
    named = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *named, *arguments], cwd=where, check=True, capture_output=True, text=True).stdout


def commit(where: Path) -> None:
    git(where, "commit", "-qam", "x")


def asked(checkout: Path, function: str = "code_here().model_dump_json()") -> str:
    """Ask in a process of its own, because a process asks once."""
    program = (
        "import orchestrator.home.code as code, pathlib, sys\n"
        "code.ROOT = pathlib.Path(sys.argv[1]); code.__file__ = str(code.ROOT / 'orchestrator/home/code.py')\n"
        f"print(code.{function})"
    )
    done = subprocess.run([sys.executable, "-c", program, str(checkout)], check=True, capture_output=True, text=True)
    return done.stdout


def code_of(checkout: Path) -> Code:
    return Code.model_validate_json(asked(checkout))


def test_the_code_of_this_process_is_the_same_whoever_asks() -> None:
    assert code_here() == code_here(())
    assert not difference(code_here(), code_here())
    assert (changes_here() == b"") == (not code_here().changes)


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    found = code_of(checkout)
    assert (found.commit, found.changes) == (git(checkout, "rev-parse", "HEAD").strip(), "")
    assert found.in_words == f"commit {found.commit}"


def test_a_change_of_what_results_depend_on_is_other_code_and_its_difference_is_kept(checkout: Path) -> None:
    before = code_of(checkout)
    (checkout / "teleport_engine/part.py").write_text("x = 2\n")
    after = code_of(checkout)
    assert after.changes
    assert "+x = 2" in asked(checkout, "changes_here().decode()")
    assert difference(before, after) == f"teleport (it was {before.in_words}, is {after.in_words})"
    assert f"with uncommitted changes {after.changes}" in after.in_words


def test_a_new_file_is_a_change_too(checkout: Path) -> None:
    before = code_of(checkout)
    (checkout / "orchestrator/home/new.py").write_text("y = 3\n")
    assert difference(before, code_of(checkout))
    assert "+y = 3" in asked(checkout, "changes_here().decode()")


def test_what_only_shows_results_may_change(checkout: Path) -> None:
    before = code_of(checkout)
    (checkout / "orchestrator/report/part.py").write_text("x = 2\n")
    after = code_of(checkout)
    assert after.changes, "the change is told"
    assert not difference(before, after), "and it is no other code"


def test_a_commit_that_changes_nothing_of_the_packages_is_the_same_code(checkout: Path) -> None:
    before = code_of(checkout)
    (checkout / "README.md").write_text("read me\n")
    git(checkout, "add", ".")
    commit(checkout)
    assert not difference(before, code_of(checkout))


def test_without_a_repository_the_files_name_the_code(checkout: Path) -> None:
    with_git = code_of(checkout)
    (checkout / ".git").rename(checkout / "elsewhere")
    found = code_of(checkout)
    assert (found.commit, found.changes) == (None, None)
    assert found.source == with_git.source
    assert found.in_words == f"no known commit, files {found.source}"


def test_plugins_are_compared_where_both_codes_have_them() -> None:
    other = ONE.model_copy(update={"plugins": {"mine": "3" * 16, "theirs": "4" * 16}})
    assert difference(ONE, other) == f"plug-in mine (its files were {'2' * 16}, are {'3' * 16})"
    assert not difference(ONE, ONE.model_copy(update={"plugins": {"theirs": "4" * 16}}))
