"""The servers on one machine: started once, stopped whole, and clear about what stands in their way."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest

from gateline.adapters.ingestion import ingest
from gateline.adapters.kubeflow.dvc_objects import with_dvc_objects
from gateline.errors import WorkloadError
from gateline.workload import Workload
from gateline.workload.source import Source
from infra.local.stack import PORTS, Stack
from tests.components.test_dvc_remote import TABLE, project, push, sha256
from tests.containers.conftest import KEPT, ROOT, Docker, free_ports, with_project

pytestmark = [pytest.mark.containers, pytest.mark.slow]


def local(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.local", *words, "--folder", str(folder)],
        cwd=ROOT,
        env=with_project({**os.environ, **environment}),
        capture_output=True,
        text=True,
        timeout=300,
    )


def ports_of(stack: Mapping[str, str]) -> dict[str, str]:
    mlflow_port, store_port = (stack[name].rpartition(":")[2] for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"))
    return {"GATELINE_MLFLOW_PORT": mlflow_port, "GATELINE_OBJECT_STORE_PORT": store_port}


def test_a_second_start_starts_nothing_and_secrets_are_the_owners_alone(stack: Mapping[str, str]) -> None:
    folder = KEPT / "stack"
    numbers = {file.name: file.read_text() for file in (folder / "servers").glob("*.pid")}

    again = local(folder, "up", **ports_of(stack))

    assert again.returncode == 0, again.stderr
    assert {file.name: file.read_text() for file in (folder / "servers").glob("*.pid")} == numbers
    assert len(numbers) == 3
    assert stat.S_IMODE((folder / "credentials.json").stat().st_mode) == 0o600
    secrets = [
        value
        for name, value in json.loads((folder / "credentials.json").read_text()).items()
        if "access_key" not in name  # the name of a key, which is no secret
    ]
    assert len(secrets) == 3
    command_lines = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_there(path))
    logs = b"".join(path.read_bytes() for path in (folder / "servers").glob("*.log"))
    assert not [secret for secret in secrets if secret.encode() in command_lines + logs]


def _is_there(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_no_server_of_the_stack_has_a_port_that_another_stack_wants(stack: Mapping[str, str]) -> None:
    texts = [file.read_text() for file in (KEPT / "stack" / "object-store" / "config").glob("*.conf")]
    inner = {int(port) for text in texts for port in re.findall(r"bind_port = (\d+)", text)}

    assert len(inner) == 4
    assert not inner & {6200, 6201, 6202, *PORTS.values()}


def test_mlflow_keeps_runs_in_postgresql_and_files_in_the_object_store(
    stack: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
    client = mlflow.MlflowClient(stack["MLFLOW_TRACKING_URI"])
    run = client.create_run("0").info
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(run.run_id, str(tmp_path / "note.txt"))

    assert run.artifact_uri.startswith("mlflow-artifacts:")  # through the server, so a client needs no key
    assert Path(client.download_artifacts(run.run_id, "note.txt", str(tmp_path))).read_text() == "kept"
    kept = list((KEPT / "stack" / "object-store" / "data").rglob("*.data"))
    assert any(file.read_bytes() == b"kept" for file in kept)


@pytest.mark.parametrize("server", ["POSTGRES", "OBJECT_STORE", "MLFLOW"])
def test_a_port_that_is_taken_is_named_with_its_variable_before_anything_is_started(
    tmp_path: Path, server: str
) -> None:
    ports = free_ports()
    with socket.create_server(("127.0.0.1", int(ports[f"GATELINE_{server}_PORT"]))):
        refused = local(tmp_path, "up", **ports)

    assert refused.returncode == 2
    assert "expected a port that is free" in refused.stderr
    assert f"GATELINE_{server}_PORT=PORT" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list((tmp_path / "servers").iterdir()) == []


def test_without_postgresql_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.stack.POSTGRES", tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    ports = dict.fromkeys(PORTS, 0)

    with pytest.raises(WorkloadError, match="apt-get install postgresql"):
        Stack(ROOT, tmp_path / "stack", ports, print).up()


def test_what_was_never_started_has_no_environment_and_can_be_stopped(tmp_path: Path) -> None:
    assert "infra.local up" in local(tmp_path, "env").stderr
    assert local(tmp_path, "down").returncode == 0


@pytest.fixture
def bucket(stack: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address in the object store that is empty again afterwards."""
    import s3fs

    for name, value in stack.items():
        monkeypatch.setenv(name, value)
    yield "s3://gateline/dvc"
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if store.exists("gateline/dvc"):
        store.rm("gateline/dvc", recursive=True)


def test_a_container_without_checkout_gets_raw_files_from_dvcs_remote_in_the_object_store(
    docker: Docker, stack: Mapping[str, str], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = project(tmp_path / "project", [{"name": "table", "path": "data/rides.csv", "sha256": sha256(TABLE)}])
    (tmp_path / "project" / "data" / "rides.csv").write_text(TABLE)
    config = tmp_path / "project" / ".dvc" / "config"
    config.write_text(
        config.read_text().replace(str(tmp_path / "store"), bucket) + f"    endpointurl = {stack['AWS_ENDPOINT_URL']}\n"
    )
    push(tmp_path / "project", "data/rides.csv")
    monkeypatch.chdir(tmp_path / "project")
    here = ingest(Workload.read(workload).section("source", Source), tmp_path / "here")
    told = with_dvc_objects(Workload.read(workload), workload)
    text = json.dumps(
        {"name": "rides", "task": "forecasting", "description": "Rides.", "source": told.sections["source"]}
    )

    (tmp_path / "out").mkdir()
    shutil.chown(tmp_path / "out", 10001)
    access = [word for name, value in stack.items() for word in ("--env", f"{name}={value}")]
    docker(
        *("run", "--rm", "--network", "host", "--read-only", "--tmpfs", "/tmp", *access),
        *("--volume", f"{tmp_path / 'out'}:/out", str(docker.images["ingest"]["image"])),
        *("python", "-m", "components.ingest", "--workload", text, "--raw", "/out/raw"),
    )

    manifest: Any = json.loads((tmp_path / "out" / "raw" / "manifest.json").read_text())
    assert manifest == json.loads((here.path / "manifest.json").read_text())
