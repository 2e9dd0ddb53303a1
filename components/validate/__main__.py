"""Judge the table against the schema: writes `report`, whatever the verdict. The next step refuses a bad one."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateline.adapters import tracking
from gateline.adapters.door import run_step, tell
from gateline.adapters.expectations import validate
from gateline.manifest import open_artifact
from gateline.workload import Workload


def parser() -> argparse.ArgumentParser:
    """Name the flags, which every door gives."""
    flags = argparse.ArgumentParser(prog="python -m components.validate", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or its JSON text")
    flags.add_argument("--raw", required=True, type=Path, help="folder that ingest wrote")
    flags.add_argument("--report", required=True, type=Path, help="folder to write")
    flags.add_argument(
        "--as-of",
        type=instant,
        default=None,
        help="ISO 8601 moment, UTC unless it has an offset, that `freshness.max_age` is measured against (default: now)",
    )
    return flags


def instant(text: str) -> datetime:
    """Read a moment; without an offset it is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def step(args: argparse.Namespace) -> None:
    """Read the section and the table, judge, write the folder."""
    workload = Workload.read(args.workload, step="validate")
    report = validate(workload, args.raw, args.report, as_of=args.as_of or datetime.now(UTC))
    tell(f"{report.summary()} Report: {args.report / 'report.html'}")
    tracking.log_report(workload.name, open_artifact(args.raw, "raw"), open_artifact(args.report, "report"))


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
