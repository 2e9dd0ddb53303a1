"""Training windows per second, against neuralforecast and a plain PyTorch loop: ``python -m benchmarks.throughput``.

The same LSTM (2 layers of 128) on ETTh1, windows of 336 hours, horizon 96, batches of 64 windows drawn from all seven channels.
The contestants take turns, so that whatever the machine does meanwhile, it does to all of them. Then: how far the
fastest is from what the cores can do, and what the rest of its time is spent on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.contestants.turnstile import Contestant
from benchmarks.etth1_workload import prepare, scaled_channels, scratch, workload
from benchmarks.machine import where
from benchmarks.peer import peer_environment, peer_python, peer_versions
from benchmarks.tables import markdown, write_result

LOOKBACK, HORIZON, BATCH, HIDDEN = 336, 96, 64, 128
FEATURES = 1
"""Of a past step: its value alone, for all contestants."""

CHANGES: Mapping[str, Mapping[str, object]] = {
    "preprocess": {"windows": {"lookback": LOOKBACK, "horizon": HORIZON}},
    "training": {"batch_size": BATCH, "examples_per_epoch": 1.0, "epochs": 1, "weight_average": 0.0},
}
MODEL = {"mode": "direct", "decoder": "linear", "hidden_size": HIDDEN, "num_layers": 2, "series": "none"}

SHIPPED, FLUSHED = "neuralforecast 3.3 as shipped", "neuralforecast 3.3 with flush-denormal"
PLAIN = "plain PyTorch loop, float32"
OURS32, OURS16, OURS = "gateline, float32", "gateline, bfloat16", "gateline, bfloat16, one process per core"
STEPS = {SHIPPED: 10, FLUSHED: 10, PLAIN: 10, OURS32: 20, OURS16: 40, OURS: 60}
"""Steps of one turn: a few seconds each."""
RATIOS = ((OURS, SHIPPED, 15.0), (OURS, FLUSHED, 3.5), (OURS, PLAIN, 15.0))
"""Which by which, and what was to be reached (set before the work began, from figures of a CPU with AMX)."""

LARGE, SMALL = (2048, 2048, 2048), (BATCH, HIDDEN, 4 * HIDDEN)


class Field:
    """Starts contestants, and ends them.

    Args:
        folder: for logs and what the contestants write.
        text: this project's workload.
        cores: how many processes one per core are.
    """

    def __init__(self, folder: Path, text: str, cores: int) -> None:
        self.folder, self.text, self.cores = folder, text, cores
        self.started: list[Contestant] = []

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        for contestant in self.started:
            contestant.close()

    def start(self, name: str, argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Contestant:
        log = self.folder / f"{len(self.started)}.log"
        contestant = Contestant(name, argv, environment or os.environ, log)
        self.started.append(contestant)
        return contestant

    def ours(self, name: str, precision: str, processes: int, *more: str) -> Contestant:
        argv: list[str | Path] = [sys.executable, "-m", "benchmarks.contestants.gateline_lstm", "--workload", self.text]
        argv += ["--prepared", self.folder / "prepared", "--model", self.folder / f"model-{len(self.started)}"]
        return self.start(name, [*argv, "--precision", precision, "--processes", str(processes), *more])

    def all(self) -> list[Contestant]:
        channels: list[str | Path] = ["--channels", self.folder / "channels.npy"]
        peer: list[str | Path] = [peer_python(), "-m", "benchmarks.contestants.neuralforecast_lstm", *channels]
        plain: list[str | Path] = [sys.executable, "-m", "benchmarks.contestants.plain_loop", *channels]
        return [
            self.start(SHIPPED, peer, peer_environment()),
            self.start(FLUSHED, [*peer, "--flush-denormal"], peer_environment()),
            self.start(PLAIN, plain, as_shipped()),
            self.ours(OURS32, "float32", 1),
            self.ours(OURS16, "bfloat16", 1),
            self.ours(OURS, "bfloat16", self.cores),
        ]

    def product(self, shape: Sequence[int], precision: str) -> Contestant:
        argv = [sys.executable, "-m", "benchmarks.contestants.matrix_product", "--precision", precision, "--shape"]
        return self.start(f"{precision} {shape}", [*argv, *map(str, shape)])


def as_shipped() -> dict[str, str]:
    """The environment without what would limit threads: the plain loop runs with torch's defaults."""
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def windows_per_second(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[float]]:
    """Let them take turns; the first turn of each warms up and is not counted."""
    for contestant in contestants:
        contestant.run(2)
    speeds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds):
        for contestant in contestants:
            answer = contestant.run(STEPS[contestant.name])
            speeds[contestant.name].append(BATCH * answer["steps"] / answer["seconds"])
        print(f"turn {turn + 1}:", {name: round(speed[-1], 1) for name, speed in speeds.items()}, flush=True)
    return speeds


def flops_of_window() -> float:
    """Floating-point operations of one training window: of the products in the two layers, nothing else.

    Forward, a layer multiplies its input and its state by four gates' weights; backward costs the same once for the
    weights and once for what was multiplied, except the input of the first layer.
    """
    gates = 2 * 4 * HIDDEN * LOOKBACK
    first = gates * (2 * (FEATURES + HIDDEN) + HIDDEN)
    second = gates * 3 * (HIDDEN + HIDDEN)
    return float(first + second)


def peaks(field: Field, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the products, alone on one core and on every core at once: FLOP/s, medians."""
    measured: dict[str, dict[str, Any]] = {}
    for precision in ("float32", "bfloat16"):
        for size, shape, steps in (("large", LARGE, 8), ("small", SMALL, 20000)):
            products = [field.product(shape, precision) for _ in range(field.cores)]
            work = 2 * float(np.prod(shape, dtype=np.int64))
            for product in products:
                product.run(2)
            alone = [work * steps / products[0].run(steps)["seconds"] for _ in range(rounds)]
            together = []
            for _ in range(rounds):
                with ThreadPoolExecutor(field.cores) as pool:
                    answers = list(pool.map(lambda product: product.run(steps), products))  # noqa: B023
                together.append(sum(work * steps / answer["seconds"] for answer in answers))
            measured[f"{precision}, {size}"] = {
                "shape": list(shape),
                "one_core": statistics.median(alone),
                "all_cores": statistics.median(together),
            }
            for product in products:
                product.close()
    return measured


def shares(microseconds: Mapping[str, float]) -> dict[str, float]:
    """Group a profile: which share of the time each kind of work takes."""
    groups = {
        "recurrent kernel, forward": ("mkldnn_rnn_layer",),
        "recurrent kernel, backward": ("mkldnn_rnn_layer_backward",),
        "copies and casts": ("aten::copy_", "aten::cat", "aten::clone", "aten::to", "aten::index"),
        "optimiser": ("Optimizer.step", "aten::_foreach", "aten::_fused"),
    }
    total = sum(microseconds.values())
    found = dict.fromkeys([*groups, "everything else"], 0.0)
    for operation, spent in microseconds.items():
        name = operation.removeprefix("aten::")
        backward = name.startswith("mkldnn_rnn_layer_backward")
        for group, patterns in groups.items():
            if backward != (group == "recurrent kernel, backward") and name.startswith("mkldnn_rnn_layer"):
                continue
            if any(pattern in operation for pattern in patterns):
                found[group] += spent / total
                break
        else:
            found["everything else"] += spent / total
    return found


def table(result: Mapping[str, Any]) -> str:
    """Write the result as Markdown."""
    speeds, ratios, peak = result["windows_per_second"], result["ratios"], result["flops_per_second"]["peak"]
    rows = [
        (name, f"{speed['median']:.0f}", f"{speed['lowest']:.0f} – {speed['highest']:.0f}")
        for name, speed in speeds.items()
    ]
    compared = []
    for entry in ratios:
        spread = f"{entry['lowest']:.1f} – {entry['highest']:.1f}"
        compared.append((entry["of"], entry["to"], f"**{entry['ratio']:.1f}**", spread, f"{entry['reach']:g}"))
    achieved = [
        (
            name,
            f"{reached / 1e9:.0f}",
            f"{peak[f'{precision}, large'][cores] / 1e9:.0f}",
            f"{reached / peak[f'{precision}, large'][cores]:.0%}",
            f"{peak[f'{precision}, small'][cores] / 1e9:.0f}",
            f"{reached / peak[f'{precision}, small'][cores]:.0%}",
        )
        for name, reached in result["flops_per_second"]["achieved"].items()
        for precision, cores in [kind_of(name)]
    ]
    profiled = [(name, f"{share:.0%}") for name, share in result["profile"].items()]
    return "\n\n".join(
        [
            markdown(("training", "windows/s, median", "lowest – highest"), rows),
            markdown(("", "against", "ratio", "lowest – highest", "was to be reached"), compared),
            markdown(
                (
                    "GFLOP/s",
                    "achieved",
                    "one large product",
                    "share of it",
                    "product of the step's size",
                    "share of it",
                ),
                achieved,
            ),
            markdown((f"share of the time of a step ({OURS16})", ""), profiled),
        ]
    )


def kind_of(name: str) -> tuple[str, str]:
    """Say in which precision and on how many cores one of ours runs."""
    return ("float32" if name == OURS32 else "bfloat16", "all_cores" if name == OURS else "one_core")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    """Measure, print, write."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    flags.add_argument("--rounds", type=command.count, default=5, help="turns of each contestant (default: 5)")
    given = flags.parse_args()
    rounds = given.rounds
    began, cores = time.monotonic(), len(os.sched_getaffinity(0))
    folder, text = scratch("throughput"), workload(CHANGES, MODEL)
    prepared = prepare(text, folder)
    np.save(folder / "channels.npy", scaled_channels(prepared, "train"))
    with Field(folder, text, cores) as field:
        speeds = windows_per_second(field.all(), rounds)
    with Field(folder, text, cores) as field:
        peak = peaks(field, rounds)
        profiled = field.ours("profile", "bfloat16", 1, "--profile").run(1)["microseconds"]
    ratios = [
        {"of": of, "to": to, "reach": reach}
        | {"ratio": statistics.median(speeds[of]) / statistics.median(speeds[to])}
        | {"lowest": min(turns), "highest": max(turns)}
        for of, to, reach in RATIOS
        for turns in [[ours / theirs for ours, theirs in zip(speeds[of], speeds[to], strict=True)]]
    ]
    achieved = {name: flops_of_window() * statistics.median(speeds[name]) for name in (OURS32, OURS16, OURS)}
    result = {
        "where": where() | {"peer": peer_versions()},
        "seed": 0,
        "wall_clock_seconds": round(time.monotonic() - began, 1),
        "windows_per_second": {name: summary(turns) | {"turns": turns} for name, turns in speeds.items()},
        "ratios": ratios,
        "flops_per_second": {"achieved": achieved, "peak": peak, "of_one_window": flops_of_window()},
        "profile": shares(profiled),
    }
    write_result("throughput", result, table(result), command.sizes_to_record(flags, given, "rounds"))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
