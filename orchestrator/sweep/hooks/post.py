"""A script that posts its standard input to the URL in ``$TELEPORT_WEBHOOK``.

It runs as its own process because a process can be killed: no socket timeout bounds a name that does not resolve or an
answer that comes byte by byte. It imports only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from typing import IO, Any, final

VARIABLE = "TELEPORT_WEBHOOK"


@final
class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because events must go to the given address only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def post(url: str, body: bytes) -> str:
    """Post JSON; return what went wrong, or nothing where the server answered with success."""
    headers = {"Content-Type": "application/json", "User-Agent": "teleport"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            hint = "; redirects are not followed, write the address it leads to" if 300 <= error.code < 400 else ""
            return f"the server answered {error.code} {error.reason}{hint}"
    except urllib.error.URLError as error:
        return f"no answer: {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(post(os.environ.pop(VARIABLE), sys.stdin.buffer.read()) or 0)
