"""Artifacts on their way through an object store: a folder there is complete when its manifest is, as on a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from gateline.adapters.addresses import open_address, tried
from gateline.errors import WorkloadError
from gateline.manifest import MANIFEST, Artifact, open_artifact

T = TypeVar("T")


class Shipment:
    """A folder at an address that every node can reach.

    Args:
        address: such as ``s3://bucket/checkpoints/NAME/model``.

    Raises:
        WorkloadError: it is no address, holds a user or a password, or fsspec does not know its kind.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        if "://" not in address:
            raise WorkloadError(
                "--checkpoints",
                expected="an address that every node can reach, e.g. s3://bucket/checkpoints, since training.nodes is above 1",
                found=repr(address),
                do="Set `checkpoints` in params.yaml, or by --set checkpoints=...",
            )
        self._file_system, self._path = open_address(address, "--checkpoints")

    @property
    def complete(self) -> bool:
        """Whether the manifest is there and every file that it names: a rule of the bucket removes what is old file by file."""

        def look() -> bool:
            there = set(self._fresh().find(self._path))
            try:
                files = json.loads(self._file_system.cat_file(f"{self._path}/{MANIFEST}"))["files"]
            except (FileNotFoundError, ValueError):  # none, or the half of one, where a kill can leave that
                return False
            return all(f"{self._path}/{name}" in there for name in files)

        return self._tried(look)

    def send(self, artifact: Artifact) -> None:
        """Put a folder there, its manifest last; one that was there is complete no more from the beginning.

        Raises:
            UnreachableError: the store did not answer.
        """
        self.withdraw()
        files = sorted(path for path in artifact.path.rglob("*") if path.is_file() and path.name != MANIFEST)
        for path in (*files, artifact.path / MANIFEST):
            target = f"{self._path}/{path.relative_to(artifact.path).as_posix()}"

            def put(path: Path = path, target: str = target) -> None:
                self._file_system.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._file_system.put_file(str(path), target)

            self._tried(put)

    def withdraw(self) -> None:
        """Take the manifest away, where there is one: what is there is complete no more.

        Raises:
            UnreachableError: the store did not answer.
        """

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._file_system.rm_file(f"{self._path}/{MANIFEST}")

        self._tried(remove)

    def fetch(self, folder: Path, kind: str) -> Artifact:
        """Write the folder, whole or not at all, and check every byte of it.

        Raises:
            UnreachableError: the store did not answer.
            ArtifactError: what is there is not what its manifest says.
        """
        draft = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name in self._tried(lambda: sorted(self._fresh().find(self._path))):
            target = draft / name.removeprefix(self._path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)

            def get(name: str = name, target: Path = target) -> None:
                self._file_system.get_file(name, str(target))

            self._tried(get)
        open_artifact(draft, kind)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        return open_artifact(folder, kind)

    def _fresh(self) -> Any:
        """Forget what was listed earlier: another pod may have written since."""
        self._file_system.invalidate_cache()
        return self._file_system

    def _tried(self, action: Callable[[], T]) -> T:
        return tried(action, self.address, lambda error: isinstance(error, PermissionError | FileNotFoundError))
