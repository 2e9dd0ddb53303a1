"""Measure a model on the untouched test part, beside the baselines: writes `evaluation`, with its verdict."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters import tracking
from gateline.adapters.door import run_step, tell
from gateline.evaluation import evaluate, summary
from gateline.manifest import open_artifact
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.evaluate", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--prepared", required=True, type=Path, help="folder that preprocess wrote")
    flags.add_argument("--model", required=True, type=Path, help="folder that train wrote")
    flags.add_argument("--evaluation", required=True, type=Path, help="folder to write")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the folders, evaluate, write the folder."""
    workload = Workload.read(args.workload, step="evaluate")
    prepared, model = open_artifact(args.prepared, "prepared"), open_artifact(args.model, "model")
    evaluation = evaluate(workload, prepared, model, args.evaluation)
    tracking.log_evaluation(workload.name, prepared, model, evaluation)
    tell(f"{summary(evaluation)} Report: {args.evaluation / 'report.html'}")


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
