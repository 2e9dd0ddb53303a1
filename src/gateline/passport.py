"""The passport: everything that a registered model came from, as digests that can be checked link by link."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from gateline.errors import ArtifactError
from gateline.manifest import Artifact, digest_of, file_digest
from gateline.workload import Workload

FORMAT_VERSION = 2
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
SETTINGS = ("model", "training", "seed", "device", "precision", "processes")
"""Facts of a model that shape its weights, beside the data and the code."""


@cache
def code_version() -> str:
    """sha256 over names and bytes of the core's source files, so that it needs no git and cannot miss a change.

    Adapters and the command line are left out: they bring data in and take results out, and what they bring has digests of
    its own. A changed help text shall not look like another model.
    """
    return version_of(Path(__file__).parent)


def version_of(package: Path) -> str:
    """Compute `code_version` of another copy of the package, e.g. the one that was registered with a model."""
    return version_of_files((path.relative_to(package).as_posix(), file_digest(path)) for path in package.rglob("*.py"))


def version_of_files(files: Iterable[tuple[str, str]]) -> str:
    """Compute `code_version` of files given by their name in the package and their sha256."""
    digest = hashlib.sha256()
    for name, sha256 in sorted(files, key=lambda file: PurePosixPath(file[0]).parts):
        if PurePosixPath(name).parts[0].removesuffix(".py") not in NOT_CORE:
            digest.update(f"{name}\0{sha256}\n".encode())
    return digest.hexdigest()


def workload_of(workload: Workload, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """Put together the workload that made a model: each section as the folder says that was made by it.

    Register sees the section `gates` alone, behind every door, and the file may have changed since; the folders have not.

    Args:
        workload: as register read it; its gates are those that let the model in.
        artifacts: `raw`, `report`, `prepared`, `model` and `evaluation`, by kind.

    Returns:
        A workload, as `Workload.read` takes it, with every section that a step reads.

    Raises:
        ArtifactError: a folder does not say by what it was made.
    """
    facts = {kind: artifact.facts for kind, artifact in artifacts.items()}
    try:
        judged_by = _sections(facts["evaluation"]["sections"])
        if judged_by["gates"] != _sections(workload.recorded("gates"))["gates"]:
            del judged_by["gates"]
        return {
            "name": workload.name,
            "task": workload.task,
            "description": facts["evaluation"]["description"],
            "source": facts["raw"]["source"],
            **_sections(facts["report"]["sections"]),
            **_sections(facts["prepared"]["sections"]),
            "model": facts["model"]["model"],
            "training": facts["model"]["training"],
            **_sections(workload.recorded("gates")),
            **judged_by,
        }
    except KeyError as error:
        raise ArtifactError(
            artifacts["raw"].path.parent,
            expected="folders that say by which settings they were made",
            found=f"none that says {error}, so they are older than passports",
            do="Run the steps again",
        ) from error


def _sections(recorded: Mapping[str, str]) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in recorded.items()}


def workload_text(workload: Mapping[str, Any]) -> str:
    """Write what `workload_of` says as JSON text; the order of its keys is that of the file, since columns have an order."""
    return json.dumps(workload, indent=2, ensure_ascii=False) + "\n"


def make_passport(
    workload: Mapping[str, Any],
    artifacts: Mapping[str, Artifact],
    *,
    dvc: Mapping[str, str],
    git: Mapping[str, str],
    training_code: str | None,
    verdict: Mapping[str, Any],
    place: Mapping[str, Any],
    served: Mapping[str, Any],
    lock_file: Path = Path(LOCK_FILE),
) -> dict[str, Any]:
    """Write down what a model came from.

    Args:
        workload: what `workload_of` says.
        artifacts: `raw`, `report`, `prepared`, `model` and `evaluation`, by kind.
        dvc: md5 under which DVC keeps each folder, where it does.
        git: commit and dirty flag, where there is git.
        training_code: `code_version` when the model was trained, which may be older than now; None if the model does not say.
        verdict: what register said of the evaluation, under the gates as they are now.
        place: `machine` that trained it, `images` of the steps by name, and `pipeline` that ran them.
        served: what serving needs: `requirements` and `signature`.
        lock_file: exact versions of the libraries, where there is one.
    """
    model, raw = artifacts["model"].facts, artifacts["raw"]
    return {
        "format": FORMAT_VERSION,
        "workload": {"name": workload["name"], "task": workload["task"], "digest": _digest(workload_text(workload))},
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
        **place,
        "settings": {name: model.get(name) for name in SETTINGS},
        "seed": model.get("seed"),
        "python": platform.python_version(),
        "libraries": versions(LIBRARIES),
        "served": dict(served),
        "verdict": {**verdict, "digest": digest_of(dict(verdict))},
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of distributions; one that is not installed is left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
