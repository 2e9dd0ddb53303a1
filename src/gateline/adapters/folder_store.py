"""Fetch a folder of many files, each checked by its own digest, and keep it as one archive.

A folder is named by its listing: a text with a line ``NAME SHA256`` for each file, sorted by name, with `/` between folders. The
sha256 of that text is the digest of the folder. So one line in a workload pins every byte, a mirror is asked file by file, and
an address that cannot be listed, as on the web, needs the listing beside the workload and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gateline.adapters.object_store import download, fetch_object
from gateline.errors import DataError, GatelineError, examples
from gateline.manifest import file_digest
from gateline.workload.source import DvcObject, File

AT_ONCE = 16  # files of an address
LINE = re.compile(r"(?P<name>.+) (?P<sha256>[0-9a-f]{64})")
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the oldest time that an archive can hold: the same files, the same bytes

OnFile = Callable[[int, int], None]
"""Told of progress: files fetched, files in all."""


def fetch_folder(file: File, target: Path, mirror: Path | None, on_file: OnFile | None = None) -> None:
    """Write the files of a folder into one archive, a zip without compression, when all are those that the workload pins.

    Args:
        file: which folder, and the sha256 of its listing.
        target: archive to write.
        mirror: folder that may hold the folder, or its files under any name; asked first. None: no mirror.
        on_file: see `OnFile`.

    Raises:
        DataError: a file is not there, or its bytes are others than the workload pins.
        UnreachableError: the address did not answer.
    """
    place = f"source.files.{file.name}"
    listing = None if file.listing is None else read_listing(Path(file.listing), file.sha256, place)
    scratch = target.with_name("received")
    try:
        found = _in_mirror(mirror, file.sha256, listing) if mirror else None
        if found is None and file.url is not None and listing is not None:
            found = _download_all(file.url, listing, scratch, place, on_file)
        elif found is None and file.dvc is not None and not Path(str(file.path)).is_dir():
            found = _from_dvc(file.dvc, scratch, place, on_file)
        elif found is None:
            found = local_files(Path(str(file.path)), place)
        if listing is not None:
            _compare(found, listing, place, file.url or file.path)
        text = listing_of(found)
        if (actual := hashlib.sha256(text.encode()).hexdigest()) != file.sha256:
            raise DataError(
                place,
                expected=f"a folder whose listing has sha256 {file.sha256}",
                found=f"{actual} in {file.url or file.path} ({len(found):,} files)",
                do="If the new files are meant, write its digest into the workload",
            )
        write_archive(found, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_listing(path: Path, sha256: str, place: object) -> dict[str, str]:
    """Read a listing: digest of each file by its name.

    Raises:
        DataError: it is not there, has another digest than the workload says, or is no listing.
    """
    if not path.is_file():
        raise DataError(place, expected=f"a listing at {path}", found="no such file", do="Correct `listing`")
    if (actual := file_digest(path)) != sha256:
        raise DataError(
            place,
            expected=f"a listing with sha256 {sha256}",
            found=f"{actual} in {path}",
            do="`sha256` of a folder is that of its listing: correct one of them",
        )
    files: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None or not is_inside(match["name"]) or match["name"] in files:
            raise DataError(
                f"{path}, line {number}",
                expected="the name of a file in the folder, once, a space, and the sha256 of its bytes",
                found=repr(line[:80]),
                do="Correct the line",
            )
        files[match["name"]] = match["sha256"]
    return files


def listing_of(files: Mapping[str, Path]) -> str:
    """Write the listing of some files by name."""
    return "".join(f"{name} {file_digest(files[name])}\n" for name in sorted(files))


def local_files(folder: Path, place: object) -> dict[str, Path]:
    """Find the files of a folder and of the folders in it, by name; hidden ones are left alone.

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise DataError(
            place, expected=f"a folder at {folder}", found="none", do="Correct the path, or put the folder there"
        )
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {name: path for name, path in names.items() if not _is_hidden(name)}
    if not files:
        raise DataError(place, expected=f"files in {folder}", found="none", do="Correct the path")
    return files


def _is_hidden(name: str) -> bool:
    return any(part[0] == "." for part in name.split("/"))


def is_inside(name: str) -> bool:
    """Say whether a name can be that of a file in a folder: relative, and not up out of it."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(part in ("", ".", "..") for part in parts)


def write_archive(files: Mapping[str, Path], target: Path) -> None:
    """Put files into a zip, uncompressed and in the order of their names: the same files, the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, files[name].read_bytes())


def _in_mirror(mirror: Path, sha256: str, listing: Mapping[str, str] | None) -> dict[str, Path] | None:
    """Find a folder in a mirror: where its index names the digest, else file by file where the listing is known."""
    for folder in _indexed(mirror, sha256):
        if folder.is_dir():
            return local_files(folder, "GATELINE_MIRROR")
    if listing is None:
        return None
    wanted, by_digest = set(listing.values()), dict[str, Path]()
    for path in sorted(mirror.rglob("*")):
        if wanted <= by_digest.keys():
            break
        if path.is_file():
            by_digest.setdefault(file_digest(path), path)
    if not wanted <= by_digest.keys():
        return None
    return {name: by_digest[digest] for name, digest in listing.items()}


def _indexed(mirror: Path, sha256: str) -> Iterator[Path]:
    """List the folders that the mirror's `index.csv` says have this digest; what follows the last slash is a remark."""
    import csv

    if not mirror.is_dir():
        raise DataError("GATELINE_MIRROR", expected="a folder", found=str(mirror), do="Correct or unset the variable")
    index = mirror / "index.csv"
    if index.is_file():
        with index.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                if row.get("sha256") == sha256:
                    yield mirror / str(row.get("dataset")) / str(row.get("file")).rpartition("/")[0]


def _download_all(
    url: str, listing: Mapping[str, str], folder: Path, place: str, on_file: OnFile | None
) -> dict[str, Path]:
    """Fetch every file of an address."""
    places = {name: f"{url.rstrip('/')}/{name}" for name in listing}
    return _fetch_all(places, folder, lambda address, path: download(address, path, place), on_file)


def _from_dvc(kept: DvcObject, folder: Path, place: str, on_file: OnFile | None) -> dict[str, Path]:
    """Fetch every file of a folder that DVC keeps: its object lists them, with the object of each."""
    folder.mkdir(parents=True)
    listing = folder / ".listing"  # no file of the folder, since hidden ones are left alone
    fetch_object(kept, kept.md5, listing, place)
    try:
        objects = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            place, expected=f"DVC's listing of a folder as {kept.md5}", found="something else", do="Correct `dvc.md5`"
        ) from error
    if outside := [name for name in objects if not is_inside(name)]:
        raise DataError(
            place, expected="names of files in the folder", found=examples(outside), do="Add the folder again"
        )
    shown = {name: md5 for name, md5 in objects.items() if not _is_hidden(name)}
    return _fetch_all(shown, folder, lambda md5, path: fetch_object(kept, md5, path, place), on_file)


def _fetch_all(
    places: Mapping[str, str], folder: Path, fetch: Callable[[str, Path], None], on_file: OnFile | None
) -> dict[str, Path]:
    """Fetch files from their places, many at a time; the first that cannot be had ends it."""
    files = {name: folder / name for name in places}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(fetch, places[name], path) for name, path in files.items()]
        try:
            for count, done in enumerate(as_completed(waiting), start=1):
                done.result()
                if on_file is not None:
                    on_file(count, len(files))
        except GatelineError:
            for future in waiting:
                future.cancel()
            raise
    return files


def _compare(found: Mapping[str, Path], listing: Mapping[str, str], place: str, where: object) -> None:
    absent = sorted(set(listing) - set(found))
    more = sorted(set(found) - set(listing))
    other = sorted(name for name in set(listing) & set(found) if file_digest(found[name]) != listing[name])
    wrong = ((absent, "not there"), (more, "not in the listing"), (other, "with other bytes"))
    if any(names for names, _ in wrong):
        raise DataError(
            place,
            expected=f"the {len(listing):,} files of the listing in {where}",
            found="; ".join(f"{examples(names)} {what}" for names, what in wrong if names),
            do="Fetch the folder again, or write a listing of the files that are meant",
        )
