"""What only a CUDA device shows: training on it works in every precision, twice the same, and close to the CPU's result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gateline.data.loading import load
from gateline.manifest import Artifact
from gateline.tasks import task_named
from gateline.tasks.forecasting import TASK
from gateline.training import RunSettings, train
from gateline.workload import Workload
from tests.contracts.test_tasks import NAMES, prepare, workload_of
from tests.tiny import prepare_tiny, tiny_workload

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return prepare_tiny(tmp_path_factory.mktemp("gpu") / "prepared")


def best(model: Artifact) -> float:
    history = model.read_json("history.json")
    return float(history[model.facts["best_epoch"] - 1]["validation_mae"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_learns_what_a_cpu_learns(precision: str, prepared: Artifact, tmp_path: Path) -> None:
    workload = Workload("tiny", "forecasting", "", "test", tiny_workload())
    on_cpu = train(workload, prepared, tmp_path / "cpu", RunSettings(1))
    on_gpu = train(workload, prepared, tmp_path / "gpu", RunSettings(1, "cuda", precision))
    again = train(workload, prepared, tmp_path / "again", RunSettings(1, "cuda", precision))

    assert on_gpu.facts["device"] == "cuda"
    assert best(on_gpu) == pytest.approx(best(on_cpu), rel=0.1)
    assert best(again) == pytest.approx(best(on_gpu), rel=0.02)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("task", NAMES)
def test_every_task_trains_on_a_gpu(task: str, precision: str, tmp_path: Path) -> None:
    """Of what it learns, tests/contracts/test_tasks.py speaks: there it draws the same numbers."""
    workload, prepared = workload_of(task), prepare(task, tmp_path / "prepared")
    workload.sections["training"]["epochs"] = 1
    model = train(workload, prepared, tmp_path / "model", RunSettings(1, "cuda", precision))
    (record,) = model.read_json("history.json")

    assert (model.facts["device"], model.facts["precision"]) == ("cuda", precision)
    assert {f"validation_{name}" for name in task_named(task).monitors} <= record.keys()


def test_data_on_the_device_gather_the_batches_that_the_cpu_gathers(
    prepared: Artifact, rng: np.random.Generator
) -> None:
    dataset = TASK.dataset(prepared, "train")
    moved, places = dataset.to(torch.device("cuda")), rng.integers(0, len(dataset), size=32)
    (loaded,) = load(moved, [places], workers=2, pin_memory=True)

    for name, there in loaded._tensors().items():
        assert there.device.type == "cuda", name
        assert torch.equal(there.cpu(), getattr(dataset.__getitems__(places), name)), name
