"""Starts the page's server: ``python -m dashboards --server.port 8501``; the settings are in the environment."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from streamlit.web import cli

# Imported before the server listens, so that nobody waits for it, and by one thread: two browsers that come at once
# would each find a half-imported pandas.
FIRST = ("pandas", "plotly.graph_objects", "plotly.io", "plotly.tools", "dashboards.app")

FLAGS = (
    "--server.headless=true",
    "--server.fileWatcherType=none",
    "--server.enableStaticServing=false",
    "--browser.gatherUsageStats=false",
    "--client.toolbarMode=viewer",
    "--client.showErrorLinks=false",
    # A page elsewhere that frames this one must not steer it.
    "--client.allowedOrigins=http://127.0.0.1",
    "--logger.hideWelcomeMessage=true",
    "--logger.level=error",
)


def main() -> None:
    """Run until the process is ended."""
    for module in FIRST:
        importlib.import_module(module)
    cli.main(["run", str(Path(__file__).with_name("app.py")), *FLAGS, *sys.argv[1:]], prog_name="streamlit")


if __name__ == "__main__":
    main()
