"""Accuracy and wall-clock of the workload `flight_delays` over several seeds: ``python -m benchmarks.flight_delays``.

Settings were chosen on the validation part; the test part is read here, once per seed, and written down as it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, where
from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact
from gateline.preprocessing import preprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.source import Source

WORKLOAD = ROOT / "workloads" / "flight_delays.yaml"
RESULT = ROOT / "benchmarks" / "results" / "flight_delays.json"


def prepare(folder: Path) -> Artifact:
    """Run ingest, validate and preprocess."""
    raw = ingest(Workload.read(WORKLOAD, "ingest").section("source", Source), folder / "raw")
    validate(Workload.read(WORKLOAD, "validate"), folder / "raw", folder / "report", as_of=None)
    return preprocess(
        Workload.read(WORKLOAD, "preprocess"), raw, open_artifact(folder / "report", "report"), folder / "prepared"
    )


def measure(prepared: Artifact, folder: Path, seed: int) -> dict[str, Any]:
    """Train and evaluate with one seed."""
    began = time.monotonic()
    model = train(Workload.read(WORKLOAD, "train"), prepared, folder / f"model-{seed}", RunSettings(seed))
    trained = time.monotonic()
    evaluation = evaluate(Workload.read(WORKLOAD, "evaluate"), prepared, model, folder / f"evaluation-{seed}")
    metrics = evaluation.read_json("metrics.json")
    return {
        "seed": seed,
        "test_mae": metrics["test"]["mae"],
        "validation_mae": metrics["details"]["validation"]["mae"],
        "baselines_test_mae": {name: values["mae"] for name, values in metrics["baselines"].items()},
        "train_seconds": round(trained - began, 1),
        "evaluate_seconds": round(time.monotonic() - trained, 1),
        "passed": evaluation.facts["verdict"]["passed"],
    }


def main() -> None:
    """Measure, print a table, write the result."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.flight_delays", description=__doc__)
    flags.add_argument("--seeds", type=int, nargs="+", default=[7, 0, 1, 2, 3])
    seeds = flags.parse_args().seeds
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(Path(scratch))
        runs = []
        for seed in seeds:
            runs.append(measure(prepared, Path(scratch), seed))
            shown = {name: round(value, 3) for name, value in runs[-1]["baselines_test_mae"].items()}
            print(
                f"seed {seed}: test MAE {runs[-1]['test_mae']:.3f} min, validation {runs[-1]['validation_mae']:.3f}, "
                f"trained in {runs[-1]['train_seconds']} s; baselines {shown}",
                flush=True,
            )
    RESULT.write_text(json.dumps({"where": where(), "unit": "minutes", "runs": runs}, indent=2) + "\n")
    print(f"written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
