"""Where a sweep runs and its parts die: a cluster, a tracking server, a home, and the program as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from tests.orchestrator.chaos.nodes import Nodes
from tests.orchestrator.chaos.store import Database, Server, database

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPOSITORY = Path(__file__).parents[3]


@final
@dataclass
class Playground:
    """The parts of a sweep that can die.

    Args:
        root: directory of everything that it writes.
        nodes: the cluster.
        server: the tracking server.
    """

    root: Path
    nodes: Nodes
    server: Server
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Where the sweeps are."""
        return self.root / "home"

    @property
    def output(self) -> Path:
        """What every process of the program has printed."""
        return self.root / "output.txt"

    def client(self) -> MlflowClient:
        """Open the tracking server."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        return MlflowClient(self.server.uri)

    def teleport(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program on this home, cluster and server."""
        given = ["--home", str(self.home), "--address", self.nodes.address, "--tracking-uri", self.server.uri]
        return self._start(*arguments, *given)

    def undisturbed(self, spec: Path) -> Path:
        """Run a sweep inline from beginning to end, in a home of its own.

        Args:
            spec: what to run.

        Returns:
            The home.
        """
        home = self.root / "undisturbed"
        given = ["--home", str(home), "--launcher", "inline", "--tracking-uri", self.server.uri]
        process = self._start("run", str(spec), *given)
        assert process.wait(300) == 0, self.output.read_text(errors="replace")[-3000:]
        return home

    def sync(self, name: str) -> int:
        """Send the store what it has not got, as the program says.

        Args:
            name: of the sweep.

        Returns:
            The program's exit code.
        """
        process = self._start("track", "sync", name, "--home", str(self.home), "--tracking-uri", self.server.uri)
        return process.wait(120)

    def close(self) -> None:
        """End the programs that still run."""
        for process in self._programs:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "", "COLUMNS": "200"}
        with open(self.output, "ab") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / "teleport"), *arguments],
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._programs.append(process)
        return process


@contextmanager
def playground(root: Path, kind: Database, num_nodes: int) -> Iterator[Playground]:
    """Build a playground; however the block ends, nothing of it runs on.

    Args:
        root: directory of everything that it writes.
        kind: of the tracking server's database.
        num_nodes: of the cluster, besides its head.

    Yields:
        The playground, with its server up.
    """
    with ExitStack() as parts:
        server = Server(parts.enter_context(database(kind, root)), root)
        parts.callback(server.close)
        server.start()
        nodes = Nodes(num_nodes)
        parts.callback(nodes.close)
        ground = Playground(root, nodes, server)
        parts.callback(ground.close)
        server.wait()
        yield ground
