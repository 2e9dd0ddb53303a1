"""A project in git with one registered model, which tests of `gateline verify` and `gateline replay` look at."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml

from gateline.adapters.provenance import dvc_md5_of
from gateline.adapters.registry.verify import verify
from tests.components.conftest import EPOCHS
from tests.conftest import ROOT
from tests.steps import run_here

KINDS = ("raw", "report", "prepared", "model", "evaluation")


@dataclass(frozen=True)
class Chain:
    """A project in git with one registered model, and its files in MLflow."""

    root: Path

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts" / "tiny"

    @property
    def top(self) -> Path:
        (mlmodel,) = (self.root / "mlruns").rglob("MLmodel")
        return mlmodel.parent

    @property
    def papers(self) -> Path:
        (passport,) = self.top.rglob("passport.json")
        return passport.parent

    @property
    def run_id(self) -> str:
        return str(self.client.get_model_version("tiny", "1").run_id)

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])

    def first_broken(self) -> tuple[str, str]:
        links = verify("tiny", self.root).failed()
        assert links, "nothing was found"
        return links[0].name, links[0].words


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def tracking_at(root: Path) -> Iterator[None]:
    before, folder = os.environ.get("MLFLOW_TRACKING_URI"), Path.cwd()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(folder)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(scope="module")
def registered_once(made: Path, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A project of its own whose model was registered from a clean commit, by the door that dvc.yaml is."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(mlflow_template, root / "mlflow.db")
    (root / "workloads").mkdir()
    workload = yaml.safe_load((made / "tiny.yaml").read_text())
    workload["training"]["epochs"] = EPOCHS["strong"]
    (root / "workloads" / "tiny.yaml").write_text(yaml.safe_dump(workload, sort_keys=False))
    for package in ("src/gateline", "components"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    (root / "params.yaml").write_text("workloads: [tiny]\n")
    (root / ".gitignore").write_text("artifacts\nmlruns\nmlflow.db\n")
    shutil.copytree(made / "strong", root / "artifacts" / "tiny")
    outs = [{"path": f"artifacts/tiny/{kind}", "md5": dvc_md5_of(root / "artifacts" / "tiny" / kind)} for kind in KINDS]
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"all": {"cmd": "all", "outs": outs}}}))
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "A project")
    with tracking_at(root):
        os.environ |= {"DVC_STAGE": "register@tiny", "GATELINE_IMAGE": "registry.example/train@sha256:" + "a" * 64}
        try:
            assert run_here("register", root / "workloads" / "tiny.yaml", root / "artifacts" / "tiny") == 0
        finally:
            del os.environ["DVC_STAGE"], os.environ["GATELINE_IMAGE"]
    return Chain(root)


@pytest.fixture
def chain(registered_once: Chain, tmp_path: Path) -> Iterator[Chain]:
    """The registered model, put back after the test as it was."""
    kept = tmp_path / "kept"
    shutil.copytree(registered_once.root, kept, ignore=shutil.ignore_patterns(".git", "src", "components"))
    with tracking_at(registered_once.root):
        yield registered_once
    for path in kept.iterdir():
        target = registered_once.root / path.name
        if path.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(path, target)
        elif path.suffix == ".db":
            put_back(path, target)
        else:
            shutil.copy(path, target)


def put_back(kept: Path, database: Path) -> None:
    """By a transaction: a connection that is open may hold pages of before, and would not see that the file was replaced."""
    with closing(sqlite3.connect(kept)) as source, closing(sqlite3.connect(database)) as target:
        source.backup(target)
