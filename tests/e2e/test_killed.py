"""SIGKILL at a random moment of any step, then the same command again: the same bytes as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.steps import KIND_OF, STEPS, run_apart, start
from tests.tiny import write_tiny

MOMENTS = {"ingest": 1, "validate": 1, "preprocess": 1, "train": 3, "evaluate": 2, "register": 2}
"""How many of each step; every run draws others."""

pytestmark = pytest.mark.slow


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> tuple[Path, dict[str, float]]:
    """All six folders, the tracking store before each step, and how long each step took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    workload = write_tiny(folder, training__epochs=12, training__patience=12)
    shutil.copy(mlflow_template, folder / "mlflow.db")
    seconds = {}
    for step in STEPS:
        shutil.copytree(folder, folder.with_name(f"before-{step}"))
        began = time.monotonic()
        code, said = run_apart(
            step, workload, folder / "artifacts", {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        )
        assert code == 0, said
        seconds[step] = time.monotonic() - began
    return folder, seconds


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_step_run_again_gives_the_same_bytes(
    step: str, undisturbed: tuple[Path, dict[str, float]], tmp_path: Path, seed: int
) -> None:
    reference, seconds = undisturbed
    kind = KIND_OF[step]
    moments = random.Random(f"{seed}-{step}")
    for attempt in range(MOMENTS[step]):
        folder = tmp_path / str(attempt)
        shutil.copytree(reference.with_name(f"before-{step}"), folder)
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        process = start(step, reference / "tiny.yaml", folder / "artifacts", store)
        moment = moments.uniform(0.1, 1.0) * seconds[step]
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        where = f"killed after {moment:.2f} of {seconds[step]:.2f} s"
        if (folder / "artifacts" / kind / "manifest.json").exists() and step != "register":
            assert content(folder / "artifacts" / kind) == content(reference / "artifacts" / kind), where

        code, said = run_apart(step, reference / "tiny.yaml", folder / "artifacts", store)

        assert code == 0, f"{where}: {said}"
        left = sorted(path.name for path in (folder / "artifacts").iterdir())
        assert left == sorted(path.name for path in (reference / "artifacts").iterdir() if path.name in left), where
        if step == "register":
            check_registered_once(store["MLFLOW_TRACKING_URI"], where)
        else:
            assert content(folder / "artifacts" / kind) == content(reference / "artifacts" / kind), where
        shutil.rmtree(folder)


def check_registered_once(uri: str, where: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    versions = client.search_model_versions("name = 'tiny'")
    assert len(versions) == 1, where
    assert client.get_model_version_by_alias("tiny", "champion").version == versions[0].version, where
