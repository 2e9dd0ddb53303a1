"""Where code and data came from, as git and DVC know it; both may be absent."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import yaml


def git_state() -> dict[str, str]:
    """Commit of the working folder and whether it holds changes; empty where there is no git or no commit."""
    try:
        answers = [
            subprocess.run(  # noqa: S603  (fixed words)
                ["git", *words],  # noqa: S607  (wherever git is)
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", ".", ":(exclude)dvc.lock"))
        ]
    except (OSError, subprocess.SubprocessError):
        commit = os.environ.get("GATELINE_COMMIT", "unknown")  # which an image carries in place of git
        return {} if commit == "unknown" else {"commit": commit, "dirty": "false"}
    return {"commit": answers[0], "dirty": str(bool(answers[1])).lower()}


def dvc_md5(folder: Path) -> str | None:
    """What `dvc.lock`, of the project or beside the folder, says of a folder, if the folder is still what it says.

    Returns:
        The md5 under which DVC keeps the folder, ending in ``.dir``; None if DVC does not know these bytes.
    """
    outs = {**_outs(Path("dvc.lock")), **_outs(folder.parent / "dvc.lock")}
    recorded = {Path(path).resolve(): md5 for path, md5 in outs.items()}.get(folder.resolve())
    if recorded is None:
        return None
    entries = [
        {"md5": _md5(file), "relpath": file.relative_to(folder).as_posix()}
        for file in folder.rglob("*")
        if file.is_file()
    ]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    actual = hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"
    return actual if actual == recorded else None


def _outs(lock: Path) -> dict[str, str]:
    """md5 of each folder that a lock file knows, by its path from the project's folder."""
    if not lock.is_file():
        return {}
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values()
        return {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
