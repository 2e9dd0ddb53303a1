"""Folders of many files: pinned by their listing, found in a mirror or at an address, and one line when they are others."""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from gateline.adapters.ingestion import ingest
from gateline.errors import DataError, UnreachableError, WorkloadError
from gateline.table import read_table
from gateline.workload.section import read_section
from gateline.workload.source import Source

AWAY = "http://127.0.0.1:9/sounds/"


def wav(samples: int, rate: int = 8000, channels: int = 1) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.linspace(-0.5, 0.5, samples * channels).reshape(samples, channels), rate, format="WAV")
    return content.getvalue()


FILES = {
    "b two.wav": wav(800),
    "a/one.wav": wav(1600, 16_000, channels=2),
    "a/one.txt": "\N{BYTE ORDER MARK}eins \n".encode(),
    "notes.md": b"recorded in May",
}


def sha(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


LISTING = "".join(f"{name} {sha(content)}\n" for name, content in sorted(FILES.items()))


def put(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def source(**file: Any) -> Source:
    entry = {"name": "sounds", "format": "audio", "sha256": sha(LISTING), **file}
    return read_section("source", Source, {"licence": "CC0-1.0", "files": [entry]})


@pytest.fixture
def listing(tmp_path: Path) -> str:
    (tmp_path / "listing.txt").write_text(LISTING, encoding="utf-8")
    return str(tmp_path / "listing.txt")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(put(tmp_path / "served")))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/"
        http.shutdown()


def test_recordings_become_rows_with_what_their_headers_say(tmp_path: Path) -> None:
    raw = ingest(source(path=f"{put(tmp_path / 'here')}/"), tmp_path / "raw")

    table = read_table(raw.path / "table.parquet")
    assert table["path"].tolist() == ["a/one.wav", "b two.wav"]
    assert table["sampling_rate"].tolist() == [16_000, 8000]
    assert table["channels"].tolist() == [2, 1]
    assert table["duration_seconds"].tolist() == [0.1, 0.1]
    assert table["size_bytes"].tolist() == [len(FILES["a/one.wav"]), len(FILES["b two.wav"])]
    assert table["transcript"].tolist()[0] == "eins"
    assert table["transcript"].isna().tolist() == [False, True]
    assert table["audio"].tolist() == [FILES["a/one.wav"], FILES["b two.wav"]]


def test_the_files_are_kept_as_received_in_one_archive(tmp_path: Path) -> None:
    raw = ingest(source(path=f"{put(tmp_path / 'here')}/"), tmp_path / "raw")

    with zipfile.ZipFile(raw.path / "files" / "sounds" / "here.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert [path.name for path in (raw.path / "files" / "sounds").iterdir()] == ["here.zip"]
    assert ingest(source(path=f"{tmp_path / 'here'}/"), tmp_path / "again").digest == raw.digest


def test_every_file_of_an_address_is_fetched(tmp_path: Path, server: str, listing: str) -> None:
    told: list[tuple[int, int]] = []

    raw = ingest(source(url=server, listing=listing), tmp_path / "raw", on_file=lambda *now: told.append(now))

    assert read_table(raw.path / "table.parquet")["audio"].tolist() == [FILES["a/one.wav"], FILES["b two.wav"]]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_file_that_the_address_does_not_have_ends_it_with_one_line(tmp_path: Path, server: str, listing: str) -> None:
    (tmp_path / "served" / "a" / "one.wav").unlink()

    with pytest.raises(DataError, match=r"source\.files\.sounds: expected a file at .*/a/one\.wav"):
        ingest(source(url=server, listing=listing), tmp_path / "raw")
    assert not list(tmp_path.glob("raw*"))


def test_other_bytes_at_the_address_are_named(tmp_path: Path, server: str, listing: str) -> None:
    (tmp_path / "served" / "b two.wav").write_bytes(wav(801))

    with pytest.raises(DataError, match=r"b two\.wav with other bytes"):
        ingest(source(url=server, listing=listing), tmp_path / "raw")


def test_an_address_that_is_away_is_worth_another_try(tmp_path: Path, listing: str) -> None:
    with pytest.raises(UnreachableError, match="3 times"):
        ingest(source(url=AWAY, listing=listing), tmp_path / "raw")


def test_a_mirror_is_asked_first_by_the_digest_of_the_folder(tmp_path: Path, listing: str) -> None:
    put(tmp_path / "mirror" / "set" / "sounds")
    (tmp_path / "mirror" / "index.csv").write_text(f"dataset,file,sha256\nset,sounds/ (4 files),{sha(LISTING)}\n")

    assert ingest(source(url=AWAY, listing=listing), tmp_path / "raw", mirror=tmp_path / "mirror").facts["rows"] == 2


def test_a_mirror_without_an_index_is_asked_file_by_file(tmp_path: Path, listing: str) -> None:
    (tmp_path / "mirror").mkdir()
    for number, content in enumerate(FILES.values()):
        (tmp_path / "mirror" / f"blob{number}").write_bytes(content)

    raw = ingest(source(url=AWAY, listing=listing), tmp_path / "raw", mirror=tmp_path / "mirror")
    assert read_table(raw.path / "table.parquet")["path"].tolist() == ["a/one.wav", "b two.wav"]

    (tmp_path / "mirror" / "blob1").unlink()  # then the address is asked, which is away
    with pytest.raises(UnreachableError):
        ingest(source(url=AWAY, listing=listing), tmp_path / "raw2", mirror=tmp_path / "mirror")


def test_a_mirror_with_another_folder_under_the_digest_is_caught(tmp_path: Path, listing: str) -> None:
    put(tmp_path / "mirror" / "set" / "sounds", {**FILES, "notes.md": b"recorded in June"})
    (tmp_path / "mirror" / "index.csv").write_text(f"dataset,file,sha256\nset,sounds/,{sha(LISTING)}\n")

    with pytest.raises(DataError, match=r"notes\.md with other bytes"):
        ingest(source(url=AWAY, listing=listing), tmp_path / "raw", mirror=tmp_path / "mirror")
    with pytest.raises(DataError, match="listing has sha256"):
        ingest(source(path=f"{tmp_path / 'no'}/"), tmp_path / "raw", mirror=tmp_path / "mirror")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"notes.md": b"other"}, "listing has sha256"),
        ({"more.wav": wav(10)}, "listing has sha256"),
        ({".DS_Store": b"x", ".git/config": b"y"}, None),
    ],
)
def test_a_local_folder_must_be_the_one_that_is_pinned(
    tmp_path: Path, change: dict[str, bytes], said: str | None
) -> None:
    put(tmp_path / "here", {**FILES, **change})

    if said is None:  # hidden files come and go by themselves
        ingest(source(path=f"{tmp_path / 'here'}/"), tmp_path / "raw")
    else:
        with pytest.raises(DataError, match=said):
            ingest(source(path=f"{tmp_path / 'here'}/"), tmp_path / "raw")


def test_a_folder_that_is_not_there_or_holds_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder at"):
        ingest(source(path=f"{tmp_path / 'no'}/"), tmp_path / "raw")
    with pytest.raises(DataError, match="files in"):
        ingest(source(path=f"{tmp_path / 'empty'}/"), tmp_path / "raw")


@pytest.mark.parametrize(
    "name", ["../up.wav", "/etc/passwd", "a//b.wav", "a/../b.wav", "a\\b.wav", "a/\x1b.wav", "./a.wav"]
)
def test_a_listing_names_no_file_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    text = f"{name} {sha('x')}\n"
    (tmp_path / "listing.txt").write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match="line 1"):
        ingest(source(url=AWAY, listing=str(tmp_path / "listing.txt"), sha256=sha(text)), tmp_path / "raw")


def test_a_listing_is_the_one_that_is_pinned(tmp_path: Path, listing: str) -> None:
    with pytest.raises(DataError, match="correct one of them"):
        ingest(source(url=AWAY, listing=listing, sha256=sha("other")), tmp_path / "raw")
    with pytest.raises(DataError, match="Correct `listing`"):
        ingest(source(url=AWAY, listing=str(tmp_path / "no.txt")), tmp_path / "raw")


def test_recordings_that_cannot_be_read_are_named_all_at_once(tmp_path: Path) -> None:
    files = {f"{number}.wav": b"RIFF, but no more" for number in range(7)} | {"good.wav": wav(10)}
    text = "".join(f"{name} {sha(content)}\n" for name, content in sorted(files.items()))
    put(tmp_path / "here", files)

    with pytest.raises(DataError, match=r"0\.wav: .*4\.wav: .* and 2 more"):
        ingest(source(path=f"{tmp_path / 'here'}/", sha256=sha(text)), tmp_path / "raw")


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "here", {"notes.md": b"nothing"})
    with pytest.raises(DataError, match=r"recordings \(\.wav"):
        ingest(source(path=f"{tmp_path / 'here'}/", sha256=sha(f"notes.md {sha('nothing')}\n")), tmp_path / "raw")


def test_one_recording_and_a_zip_of_recordings_are_sources_too(tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_bytes(wav(80))
    raw = ingest(source(path=str(tmp_path / "one.wav"), sha256=sha(wav(80))), tmp_path / "raw")
    assert read_table(raw.path / "table.parquet")["path"].tolist() == ["one.wav"]

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    packed = (tmp_path / "all.zip").read_bytes()
    raw = ingest(source(path=str(tmp_path / "all.zip"), sha256=sha(packed)), tmp_path / "raw2")
    assert read_table(raw.path / "table.parquet")["path"].tolist() == ["a/one.wav", "b two.wav"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"url": AWAY}, "listing"),
        ({"path": "a/", "format": "csv"}, "format: audio"),
        ({"path": "a/", "member": "b.wav"}, "member"),
        ({"path": "a.wav", "listing": "b.txt"}, "listing"),
    ],
)
def test_entries_that_mean_no_folder_are_refused(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        source(**entry)
