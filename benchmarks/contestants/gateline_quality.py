"""This project's training, told of after every epoch with the seconds of training until then, without validation."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.contestants.turnstile import Turnstile
from gateline.adapters.process_group import must_start, process_group, start_processes
from gateline.manifest import open_artifact
from gateline.training import RunSettings, help_train, train
from gateline.workload import Workload


class Clock:
    """Counts the seconds between the end of a validation (or the start) and the last step before the next one."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.trained, self.began = 0.0, time.perf_counter()

    def on_step(self, step: int, steps: int, _loss: float) -> None:
        if step == steps:
            self.trained += time.perf_counter() - self.began

    def on_epoch(self, record: Mapping[str, float]) -> None:
        self.turnstile.answer({"seconds": self.trained, "mse": record["validation_mse_scaled"]})
        self.began = time.perf_counter()


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workload", required=True, help="its JSON text")
    flags.add_argument("--prepared", required=True, type=Path)
    flags.add_argument("--model", required=True, type=Path)
    flags.add_argument("--processes", required=True, type=int)
    given = flags.parse_args()
    if must_start(given.processes):
        return start_processes("benchmarks.contestants.gateline_quality", sys.argv[1:], given.processes)
    workload, prepared = Workload.read(given.workload, "train"), open_artifact(given.prepared, "prepared")
    run = RunSettings(0, "cpu", "bfloat16", given.processes)
    with process_group("cpu") as processes:
        if not processes.first:
            help_train(workload, prepared, run, processes)
            return 0
        clock = Clock(Turnstile())
        train(workload, prepared, given.model, run, [clock.on_epoch], clock.on_step, processes=processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
