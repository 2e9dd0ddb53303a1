"""The files of a registered version, checked to be those that were registered."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateline.adapters.registry.package import PACKAGE_TAG, package_digest
from gateline.adapters.registry.versions import MODEL_TAG, SERVED_FOLDER, WEIGHTS
from gateline.errors import ArtifactError, RegistryError, TryAgainError
from gateline.manifest import Artifact, file_digest, open_artifact
from gateline.workload.address import without_users

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@contextmanager
def model_files(name: str, version: ModelVersion) -> Iterator[Artifact]:
    """Fetch the model folder of a version, checked to be what was registered.

    Raises:
        RegistryError: its files are gone or changed, or Gateline did not register it.
        TryAgainError: the store of the files did not give them this time.
    """
    import yaml

    where = f"{name} version {version.version}"
    do = f"Nothing was changed. Put the files back, or name another version: `gateline history {name}`"
    with tempfile.TemporaryDirectory() as scratch:
        top = fetch(version, Path(scratch), do=do)
        try:
            flavor = yaml.safe_load((top / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
            model = open_artifact(top / flavor["artifacts"][SERVED_FOLDER]["path"], "model")
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, ArtifactError) as error:
            found = " ".join(without_users(error).replace(f"{scratch}/", "").split())[:200]
            raise RegistryError(where, expected="the files of this version", found=found, do=do) from error
        if model.digest != version.tags.get(MODEL_TAG):
            raise RegistryError(
                where, expected="the model that was registered", found="another one in its place", do=do
            )
        wanted = version.tags.get(PACKAGE_TAG)  # none of a version from before there was such a tag
        if wanted and package_digest(top) != wanted:
            raise RegistryError(
                where,
                expected="the files that were registered",
                found="other code beside the model, or a file too many or too few",
                do=do,
            )
        yield model


def fetch(version: ModelVersion, folder: Path, *, do: str) -> Path:
    """Download the files of a version into a folder, unchecked.

    Args:
        version: whose files.
        folder: receives them.
        do: the next thing to try where they are gone.

    Returns:
        Where the logged model stands.

    Raises:
        RegistryError: its files are gone.
        TryAgainError: the store of the files did not give them this time.
    """
    import mlflow

    where = f"{version.name} version {version.version}"
    try:
        address = f"models:/{version.name}/{version.version}"
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    except Exception as error:  # the client of each kind of store raises errors of its own
        found = " ".join(without_users(error).replace(f"{folder}/", "").split())[:200]
        if is_gone(error):
            raise RegistryError(where, expected="the files of this version", found=found, do=do) from error
        raise TryAgainError(
            where,
            expected="the files of this version from where MLflow keeps them",
            found=found,
            do="Nothing was changed; run the same command again",
        ) from error


def is_gone(error: BaseException | None) -> bool:
    """Say whether a store answered that something is not there; any other error may be gone the next time."""
    while error is not None:
        answer = getattr(error, "response", None)  # of requests, of botocore
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
        if (
            isinstance(error, FileNotFoundError | NotADirectoryError)
            or getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
            or (status or getattr(answer, "status_code", None)) in (404, 410)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def same_weights(one: Artifact, other: Artifact) -> bool:
    """Say whether two model folders hold the same weights, whatever else differs."""
    return file_digest(one.path / WEIGHTS) == file_digest(other.path / WEIGHTS)
