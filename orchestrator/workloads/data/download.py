"""Getting FashionMNIST through torchvision: bounded in time, and whole or not at all."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator.errors import DataNotFound
from orchestrator.workloads.data.locate import FASHION_MNIST_FILES

# A name that does not resolve can take minutes to say so: the answer is waited for no longer than this.
ANSWER_SECONDS = 8.0
# Silence in the middle of a download.
READ_SECONDS = 20.0

Fetch = Callable[[Path], None]


def download_fashion_mnist(target: Path, fetch: Fetch | None = None) -> Path:
    """Download into ``TARGET/FashionMNIST/raw``, as torchvision lays it out, its checksums checked.

    The files come into a directory beside their place first and move there by one rename, so that a root is
    never half written, whenever this is cut off, and two workers that download at once do not meet.

    Args:
        target: the data root; made where it does not exist.
        fetch: downloads into a root in torchvision's layout; None: torchvision.

    Returns:
        The folder with the files.

    Raises:
        DataNotFound: no network, no space, no permission, or what came is not what was expected.
    """
    folder = target / "FashionMNIST" / "raw"
    made = [path for path in (folder.parent, target) if not path.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder.parent))
    except OSError as error:
        raise DataNotFound(f"cannot write to {folder.parent} ({error.strerror or error})") from error
    try:
        (fetch or _fetch_by_torchvision)(staging)
        _move_in(staging / "FashionMNIST" / "raw", folder)
    except (OSError, RuntimeError) as error:
        raise DataNotFound(f"the download into {target} failed: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_if_empty(made)
    return folder


def _move_in(arrived: Path, folder: Path) -> None:
    missing = [name for name in FASHION_MNIST_FILES if not (arrived / name).is_file()]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} did not come")
    try:
        os.replace(arrived, folder)
    except OSError:
        # Another worker was faster, and by the same rename: what is there is whole.
        if not all((folder / name).is_file() for name in FASHION_MNIST_FILES):
            raise


def _remove_if_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _fetch_by_torchvision(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    check_answers(FashionMNIST.mirrors[0])
    with _socket_timeout(READ_SECONDS):
        FashionMNIST(str(root), download=True)


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
        request = urllib.request.Request(url, method="HEAD")
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


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Torchvision opens its connections without a timeout; this is the one it then gets."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
