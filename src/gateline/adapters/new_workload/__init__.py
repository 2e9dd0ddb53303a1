"""`gateline new`: look at a file, find out what a forecast needs to know of it, and write a workload that runs.

inference.py       what the table holds: keys, grid, types, ranges, target      time_columns.py   when each row was
settings.py        windows, split, transform that fit it                        text.py           the commented file
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import yaml

from gateline.adapters.ingestion import make_table
from gateline.adapters.new_workload.inference import FoundTable, find_out
from gateline.adapters.new_workload.settings import Settings, propose
from gateline.adapters.new_workload.text import workload_text
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


@dataclass(frozen=True)
class NewWorkload:
    """A workload that was written.

    Args:
        path: of the file.
        table: what was found out.
        settings: what was proposed.
    """

    path: Path
    table: FoundTable
    settings: Settings


def new_workload(
    project: Project,
    name: str,
    file: Path,
    *,
    time: str | None = None,
    target: str | None = None,
    keys: Sequence[str] | None = None,
    lookback: int | None = None,
    horizon: int | None = None,
    force: bool = False,
) -> NewWorkload:
    """Write ``workloads/NAME.yaml`` for a table, and add NAME to ``params.yaml``.

    Args:
        project: where to write.
        name: of the workload.
        file: csv or parquet.
        time: column of the time stamps; None: found.
        target: column to forecast; None: the last column of numbers.
        keys: columns that tell one series from another; None: found.
        lookback: past steps to read; None: by the frequency.
        horizon: steps to forecast; None: by the frequency.
        force: replace a workload of that name.

    Raises:
        WorkloadError: the name cannot be one, or is taken.
        DataError: the file is none, no table, or lacks what a forecast needs.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise WorkloadError(
            f"name {name}",
            expected="a lower-case letter, then lower-case letters, digits and _",
            found=repr(name),
            do=f"Say e.g. {_as_name(name)}",
        )
    path = project.workload_path(name)
    if path.exists() and not force:
        raise WorkloadError(
            path, expected="a new name", found="a workload of that name", do="Choose another, or say --force"
        )
    pinned = _pin(project, file)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.parquet"
        _make(file, Source(licence="unknown", files=(pinned,)), whole)
        with duckdb.connect(":memory:", config={"threads": 1}) as database:
            database.execute("CREATE TABLE raw AS SELECT * FROM read_parquet(?)", [str(whole)])
            table = find_out(database, pinned.name, time=time, target=target, keys=keys or None)
        settings = propose(table, lookback, horizon)
        # The query that is written is the query that ingest will run: it has to make these rows from this file.
        source = Source(licence="unknown", files=(pinned,), query=table.query)
        rows, columns = make_table(source, {pinned.name: file}, Path(scratch) / "table.parquet")
    if (rows, columns) != (table.rows, [column.name for column in table.columns]) and table.query is not None:
        raise RuntimeError(f"the query makes {rows} rows of {columns}, expected {table.rows}")
    text = workload_text(name, pinned, table, settings)
    content = yaml.safe_load(text)
    if content["name"] != name:
        raise RuntimeError(f"the file names {content['name']!r}, expected {name!r}")
    project.add_workload(name, text)
    return NewWorkload(path, table, settings)


def _pin(project: Project, file: Path) -> File:
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
    inside = path.relative_to(project.root).as_posix() if path.is_relative_to(project.root) else path.as_posix()
    return File.model_validate(
        {
            "name": _as_name(file.name.split(".")[0]),
            "path": inside,
            "sha256": file_digest(file),
            "format": FORMATS.get(suffix, "csv"),
        }
    )


def _make(file: Path, source: Source, target: Path) -> None:
    try:
        rows, columns = make_table(source, {source.files[0].name: file}, target)
    except GatelineError as error:
        raise DataError(file, expected="a table (csv or parquet)", found=error.found, do="Look at the file") from error
    if len(columns) < 2:
        raise DataError(
            file,
            expected="at least two columns, one of them time",
            found=f"{len(columns)} ({', '.join(columns)[:60]})",
            do="Look at the file: is it a table, and is its delimiter an unusual one?",
        )
    if rows == 0:
        raise DataError(file, expected="rows", found="only a header", do="Export it again")


def _as_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"data_{name}".strip("_")
