"""What the page was started with; it is read from the environment, which no other user of the machine sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

HOME = "TELEPORT_HOME"
TRACKING_URI = "MLFLOW_TRACKING_URI"
UI = "TELEPORT_UI"
PASSWORD = "TELEPORT_DASHBOARD_PASSWORD"


@final
@dataclass(frozen=True)
class Settings:
    """What the page was started with.

    Args:
        home: directory that holds the sweeps.
        tracking_uri: address of the MLflow store that the sweeps went to.
        ui: where ``teleport ui`` shows a store that is no server.
        password: what everyone is asked for; empty: nobody is asked.
    """

    home: Path
    tracking_uri: str
    ui: str
    password: str

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from an environment."""
        home = Path(environment.get(HOME) or "runs").absolute()
        return cls(
            home=home,
            tracking_uri=environment.get(TRACKING_URI) or f"sqlite:///{home / 'mlflow.db'}",
            ui=environment.get(UI) or "http://127.0.0.1:5000",
            password=environment.get(PASSWORD, ""),
        )
