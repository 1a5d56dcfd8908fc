"""Getting one file over HTTP: bounded in time, resumed where it was cut off, believed by its checksum alone."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from orchestrator.trial.data.releases import Published, md5_of

# A name that does not resolve can take minutes to say so: the answer is waited for no longer than this.
ANSWER_SECONDS = 8.0
# Silence in the middle of a download.
READ_SECONDS = 20.0
BLOCK = 1 << 18
# Cut-offs in a row that bring nothing new; as long as bytes come, it goes on.
MAX_IDLE_TRIES = 3
HEADERS = {"User-Agent": "teleport", "Accept-Encoding": "identity"}

# Takes the file's name, the bytes that are here, and how many there will be (None: unknown).
Watch = Callable[[str, int, int | None], None]


class CutOff(Exception):
    """The connection ended before the file did."""


def get(published: Published, folder: Path, watch: Watch) -> Path:
    """Download a file into a folder; what came of it before is kept as ``NAME.part`` and gone on with.

    Args:
        published: the file, its addresses and its md5.
        folder: for the file, while it comes and after.
        watch: is told how far it is.

    Returns:
        The file, its checksum checked.

    Raises:
        RuntimeError: no address has it; the message says what became of each.
    """
    path, part = folder / published.name, folder / f"{published.name}.part"
    if path.is_file() and md5_of(path) == published.md5:
        return path
    troubles = []
    for url in published.urls:
        try:
            check_answers(url)
            _complete(url, part, published, watch)
        except (OSError, RuntimeError, CutOff, http.client.HTTPException) as error:
            troubles.append(f"{url}: {error}")
        else:
            part.replace(path)
            return path
    raise RuntimeError("; ".join(troubles))


def _complete(url: str, part: Path, published: Published, watch: Watch) -> None:
    """Bring a part to its end and check it; one that was begun before and proves wrong is begun again once."""
    was_begun = part.is_file()
    _to_the_end(url, part, published.name, watch)
    found = md5_of(part)
    if found != published.md5 and was_begun:
        part.unlink()
        _to_the_end(url, part, published.name, watch)
        found = md5_of(part)
    if found != published.md5:
        part.unlink()
        raise RuntimeError(f"what came has the md5 {found}, expected {published.md5}")


def _to_the_end(url: str, part: Path, name: str, watch: Watch) -> None:
    num_idle = 0
    while True:
        before = _size(part)
        try:
            return _continue(url, part, name, watch)
        except urllib.error.HTTPError:
            raise
        except (CutOff, OSError, http.client.HTTPException):
            num_idle = num_idle + 1 if _size(part) <= before else 0
            if num_idle >= MAX_IDLE_TRIES:
                raise


def _continue(url: str, part: Path, name: str, watch: Watch) -> None:
    done = _size(part)
    request = urllib.request.Request(url, headers=HEADERS | ({"Range": f"bytes={done}-"} if done else {}))
    try:
        response = urllib.request.urlopen(request, timeout=READ_SECONDS)
    except urllib.error.HTTPError as error:
        # 416: there is nothing after what is here. Whether that is the file, its checksum says.
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            error.close()
            return
        raise
    with response:
        if not _goes_on(response, done):
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None and length.isdigit() else None
        with part.open("r+b" if done else "wb") as file:
            file.seek(done)
            watch(name, done, total)
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                watch(name, done, total)
    if total is not None and done < total:
        raise CutOff(f"cut off after {done} of {total} bytes")


def _goes_on(response: http.client.HTTPResponse, done: int) -> bool:
    """Tell whether an answer begins where the part ends; a server without ranges sends all from the start."""
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    if response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
        return True
    raise CutOff(f"asked for bytes from {done}, got {response.headers.get('Content-Range')!r}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def check_answers(url: str, seconds: float = ANSWER_SECONDS) -> None:
    """Find out in bounded time whether a server answers at all, through whatever proxy the environment names.

    Args:
        url: of the server.
        seconds: to wait, looking up the name included.

    Raises:
        RuntimeError: it does not.
    """
    trouble: list[str] = [f"no answer from {url} in {seconds:g} s"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD", headers=HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                trouble.clear()
        except urllib.error.HTTPError:
            # Some answer, for example 403 to a bare HEAD: the network is there.
            trouble.clear()
        except (OSError, http.client.HTTPException) as error:
            trouble[:] = [f"no network to {url} ({error})"]

    # Looking up a name obeys no timeout: a thread that may be left behind does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if trouble:
        raise RuntimeError(trouble[0])
