"""`gateline new`: look at a file, find out what a forecast needs to know of it, and write a workload that runs.

inference.py       what the table holds: keys, grid, types, ranges, target      time_columns.py   when each row was
                                                                             time_formats.py   formats of texts that say so
number_columns.py  how the other columns are read
settings.py        windows, split, transform that fit it                        text.py           the commented file
labelled_texts.py  the same for texts and labels                                pinned_file.py    the file that it is made from
recordings.py      the same for a folder of recordings with transcripts         drawn_split.py    parts that those two draw
checked.py         nothing is written that cannot run                           column_names.py   another one where one is taken
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from gateline.adapters.ingestion import make_table
from gateline.adapters.new_workload.checked import add_checked
from gateline.adapters.new_workload.inference import FoundTable, find_out
from gateline.adapters.new_workload.pinned_file import make_whole, pin, workload_path
from gateline.adapters.new_workload.settings import Settings, propose
from gateline.adapters.new_workload.text import workload_text
from gateline.adapters.project import Project
from gateline.workload.source import Source


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
    path = workload_path(project, name, force)
    pinned = pin(project, file)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.parquet"
        make_whole(file, Source(licence="unknown", files=(pinned,)), whole)
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
    add_checked(project, name, text, file)
    return NewWorkload(path, table, settings)
