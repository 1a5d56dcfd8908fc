"""A server on this machine that knows ranges, and may be told to misbehave."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Mirror:
    """What is served and what was asked.

    Args:
        folder: of the files.
        cut_after: each answer ends after so many bytes of it; None: none is cut off.
        num_cuts: how many answers are cut off.
        has_ranges: whether it knows ranges.
        asked: path and range of each GET.
    """

    folder: Path
    url: str = ""
    cut_after: int | None = None
    num_cuts: int = 0
    has_ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Mirror]:
    mirror = Mirror(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            mirror.asked.append((self.path, wanted))
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and mirror.has_ranges else 0
            if wanted and mirror.has_ranges and first >= len(content):
                self.send_error(416)
                return
            rest = content[first:]
            self.send_response(206 if wanted and mirror.has_ranges else 200)
            if wanted and mirror.has_ranges:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if mirror.cut_after is not None and mirror.num_cuts > 0:
                mirror.num_cuts -= 1
                rest = rest[: mirror.cut_after]
            self.wfile.write(rest)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()
