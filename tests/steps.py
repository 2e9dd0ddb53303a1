"""Run the steps' own command lines, in this process or in one of their own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from gateline.adapters.door import run_step

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("ingest", "validate", "preprocess", "train", "evaluate", "register")
KINDS = ("raw", "report", "prepared", "model", "evaluation", "release")
READS = {
    "ingest": (),
    "validate": ("raw",),
    "preprocess": ("raw", "report"),
    "train": ("prepared",),
    "evaluate": ("prepared", "model"),
    "register": ("raw", "report", "prepared", "model", "evaluation"),
}
KIND_OF = dict(zip(STEPS, KINDS, strict=True))


def argv_of(step: str, workload: Path | str, artifacts: Path) -> list[str]:
    """The arguments that every door gives to a step."""
    argv = ["--workload", str(workload)]
    for kind in (*READS[step], KIND_OF[step]):
        argv += [f"--{kind}", str(artifacts / kind)]
    return argv + (["--seed", "7", "--device", "cpu", "--precision", "float32"] if step == "train" else [])


def run_here(step: str, workload: Path | str, artifacts: Path) -> int:
    """Run a step in this process; return its exit code."""
    door = importlib.import_module(f"components.{step}.__main__")
    return run_step(door.parser(), door.step, argv_of(step, workload, artifacts))


def run_until(last: str, workload: Path | str, artifacts: Path) -> tuple[str, int]:
    """Run the steps in order up to `last`, or to the first that does not end with 0; return its name and exit code."""
    for step in STEPS[: STEPS.index(last) + 1]:
        code = run_here(step, workload, artifacts)
        if code != 0:
            return step, code
    return last, 0


def start(
    step: str, workload: Path | str, artifacts: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a step in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"components.{step}", *argv_of(step, workload, artifacts)],
        cwd=artifacts.parent,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_apart(
    step: str, workload: Path | str, artifacts: Path, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a step in a process of its own; return its exit code and what it said on stderr."""
    process = start(step, workload, artifacts, env)
    _, said = process.communicate(timeout=300)
    return process.returncode, said
