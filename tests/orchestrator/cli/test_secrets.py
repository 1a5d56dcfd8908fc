"""No secret that a sweep was given is in anything that it writes, prints or sends."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client
from tests.orchestrator.specs import TINY
from tests.waiting import PATIENCE

CANARY = b"canary-7f3a"
WORD = CANARY.decode()
PLUGIN = """
import os
from typing import Literal
from orchestrator.spec.options import Entry, ModelOptions

class FailingOptions(ModelOptions):
    input_kinds = frozenset({"image"})
    name: Literal["failing"]

    def misfit(self, sample_shape):
        return None

MODELS = {"failing": Entry(FailingOptions, "failing:build")}

def build(options, *more):
    print("connecting to", os.environ["DATABASE"])
    try:
        raise OSError("no answer from " + os.environ["DATABASE"])
    except OSError as error:
        raise RuntimeError("cannot load from " + os.environ["DATABASE"]) from error
"""
SECRETS = {
    "DATABASE": f"postgresql://{WORD}-user:{WORD}-pass@db.example.org/x?password={WORD}-query&token={WORD}-token",
    "HOOK": f"http://127.0.0.1:9/services/{WORD}-path?key={WORD}-key",
    "MLFLOW_TRACKING_PASSWORD": f"{WORD}-login",
    "MLFLOW_TRACKING_USERNAME": f"{WORD}-name",
}
TOLD = "postgresql://***@db.example.org/x?password=***&token=***"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "ray"])
def test_a_canary_is_found_nowhere(launcher: str, tmp_path: Path) -> None:
    code, work = tmp_path / "code", tmp_path / "work"
    code.mkdir()
    work.mkdir()
    (code / "failing.py").write_text(PLUGIN)
    spec = TINY.replace("{name: mlp, widths: [16]}", "{name: failing}")
    assert spec != TINY
    hooks = "hooks: {sweep_finished: {webhook: $HOOK}, trial_failed: {webhook: $HOOK}}"
    (work / "tiny.yaml").write_text(f"{spec}\n{hooks}\n")
    store = f"sqlite:///{work}/mlflow.db"
    open_client(Address.parse(store))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "import sys; from orchestrator.cli import main; main()"
        environment = {
            **os.environ,
            **SECRETS,
            "PYTHONPATH": f"{code}:{Path(__file__).parents[3]}",
            "TELEPORT_HOME": str(work / "runs"),
        }
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
        )

    where = ["--tracking-uri", f"http://{WORD}-me:{WORD}-uri@127.0.0.1:9", "--plugin", "failing"]
    few = ["--set", "search.trials=1", "--set", "search.max_replaced=0", "--launcher", launcher]
    said = [
        call("run", "tiny.yaml", *where, *few),
        call("track", "sync", "tiny"),
        call("track", "sync", "tiny", "--tracking-uri", store),
        call("report", "tiny", "--format", "html,md,json,csv"),
        call("logs", "tiny"),
        call("status", "tiny", "--json"),
    ]
    assert [done.returncode for done in said] == [1, 1, 0, 0, 0, 0], [done.stderr for done in said]
    assert not [done.args for done in said if WORD in done.stdout + done.stderr]
    files = [path for path in work.rglob("*") if path.is_file()]
    assert {"result.json", "output.log", "log.txt", "report.html", "record.tar.gz", "mlflow.db"} <= {
        p.name for p in files
    }
    content = {path: path.read_bytes() for path in files}
    content |= {path: gzip.decompress(data) for path, data in content.items() if path.suffix == ".gz"}
    assert not [path for path, data in content.items() if CANARY in data]
    (log,) = (data for path, data in content.items() if path.name == "log.txt")
    assert TOLD.encode() in log, "the rest of the error is there"
