"""Batches per second of the store, of a row-by-row Dataset, and of neuralforecast's loader: ``python -m benchmarks.loading``.

All draw the same number of windows per batch from the same series; no network. They take turns, each in a process of its own,
on one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
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
BATCHES = {"store": (2000, 200), "row_by_row": (300, 60), "neuralforecast": (4, 4)}
"""Of one turn, for one column and for many: a few seconds, and many times what a worker may have ready when the turn begins."""


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
    times: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in running}
    for turn in range(rounds + 1):
        for key, contestant in running.items():
            answer = contestant.run(BATCHES[key[0]][shape.columns > 1])
            if turn:
                times[key].append((answer["seconds"] / answer["steps"], answer["processor_seconds"] / answer["steps"]))
        if turn:
            shown = {"/".join(map(str, key)): round(1 / each[-1][0], 1) for key, each in times.items()}
            print(f"turn {turn}, batches/s:", shown, flush=True)
    for contestant in running.values():
        contestant.close()
    return [
        {
            "shape": asdict(shape),
            "loader": kind,
            "workers": workers,
            **compared(np.array(each), np.array(times["store", 0])),
        }
        for (kind, workers), each in times.items()
    ]


def compared(times: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    """Summarise the turns (rounds, 2) of one loader, seconds of a batch by the clock and of the processor, beside ours."""
    median, ratios = np.median(times, axis=0), np.median(times / ours, axis=0)
    return {
        "batches_per_second": 1 / float(median[0]),
        "lowest": 1 / float(times[:, 0].max()),
        "highest": 1 / float(times[:, 0].min()),
        "processor_milliseconds": 1000 * float(median[1]),
        "store_faster_by": float(ratios[0]),
        "store_faster_by_processor": float(ratios[1]),
    }


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Write the result as Markdown."""
    head = ("batch", "loader", "workers", "batches/s", "over the turns", "store faster by", "processor per batch")
    rows = []
    for run in runs:
        shape, alone = Shape(**run["shape"]), run["workers"] == 0
        rows.append(
            (
                f"{shape.name}, {shape.batch} windows of {shape.lookback} + {shape.horizon}",
                NAMES[run["loader"]],
                run["workers"],
                f"{figure(run['batches_per_second'])}",
                f"{figure(run['lowest'])} – {figure(run['highest'])}",
                f"**{run['store_faster_by']:.3g}**",
                f"{run['processor_milliseconds']:.3g} ms" if alone else "–",
                f"**{run['store_faster_by_processor']:.3g}**" if alone else "–",
            )
        )
    return (
        markdown((*head, "store faster by"), rows)
        + "\n\nMedians over the turns, and of the ratios within a turn, to the store without workers. By the clock, which counts "
        "whatever else ran on the machine, and by the processor's time of the process, which does not."
    )


def figure(value: float) -> str:
    """Show three digits, and all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=command.count, default=5)
    given = flags.parse_args()
    rounds = given.rounds
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
    write_result("loading", result, table(runs), command.sizes_to_record(flags, given, "rounds"))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
