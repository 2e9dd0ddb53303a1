"""The environment that a registered model is tried in: its own requirements and nothing else, built once and kept.

    CACHE/gateline/environments/
    └── DIGEST/          a virtual environment, DIGEST of Python's version and the requirements
        └── last_used    whose time says when

CACHE is XDG_CACHE_HOME, or ~/.cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateline.adapters.container_engine import engine_with
from gateline.adapters.provenance import image
from gateline.errors import TryAgainError
from gateline.workload.address import without_users

KEEP = 3
UNUSED_SECONDS = 86_400.0
"""An environment is removed only when it is not among the KEEP newest and nobody used it for a day."""
BUILD_SECONDS = 1800
RUN = ("run", "--rm", "--interactive", "--network", "none")
"""A model that is asked needs no network."""


@dataclass(frozen=True)
class Interpreter:
    """The Python that a registered model is tried with.

    Args:
        command: how to start it.
        environment: what it is: ``process``, ``fresh``, ``process in IMAGE`` or ``container of IMAGE``.
    """

    command: list[str]
    environment: str


def python_for(
    environment: str, requirements: Sequence[str], say: Callable[[str], None], *, reads: Sequence[Path] = ()
) -> Interpreter:
    """Choose the Python that a registered model is tried with.

    Where an image is named, it is that of the image, which serves: in a container of its own where an engine has the image,
    else this one. It is this one, too, where Python came without pip.

    Args:
        environment: `gates.serving.environment`.
        requirements: lines of the model's requirements.txt.
        say: takes one line of progress.
        reads: folders and files that it must be able to read at the same paths.

    Raises:
        TryAgainError: the environment cannot be built, most often because the package index does not answer.
    """
    if environment == "process":
        return Interpreter([sys.executable], "process")
    if name := image():
        engine = engine_with(name)
        if engine is None:
            return Interpreter([sys.executable], f"process in {name}")
        mounts = [word for path in reads for word in ("--volume", f"{path}:{path}:ro")]
        return Interpreter([engine, *RUN, *mounts, name, "python"], f"container of {name}")
    if not all(importlib.util.find_spec(module) is not None for module in ("venv", "ensurepip")):
        say(
            "this Python has no module venv (a package python3-venv may have it): the version is tried in a process with the "
            "libraries that are here, not in a fresh environment"
        )
        return Interpreter([sys.executable], "process")
    return Interpreter([str(fresh_environment(requirements, say) / "bin" / "python")], "fresh")


def environments() -> Path:
    """Folder of the environments."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gateline" / "environments"


def fresh_environment(requirements: Sequence[str], say: Callable[[str], None]) -> Path:
    """Find the environment of these requirements, or build it: whole or not at all.

    Raises:
        TryAgainError: pip could not install them.
    """
    text = "".join(f"{line}\n" for line in requirements)
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()}\n{text}".encode()).hexdigest()
    folder = environments() / digest[:16]
    if not (folder / "last_used").is_file():
        say("building a fresh environment from the model's requirements, once: a minute or two")
        draft = folder.with_name(f"{folder.name}.tmp{os.getpid()}")
        _remove_drafts(folder.parent)
        try:
            _build(draft, text)
            if not (folder / "last_used").is_file():  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    (folder / "last_used").touch()
    _prune(folder.parent)
    return folder


def _build(draft: Path, requirements: str) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    outside = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    listed = draft / "requirements.txt"
    python = str(draft / "bin" / "python")
    install = [
        python,
        "-I",
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-input",
        "-r",
        str(listed),
    ]
    for command in ([sys.executable, "-I", "-m", "venv", str(draft)], install):
        try:
            done = subprocess.run(  # noqa: S603  (this very Python, and pip)
                command,
                check=False,
                env=outside,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
                stdin=subprocess.DEVNULL,
            )
            problem = "" if done.returncode == 0 else done.stderr or done.stdout or f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"no end after {BUILD_SECONDS} s"
        if problem:
            lines = [line for line in problem.splitlines() if line.startswith("ERROR")] or problem.strip().splitlines()[
                -1:
            ]
            raise TryAgainError(
                "gates.serving.environment: fresh",
                expected=f"pip to install {', '.join(requirements.split())}",
                found=without_users(" ".join(lines[-1].split()))[:240],
                do="Run again when the package index answers, or say `environment: process`",
            )
        listed.write_text(requirements, encoding="utf-8")
    (draft / "last_used").touch()


def _remove_drafts(folder: Path) -> None:
    """Remove what processes left that were killed while they built, each with a copy of torch."""
    for draft in folder.glob("*.tmp*"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - draft.stat().st_mtime > 2 * BUILD_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def _prune(folder: Path) -> None:
    used = sorted(folder.glob("*/last_used"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in used[KEEP:]:
        if time.time() - path.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(path.parent, ignore_errors=True)
