"""Folders that the tests of tracking and registration start from; made once, without MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.evaluation import evaluate
from gateline.manifest import open_artifact
from gateline.preprocessing import preprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.source import Source
from tests.tiny import write_tiny

EPOCHS = {"weak": 1, "strong": 8}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml`, and `weak` and `strong`: all folders up to `evaluation` of two trainings of one table."""
    top = tmp_path_factory.mktemp("made")
    path = write_tiny(top)
    workload = Workload.read(path)
    ingest(workload.section("source", Source), top / "raw")
    validate(workload, top / "raw", top / "report", as_of=datetime(2024, 3, 12, tzinfo=UTC))
    prepared = preprocess(
        workload, open_artifact(top / "raw", "raw"), open_artifact(top / "report", "report"), top / "prepared"
    )
    for name, epochs in EPOCHS.items():
        (top / name).mkdir()
        for kind in ("raw", "report", "prepared"):
            (top / name / kind).symlink_to(top / kind)
        sections = dict(workload.sections) | {"training": {**workload.sections["training"], "epochs": epochs}}
        trained = Workload(workload.name, workload.task, workload.description, workload.place, sections)
        model = train(trained, prepared, top / name / "model", RunSettings(seed=7))
        shutil.rmtree(top / name / "model.checkpoint")
        evaluate(workload, prepared, model, top / name / "evaluation")
    return top


@pytest.fixture
def tiny_path(made: Path) -> Path:
    """The workload file of `made`."""
    return made / "tiny.yaml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_database: Path) -> Callable[[], Path]:
    """Go to a folder of the test's own with an empty tracking database, so that what MLflow writes goes with it."""
    monkeypatch.chdir(tmp_path)
    return lambda: mlflow_database.parent
