"""Section `source`: where the raw files come from, and the SQL that makes the table from them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from gateline.workload.section import Section

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ViewName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class File(Section):
    """One raw file, pinned by the sha256 of its bytes. Exactly one of `package`, `path`, `url` says where it is."""

    name: ViewName
    """What the query calls it."""
    package: str | None = None
    """Distribution whose installed file it is; `path` is then relative to the place of installation."""
    path: str | None = None
    """Local file, relative to the project; or the file of `package`."""
    url: str | None = None
    """Address that fsspec can open: https, s3, gs, ..."""
    sha256: Sha256
    """Digest of the file as received; also how a mirror finds it."""
    member: str | None = None
    """Name of the one file to take out of a zip archive."""
    format: Literal["csv", "parquet", "lines", "text"] = "csv"
    """csv, parquet; lines: one row per line of a text (`line` from 1, `text`); text: all of it in one row (`text`). A name that
    ends with .gz is unpacked."""
    delimiter: str | None = None
    """Between the columns of a csv; found by DuckDB when not given."""
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    """Texts that mean "no value" in a csv."""

    @property
    def file_name(self) -> str:
        """Name of the file where it comes from."""
        return PurePosixPath(urlsplit(self.url).path if self.url else str(self.path)).name or self.name

    @model_validator(mode="after")
    def _has_one_place(self) -> File:
        if self.url is not None and (self.path is not None or self.package is not None):
            raise ValueError("either `url`, or `path` (with `package` for a file of an installed distribution)")
        if self.url is not None and (urlsplit(self.url).password or urlsplit(self.url).query):
            raise ValueError(
                "an address without a password or a query, which would be written into artifacts; "
                "give credentials in the environment, as fsspec's file system reads them"
            )
        if self.url is None and self.path is None:
            raise ValueError("one of `url` and `path`")
        return self


class Source(Section):
    """Where the raw data come from, what one may do with them, and how the table is made."""

    licence: str
    citation: str = ""
    homepage: str = ""
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    query: str | None = None
    """One SELECT in DuckDB's SQL over the files by name; without it the only file is the table."""

    @model_validator(mode="after")
    def _query_where_needed(self) -> Source:
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise ValueError(f"different names for the files, got {names}")
        if self.query is None and len(names) > 1:
            raise ValueError("a `query` that makes one table from the files")
        return self
