"""Fetch the raw files, check them against their sha256, and make the table: writes `raw`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gateline.adapters.door import run_step
from gateline.adapters.ingestion import ingest
from gateline.adapters.progress import fetching_progress
from gateline.workload import Workload
from gateline.workload.source import Source


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.ingest", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--raw", required=True, type=Path, help="folder to write")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the section, fetch, write the folder."""
    workload = Workload.read(args.workload, step="ingest")
    mirror = os.environ.get("GATELINE_MIRROR")
    with fetching_progress() as on_file:
        ingest(workload.section("source", Source), args.raw, mirror=Path(mirror) if mirror else None, on_file=on_file)


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
