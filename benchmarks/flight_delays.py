"""Accuracy and wall-clock of the workload `flight_delays` over several seeds: ``python -m benchmarks.flight_delays``.

Settings were chosen on the validation part; the test part is read here, once per seed, and written down as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.machine import ROOT, where
from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.comparison import reduce_windows
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact
from gateline.paired import resample
from gateline.preprocessing import preprocess
from gateline.table import read_table
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.source import Source

WORKLOAD = ROOT / "workloads" / "flight_delays.yaml"
RESULT = ROOT / "benchmarks" / "results" / "flight_delays.json"


def prepare(folder: Path) -> Artifact:
    """Run ingest, validate and preprocess."""
    raw = ingest(Workload.read(WORKLOAD, "ingest").section("source", Source), folder / "raw")
    validate(Workload.read(WORKLOAD, "validate"), folder / "raw", folder / "report", as_of=datetime.now(UTC))
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
    bound, better = against(evaluation, "gradient_boosting")
    return {
        "seed": seed,
        "test_mae": metrics["test"]["mae"],
        "validation_mae": metrics["details"]["validation"]["mae"],
        "baselines_test_mae": {name: values["mae"] for name, values in metrics["baselines"].items()},
        "train_seconds": round(trained - began, 1),
        "evaluate_seconds": round(time.monotonic() - trained, 1),
        "boosting_upper_bound": round(bound, 3),
        "boosting_share_of_resamples_better": round(better, 3),
        "passed": evaluation.facts["verdict"]["passed"],
    }


def against(evaluation: Artifact, baseline: str) -> tuple[float, float]:
    """Resample the difference of the mean absolute errors, model minus baseline, as champions are compared.

    Returns:
        The one-sided 95 % bound in minutes, and the share of resamples in which the model is better.
    """
    table = read_table(evaluation.path / "predictions.parquet")
    horizon = int(table["step"].max())
    target = table["target"].to_numpy().reshape(-1, horizon)
    origin = table["origin"].dt.as_unit("s").astype("int64").to_numpy()[::horizon]
    errors = [
        reduce_windows("mae", table[column].to_numpy().reshape(-1, horizon), target, origin, rows="the same")
        for column in ("forecast", f"baseline_{baseline}")
    ]
    block = max(2 * horizon, round(len(np.unique(origin)) ** (1 / 3)))
    whole, _ = resample(errors[0], errors[1], block, 2000, np.random.default_rng(0))
    differences = whole.mine - whole.theirs
    return float(np.quantile(differences, 0.95)), float((differences < 0).mean())


def main() -> None:
    """Measure, print a table, write the result."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.flight_delays", description=__doc__)
    flags.add_argument("--seeds", type=command.seed, nargs="+", default=[7, 0, 1, 2, 3])
    given = flags.parse_args()
    seeds = given.seeds
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(Path(scratch))
        runs = []
        for seed in seeds:
            runs.append(measure(prepared, Path(scratch), seed))
            shown = {name: round(value, 3) for name, value in runs[-1]["baselines_test_mae"].items()}
            print(
                f"seed {seed}: test MAE {runs[-1]['test_mae']:.3f} min, validation {runs[-1]['validation_mae']:.3f}, "
                f"trained in {runs[-1]['train_seconds']} s; against gradient boosting at most "
                f"{runs[-1]['boosting_upper_bound']:+.3f} at 95 %, better in "
                f"{runs[-1]['boosting_share_of_resamples_better']:.0%} of the resamples; baselines {shown}",
                flush=True,
            )
    if sizes := command.sizes_to_record(flags, given, "seeds"):
        print(f"not recorded: only with {sizes}")
        return
    RESULT.write_text(json.dumps({"where": where(), "unit": "minutes", "runs": runs}, indent=2) + "\n")
    print(f"written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
