"""Section `source`: where the raw files come from, and the SQL that makes the table from them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from gateline.workload.address import USER_IN_ADDRESS
from gateline.workload.section import Section

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ViewName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class DvcObject(Section):
    """Where DVC keeps a file or a folder for others: what `dvc push` wrote, found again without a checkout."""

    remote: str
    """Address of the remote, as `dvc remote list` shows it: s3://bucket/store, file:///mnt/store, ..."""
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
    """As NAME.dvc says it; of a folder it ends in .dir."""

    def address(self, md5: str | None = None) -> str:
        """Address of the object, or of another one of the same remote."""
        name = md5 or self.md5
        return f"{self.remote.rstrip('/')}/files/md5/{name[:2]}/{name[2:]}"

    @model_validator(mode="after")
    def _has_no_secret(self) -> DvcObject:
        if "://" not in self.remote or USER_IN_ADDRESS.search(self.remote) or urlsplit(self.remote).query:
            raise ValueError(
                "the address of a DVC remote, such as s3://bucket/store, without a user, a password or a query"
            )
        return self


class File(Section):
    """One raw file, pinned by the sha256 of its bytes. Exactly one of `package`, `path`, `url` says where it is."""

    name: ViewName
    """What the query calls it."""
    package: str | None = None
    """Distribution whose installed file it is; `path` is then relative to the place of installation."""
    path: str | None = None
    """Local file, relative to the project; or the file of `package`. One that ends with / is a folder, of which all files
    are taken, and kept as one zip."""
    url: str | None = None
    """Address that fsspec can open: https, s3, gs, ... One that ends with / is a folder, whose files `listing` names."""
    sha256: Sha256
    """Digest of the file as received; also how a mirror finds it. Of a folder: of its listing."""
    listing: str | None = None
    """Of a folder: local text with a line ``NAME SHA256`` for each file, sorted by name. An address needs one."""
    dvc: DvcObject | None = Field(default=None, exclude=True)
    """Of a `path`: where the file is got from when it does not lie there, as in a pod; `gateline submit` fills it in from
    NAME.dvc. No part of what `raw` records: the same bytes from another place are the same data."""
    member: str | None = None
    """Name of the one file to take out of a zip archive."""
    format: Literal["csv", "parquet", "lines", "text", "audio", "images", "video", "video_frames", "marked_clips"] = (
        "csv"
    )
    """csv, parquet; lines: one row per line of a text (`line` from 1, `text`); text: all of it in one row (`text`); audio: one row
    per recording (`path`, `size_bytes`, `duration_seconds`, `sampling_rate`, `channels`, `transcript`, `audio`); images: one row
    per picture of an IDX file (`number` from 0, `height`, `width`, `image`); video: one row for a film (`path`, `size_bytes`,
    `duration_seconds`, `frames`, `frames_per_second`, `height`, `width`, `video`); video_frames: one row per frame of a film (`clip`,
    `frame` from 0, `time`, `image`); marked_clips: the same of clips that are made of the pictures of an IDX file, with `pool`,
    `event` and `marked` (see `gateline.data.marked_clips`). A name that ends with .gz is unpacked."""
    options: dict[str, float | int | str] = {}
    """What video_frames (height, width, frames_per_second) and marked_clips (clips, frames, size, pools, seed) are told."""
    delimiter: str | None = None
    """Between the columns of a csv; found by DuckDB when not given."""
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    """Texts that mean "no value" in a csv."""

    @property
    def file_name(self) -> str:
        """Name of the file where it comes from; of a folder, of the archive that it is kept in."""
        name = PurePosixPath(urlsplit(self.url).path if self.url else str(self.path)).name or self.name
        return f"{name}.zip" if self.is_folder else name

    @property
    def is_folder(self) -> bool:
        """Whether all files of a folder are meant."""
        return (self.url or str(self.path)).endswith("/")

    @model_validator(mode="after")
    def _has_one_place(self) -> File:
        if self.url is not None and (self.path is not None or self.package is not None):
            raise ValueError("either `url`, or `path` (with `package` for a file of an installed distribution)")
        if self.url is not None and (USER_IN_ADDRESS.search(self.url) or urlsplit(self.url).query):
            raise ValueError(
                "an address without a user, a password or a query, which would be written into artifacts; "
                "give credentials in the environment, as fsspec's file system reads them"
            )
        if self.url is None and self.path is None:
            raise ValueError("one of `url` and `path`")
        return self

    @model_validator(mode="after")
    def _dvc_has_a_path(self) -> File:
        if self.dvc is None:
            return self
        if self.path is None or self.package is not None:
            raise ValueError("`dvc` with a `path`, which says where the file lies in a checkout")
        if self.is_folder != self.dvc.md5.endswith(".dir"):
            raise ValueError("an md5 that ends in .dir for a `path` that ends with /, and one that does not for a file")
        return self

    @model_validator(mode="after")
    def _options_are_read(self) -> File:
        if self.options and self.format not in ("video_frames", "marked_clips"):
            raise ValueError(
                f"`options` only with the formats video_frames and marked_clips, got them for {self.format}"
            )
        return self

    @model_validator(mode="after")
    def _folder_is_one(self) -> File:
        if not self.is_folder:
            if self.listing is not None:
                raise ValueError("`listing` only with a folder, a `url` or `path` that ends with /")
            return self
        if self.format != "audio" or self.member is not None or self.package is not None:
            raise ValueError("`format: audio` for a folder, without `member` and `package`")
        if self.url is not None and self.listing is None:
            raise ValueError("a `listing` for the `url` of a folder, which cannot be listed from afar")
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
