"""One workload through `dvc repro` and through `mlflow run`: the same bytes, and nothing done twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.steps import KINDS, ROOT
from tests.tiny import write_tiny

pytestmark = pytest.mark.slow


def call(folder: Path, *argv: str, check: bool = True, uri: str | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        [sys.executable, "-m", *argv],
        cwd=folder,
        env={
            **os.environ,
            "PATH": path,
            "PYTHONPATH": str(folder / "src"),
            "MLFLOW_TRACKING_URI": uri or f"sqlite:///{folder}/mlflow.db",
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def project(folder: Path) -> Path:
    """A copy of the project, as git knows it, with the tiny workload as its only one."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    (folder / "data").mkdir()
    workload = write_tiny(folder / "data").replace(folder / "workloads" / "tiny.yaml")
    workload.write_text(workload.read_text().replace(str(folder / "data"), "data"))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump({**params, "workloads": ["tiny"]}))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def digests(folder: Path) -> dict[str, str]:
    from gateline.manifest import open_artifact

    return {kind: open_artifact(folder / "artifacts" / "tiny" / kind, kind).digest for kind in KINDS[:-1]}


def stages_run(said: str) -> list[str]:
    return [line.split("'")[1].split("@")[0] for line in said.splitlines() if line.startswith("Running stage")]


def test_both_doors_write_the_same_bytes_and_dvc_does_nothing_twice(tmp_path: Path) -> None:
    by_dvc, by_mlflow = project(tmp_path / "dvc"), project(tmp_path / "mlflow")

    first = call(by_dvc, "dvc", "repro")
    call(by_mlflow, "mlflow", "run", ".", "-P", "workload=tiny", "--env-manager", "local")

    assert stages_run(first.stdout) == ["ingest", "validate", "preprocess", "train", "evaluate", "register"]
    assert digests(by_dvc) == digests(by_mlflow)
    weights = [folder / "artifacts" / "tiny" / "model" / "weights.pt" for folder in (by_dvc, by_mlflow)]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    second = call(by_dvc, "dvc", "repro")
    assert stages_run(second.stdout) == []

    workload = by_dvc / "workloads" / "tiny.yaml"
    content = yaml.safe_load(workload.read_text())
    content["gates"]["limits"]["mae"]["max"] = 40
    workload.write_text(yaml.safe_dump(content, sort_keys=False))
    edited = call(by_dvc, "dvc", "repro")
    assert stages_run(edited.stdout) == ["evaluate", "register"]

    content["gates"]["limits"]["mae"]["max"] = 0.001
    workload.write_text(yaml.safe_dump(content, sort_keys=False))
    refused = call(by_dvc, "dvc", "repro", check=False)
    assert refused.returncode != 0
    assert stages_run(refused.stdout) == ["evaluate", "register"]
    assert "must be at most 0.001" in refused.stdout + refused.stderr


def test_one_run_in_mlflow_whichever_door_and_the_outer_run_points_at_it(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = project(tmp_path / "project")
    call(folder, "dvc", "repro")
    call(folder, "mlflow", "run", ".", "-P", "workload=tiny", "--env-manager", "local")

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    outer = client.search_runs(["0"])
    assert [one.data.tags["gateline.run_id"] for one in outer] == [run.info.run_id]
    assert run.data.metrics["test/mae"] > 0
    assert run.data.metrics["baseline/last_value/mae"] > run.data.metrics["test/mae"]
    epochs = [metric.step for metric in client.get_metric_history(run.info.run_id, "validation_mae")]
    assert epochs == sorted(set(epochs))
    assert len(client.search_model_versions("name = 'tiny'")) == 1


def test_a_server_that_was_away_gets_the_training_later_without_training_again(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    call(folder, "dvc", "repro", "preprocess")
    away = call(folder, "dvc", "repro", "train", check=False, uri="http://127.0.0.1:9")  # nobody listens there
    assert "exited with 75" in away.stdout + away.stderr
    assert "epoch 3/3" in away.stderr
    weights = (folder / "artifacts" / "tiny" / "model" / "weights.pt").read_bytes()

    back = call(folder, "dvc", "repro", "train")

    assert back.stderr.count("(from the checkpoint)") == 3, back.stderr
    assert (folder / "artifacts" / "tiny" / "model" / "weights.pt").read_bytes() == weights
    assert not (folder / "artifacts" / "tiny" / "model.checkpoint").exists()
