"""This project's training step, through the function that ``python -m components.train`` calls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants.turnstile import Turnstile
from gateline.adapters.process_group import must_start, process_group, start_processes
from gateline.manifest import open_artifact
from gateline.training import RunSettings, help_train, train
from gateline.workload import Workload


class Pass:
    """Stands at the turnstile whenever the loop tells of progress; the steps before the first time are the warm-up."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.seen = 0

    def on_step(self, step: int, _steps: int, _loss: float) -> None:
        """Count the steps since the last time."""
        if self.seen:
            self.turnstile.passed(step - self.seen)
        else:
            self.turnstile.wait()
        self.seen = step


class Profile:
    """Profiles the steps between the second and the third time that the loop tells of progress, answers, and ends."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.calls = 0
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def on_step(self, _step: int, _steps: int, _loss: float) -> None:
        self.calls += 1
        if self.calls == 2:
            self.turnstile.wait()
            self.profiler.start()
        elif self.calls == 3:
            self.profiler.stop()
            spent = {event.key: event.self_cpu_time_total for event in self.profiler.key_averages()}
            self.turnstile.answer({"microseconds": spent})
            self.turnstile.passed(10**9)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workload", required=True, help="its JSON text")
    flags.add_argument("--prepared", required=True, type=Path)
    flags.add_argument("--model", required=True, type=Path)
    flags.add_argument("--precision", required=True)
    flags.add_argument("--processes", default=1, type=int)
    flags.add_argument("--profile", action="store_true")
    given = flags.parse_args()
    if must_start(given.processes):
        return start_processes("benchmarks.contestants.gateline_lstm", sys.argv[1:], given.processes)
    workload, prepared = Workload.read(given.workload, "train"), open_artifact(given.prepared, "prepared")
    run = RunSettings(0, "cpu", given.precision, given.processes)
    with process_group("cpu") as processes:
        if not processes.first:
            help_train(workload, prepared, run, processes, lambda: False)
            return 0
        turnstile = Turnstile()
        listener = Profile(turnstile) if given.profile else Pass(turnstile)
        train(workload, prepared, given.model, run, on_step=listener.on_step, processes=processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
