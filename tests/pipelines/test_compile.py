"""The pipeline compiles where no step could run, always to the same bytes, and only from images named by digest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import STEPS as STEPS_OF_COMPILE
from pipelines.stages import STEPS
from pipelines.training import STEPS as STEPS_OF_TRAINING

RunWithout = Callable[..., "subprocess.CompletedProcess[str]"]

NOT_ON_A_BUILD_MACHINE = {"torch", "mlflow", "great_expectations", "duckdb", "pandas", "numpy", "sklearn", "dvc"}
IMAGE = "registry.example/gateline@sha256:" + "0" * 64
OTHER_IMAGE = "registry.example:5000/team/gateline-validate@sha256:" + "1" * 64


@pytest.fixture
def compile_to(run_without: RunWithout) -> RunWithout:
    def run(output: Path, *images: str) -> subprocess.CompletedProcess[str]:
        flags = [part for image in images for part in ("--image", image)]
        return run_without(NOT_ON_A_BUILD_MACHINE, "-m", "pipelines.compile", *flags, "--output", str(output))

    return run


def documents(path: Path) -> dict[str, Any]:
    return dict(next(yaml.safe_load_all(path.read_text(encoding="utf-8"))))


def test_compiles_where_no_step_could_run_to_the_same_bytes(compile_to: RunWithout, tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    for output in (first, second):
        done = compile_to(output, IMAGE)
        assert done.returncode == 0, done.stderr
    assert first.read_bytes() == second.read_bytes()


def test_every_step_runs_in_its_image_and_sees_its_digest(compile_to: RunWithout, tmp_path: Path) -> None:
    assert compile_to(tmp_path / "p.yaml", IMAGE, f"validate={OTHER_IMAGE}").returncode == 0
    spec = documents(tmp_path / "p.yaml")
    executors, tasks = spec["deploymentSpec"]["executors"], spec["root"]["dag"]["tasks"]
    for step in STEPS:
        image = OTHER_IMAGE if step == "validate" else IMAGE
        assert executors[f"exec-{step}"]["container"]["image"] == image
        given = tasks[step]["inputs"]["parameters"]
        assert given["image_digest"]["runtimeValue"]["constant"] == image.partition("@")[2]
        assert given["workload"] == {"componentInputParameter": f"{step}_workload"}
        assert {"data_digest", "code_version"} <= set(given)
    assert tasks["train"]["cachingOptions"] == {"enableCache": True}
    assert not tasks["register"]["cachingOptions"].get("enableCache")


def test_all_lists_of_steps_are_one() -> None:
    assert STEPS_OF_COMPILE == STEPS == tuple(STEPS_OF_TRAINING)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (["gateline:latest"], "'gateline:latest'"),
        (["gateline"], "'gateline'"),
        (["gateline@sha256:abc"], "'gateline@sha256:abc'"),
        ([IMAGE, "validate=gateline:1"], "'gateline:1'"),
        ([f"validat={IMAGE}"], "Did you mean 'validate'?"),
        ([f"train={IMAGE}"], "none for ingest, validate"),
    ],
)
def test_refuses_an_image_that_may_mean_something_else_tomorrow(
    compile_to: RunWithout, tmp_path: Path, images: list[str], says: str
) -> None:
    done = compile_to(tmp_path / "p.yaml", *images)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "p.yaml").exists()
