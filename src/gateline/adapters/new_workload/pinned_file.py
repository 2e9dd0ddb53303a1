"""The file that a new workload is made from: where it lies, what its bytes are, and that it is a table."""

from __future__ import annotations

import re
from pathlib import Path

from gateline.adapters.ingestion import make_table
from gateline.adapters.project import Project
from gateline.errors import DataError, GatelineError, WorkloadError
from gateline.manifest import file_digest
from gateline.workload.source import File, Source

FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".data": "csv", ".parquet": "parquet", ".pq": "parquet"}
PACKED = (".gz", ".zst")
OTHER_TABLES = {
    ".xls",
    ".xlsx",
    ".ods",
    ".json",
    ".jsonl",
    ".feather",
    ".arrow",
    ".h5",
    ".hdf5",
    ".npy",
    ".npz",
    ".mat",
    ".zip",
    ".db",
}


def workload_path(project: Project, name: str, force: bool) -> Path:
    """Say where a new workload goes.

    Raises:
        WorkloadError: the name cannot be one, or is taken and `force` does not say to replace it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise WorkloadError(
            f"name {name}",
            expected="a lower-case letter, then lower-case letters, digits and _",
            found=repr(name),
            do=f"Say e.g. {as_name(name)}",
        )
    path = project.workload_path(name)
    if path.exists() and not force:
        raise WorkloadError(
            path, expected="a new name", found="a workload of that name", do="Choose another, or say --force"
        )
    return path


def pin(project: Project | None, file: Path) -> File:
    """Describe a table's file by its place, relative to the project where it lies in it, and the digest of its bytes.

    Raises:
        DataError: there is no such file, or it is no csv or parquet file.
    """
    if not file.exists():
        near = sorted(found.name for found in file.parent.glob(f"*{file.suffix}")) if file.parent.is_dir() else []
        do = f"There are {', '.join(near[:5])}" if near else "Correct the path"
        raise DataError(file, expected="a csv or parquet file", found="no such file", do=do)
    if file.is_dir():
        raise DataError(file, expected="one csv or parquet file", found="a folder", do="Name the file in it")
    suffixes = [suffix.lower() for suffix in file.suffixes]
    suffix = next((part for part in reversed(suffixes) if part not in PACKED), "")
    if suffix in OTHER_TABLES:
        raise DataError(
            file, expected="a csv or parquet file", found=f"a {suffix} file", do="Export it as csv or parquet"
        )
    if file.stat().st_size == 0:
        raise DataError(file, expected="a header and rows", found="an empty file", do="Export it again")
    path = file.resolve()
    inside = (
        path.relative_to(project.root).as_posix() if project and path.is_relative_to(project.root) else path.as_posix()
    )
    return File.model_validate(
        {
            "name": as_name(file.name.split(".")[0]),
            "path": inside,
            "sha256": file_digest(file),
            "format": FORMATS.get(suffix, "csv"),
        }
    )


def make_whole(file: Path, source: Source, target: Path) -> None:
    """Read a file as a table, and write all of it as parquet.

    Raises:
        DataError: it is no table, has one column, or no rows.
    """
    try:
        rows, columns = make_table(source, {source.files[0].name: file}, target)
    except GatelineError as error:
        raise DataError(file, expected="a table (csv or parquet)", found=error.found, do=error.do) from error
    if len(columns) < 2:
        raise DataError(
            file,
            expected="at least two columns, of times and numbers, or of texts and labels",
            found=f"{len(columns)} ({', '.join(columns)[:60]})",
            do="Look at the file: is it a table, and is its delimiter an unusual one?",
        )
    if rows == 0:
        raise DataError(file, expected="rows", found="only a header", do="Export it again")


def as_name(text: str) -> str:
    """Make a name of a text: lower-case letters, digits and _."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"data_{name}".strip("_")
