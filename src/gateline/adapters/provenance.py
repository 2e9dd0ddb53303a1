"""Where code and data came from, as git, DVC, the image and the door know it; each may be absent."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

import yaml

from gateline.manifest import file_digest

IMAGE, PIPELINE_DIGEST = "GATELINE_IMAGE", "GATELINE_PIPELINE_DIGEST"
"""Set by the compiled pipeline in each of its containers: REPO@sha256:DIGEST, and the digest of the pipeline itself."""
KUBEFLOW_RUN, KUBEFLOW_RUN_TAG = "GATELINE_KUBEFLOW_RUN", "gateline.kubeflow_run"
"""Which run of the pipeline a container belongs to, and the tag that says it in MLflow."""
GPUS = Path("/proc/driver/nvidia/gpus")
VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Flags of a CPU that choose the kernels, and with them the order in which products are summed."""
DVC_FILE, MLFLOW_FILE = "dvc.yaml", "MLproject"


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


def image() -> str | None:
    """Name and digest of the image that this process runs in; None outside one, or where nobody said."""
    return os.environ.get(IMAGE) or None


def pipeline(*, within_mlflow_run: bool) -> dict[str, str | None]:
    """Say which door runs this process, and the digest of the file that says what it does.

    Args:
        within_mlflow_run: `mlflow run` opened a run for this process.

    Returns:
        `door`, `file` from the working folder, and `digest`: sha256 of the file, or what the compiled pipeline says; `file` and
        `digest` are None where a person typed the command.
    """
    if digest := os.environ.get(PIPELINE_DIGEST):
        return {"door": "kubeflow", "file": None, "digest": digest}
    if stage := os.environ.get("DVC_STAGE"):  # e.g. register@rides, or artifacts/rides/dvc.yaml:register
        file, colon, _ = stage.rpartition(":")
        return _file_of_door("dvc", Path(file if colon else DVC_FILE))
    if within_mlflow_run and Path(MLFLOW_FILE).is_file():
        return _file_of_door("mlflow", Path(MLFLOW_FILE))
    return {"door": "command line", "file": None, "digest": None}


def _file_of_door(door: str, path: Path) -> dict[str, str | None]:
    return {"door": door, "file": path.as_posix(), "digest": file_digest(path) if path.is_file() else None}


def machine() -> dict[str, str]:
    """Describe what computes: the same kind rounds the same way, so that a training can be repeated to the byte."""
    cpu = _named_values(Path("/proc/cpuinfo"))
    gpus = [_named_values(path).get("Model", "unknown") for path in sorted(GPUS.glob("*/information"))]
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "vectors": " ".join(name for name in VECTORS if name in cpu.get("flags", "").split()),
        "gpu": ", ".join(gpus),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _named_values(path: Path) -> dict[str, str]:
    """Read lines `name : value`, the last of each name; none where the system has no such file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def run_git(*words: str, folder: Path | None = None, text: str | None = None) -> bytes | None:
    """Ask git; None where there is none, or where it has no such thing."""
    try:
        return subprocess.run(  # noqa: S603  (no shell)
            ["git", *words],  # noqa: S607  (wherever git is)
            cwd=folder,
            input=None if text is None else text.encode(),
            capture_output=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def files_of_commit(commit: str, folder: str, root: Path) -> dict[str, str]:
    """sha256 of every Python file below a folder of the repository, as a commit has it; by its path in the folder."""
    listing = run_git("ls-tree", "-r", commit, "--", folder, folder=root)
    blobs = {}
    for line in (listing or b"").decode().splitlines():
        entry, _, name = line.partition("\t")
        if name.endswith(".py"):
            blobs[name.removeprefix(f"{folder}/")] = entry.split()[2]
    asked = "".join(f"{blob}\n" for blob in blobs.values())
    contents = run_git("cat-file", "--batch", folder=root, text=asked) or b""
    digests, place = {}, 0
    for name in blobs:
        end = contents.index(b"\n", place)
        size = int(contents[place:end].split()[2])
        digests[name] = hashlib.sha256(contents[end + 1 : end + 1 + size]).hexdigest()
        place = end + 1 + size + 1
    return digests


def dvc_md5(folder: Path) -> str | None:
    """What `dvc.lock`, of the project or beside the folder, says of a folder, if the folder is still what it says.

    Returns:
        The md5 under which DVC keeps the folder, ending in ``.dir``; None if DVC does not know these bytes.
    """
    outs = {**_outs(Path("dvc.lock")), **_outs(folder.parent / "dvc.lock")}
    recorded = {Path(path).resolve(): md5 for path, md5 in outs.items()}.get(folder.resolve())
    if recorded is None:
        return None
    return recorded if dvc_md5_of(folder) == recorded else None


def dvc_md5_of(folder: Path) -> str:
    """Compute the md5 under which DVC would keep a folder, ending in ``.dir``."""
    entries = [
        {"md5": _md5(file), "relpath": file.relative_to(folder).as_posix()}
        for file in folder.rglob("*")
        if file.is_file()
    ]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"


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
