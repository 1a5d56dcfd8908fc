"""Where a store is: a tracking URI, checked and made absolute before anything is started."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from orchestrator.errors import UserError
from orchestrator.track.text import redact

_KNOWN = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, http://HOST:PORT or https://HOST"


@final
@dataclass(frozen=True)
class Address:
    """A store's address.

    Args:
        uri: as MLflow takes it; holds credentials where the user gave some.
        file: of a SQLite store; None for every other.
    """

    uri: str
    file: Path | None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a tracking URI.

        Args:
            uri: of SQLite, PostgreSQL or an MLflow server.

        Returns:
            The address; a relative SQLite file is made absolute, for workers run elsewhere.

        Raises:
            UserError: it is none of these.
        """
        scheme, separator, rest = uri.partition("://")
        dialect, _, driver = scheme.lower().partition("+")
        if not separator or not rest or any(character.isspace() for character in scheme):
            raise UserError(f"--tracking-uri: {redact(uri)!r} is no store's address; give {_KNOWN}")
        if dialect in ("http", "https") and not driver:
            return cls(uri, None)
        if dialect == "sqlite":
            return cls._sqlite(rest, uri)
        if dialect in ("postgresql", "postgres"):
            return cls(f"postgresql+{driver or _postgres_driver()}://{rest}", None)
        raise UserError(f"--tracking-uri: {redact(uri)!r} is of an unknown kind; give {_KNOWN}")

    @classmethod
    def _sqlite(cls, rest: str, uri: str) -> Self:
        path, _, query = rest.removeprefix("/").partition("?")
        if not rest.startswith("/") or not path or path == ":memory:":
            raise UserError(f"--tracking-uri: {uri!r} names no file; give sqlite:///FILE")
        file = Path(path).absolute()
        return cls(f"sqlite:///{file}{'?' if query else ''}{query}", file)

    @property
    def is_database(self) -> bool:
        """Whether it is a database without a server in front."""
        return not self.uri.lower().startswith("http")

    @property
    def artifact_root(self) -> Path | None:
        """Where a SQLite store keeps artifacts: beside its file, never in the current directory."""
        return None if self.file is None else self.file.parent / "mlartifacts"

    @property
    def shown(self) -> str:
        """The address for people and logs, without credentials."""
        return redact(self.uri)


def _postgres_driver() -> str:
    """Choose a driver that is installed: a bare ``postgresql://`` means psycopg 3 to SQLAlchemy 2.1.

    Returns:
        Its module.

    Raises:
        UserError: none is installed.
    """
    for module in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(module) is not None:
            return module
    raise UserError("--tracking-uri: PostgreSQL needs a driver: pip install 'psycopg[binary]'")
