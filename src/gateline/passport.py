"""The passport: everything that a registered model came from, as digests that can be checked link by link."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from gateline.manifest import Artifact, digest_of, file_digest
from gateline.workload import Workload

FORMAT_VERSION = 1
LOCK_FILE = "requirements.lock"
LIBRARIES = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "mlflow",
    "great-expectations",
    "duckdb",
    "dvc",
)


NOT_CORE = ("adapters", "cli")


@cache
def code_version() -> str:
    """sha256 over names and bytes of the core's source files, so that it needs no git and cannot miss a change.

    Adapters and the command line are left out: they bring data in and take results out, and what they bring has digests of
    its own. A changed help text shall not look like another model.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0].removesuffix(".py") in NOT_CORE:
            continue
        digest.update(f"{path.relative_to(package).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def make_passport(
    workload: Workload,
    artifacts: Mapping[str, Artifact],
    *,
    dvc: Mapping[str, str],
    git: Mapping[str, str],
    training_code: str,
    verdict: Mapping[str, Any],
    lock_file: Path = Path(LOCK_FILE),
) -> dict[str, Any]:
    """Write down what a model came from.

    Args:
        workload: as register read it.
        artifacts: `raw`, `report`, `prepared`, `model` and `evaluation`, by kind.
        dvc: md5 under which DVC keeps each folder, where it does.
        git: commit and dirty flag, where there is git.
        training_code: `code_version` when the model was trained, which may be older than now.
        verdict: what evaluate said.
        lock_file: exact versions of the libraries, where there is one.
    """
    sections = json.loads(json.dumps(dict(workload.sections), default=str))
    model = artifacts["model"].facts
    raw = artifacts["raw"]
    return {
        "format": FORMAT_VERSION,
        "workload": {
            "name": workload.name,
            "task": workload.task,
            "sections": sorted(sections),
            "digest": digest_of({"name": workload.name, "task": workload.task, "sections": sections}),
        },
        "raw": {
            "digest": raw.digest,
            "files": {
                path.relative_to(raw.path).as_posix(): file_digest(path)
                for path in sorted((raw.path / "files").rglob("*"))
                if path.is_file()
            },
        },
        "artifacts": {
            kind: {"digest": artifact.digest, "inputs": dict(artifact.inputs)} for kind, artifact in artifacts.items()
        },
        "dvc_md5": dict(dvc),
        "code": {"version": code_version(), "trained": training_code, **git},
        "lock_file": file_digest(lock_file) if lock_file.is_file() else None,
        "settings": {name: model.get(name) for name in ("model", "training", "device", "precision")},
        "seed": model.get("seed"),
        "python": platform.python_version(),
        "libraries": versions(LIBRARIES),
        "verdict": {**verdict, "digest": digest_of(dict(verdict))},
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of distributions; one that is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
