"""Seconds of training until the validation MSE of ETTh1, horizon 96, falls below two levels: ``python -m benchmarks.time_to_quality``.

The workload `etth1` as it stands, with one process per core; neuralforecast's LSTM with the settings of its own documentation
(two layers of 128, a decoder of two layers, windows scaled robustly, batches of 128 windows) and flush-denormal in its
favour; NLinear trained as published, and in closed form. One after the other, each alone on the machine. Validation is
the same for all, every window of the part, and its time is not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.contestants.turnstile import Contestant
from benchmarks.etth1_workload import prepare, scaled_channels, scratch, workload
from benchmarks.machine import where
from benchmarks.peer import peer_environment, peer_python, peer_versions
from benchmarks.tables import markdown, write_result

LEVELS = (0.66, 0.64)
VALIDATION = 2880  # hours
OURS, PEER = "gateline, workload etth1", "neuralforecast 3.3 LSTM"
TRAINED, CLOSED = "NLinear, trained", "NLinear, closed form"


def watch(contestant: Contestant, cap: float) -> dict[str, Any]:
    """Follow a contestant until it is below the last level, has trained for `cap` seconds, or has ended."""
    looks: list[dict[str, float]] = []
    ended = False
    while not looks or (looks[-1]["seconds"] < cap and min(look["mse"] for look in looks) >= LEVELS[-1]):
        try:
            looks.append(contestant.hear())
        except RuntimeError:  # it has ended
            if not looks:
                raise
            ended = True
            break
        print(f"{contestant.name}: {looks[-1]}", flush=True)
    contestant.close()
    reached = {str(level): next((look["seconds"] for look in looks if look["mse"] < level), None) for level in LEVELS}
    best = min(looks, key=lambda look: look["mse"])
    return {
        "seconds_until": reached,
        "best": best,
        "ended": ended,
        "trained_seconds": looks[-1]["seconds"],
        "looks": looks,
    }


def table(contestants: dict[str, dict[str, Any]]) -> str:
    """Write the result as Markdown."""
    rows = []
    for name, found in contestants.items():
        times = [
            never_or_late(found) if seconds is None else f"{seconds:.1f} s"
            for seconds in found["seconds_until"].values()
        ]
        rows.append((name, *times, f"{found['best']['mse']:.3f} after {found['best']['seconds']:.1f} s"))
    return markdown(("training", *(f"below {level:.2f}" for level in LEVELS), "best seen"), rows)


def never_or_late(found: dict[str, Any]) -> str:
    """Say whether a contestant came to its end, or was stopped."""
    return "never" if found["ended"] else f"not within {found['trained_seconds']:.0f} s"


def main() -> None:
    """Measure, print, write."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.time_to_quality", description=__doc__)
    flags.add_argument(
        "--cap", type=command.seconds, default=150.0, help="seconds of training, for each (default: 150)"
    )
    given = flags.parse_args()
    cap = given.cap
    began, cores, folder, text = (
        time.monotonic(),
        len(os.sched_getaffinity(0)),
        scratch("time-to-quality"),
        workload({}),
    )
    prepared = prepare(text, folder)
    np.save(folder / "channels.npy", scaled_channels(prepared, "validation"))
    data = ["--channels", str(folder / "channels.npy"), "--validation", str(VALIDATION)]
    ours = ["--workload", text, "--prepared", str(folder / "prepared"), "--model", str(folder / "model")]
    modules: dict[str, tuple[Sequence[str | Path], dict[str, str]]] = {
        OURS: (["gateline_quality", *ours, "--processes", str(cores)], dict(os.environ)),
        PEER: (["neuralforecast_lstm", *data, "--flush-denormal"], peer_environment()),
        TRAINED: (["nlinear", *data], dict(os.environ)),
        CLOSED: (["nlinear", *data, "--closed-form"], dict(os.environ)),
    }
    found = {}
    for name, ((module, *argv), environment) in modules.items():
        python = peer_python() if name == PEER else sys.executable
        words = [python, "-m", f"benchmarks.contestants.{module}", *argv]
        found[name] = watch(Contestant(name, words, environment, folder / f"{module}.log"), cap)
    result = {
        "where": where() | {"peer": peer_versions()},
        "seed": 0,
        "cap_seconds": cap,
        "wall_clock_seconds": round(time.monotonic() - began, 1),
        "contestants": found,
    }
    write_result("time_to_quality", result, table(found), command.sizes_to_record(flags, given, "cap"))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
