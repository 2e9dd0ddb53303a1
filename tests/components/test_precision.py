"""bfloat16 learns what float32 learns, on real data; evaluation and serving compute in float32 either way."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.manifest import Artifact, open_artifact
from gateline.preprocessing import preprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.source import Source

pytestmark = pytest.mark.slow

TOLERANCE = 0.03
"""How much worse the best validation metric may be in bfloat16: about what another seed changes."""
BUDGET: dict[str, dict[str, Any]] = {
    "flight_delays": {},
    "etth1": {"epochs": 2, "examples_per_epoch": 0.03, "monitor": "mse_scaled"},
}
MIRROR = os.environ.get("GATELINE_MIRROR")


@pytest.fixture
def prepared(root: Path, tmp_path: Path) -> Callable[[str], Artifact]:
    """Ingest, validate and preprocess a workload."""

    def prepare(name: str) -> Artifact:
        path = root / "workloads" / f"{name}.yaml"
        source = Workload.read(path, "ingest").section("source", Source)
        mirror = Path(MIRROR) if MIRROR else None
        if mirror is None and any(file.url for file in source.files):
            pytest.skip("the raw files are not on this machine: set GATELINE_MIRROR to a folder that holds them")
        raw = ingest(source, tmp_path / "raw", mirror=mirror)
        validate(Workload.read(path, "validate"), tmp_path / "raw", tmp_path / "report", as_of=datetime.now(UTC))
        report = open_artifact(tmp_path / "report", "report")
        return preprocess(Workload.read(path, "preprocess"), raw, report, tmp_path / "prepared")

    return prepare


@pytest.mark.parametrize("name", BUDGET)
def test_bfloat16_is_as_good_as_float32(
    name: str, prepared: Callable[[str], Artifact], root: Path, tmp_path: Path
) -> None:
    whole = Workload.read(root / "workloads" / f"{name}.yaml", "train")
    sections = {**whole.sections, "training": {**whole.sections["training"], **BUDGET[name]}}
    workload = Workload(whole.name, whole.task, "", whole.place, sections)
    data, best = prepared(name), {}
    for precision in ("float32", "bfloat16"):
        model = train(workload, data, tmp_path / precision, RunSettings(7, precision=precision))
        assert model.facts["precision"] == precision
        monitor = f"validation_{sections['training']['monitor']}"
        best[precision] = model.read_json("history.json")[model.facts["best_epoch"] - 1][monitor]

    assert best["bfloat16"] <= best["float32"] * (1 + TOLERANCE), best
