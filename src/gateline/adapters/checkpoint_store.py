"""Checkpoints at any address that fsspec can open, so that a pod that vanishes loses nothing."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gateline.adapters.addresses import open_address, tried
from gateline.errors import UnreachableError, WorkloadError
from gateline.training import beside
from gateline.training.checkpoints import CheckpointStore, FolderStore

BESIDE = "beside"
"""The address that means: beside the model folder."""
PROBE = "writable"
"""A file that is written and removed, to see whether a store takes any."""
FINAL = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
"""Errors of the system that a store gives again however often it is asked."""
T = TypeVar("T")

log = logging.getLogger("gateline.training")


def open_store(address: str, model: Path, key: str) -> CheckpointStore:
    """Find where the checkpoints of a run are kept.

    Args:
        address: ``beside``, a folder (``~``: that of the user), or an address such as ``s3://bucket/checkpoints``; runs of other
            data, settings or code lie beside each other there.
        model: folder that training will write.
        key: digest of data, settings, code and the version of torch.

    Raises:
        WorkloadError: fsspec does not know the address, or it holds a user or a password.
        UnreachableError: what connects when it is opened did not answer.
    """
    if address == BESIDE:
        return beside(model, key)
    place = urlsplit(address)
    if not (place.netloc or place.path.strip("/")):
        raise WorkloadError(
            "--checkpoints", expected="a folder or an address", found=repr(address), do="Name the folder or the bucket"
        )
    if "://" not in address:
        try:
            folder = Path(address).expanduser()  # no shell stands between params.yaml and here
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: of a user that is not there
            raise WorkloadError(
                "--checkpoints",
                expected="a folder that can be made",
                found=f"{address} ({getattr(error, 'strerror', None) or error})",
                do="Name another one",
            ) from error
        return FolderStore(folder / key)
    file_system, path = open_address(f"{address.rstrip('/')}/{key}", "--checkpoints")
    return AddressStore(file_system, path, f"{address.rstrip('/')}/{key}")


def open_writable_store(address: str, model: Path, key: str) -> CheckpointStore:
    """Open a store as `open_store`; the first process of a training also sees whether it can be written to.

    Raises:
        WorkloadError: as `open_store`; or nothing can be written there. Else that is seen at the first checkpoint only, when there is something to lose.
        UnreachableError: the store did not answer.
    """
    store = open_store(address, model, key)
    if address == BESIDE or os.environ.get("RANK", "0") != "0":
        return store
    try:
        store.write(PROBE, b"")
        store.remove(PROBE)
    except (OSError, UnreachableError) as error:
        why = error.__cause__ if isinstance(error, UnreachableError) else error
        # Protocols that only read raise NotImplementedError; neither they nor an absent bucket change by being asked again.
        is_final = not isinstance(error, UnreachableError) or isinstance(why, FileNotFoundError | NotImplementedError)
        if not is_final:
            raise
        raise WorkloadError(
            "--checkpoints",
            expected="a place that can be written to",
            found=f"{address} ({getattr(why, 'strerror', None) or why})",
            do="Name another one, or correct its rights",
        ) from error
    return store


class AddressStore:
    """Checkpoints in an fsspec file system.

    An object store takes an object whole or not at all; elsewhere a file is written beside its place and moved.

    Args:
        file_system: of fsspec.
        path: folder in it.
        place: the address, for people.
    """

    def __init__(self, file_system: Any, path: str, place: str) -> None:
        self._file_system, self._path, self._place = file_system, path, place

    @property
    def place(self) -> str:
        """The address."""
        return self._place

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it is not there."""

        def read() -> bytes | None:
            try:
                content: bytes = self._file_system.cat_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return None
            return content

        return self._tried(read)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it."""

        def write() -> None:
            self._file_system.makedirs(self._path, exist_ok=True)
            draft = f"{self._path}/{name}.tmp"
            try:
                self._file_system.pipe_file(draft, content)
                self._file_system.mv(draft, f"{self._path}/{name}")
            finally:
                with contextlib.suppress(
                    Exception
                ):  # moved away already, or the store is gone: then that is the error to tell
                    self._file_system.rm_file(draft)

        def put() -> None:
            self._file_system.pipe_file(f"{self._path}/{name}", content)

        self._tried(put if _takes_objects(self._file_system) else write)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            try:
                self._file_system.rm_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return

        self._tried(remove)

    def clear(self) -> None:
        """Remove everything of this run."""

        def clear() -> None:
            try:
                self._file_system.rm(self._path, recursive=True)
            except FileNotFoundError:
                return

        self._tried(clear)

    def others(self) -> int:
        """Count the folders beside this one."""

        def count() -> int:
            try:
                around = self._file_system.ls(self._path.rpartition("/")[0], detail=False)
            except FileNotFoundError:
                return 0
            return sum(str(path).rstrip("/") != self._path for path in around)

        return self._tried(count)

    def _tried(self, action: Callable[[], T]) -> T:
        return tried(action, f"--checkpoints {self._place}", _is_final)


def _is_final(error: Exception) -> bool:
    return isinstance(error, PermissionError) or getattr(error, "errno", None) in FINAL


def _takes_objects(file_system: Any) -> bool:
    protocols = file_system.protocol if isinstance(file_system.protocol, tuple | list) else (file_system.protocol,)
    return bool({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory"} & set(protocols))
