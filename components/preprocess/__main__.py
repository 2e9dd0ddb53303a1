"""Turn validated raw data into arrays and windows: writes `prepared`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step
from gateline.manifest import open_artifact
from gateline.preprocessing import preprocess
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.preprocess", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--raw", required=True, type=Path, help="folder that ingest wrote")
    flags.add_argument("--report", required=True, type=Path, help="folder that validate wrote")
    flags.add_argument("--prepared", required=True, type=Path, help="folder to write")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the folders, prepare, write the folder."""
    workload = Workload.read(args.workload, step="preprocess")
    preprocess(workload, open_artifact(args.raw, "raw"), open_artifact(args.report, "report"), args.prepared)


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
