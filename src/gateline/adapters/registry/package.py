"""The package of a registered model: every file that MLflow keeps of it, by the sha256 of its bytes.

Whoever loads a model runs code of it: `served_model.py`, whatever stands in `code/`, the loader that `MLmodel` names. So all of
it counts, and not only what Gateline wrote.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gateline.manifest import digest_of, file_digest

PACKAGE_TAG = "gateline.package_digest"
PACKAGES_FOLDER = "packages"
"""Of the run: one listing for each package, named by its digest."""
ADDED_BY_MLFLOW = ("registered_model_meta",)
"""MLflow writes it into the folder of a version that it fetches; it holds the version's name and number."""
BYTECODE = "__pycache__"


def package_files(folder: Path) -> dict[str, str]:
    """List every file of a registered model: sha256 by its path in the folder.

    Bytecode is left out: MLflow leaves it behind where it loads a model from a folder of its store. A link is listed by what it
    points to, so that none can bring in files that are not listed.

    Args:
        folder: of the model, which holds `MLmodel`.
    """
    listing = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != BYTECODE]
        for name in (*names, *folders):
            path = Path(top) / name
            if path.is_symlink():
                listing[path.relative_to(folder).as_posix()] = hashlib.sha256(str(path.readlink()).encode()).hexdigest()
            elif path.is_file():
                listing[path.relative_to(folder).as_posix()] = file_digest(path)
    return {name: listing[name] for name in sorted(listing) if name not in ADDED_BY_MLFLOW}


def package_digest(folder: Path) -> str:
    """Compute the digest that the tag PACKAGE_TAG of a version must say before the folder is loaded.

    Args:
        folder: of the model, which holds `MLmodel`.
    """
    return digest_of(package_files(folder))


def without_bytecode(folder: Path) -> None:
    """Remove what Python compiled, which it would run in place of the source; for a copy that is to be loaded.

    Args:
        folder: a copy of the model's folder.
    """
    for compiled in [path for path in folder.rglob(BYTECODE) if not path.is_symlink()]:
        shutil.rmtree(compiled)


def first_difference(found: Mapping[str, str], listed: Mapping[str, str]) -> str | None:
    """Name the first file that is not as it was registered; None if all are.

    Args:
        found: what `package_files` says now.
        listed: what it said at registration.
    """
    for name in sorted({*found, *listed}):
        if name not in listed:
            return f"{name} was not registered with it"
        if name not in found:
            return f"{name} is gone"
        if found[name] != listed[name]:
            return f"{name} has other bytes than were registered"
    return None
