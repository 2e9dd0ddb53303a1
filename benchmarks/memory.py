"""Peak memory of training against the number of points and the window length: ``python -m benchmarks.memory``.

Each run is the project's own training loop in a process of its own, on one series of float32 values in a mapped file. It draws
so many random windows that nearly the whole file is touched; how much was, the kernel says. What the interpreter, PyTorch,
the model and one batch take without any data to speak of is measured by the same run on 20,000 points.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import command
from benchmarks.etth1_workload import scratch
from benchmarks.machine import where
from benchmarks.tables import markdown, write_result
from gateline.data.calendar import Calendar
from gateline.data.prepared_windows import STATE, WINDOWS
from gateline.data.runs import Runs
from gateline.data.series_encoding import Encoding, regular_table
from gateline.data.store import SERIES, VALUES, SequenceStore
from gateline.manifest import write_artifact
from gateline.workload.schema import Schema

POINTS, WINDOWS_OF = (1_000_000, 10_000_000, 100_000_000), (64, 512)
NEXT_TO_NOTHING = 20_000  # points
HORIZON, SEGMENT, HIDDEN, BATCH, STEPS = 16, 16, 64, 64, 1000
VALIDATION = 2048  # windows
SEED = 1
PIECE = 10_000_000  # points written at a time
LARGEST_SHARE = 1.3
"""Of the size of the file, what training may take beside the model and the interpreter (set before the work began)."""

SCHEMA = {
    "time": {"column": "time", "frequency": "1h"},
    "rows": {"min": 1, "max": 10**9},
    "columns": {"time": {"type": "time"}, "load": {"type": "float"}},
}


def prepare(folder: Path, points: int, lookback: int) -> None:
    """Write a folder `prepared` of one series, as preprocess would: of random values, without reading a table for them."""
    rng = np.random.default_rng(SEED)
    schema = Schema.model_validate(SCHEMA)
    table = pd.DataFrame(
        {"time": pd.date_range("2024-01-01", periods=100, freq="h", tz="UTC"), "load": rng.normal(size=100)}
    )
    encoding = Encoding.fit(
        regular_table(table, schema), np.ones(100, bool), schema=schema, target="load", past=(), known=(),
        calendar=Calendar(), transforms={},
    )  # fmt: skip
    border = points - VALIDATION - HORIZON + 1
    with write_artifact(folder, "prepared") as draft:
        whole = draft.path / "whole.npy"
        values = np.lib.format.open_memmap(whole, "w+", np.float32, (points, 1))
        for first in range(0, points, PIECE):
            piece = values[first : first + PIECE]
            piece[:] = rng.standard_normal(piece.shape, dtype=np.float32)
        SequenceStore({VALUES: values}, np.array([0, points]), {SERIES: np.array([0])}).save(draft.path)
        del values
        whole.unlink()
        (draft.path / WINDOWS).mkdir()
        Runs.of([(lookback, border - HORIZON + 1 - lookback, 1)]).save(draft.path / WINDOWS / "train.npy")
        Runs.of([(border, VALIDATION, 1)]).save(draft.path / WINDOWS / "validation.npy")
        windows = {"lookback": lookback, "horizon": HORIZON, "stride": 1}
        draft.write_json(STATE, {"encoding": encoding.to_json(), "windows": windows, "split": {}})


def workload(points: int, lookback: int) -> str:
    """Return the workload as JSON text: one epoch of `STEPS` batches."""
    windows = points - VALIDATION - 2 * HORIZON + 2 - lookback
    return json.dumps(
        {
            "name": "memory",
            "task": "forecasting",
            "description": "Memory of training.",
            "model": {"mode": "segment", "segment": SEGMENT, "hidden_size": HIDDEN},
            "training": {"batch_size": BATCH, "epochs": 1, "examples_per_epoch": min(1.0, STEPS * BATCH / windows)},
        }
    )


def measure(folder: Path, points: int, lookback: int) -> dict[str, Any]:
    """Prepare, train, and report."""
    place = folder / f"{points}-{lookback}"
    prepare(place, points, lookback)
    began = time.perf_counter()
    argv = [sys.executable, "-m", "benchmarks.contestants.memory_run", "--workload", workload(points, lookback)]
    argv += ["--prepared", str(place), "--model", str(folder / f"model-{points}-{lookback}")]
    run = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    file = (place / "arrays" / "values.npy").stat().st_size
    (place / "arrays" / "values.npy").unlink()
    seconds = round(time.perf_counter() - began, 1)
    return {"points": points, "lookback": lookback, "file": file, **json.loads(run.stdout), "seconds": seconds}


def compared(run: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Add what the data took: the peak less that of next to no data; and its ratio to the file."""
    data = run["peak"] - base["peak"]
    return {**run, "without_data": base["peak"], "data": data, "ratio": data / run["file"]}


def table(runs: list[dict[str, Any]]) -> str:
    """Write the result as Markdown."""
    rows = [
        (
            f"{run['points']:.0e}".replace("e+0", "e"),
            run["lookback"],
            mib(run["file"]),
            f"{min(1.0, run['mapped'] / run['file']):.1%}",
            mib(run["peak"]),
            mib(run["imported"]),
            mib(run["without_data"] - run["imported"]),
            mib(run["data"]),
            f"**{run['ratio']:.2f}**",
            mib(run["points"] * run["lookback"] * 4),
        )
        for run in runs
    ]
    head = ("points", "window", "file", "touched", "peak", "interpreter", "model and a batch", "data", "data / file")
    largest = max(run["ratio"] for run in runs if run["points"] == POINTS[-1])
    verdict = "reached" if largest <= LARGEST_SHARE else "not reached"
    return (
        markdown((*head, "windows written out would take"), rows)
        + f"\n\nMiB. Peak: largest resident set of the process (VmHWM), pages of the mapped file included, which the kernel may "
        "take back; copies of such pages: "
        f"{mib(max(run['copied'] for run in runs))}. Interpreter: peak after the imports. Model and a batch: what the same "
        f"run on {NEXT_TO_NOTHING:,} points takes beyond that. Each run: {STEPS:,} batches of {BATCH} random windows, LSTM of "
        f"{HIDDEN} on segments of {SEGMENT} steps, one validation. Reach: at most {LARGEST_SHARE} of the file at 1e8 points; {verdict}."
    )


def mib(size: float) -> str:
    """Show a size."""
    return f"{size / 2**20:,.0f}"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--points", type=command.whole(NEXT_TO_NOTHING), nargs="+", default=list(POINTS))
    given = flags.parse_args()
    points = given.points
    folder = scratch("memory")
    began = time.perf_counter()
    runs = []
    for lookback in WINDOWS_OF:
        base = measure(folder, NEXT_TO_NOTHING, lookback)
        for number in points:
            runs.append(compared(measure(folder, number, lookback), base))
            print(f"{number:>11,} points, windows of {lookback}: peak {mib(runs[-1]['peak'])} MiB", flush=True)
    if sizes := command.sizes_to_record(flags, given, "points"):  # nor is there a table: it judges the largest of them
        print(f"not recorded: only with {sizes}")
        return
    runs.sort(key=lambda run: (run["points"], run["lookback"]))
    seconds = round(time.perf_counter() - began, 1)
    write_result(
        "memory", {"where": where(), "seed": SEED, "unit": "bytes", "seconds": seconds, "runs": runs}, table(runs)
    )


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
