"""What every test gets: nothing of the developer's settings, nothing left behind by the test before, a known seed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SEED_VARIABLE = "GATELINE_TEST_SEED"
SETTINGS_OF_DOORS = ("MLFLOW_", "GATELINE_", "DVC_", "KFP_")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what stands before `&` so, and every process of a test would inherit it: no interrupt would arrive.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SEED = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))


@pytest.fixture
def root() -> Path:
    """Folder of the repository."""
    return ROOT


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed that differs from run to run and is printed when the test fails."""
    request.node.add_report_section(
        "setup", "seed", f"to repeat: {SEED_VARIABLE}={SEED} pytest {request.node.nodeid!r}"
    )
    return SEED


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Random numbers from `seed`."""
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def no_leaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Start from clean settings with a tracking store of the test's own, and put environment and folder back."""
    environment, folder = dict(os.environ), Path.cwd()
    for name in [name for name in os.environ if name.startswith(SETTINGS_OF_DOORS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    # A server's own job runner is eight more processes, each of which imports MLflow; no test asks it for a job.
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    yield
    monkeypatch.undo()
    os.chdir(folder)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh tracking database, made once: MLflow takes seconds to make one, a copy takes none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_database(mlflow_template: Path, tmp_path: Path) -> Path:
    """A fresh tracking database at the place where this test's MLFLOW_TRACKING_URI points."""
    return Path(shutil.copy(mlflow_template, tmp_path / "mlflow.db"))


BLOCKER = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def run_without(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in a new process where some packages cannot be imported, as where they are not installed.

    Call it as ``run_without({"torch"}, "-m", "components.validate", "--help")``.
    """

    def run(blocked: set[str], *argv: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        site = tmp_path / "blocked"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked), encoding="utf-8")
        path = os.pathsep.join([str(site), str(ROOT / "src"), str(ROOT)])
        return subprocess.run(
            [sys.executable, *argv],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say why."""
    if item.get_closest_marker("gpu") and not _cuda():
        pytest.skip("no CUDA device on this machine")
    if item.get_closest_marker("containers") and not (shutil.which("podman") or shutil.which("docker")):
        pytest.skip("neither podman nor docker on this machine")


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
