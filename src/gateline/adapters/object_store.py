"""Fetch one raw file from a mirror, an installed distribution, the project's folder, DVC's remote or an address, and check it."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import shutil
import time
from pathlib import Path

from gateline.errors import DataError, UnreachableError, did_you_mean
from gateline.manifest import file_digest
from gateline.workload.source import DvcObject, File

MAX_TRIES = 3


def fetch(file: File, target: Path, mirror: Path | None) -> None:
    """Copy a raw file to `target` and check that it is the one that the workload pins.

    A mirror is asked first, by digest, so a machine without network runs the same workload.

    Args:
        file: which file, and the sha256 of its bytes.
        target: where to write it.
        mirror: folder that may hold it under any name; None: no mirror.

    Raises:
        DataError: the file is not there, or its bytes are others than the workload pins.
        UnreachableError: the address did not answer.
    """
    place = f"source.files.{file.name}"
    mirrored = find_by_digest(mirror, file.sha256) if mirror else None
    if mirrored is not None:
        shutil.copyfile(mirrored, target)
    elif file.url is not None:
        download(file.url, target, place)
    else:
        local = installed_file(file, place) if file.package else Path(str(file.path))
        if local.is_file():
            shutil.copyfile(local, target)
        elif file.dvc is not None:
            fetch_object(file.dvc, file.dvc.md5, target, place)
        else:
            raise DataError(
                place,
                expected=f"a file at {local}",
                found="none",
                do="Correct the path, or put the file there (`dvc pull`?); for pods, `dvc add` and `dvc push` it",
            )
    actual = file_digest(target)
    if actual != file.sha256:
        raise DataError(
            place,
            expected=f"a file with sha256 {file.sha256}",
            found=f"{actual} in {file.url or file.path}",
            do="If the new file is meant, write its digest into the workload",
        )


def fetch_object(kept: DvcObject, md5: str, target: Path, place: str) -> None:
    """Copy an object of a DVC remote to `target`, and check that it is the one of that name.

    Raises:
        DataError: the remote does not have it, or other bytes under its name.
        UnreachableError: the remote did not answer.
    """
    try:
        download(kept.address(md5), target, place)
    except DataError as error:
        raise DataError(
            place, expected=error.expected, found=error.found, do=f"{error.do}; was it pushed (`dvc push`)?"
        ) from error
    with target.open("rb") as content:
        actual = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != md5.removesuffix(".dir"):
        raise DataError(
            place,
            expected=f"the object {md5} in the DVC remote {kept.remote}",
            found=f"bytes with md5 {actual}",
            do="Remove the damaged object from the remote and `dvc push` again",
        )


def find_by_digest(mirror: Path, sha256: str) -> Path | None:
    """Find a file in a mirror folder by its digest.

    A file `index.csv` in the mirror (with columns `dataset`, `file`, `sha256`) spares hashing everything in it.

    Raises:
        DataError: the mirror is no folder.
    """
    if not mirror.is_dir():
        raise DataError("GATELINE_MIRROR", expected="a folder", found=str(mirror), do="Correct or unset the variable")
    index = mirror / "index.csv"
    if index.is_file():
        import csv

        with index.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                path = mirror / str(row.get("dataset")) / str(row.get("file"))
                if row.get("sha256") == sha256 and path.is_file():
                    return path
    return next((path for path in sorted(mirror.rglob("*")) if path.is_file() and file_digest(path) == sha256), None)


def installed_file(file: File, place: str) -> Path:
    """Find a distribution's file by its record, without importing the package (which may run, or need, anything)."""
    package, path = str(file.package), str(file.path)
    try:
        installed = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(
            place, expected=f"the distribution {package!r}", found="not installed", do=f"Run `pip install {package}`"
        ) from error
    for entry in installed or ():
        if entry.as_posix() == path:
            return Path(str(entry.locate()))
    raise DataError(
        place,
        expected=f"a file {path} in the distribution {package!r}",
        found="none",
        do=did_you_mean(
            path, [entry.as_posix() for entry in installed or () if not entry.name.endswith((".py", ".pyc"))]
        ),
    )


def download(url: str, target: Path, place: str) -> None:
    """Copy what an address holds to `target`; ask again where nobody answers.

    Raises:
        DataError: there is no such file, or it is not for us.
        UnreachableError: the address did not answer.
    """
    import fsspec

    for attempt in range(1, MAX_TRIES + 1):
        try:
            with fsspec.open(url, "rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, length=1 << 20)
        except (ImportError, ValueError) as error:
            raise DataError(
                place,
                expected="an address that fsspec can open",
                found=f"{url} ({_in_short(error)})",
                do="Correct the address, or install the fsspec package for its protocol",
            ) from error
        except Exception as error:  # every file system raises its own kinds
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            if _is_an_answer(error):
                raise DataError(
                    place,
                    expected=f"a file at {url}",
                    found=_in_short(error.__cause__ or error),
                    do="Correct the address, or see to it that you may read it",
                ) from error
            if attempt == MAX_TRIES:
                raise UnreachableError(
                    place,
                    expected=f"an answer from {url}",
                    found=f"{_in_short(error.__cause__ or error)}, {MAX_TRIES} times",
                    do="Run again when it answers, or point GATELINE_MIRROR at a folder that holds the file",
                ) from error
            time.sleep(attempt)
        else:
            return


def _is_an_answer(error: Exception) -> bool:
    """Tell "there is no such file, or not for you" from "nobody answers": fsspec calls both FileNotFoundError over http."""
    cause = error.__cause__
    status = getattr(cause, "status", None)
    if isinstance(error, FileNotFoundError) and cause is None:
        return True
    return isinstance(error, PermissionError) or (isinstance(status, int) and 400 <= status < 500)


def _in_short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
