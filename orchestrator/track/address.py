"""The address of a store: a tracking URI that is checked before anything is started."""

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
    """The address of a store.

    Args:
        uri: as MLflow takes it, with the user's credentials if there are any.
        file: of a SQLite store; None for all others.
    """

    uri: str
    file: Path | None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read the tracking URI of SQLite, PostgreSQL or an MLflow server; a relative file is made absolute.

        Raises:
            UserError: the URI is none of these.
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
        """Whether the store is a database without an MLflow server in front of it."""
        return not self.uri.lower().startswith("http")

    @property
    def artifact_root(self) -> Path | None:
        """The directory for a SQLite store's artifacts, which lies beside its file."""
        return None if self.file is None else self.file.parent / "mlartifacts"

    @property
    def shown(self) -> str:
        """The address without credentials, for people and logs."""
        return redact(self.uri)


def _postgres_driver() -> str:
    """Choose the module of an installed driver, since SQLAlchemy takes a bare ``postgresql://`` for psycopg 3.

    Raises:
        UserError: no driver is installed.
    """
    for module in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(module) is not None:
            return module
    raise UserError("--tracking-uri: PostgreSQL needs a driver: pip install 'psycopg[binary]'")
