"""From raw files to the table: fetch, check, and run the workload's SQL in DuckDB."""

from __future__ import annotations

import codecs
import csv
import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from gateline.adapters.duckdb_names import as_glob
from gateline.adapters.folder_store import OnFile, fetch_folder
from gateline.adapters.object_store import fetch
from gateline.adapters.raw_formats import TABLES, read_raw
from gateline.errors import DataError, did_you_mean, examples
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.table import TABLE
from gateline.workload.source import File, Source

DELIMITERS = (",", ";", "\t", "|")
"""What DuckDB tries between the values of a line."""


def ingest(source: Source, folder: Path, *, mirror: Path | None = None, on_file: OnFile | None = None) -> Artifact:
    """Write the artifact `raw`.

        raw/
        ├── manifest.json       source (addresses, digests, query, licence), rows, columns
        ├── files/NAME/...      each raw file as received; of a folder, a zip of its files as received
        └── table.parquet       what the query makes of them; rows as the query orders them

    Args:
        source: which files, and the query.
        folder: where to write.
        mirror: folder asked for each file by its sha256 first.
        on_file: told of the files of a folder that is fetched, see `OnFile`.

    Raises:
        DataError: a file is absent, has another digest or cannot be read as its format, or the query fails.
        UnreachableError: an address did not answer.
    """
    with write_artifact(folder, "raw") as draft:
        paths = {}
        for file in source.files:
            target = draft.path / "files" / file.name / file.file_name
            target.parent.mkdir(parents=True)
            if file.is_folder:
                fetch_folder(file, target, mirror, on_file)
            else:
                fetch(file, target, mirror)
            paths[file.name] = target
        rows, columns = make_table(source, paths, draft.path / TABLE)
        draft.facts |= {"source": source.model_dump(mode="json"), "rows": rows, "columns": columns}
    return open_artifact(folder, "raw")


def make_table(source: Source, paths: dict[str, Path], target: Path) -> tuple[int, list[str]]:
    """Run the query over the files and write its result as parquet.

    Args:
        source: formats of the files, and the query.
        paths: where each file lies, by name.
        target: parquet file to write.

    Returns:
        Number of rows, and the names of the columns.
    """
    # One thread: with more, sums of floats depend on which thread came first, and so would the bytes of the table. And one
    # clock: DuckDB would take the machine's, and with it dates, and the type of time stamps, would differ by place.
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.execute("SET TimeZone = 'UTC'")
        for file in source.files:
            _load(database, file, paths[file.name])
        # From here on the query sees the files of the workload and nothing else: no other file, no address, no extension.
        database.execute("SET enable_external_access = false; SET lock_configuration = true")
        query = source.query or f'SELECT * FROM "{source.files[0].name}"'  # noqa: S608  a checked identifier
        table = _run(database, query, [file.name for file in source.files])
    pq.write_table(table.replace_schema_metadata(None), target)
    return table.num_rows, list(table.column_names)


def _load(database: duckdb.DuckDBPyConnection, file: File, path: Path) -> None:
    place = f"source.files.{file.name}"
    unpacked = _unpack(file, path, place) if file.member else path
    try:
        if file.format not in TABLES:
            database.register("raw_table", read_raw(unpacked, file))
            database.execute(f'CREATE TABLE "{file.name}" AS SELECT * FROM raw_table')  # noqa: S608  a checked identifier
            database.unregister("raw_table")
            return
        if file.format == "parquet":
            relation = database.read_parquet(as_glob(unpacked))
        else:
            # sample_size -1: the types follow from every row, not from the first 20,480.
            relation = database.read_csv(
                as_glob(unpacked),
                header=True,
                sample_size=-1,
                na_values=list(file.missing),
                delimiter=file.delimiter,
            )
            _refuse_other_encodings(unpacked, place, relation.columns)
            _refuse_one_column(relation.columns, unpacked, file, place)
        relation.create(f'"{file.name}"')
    except duckdb.Error as error:
        if file.format == "csv":
            _refuse_other_encodings(unpacked, place, said=str(error))
            _refuse_ragged(unpacked, file.delimiter or ",", place)
        raise DataError(
            place,
            expected=f"a {file.format} file that DuckDB can read",
            found=_first_line(error),
            do="Look at the file",
        ) from error
    finally:
        if file.member:
            shutil.rmtree(unpacked.parent)


def _refuse_other_encodings(path: Path, place: str, columns: Sequence[str] = (), said: str = "") -> None:
    """Refuse a csv that is not UTF-8, by what DuckDB says of it, or by the zeros of UTF-16 that it took for letters."""
    if "not utf-8" not in said.lower() and not any("\0" in name for name in columns):
        return
    with path.open("rb") as content:
        first = content.read(2)
    wide = first in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or "\0" in "".join(columns)
    line = re.search(r"CSV Error on Line: (\d+)", said)
    found = "UTF-16" if wide else f"bytes of another encoding, first in line {line[1]}" if line else "another encoding"
    raise DataError(place, expected="text in UTF-8", found=f"{found}, not UTF-8", do="Save it as UTF-8")


def _refuse_one_column(columns: list[str], path: Path, file: File, place: str) -> None:
    """Refuse what DuckDB reads as one column because a line has more or fewer values than the header."""
    if len(columns) == 1 and file.delimiter is None:
        for delimiter in DELIMITERS:
            if delimiter in columns[0]:
                _refuse_ragged(path, delimiter, place)


def _refuse_ragged(path: Path, delimiter: str, place: str) -> None:
    with path.open(encoding="utf-8", errors="replace", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        try:
            wanted = len(next(reader, []))
            wrong = [f"{len(row)} in line {reader.line_num}" for row in reader if len(row) not in (0, wanted)]
        except csv.Error:
            return  # what DuckDB says of it is all there is to say
    if wanted > 1 and wrong:
        raise DataError(
            place,
            expected=f"{wanted} values in every line, as in the header",
            found=examples(wrong),
            do=f"Correct these lines; put a value that holds a {delimiter!r} into quotes",
        )


def _unpack(file: File, path: Path, place: str) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            if file.member not in archive.namelist():
                raise DataError(
                    place,
                    expected=f"{file.member!r} in the archive",
                    found="no such member",
                    do=did_you_mean(str(file.member), archive.namelist()),
                )
            # Not beside the raw file: what is unpacked is no part of the artifact.
            target = path.parent / "unpacked" / PurePosixPath(str(file.member)).name
            target.parent.mkdir()
            with archive.open(str(file.member)) as packed, target.open("wb") as copy:
                shutil.copyfileobj(packed, copy, length=1 << 20)
    except (
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
        NotImplementedError,
    ) as error:  # encrypted, or packed otherwise
        raise DataError(
            place,
            expected="a zip archive that can be unpacked",
            found=_first_line(error),
            do="Drop `member`, or correct the file",
        ) from error
    return target


def _run(database: duckdb.DuckDBPyConnection, query: str, names: list[str]) -> pa.Table:
    try:
        statements = database.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise DataError(
                "source.query",
                expected="one SELECT",
                found=f"{len(statements)} statements, not one SELECT",
                do="Rewrite it",
            )
        return database.sql(query).to_arrow_table()
    except duckdb.Error as error:
        raise DataError(
            "source.query",
            expected="SQL over " + ", ".join(f"{name} ({_columns(database, name)})" for name in names),
            found=_first_line(error),
            do="Correct the query",
        ) from error


def _columns(database: duckdb.DuckDBPyConnection, name: str) -> str:
    """Name the columns as they were read, which is where a query that was right for another file goes wrong."""
    return examples([row[0] for row in database.execute(f'DESCRIBE "{name}"').fetchall()])


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
