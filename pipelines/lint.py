"""Look at a compiled pipeline: `python -m pipelines.lint FILE.yaml`; compile writes none that this objects to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.kubeflow.compiled import require_usable


def parser() -> argparse.ArgumentParser:
    """Name the flags."""
    flags = argparse.ArgumentParser(prog="python -m pipelines.lint", description=__doc__)
    flags.add_argument("pipeline", type=Path, metavar="FILE.yaml")
    return flags


def lint(args: argparse.Namespace) -> None:
    """Look at one file."""
    require_usable(args.pipeline)
    tell(f"{args.pipeline}: nothing to object to")


if __name__ == "__main__":
    sys.exit(run_step(parser(), lint))
