"""The files of ``cluster/`` pass Ray's own validators, and the Slurm script runs a sweep on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialState
from orchestrator.spec import SweepSpec, spec_from_text
from tests.orchestrator.launch.test_launchers import ray_warnings
from tests.orchestrator.specs import TINY
from tests.waiting import PATIENCE, wait_until

CLUSTER = Path(__file__).parents[3] / "cluster"
pytestmark = ray_warnings


def test_ray_up_passes_rays_own_validator() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((CLUSTER / "ray-up.yaml").read_text()))
    validate_config(config)
    head, gpu = (config["available_node_types"][name] for name in ("head", "gpu"))
    assert head["resources"]["CPU"] == 0, "no trial beside the driver"
    assert head["max_workers"] == 0
    assert gpu["resources"]["GPU"] == 1


def test_ray_up_runs_the_versions_that_are_tested() -> None:
    import ray

    config = yaml.safe_load((CLUSTER / "ray-up.yaml").read_text())
    assert config["docker"]["image"].startswith(f"rayproject/ray:{ray.__version__}-")
    [job] = [each for each in documents() if each["kind"] == "RayJob"]
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / "kuberay-rayjob.yaml").read_text()))


def strict(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
TEMPLATE = strict(
    {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {"containers": {"type": "array", "minItems": 1}},
        }
    }
)
# The fields of KubeRay's RayJob (ray.io/v1) that the file may use, by the names and types of its API reference.
RAYJOB = strict({
    "apiVersion": {"const": "ray.io/v1"},
    "kind": {"const": "RayJob"},
    "metadata": strict({"name": TEXT}, namespace=TEXT),
    "spec": strict(
        {
            "entrypoint": TEXT,
            "rayClusterSpec": strict(
                {
                    "headGroupSpec": strict({"rayStartParams": TEXTS, "template": TEMPLATE}),
                    "workerGroupSpecs": {
                        "type": "array",
                        "items": strict(
                            {
                                "groupName": TEXT,
                                "replicas": WHOLE,
                                "minReplicas": WHOLE,
                                "maxReplicas": WHOLE,
                                "rayStartParams": TEXTS,
                                "template": TEMPLATE,
                            }
                        ),
                    },
                },
                rayVersion=TEXT,
                enableInTreeAutoscaling=FLAG,
                autoscalerOptions=strict({}, idleTimeoutSeconds=WHOLE),
            ),
        },
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=WHOLE,
        backoffLimit=WHOLE,
        activeDeadlineSeconds=WHOLE,
    ),
})  # fmt: skip


def test_the_rayjob_has_the_fields_of_kuberay() -> None:
    import jsonschema

    [job] = [each for each in documents() if each["kind"] == "RayJob"]
    jsonschema.validate(job, RAYJOB)
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        jsonschema.validate(job, RAYJOB)


def test_rays_autoscaler_reads_the_cluster_of_the_rayjob() -> None:
    """What KubeRay makes of it is a RayCluster with the same spec, from which Ray derives the nodes."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    [job] = [each for each in documents() if each["kind"] == "RayJob"]
    made = {"metadata": {"name": "made", "namespace": "default"}, "spec": job["spec"]["rayClusterSpec"]}
    config = _derive_autoscaling_config_from_ray_cr(made)
    nodes = config["available_node_types"]
    assert nodes[config["head_node_type"]]["resources"]["CPU"] == 0, "no trial beside the driver"
    assert nodes["gpu"]["resources"] == {"CPU": 8, "GPU": 1, "memory": 32 * 2**30, "trials": 4}
    assert (nodes["gpu"]["min_workers"], nodes["gpu"]["max_workers"]) == (0, 8)


def test_the_rayjob_runs_a_sweep_that_its_nodes_can_hold() -> None:
    from orchestrator.launch.cluster import Node, shortfall

    claim, sweep, job = documents()
    spec = spec_from_text(sweep["data"]["sweep.yaml"], "sweep.yaml")
    assert isinstance(spec, SweepSpec)
    node = Node("gpu", {"CPU": 8, "GPU": 1, "memory": 32 * 2**30, "trials": 4})
    assert not any(shortfall([node], spec.resources.share(phase)) for phase in ("search", "confirm"))
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    words = job["spec"]["entrypoint"].split()
    assert words[:3] == ["teleport", "run", f"{mounts['sweep']}/sweep.yaml"]
    assert words[words.index("--home") + 1] == mounts["home"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["home"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes["sweep"]["configMap"]["name"] == sweep["metadata"]["name"]
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sh")], check=True)
    linter = shutil.which("shellcheck")
    if linter is not None:
        subprocess.run([linter, str(CLUSTER / "slurm.sh")], check=True)


SRUN = """#!/bin/bash
# Starts the command here, whatever nodes it was meant for.
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$SCONTROL_LOG"
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Any]:
    """Starts the script as Slurm would, two nodes and 1 core each, with a sweep's options."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{stand_ins}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCONTROL_LOG": str(tmp_path / "scontrol.log"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NNODES": "2",
        "SLURMD_NODENAME": "here",
        "SLURM_CPUS_PER_TASK": "1",
        "TELEPORT_NODE_RESOURCES": '{"trials": 1}',
        "PYTHONWARNINGS": "",
    }
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        script = [str(CLUSTER / "slurm.sh"), str(tmp_path / "tiny.yaml"), "--home", str(tmp_path / "runs"), *options]
        process = subprocess.Popen(
            script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


@pytest.mark.slow
def test_the_slurm_script_runs_a_sweep_which_stops_in_time_and_goes_on(job: Any, tmp_path: Path) -> None:
    longer = TINY.replace("epochs: 1\n", "epochs: 40\n").replace("every: 2}", "every: 9}")
    (tmp_path / "tiny.yaml").write_text(longer)
    paths = SweepPaths(tmp_path / "runs", "tiny")
    first = job("--set", "resources.custom={trials: 1}")

    def has_a_result() -> bool:
        assert first.poll() is None, first.communicate()
        return any(paths.trials.glob("*/result.json"))

    wait_until(has_a_result, "the first result", 5 * PATIENCE)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=5 * PATIENCE)
    assert first.returncode == 130, err
    assert "the sweep stopped in time" in err
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {os.getpid()}\n"
    again = job("--set", "resources.custom={trials: 1}")
    out, err = again.communicate(timeout=5 * PATIENCE)
    assert again.returncode == 0, err
    assert "report:" in out
    assert (tmp_path / "scontrol.log").read_text().count("requeue") == 1
    record = read_record(paths)
    assert [trial.result.state for trial in record.trials if trial.result] == [TrialState.COMPLETE] * 10
