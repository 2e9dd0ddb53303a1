"""The library that the project is compared with, neuralforecast, in an environment of its own.

It is no dependency of the project: ``python -m benchmarks.peer`` makes the environment (one to three minutes, 2 GB), and
every benchmark that needs it makes it on first use.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.machine import ROOT

REQUIREMENTS = ROOT / "benchmarks" / "requirements-peer.txt"
ENVIRONMENT = ROOT / "build" / "peer"
LIBRARIES = ("torch", "neuralforecast", "pytorch-lightning", "numpy", "pandas")


def peer_python() -> Path:
    """Return the interpreter that can import neuralforecast; make its environment if it is missing or out of date."""
    python, installed = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.is_file() or installed.read_text() != wanted:
        print(f"making {ENVIRONMENT.relative_to(ROOT)} from {REQUIREMENTS.relative_to(ROOT)}", file=sys.stderr)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        # torch by itself and first: whatever build of it pip finds nearest is then the one that the rest accepts.
        for what in ([wanted_torch(wanted)], ["-r", str(REQUIREMENTS)]):
            subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *what], check=True)
        installed.write_text(wanted)
    return python


def wanted_torch(requirements: str) -> str:
    """Find the line of torch."""
    return next(line for line in requirements.splitlines() if line.startswith("torch=="))


def peer_versions() -> dict[str, str]:
    """Say which versions the environment holds."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {LIBRARIES!r}}}))"
    printed = subprocess.run([peer_python(), "-c", code], check=True, capture_output=True, text=True).stdout
    versions: dict[str, str] = json.loads(printed)
    return versions


def peer_environment() -> dict[str, str]:
    """Give its processes the repository on their path, and none of the project's own environment."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"PYTHONPATH": str(ROOT)}


if __name__ == "__main__":
    print(json.dumps(peer_versions(), indent=2))
