"""The MLflow server on a home's store: what ``teleport ui`` runs.

It listens on this machine alone, unless authentication is on: whoever reaches an open MLflow server can read,
change and delete every run of its store.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.serving import Server, free_port, is_loopback, run_until_interrupted, url_of
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import EXPERIMENT, QUIET
from orchestrator.track.tables import prepare

PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"


def make_server(
    tracking_uri: str,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Make the server of a store.

    Args:
        tracking_uri: of a SQLite file or a PostgreSQL database.
        host: address to listen on; any but this machine's own needs authentication.
        port: to listen on; where it is taken, or is 0, a free one is used.
        environment: instead of this process's; a password in ``MLFLOW_AUTH_ADMIN_PASSWORD`` turns
            authentication on.

    Returns:
        The server, not started.

    Raises:
        UserError: it may not or cannot be started so; the reason says what to do.
    """
    address = Address.parse(tracking_uri)
    if not address.is_database:
        raise UserError(f"--tracking-uri: {address.shown} is a server already; open it in a browser")
    given = dict(os.environ if environment is None else environment)
    has_auth = bool(given.get(PASSWORD))
    if not is_loopback(host) and not has_auth:
        raise UserError(
            f"--host: {host!r} can be reached from other machines, and without authentication anyone there could "
            f"change or delete every run; set {PASSWORD} (user: admin) and install 'mlflow[auth]', or keep to "
            "127.0.0.1 and forward the port with ssh -L"
        )
    if has_auth and importlib.util.find_spec("flask_wtf") is None:
        raise UserError(f"{PASSWORD} asks for authentication, which needs: pip install 'mlflow[auth]'")
    free = free_port(host, port)
    notes = [f"port {port} is taken, so it listens on {free}"] if port not in (0, free) else []
    if not is_loopback(host):
        notes.append(
            "a browser that is answered 403 uses a name that MLflow does not know: set "
            "MLFLOW_SERVER_ALLOWED_HOSTS=NAME:PORT"
        )
    directory = Path.cwd() if address.file is None else address.file.parent
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(free), "--workers", "1"]
    arguments += ["--uvicorn-opts", "--log-level warning"]
    arguments += ["--app-name", "basic-auth"] if has_auth else []
    if address.artifact_root is None:
        arguments.append("--no-serve-artifacts")
    else:
        arguments += ["--artifacts-destination", address.artifact_root.as_uri()]
    settings = {
        **QUIET,
        # A page to browse runs needs no job queue, which would start four more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": address.uri,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": given.get("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32)),
    }
    return Server(tuple(arguments), {**given, **settings}, directory, url_of(host, free), tuple(notes))


def serve(tracking_uri: str, *, host: str = "127.0.0.1", port: int = 5000) -> int:
    """Run the server of a store until it is interrupted.

    Args:
        tracking_uri: of a SQLite file or a PostgreSQL database.
        host: address to listen on.
        port: to listen on.

    Returns:
        The exit code: 0 where it was interrupted, else the server's own.

    Raises:
        UserError: it may not or cannot be started so.
    """
    server = make_server(tracking_uri, host=host, port=port)
    file = Address.parse(tracking_uri).file
    if file is not None and not file.exists():
        print(f"no sweep is tracked in {file} yet; start one: teleport run sweeps/quickstart.yaml", file=sys.stderr)
    # The server would make them in the file itself.
    prepare(Address.parse(tracking_uri))
    return run_until_interrupted(server, f"MLflow at {server.url} (experiment {EXPERIMENT})")
