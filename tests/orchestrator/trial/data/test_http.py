from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.trial.data.http import check_answers, get
from orchestrator.trial.data.releases import Published
from tests.orchestrator.trial.data.mirror import Mirror, serving

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "set.gz").write_bytes(CONTENT)
    (tmp_path / "here").mkdir()
    with serving(tmp_path / "mirror") as mirror:
        yield mirror


def bring(tmp_path: Path, *urls: str, md5: str = MD5) -> Path:
    return get(Published("set.gz", urls, md5), tmp_path / "here", lambda *state: None)


def test_brings_a_file_and_says_how_far_it_is(tmp_path: Path, mirror: Mirror) -> None:
    states: list[tuple[str, int, int | None]] = []
    published = Published("set.gz", (f"{mirror.url}set.gz",), MD5)
    path = get(published, tmp_path / "here", lambda *state: states.append(state))
    assert path.read_bytes() == CONTENT
    assert states[0] == ("set.gz", 0, len(CONTENT))
    assert states[-1] == ("set.gz", len(CONTENT), len(CONTENT))
    assert [each.name for each in (tmp_path / "here").iterdir()] == ["set.gz"]
    # What is here and whole is not asked for again.
    get(published, tmp_path / "here", lambda *state: None)
    assert len(mirror.asked) == 1


def test_goes_on_where_the_connection_was_cut(tmp_path: Path, mirror: Mirror) -> None:
    mirror.cut_after, mirror.num_cuts = 300_000, 3
    assert bring(tmp_path, f"{mirror.url}set.gz").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_goes_on_where_an_earlier_call_ended(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "here" / "set.gz.part").write_bytes(CONTENT[:1000])
    assert bring(tmp_path, f"{mirror.url}set.gz").read_bytes() == CONTENT
    assert mirror.asked == [("/set.gz", "bytes=1000-")]


def test_a_part_that_is_already_whole_is_taken(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "here" / "set.gz.part").write_bytes(CONTENT)
    assert bring(tmp_path, f"{mirror.url}set.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"another beginning", CONTENT + b"and more"], ids=["other", "longer"])
def test_a_part_of_something_else_is_begun_again(tmp_path: Path, mirror: Mirror, part: bytes) -> None:
    (tmp_path / "here" / "set.gz.part").write_bytes(part)
    assert bring(tmp_path, f"{mirror.url}set.gz").read_bytes() == CONTENT
    assert mirror.asked[-1] == ("/set.gz", None)


def test_a_server_without_ranges_sends_all_of_it_again(tmp_path: Path, mirror: Mirror) -> None:
    mirror.has_ranges, mirror.cut_after, mirror.num_cuts = False, 300_000, 1
    assert bring(tmp_path, f"{mirror.url}set.gz").read_bytes() == CONTENT


def test_a_server_that_always_cuts_off_at_the_same_place_is_given_up_and_the_part_kept(
    tmp_path: Path, mirror: Mirror
) -> None:
    mirror.has_ranges, mirror.cut_after, mirror.num_cuts = False, 300_000, 100
    with pytest.raises(RuntimeError, match=r"set\.gz: cut off after 300000 of 1048576 bytes"):
        bring(tmp_path, f"{mirror.url}set.gz")
    assert (tmp_path / "here" / "set.gz.part").stat().st_size == 300_000
    assert len(mirror.asked) < 10


def test_wrong_bytes_are_refused_and_the_next_address_is_tried(tmp_path: Path, mirror: Mirror) -> None:
    (mirror.folder / "other.gz").write_bytes(b"other")
    assert bring(tmp_path, f"{mirror.url}other.gz", f"{mirror.url}none.gz", f"{mirror.url}set.gz").exists()
    with pytest.raises(RuntimeError, match=rf"other\.gz: what came has the md5 \w+, expected {'0' * 32}; .*404"):
        bring(tmp_path, f"{mirror.url}other.gz", f"{mirror.url}none.gz", md5="0" * 32)
    assert not (tmp_path / "here" / "set.gz.part").exists()


def test_a_server_that_is_not_there_is_named(tmp_path: Path, mirror: Mirror) -> None:
    with pytest.raises(RuntimeError, match=r"http://127\.0\.0\.1:9/set\.gz: no network to"):
        bring(tmp_path, "http://127.0.0.1:9/set.gz")


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(RuntimeError, match=r"no (answer from|network to) http://127"):
            check_answers(url, seconds=0.2)


def test_looking_up_a_name_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver knows no timeout."""
    released = threading.Event()

    def never_resolved(request: object, timeout: float) -> None:
        released.wait(20.0)
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", never_resolved)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no answer from http://mirror/ in 0\.1 s"):
        check_answers("http://mirror/", seconds=0.1)
    assert time.monotonic() - started < 10.0
    released.set()
