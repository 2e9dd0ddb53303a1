"""Say how a run of the pipeline ended: in the log, in MLflow, and at the address in GATELINE_WEBHOOK if there is one."""

from __future__ import annotations

import argparse
import sys

from gateline.adapters.door import run_step, tell
from gateline.adapters.kubeflow.pipeline_runs import conclude
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which the pipeline gives."""
    flags = argparse.ArgumentParser(prog="python -m components.conclude", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or the JSON text that ingest gets")
    flags.add_argument("--run", required=True, help="of the pipeline, as Kubeflow numbers it")
    flags.add_argument("--status", required=True, help="JSON: how the steps ended, as Kubeflow says it")
    return flags


def step(args: argparse.Namespace) -> None:
    """Read the status, tell everybody."""
    for line in conclude(Workload.read(args.workload, step="ingest").name, args.run, args.status):
        tell(line)


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
