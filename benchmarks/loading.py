"""Batches per second of the store, of a row-by-row Dataset, and of neuralforecast's loader: ``python -m benchmarks.loading``.

All draw the same number of windows per batch from the same series; no network. They take turns, each in a process of its own,
on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants.turnstile import Contestant
from benchmarks.etth1_workload import scratch
from benchmarks.machine import where
from benchmarks.peer import peer_environment, peer_python, peer_versions
from benchmarks.tables import markdown, write_result

SEED = 1
NAMES = {
    "store": "gateline's store",
    "row_by_row": "row by row, default collate",
    "neuralforecast": "neuralforecast 3.3",
}


@dataclass(frozen=True)
class Shape:
    """What is loaded: `series` series of `steps` steps and `columns` columns, `batch` windows at a time."""

    name: str
    series: int
    steps: int
    columns: int
    lookback: int
    horizon: int
    batch: int


ETTH1 = Shape("as ETTh1: one column", 7, 8640, 1, 336, 96, 64)
WIDE = Shape("twenty columns", 50, 8760, 20, 168, 24, 256)
BATCHES = {"store": 2000, "row_by_row": 60, "neuralforecast": 4}
"""Of one turn: about a second or two each."""


def contestants(shape: Shape, folder: Path) -> dict[tuple[str, int], Contestant]:
    """Start them: by loader and number of workers."""
    values = folder / f"{shape.columns}.npy"
    random = np.random.default_rng(SEED).standard_normal((shape.series, shape.steps, shape.columns), dtype=np.float32)
    np.save(values, random)
    kinds = [("store", 0), ("store", 1), ("store", 2), ("row_by_row", 0), ("row_by_row", 2)]
    if shape.columns == 1:
        kinds.append(("neuralforecast", 0))
    started = {}
    for kind, workers in kinds:
        peer = kind == "neuralforecast"
        argv = [peer_python() if peer else sys.executable, "-m", "benchmarks.contestants.loaders", "--loader", kind]
        argv += ["--values", values, "--workers", str(workers)]
        for name in ("lookback", "horizon", "batch"):
            argv += [f"--{name}", str(getattr(shape, name))]
        log = folder / f"{kind}-{workers}-{shape.columns}.log"
        started[kind, workers] = Contestant(kind, argv, peer_environment() if peer else os.environ, log)
    return started


def race(shape: Shape, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Let them take turns; the first turn of each warms up and is not counted."""
    running = contestants(shape, folder)
    speeds: dict[tuple[str, int], list[float]] = {key: [] for key in running}
    for turn in range(rounds + 1):
        for key, contestant in running.items():
            # A tenth of the batches where each has many times the bytes.
            asked = max(4, BATCHES[key[0]] // (1 if shape.columns == 1 else 10))
            answer = contestant.run(asked)
            if turn:
                speeds[key].append(answer["steps"] / answer["seconds"])
        if turn:
            print(
                f"turn {turn}:",
                {"/".join(map(str, key)): round(speed[-1]) for key, speed in speeds.items()},
                flush=True,
            )
    for contestant in running.values():
        contestant.close()
    ours = speeds["store", 0]
    return [
        {
            "shape": asdict(shape),
            "loader": kind,
            "workers": workers,
            "batches_per_second": {"median": statistics.median(speed), "lowest": min(speed), "highest": max(speed)},
            "ours_to_this": statistics.median(a / b for a, b in zip(ours, speed, strict=True)),
        }
        for (kind, workers), speed in speeds.items()
    ]


def table(runs: list[Mapping[str, Any]]) -> str:
    """Write the result as Markdown."""
    rows = []
    for run in runs:
        shape, speed = Shape(**run["shape"]), run["batches_per_second"]
        rows.append(
            (
                f"{shape.name}, {shape.batch} windows of {shape.lookback} + {shape.horizon}",
                NAMES[run["loader"]],
                run["workers"],
                f"{speed['median']:,.0f}" if speed["median"] >= 10 else f"{speed['median']:.1f}",
                f"{speed['lowest']:,.0f} – {speed['highest']:,.0f}"
                if speed["median"] >= 10
                else f"{speed['lowest']:.1f} – {speed['highest']:.1f}",
                f"**{run['ours_to_this']:,.1f}**",
            )
        )
    return markdown(
        ("batch", "loader", "workers", "batches/s", "over the turns", "the store without workers is faster by"), rows
    )


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    rounds = flags.parse_args().rounds
    folder = scratch("loading")
    began = time.perf_counter()
    runs = [run for shape in (ETTH1, WIDE) for run in race(shape, folder, rounds)]
    result = {
        "where": where(),
        "peer": peer_versions(),
        "seed": SEED,
        "rounds": rounds,
        "seconds": round(time.perf_counter() - began, 1),
        "runs": runs,
    }
    write_result("loading", result, table(runs))


if __name__ == "__main__":
    main()
