"""What lies at the addresses of raw files, told by a mark of theirs (ETag, time of change) without fetching them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateline.manifest import digest_of
from gateline.workload.source import File

SECONDS = 10
MARKS = ("ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "size")
"""What stores call it, the surest first."""


def marks_of(files: Sequence[File]) -> str:
    """Digest of the marks of all addresses; empty where there are none, one does not answer, or a mirror goes before them."""
    if os.environ.get("GATELINE_MIRROR"):
        return ""
    marks = {file.url: _mark(file.url) for file in files if file.url is not None and not file.is_folder}
    known = {url: mark for url, mark in marks.items() if mark is not None}
    return digest_of(known) if marks and len(known) == len(marks) else ""


def _mark(url: str) -> str | None:
    try:
        if urlsplit(url).scheme in ("http", "https"):
            import requests

            answer = requests.head(url, timeout=SECONDS, allow_redirects=True)
            found = dict(answer.headers) if answer.ok else {}
        else:
            import fsspec

            file_system, path = fsspec.url_to_fs(url)
            found = file_system.info(path)
    except Exception:  # noqa: BLE001  every file system raises its own kinds, and not to know is an answer
        return None
    return next((f"{mark}: {found[mark]}" for mark in MARKS if found.get(mark)), None)
