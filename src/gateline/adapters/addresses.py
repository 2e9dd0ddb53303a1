"""Folders at addresses that fsspec can open: an address is refused in one line, and a store is asked more than once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from gateline.errors import UnreachableError, WorkloadError
from gateline.workload.address import USER_IN_ADDRESS

MAX_TRIES = 3
OF_THE_ADDRESS = (
    ImportError,
    ValueError,
    TypeError,
    IsADirectoryError,
    NotADirectoryError,
    FileNotFoundError,
    PermissionError,
)
"""What opening an address raises that opening it again would not change; a connection that is refused is none of it."""
T = TypeVar("T")


def open_address(address: str, where: str) -> tuple[Any, str]:
    """Open an address such as ``s3://bucket/folder``.

    Args:
        address: with a protocol.
        where: what names it, for the error.

    Returns:
        fsspec's file system, and the path in it.

    Raises:
        WorkloadError: it holds a user or a password, or fsspec does not know it.
        UnreachableError: its file system connects when it is opened, and nothing answers.
    """
    if USER_IN_ADDRESS.search(address):
        raise WorkloadError(
            where,
            expected="an address without a user or a password",
            found="one with it",
            do="Give credentials in the environment, as fsspec's file system reads them",
        )
    import fsspec

    try:
        # Some file systems connect here already (ftp, hdfs), the others at the first read.
        file_system, path = tried(lambda: fsspec.url_to_fs(address), f"{where} {address}", _is_of_the_address)
    except OF_THE_ADDRESS as error:
        raise WorkloadError(
            where,
            expected="an address that fsspec can open",
            found=f"{address} ({type(error).__name__}: {' '.join(str(error).split())[:120]})",
            do="Correct the address, or install the fsspec package for its protocol",
        ) from error
    return file_system, path


def _is_of_the_address(error: Exception) -> bool:
    return isinstance(error, OF_THE_ADDRESS)


def tried(action: Callable[[], T], where: str, is_final: Callable[[Exception], bool]) -> T:
    """Do something that a store may refuse for a moment, `MAX_TRIES` times at most.

    Args:
        action: asks the store.
        where: address, for the error.
        is_final: says of an error that asking again would not help; it is raised as it is.

    Raises:
        UnreachableError: the store did not answer.
    """
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return action()
        except Exception as error:  # every file system raises its own kinds
            if is_final(error):
                raise
            if attempt == MAX_TRIES:
                raise UnreachableError(
                    where,
                    expected="an answer",
                    found=f"{type(error).__name__}: {' '.join(str(error).split())[:120]}, {MAX_TRIES} times",
                    do="Run again when it answers",
                ) from error
            time.sleep(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")
