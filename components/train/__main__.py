"""Train the network: writes `model`. A run that was stopped, at any step, goes on from its checkpoint, on a CPU to the same bytes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters import tracking
from gateline.adapters.checkpoint_store import open_writable_store
from gateline.adapters.door import run_step, stop_between_steps
from gateline.adapters.process_group import joined_processes, must_start, process_group, start_processes, words_of
from gateline.adapters.progress import training_progress
from gateline.adapters.several_nodes.step import trained_on_nodes
from gateline.manifest import open_artifact
from gateline.training import RunSettings, help_train, key_of, not_refused, settings_of_weights, train
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.train", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--prepared", required=True, type=Path, help="folder that preprocess wrote")
    flags.add_argument("--model", required=True, type=Path, help="folder to write")
    flags.add_argument("--seed", required=True, type=int, help="of initial weights, order of batches and dropout")
    flags.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    flags.add_argument("--precision", default="float32", help="float32, bfloat16, float16 or auto (default: float32)")
    flags.add_argument("--processes", default=1, type=int, help="that share every batch (default: 1; torchrun says it)")
    flags.add_argument("--checkpoints", default="beside", help="folder or address (default: beside the model folder)")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the folder, train, write the folder; log curves while it goes on, and the rest when it is complete."""
    workload, prepared = Workload.read(args.workload, step="train"), open_artifact(args.prepared, "prepared")
    if trained_on_nodes(workload, prepared, args):
        return
    run = RunSettings(args.seed, args.device, args.precision, joined_processes(args.processes, args.device))
    settings = settings_of_weights(workload, run)
    store = not_refused(open_writable_store(args.checkpoints, args.model, key_of(prepared, settings)))
    if must_start(args.processes):
        sys.exit(start_processes("components.train", words_of(vars(args)), args.processes))
    with process_group(args.device) as group, stop_between_steps() as stop:
        if not group.first:
            help_train(workload, prepared, run, group, stop)
            return
        with tracking.training(workload.name, prepared, settings) as log, training_progress(workload) as shown:
            model = train(
                *(workload, prepared, args.model, run, (log, shown.on_epoch), shown.on_step),
                stop=stop,
                processes=group,
                checkpoints=store,
            )
    tracking.log_training(workload.name, prepared, model)
    store.clear()  # only now: if MLflow did not answer, the same command finds the finished training here and logs it


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
