"""Ask whether data, code, settings or champion have changed since the last run that ended well; writes yes or no for the pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateline.adapters.door import run_step, tell
from gateline.adapters.kubeflow.pipeline_runs import Question, ask
from gateline.workload import Workload
from gateline.workload.source import Source


def parser() -> argparse.ArgumentParser:
    """Name the flags, which the pipeline gives."""
    flags = argparse.ArgumentParser(prog="python -m components.ask", description=__doc__)
    flags.add_argument("--workload", required=True, help="workload file, or the JSON text that ingest gets")
    flags.add_argument("--run", required=True, help="of the pipeline, as Kubeflow numbers it")
    flags.add_argument("--data-digest", required=True, help="of what the workload pins of the raw files")
    flags.add_argument("--code-version", required=True, help="digest of the library's source")
    flags.add_argument("--settings-digest", required=True, help="of all sections and run-wide settings")
    flags.add_argument("--only-if-changed", required=True, choices=("true", "false"), help="false: the answer is yes")
    flags.add_argument("--go", required=True, type=Path, help="file to write: yes or no")
    return flags


def step(args: argparse.Namespace) -> None:
    """Ask, write the answer, say why."""
    workload = Workload.read(args.workload, step="ingest")
    question = Question(args.run, args.data_digest, args.code_version, args.settings_digest)
    files = workload.section("source", Source).files
    go, reason = ask(workload.name, files, question, only_if_changed=args.only_if_changed == "true")
    args.go.parent.mkdir(parents=True, exist_ok=True)
    args.go.write_text("yes" if go else "no", encoding="utf-8")
    tell(f"{workload.name}: {'runs' if go else 'ends early'}: {reason}")


if __name__ == "__main__":
    sys.exit(run_step(parser(), step))
