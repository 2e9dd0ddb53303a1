"""Register the model in MLflow and make it champion if it wins: writes `release`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.registry.inputs import open_inputs
from gateline.adapters.registry.register import register
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.register", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--raw", required=True, type=Path, help="folder that ingest wrote")
    flags.add_argument("--report", required=True, type=Path, help="folder that validate wrote")
    flags.add_argument("--prepared", required=True, type=Path, help="folder that preprocess wrote")
    flags.add_argument("--model", required=True, type=Path, help="folder that train wrote")
    flags.add_argument("--evaluation", required=True, type=Path, help="folder that evaluate wrote")
    flags.add_argument("--release", required=True, type=Path, help="folder to write")
    return flags


def step(args: argparse.Namespace) -> None:
    """Open the folders, register, say what came of it. A challenger that does not win is a result, not a refusal."""
    workload = Workload.read(args.workload, step="register")
    inputs = open_inputs(args.raw, args.report, args.prepared, args.model, args.evaluation)
    for line in register(workload, inputs, args.release).lines:
        tell(line)


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
