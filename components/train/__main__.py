"""Train the network: writes `model`. A run that was stopped goes on from its last finished epoch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters import tracking
from gateline.adapters.door import run_step
from gateline.adapters.progress import training_progress
from gateline.manifest import open_artifact
from gateline.training import RunSettings, forget_checkpoint, settings_of_weights, train
from gateline.workload import Workload
from gateline.workload.training import Training


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.train", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--prepared", required=True, type=Path, help="folder that preprocess wrote")
    flags.add_argument("--model", required=True, type=Path, help="folder to write; checkpoints lie in MODEL.checkpoint")
    flags.add_argument("--seed", required=True, type=int, help="of initial weights, order of batches and dropout")
    flags.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    flags.add_argument("--precision", default="float32", help="float32, bfloat16, float16 or auto (default: float32)")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the folder, train, write the folder; log curves while it goes on, and the rest when it is complete."""
    workload = Workload.read(args.workload, step="train")
    prepared = open_artifact(args.prepared, "prepared")
    run = RunSettings(args.seed, args.device, args.precision)
    epochs = workload.section("training", Training).epochs
    settings = settings_of_weights(workload, run)
    with tracking.training(workload.name, prepared, settings) as log_epoch, training_progress(epochs) as progress:
        told = (log_epoch, progress.on_epoch)
        model = train(workload, prepared, args.model, run, on_epoch=told, on_step=progress.on_step)
    tracking.log_training(workload.name, prepared, model)
    # Only now: if MLflow did not answer, the same command finds the finished training here and logs it.
    forget_checkpoint(args.model)


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
