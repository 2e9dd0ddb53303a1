"""The compiled pipeline in containers, through Kubeflow's local runner, against MLflow on PostgreSQL and an object store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from gateline.workload import Workload
from gateline.workload.budgets import with_budget
from tests.containers.conftest import ROOT, Docker, with_project
from tests.tiny import write_tiny

pytestmark = [pytest.mark.containers, pytest.mark.slow]

COMPARED = ("raw", "report", "prepared", "model", "evaluation")
"""Artifacts that are the same bytes behind every door; a release says who was champion."""
WORKLOAD = "flight_delays_containers"
SECONDS = 1500

PYTHON_IN_IMAGES = """#!/bin/sh
# What `dvc repro` calls as python: the step in its image.
case $2 in
{cases}
*) exit 64 ;;
esac
exec docker run --rm --network host --user 0:0 --volume "$PWD:$PWD" --workdir "$PWD" \\
    --env PYTHONSAFEPATH=1 --env MLFLOW_TRACKING_URI --env DVC_STAGE "$image" python "$@"
"""


def submit(
    docker: Docker, stack: Mapping[str, str], workload: object, output: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    environment = with_project({**os.environ, **stack, "DOCKER_HOST": docker.host})
    return subprocess.run(
        ["gateline", "submit", str(workload), "--local", "--output", str(output), *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def artifact(output: Path, kind: str) -> Path:
    """Folder of an artifact among what a local run wrote."""
    (folder,) = {path.parent for path in output.glob(f"gateline-training-*/*/{kind}/manifest.json")}
    return folder


@dataclass
class Killer:
    """Sends SIGTERM to the train container, once, as soon as it has saved something."""

    docker: Docker
    output: Path
    killed: str = ""

    def watch(self) -> None:
        end = time.monotonic() + SECONDS
        image = str(self.docker.images["train"]["image"])
        while time.monotonic() < end and not self.killed:
            if any(path.is_file() for path in (self.output / "checkpoints").rglob("*")):
                running = self.docker("ps", "--quiet", "--filter", f"ancestor={image}").stdout.split()
                ours = [name for name in running if str(self.output) in self.docker("inspect", name).stdout]
                if ours and self.docker("kill", "--signal", "TERM", ours[0], check=False).returncode == 0:
                    self.killed = ours[0]
            time.sleep(0.1)


def small_workload(folder: Path) -> Path:
    """Write `flight_delays` with the settings of its smoke budget, and epochs enough to be killed between two."""
    small = with_budget(Workload.read(ROOT / "workloads" / "flight_delays.yaml"), "smoke")
    sections = {**small.sections, "training": {**small.sections["training"], "epochs": 3}}
    path = folder / f"{WORKLOAD}.yaml"
    content = {"name": WORKLOAD, "task": small.task, "description": small.description, **sections}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def project_copy(folder: Path) -> Path:
    """Copy the project, with the small workload as its only one; return the workload."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump({**params, "workloads": [WORKLOAD]}))
    return small_workload(folder / "workloads")


def repro_in_images(docker: Docker, folder: Path, *targets: str) -> subprocess.Popen[str]:
    """Start `dvc repro` in a copy of the project, with every step in its image."""
    cases = "\n".join(f"components.{step}) image={made['image']} ;;" for step, made in docker.images.items())
    python = folder / "build" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON_IN_IMAGES.format(cases=cases))
    python.chmod(0o755)
    environment = with_project(os.environ) | {
        "DOCKER_HOST": docker.host,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *targets],
        cwd=folder,
        env={**environment, "PATH": f"{python.parent}{os.pathsep}{environment['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_pipeline_registers_a_model_with_the_bytes_of_dvc_repro_though_training_was_killed_half_way(
    docker: Docker, stack: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, folder = tmp_path / "kubeflow", tmp_path / "project"
    workload, killer = project_copy(folder), Killer(docker, output)
    watching = threading.Thread(target=killer.watch, daemon=True)
    repro = repro_in_images(docker, folder, f"evaluate@{WORKLOAD}")
    watching.start()

    submitted = submit(docker, stack, workload, output)
    said = repro.communicate(timeout=SECONDS)[0]

    assert submitted.returncode == 0, submitted.stdout[-4000:] + submitted.stderr[-4000:]
    assert repro.returncode == 0, said[-4000:]
    assert killer.killed
    assert "train ... again, 2 of" in submitted.stderr
    for kind in COMPARED:
        here, there = artifact(output, kind), folder / "artifacts" / WORKLOAD / kind
        assert json.loads((here / "manifest.json").read_text()) == json.loads((there / "manifest.json").read_text())
    weights = [path / "weights.pt" for path in (artifact(output, "model"), folder / "artifacts" / WORKLOAD / "model")]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
    client = mlflow.MlflowClient(stack["MLFLOW_TRACKING_URI"])
    version = client.get_model_version_by_alias(WORKLOAD, "champion")
    decision = json.loads((artifact(output, "release") / "decision.json").read_text())
    passport = json.loads((artifact(output, "release") / "passport.json").read_text())
    assert int(version.version) == int(decision["version"])
    assert passport["pipeline"]["door"] == "kubeflow"
    images = {step: f"{made['image']}@{made['digest']}" for step, made in docker.images.items()}
    assert images.items() >= {step: name for step, name in passport["images"].items() if name}.items()
    assert passport["images"]["train"]


def changed(path: Path, **sections: Mapping[str, Any]) -> Path:
    """Change settings of a workload's file."""
    content = yaml.safe_load(path.read_text())
    for section, settings in sections.items():
        content[section] = {**content[section], **settings}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_rejected_data_stop_at_preprocess_and_the_report_is_kept(
    docker: Docker, stack: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    workload = changed(write_tiny(tmp_path / "data"), schema={"rows": {"min": 1_000_000, "max": 2_000_000}})

    refused = submit(docker, stack, workload, tmp_path / "out", "--mount", str(tmp_path / "data"))

    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "preprocess" in refused.stderr
    assert "rejected" in refused.stderr
    report = artifact(tmp_path / "out", "report")
    assert json.loads((report / "report.json").read_text())["verdict"]["passed"] is False
    assert (report / "report.html").is_file()
    assert not list((tmp_path / "out").glob("gateline-training-*/*/prepared/manifest.json"))
    assert not list((tmp_path / "out").glob("gateline-training-*/train*"))


def test_a_container_that_fails_is_reported_with_its_last_lines(
    docker: Docker, stack: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    wrong = {**docker.images, "validate": docker.images["ingest"]}  # an image without this step
    (tmp_path / "images.json").write_text(json.dumps(wrong))
    flags = ("--mount", str(tmp_path / "data"), "--images", str(tmp_path / "images.json"))

    failed = submit(docker, stack, write_tiny(tmp_path / "data"), tmp_path / "out", *flags)

    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "validate" in failed.stderr
    assert "No module named components.validate" in failed.stdout + failed.stderr
    assert not list((tmp_path / "out").glob("gateline-training-*/preprocess*"))
