"""The report as PDF: the page, printed by a headless Chromium.

A browser prints the page itself with its own print style, so there is no second layout to keep in step with it, as
there would be with matplotlib or reportlab. Whoever wants no PDF has nothing to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from orchestrator.errors import TeleportError
from orchestrator.report.html import render_html
from orchestrator.report.schema import JointReport, Report

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAX_SECONDS = 240
# How many milliseconds the page's own clock may run before it is printed; it stops sooner when everything is drawn.
DRAWING = 30_000


class PrintingError(TeleportError):
    """No browser was found, or it did not print."""


def render_pdf(report: Report | JointReport) -> bytes:
    """Print the page.

    Raises:
        PrintingError: there is no browser, it failed, or it took longer than four minutes.
    """
    browser = _browser()
    if browser is None:
        raise PrintingError(
            f"pdf takes Chromium or Chrome, and none of {', '.join(PROGRAMS)} is on the PATH; install one (Debian: "
            "apt-get install chromium), or open report.html in a browser and print it"
        )
    with tempfile.TemporaryDirectory(prefix="teleport-pdf-", ignore_cleanup_errors=True) as folder:
        page, printed = Path(folder, "report.html"), Path(folder, "report.pdf")
        page.write_text(render_html(report), encoding="utf-8")
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-first-run",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile",
            f"--virtual-time-budget={DRAWING}",
            f"--print-to-pdf={printed}",
            # Chromium cannot sandbox for root, as in a container; the page is our own and loads nothing.
            *(["--no-sandbox"] if _is_root() else []),
            page.as_uri(),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise PrintingError(f"{browser} did not print the report within {MAX_SECONDS} s") from None
        if not printed.is_file():
            told = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise PrintingError(f"{browser} did not print the report: {told[0]}")
        return printed.read_bytes()


def _browser() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name)) is not None), None)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
