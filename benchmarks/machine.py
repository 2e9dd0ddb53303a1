"""Say on what, and on which commit, a figure was measured; a figure without it is hearsay."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN_DIGITS = 10  # of a commit
LIBRARIES = ("torch", "numpy", "scikit-learn")


def where() -> dict[str, object]:
    """Describe machine, libraries and commit."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "commit": _git("rev-parse", "HEAD")
        + ("-dirty" if _git("status", "--porcelain", "--", "src", "workloads") else ""),
    }


def shown_commits(places: Iterable[Mapping[str, object]]) -> str:
    """Name the commits of what `where` described, shortened; ``-dirty`` stays, for such a figure is of no commit.

    Example:
        >>> shown_commits([{"commit": "2f0d285e14aa43f7-dirty"}])
        'commit 2f0d285e14-dirty'
    """
    parted = [str(place["commit"]).partition("-") for place in places]
    names = list(dict.fromkeys(f"{name[:SHOWN_DIGITS]}{dash}{suffix}" for name, dash, suffix in parted))
    return f"commit{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _git(*argv: str) -> str:
    return subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
