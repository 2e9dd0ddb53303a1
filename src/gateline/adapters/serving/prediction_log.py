"""Keep what a served model was asked and has answered, as parquet files by day; answering never waits for it.

    FOLDER/NAME/
    ├── inputs/day=2026-01-31/HHMMSS-WRITER-NUMBER.parquet      rows as they were asked, in raw units
    └── answers/day=2026-01-31/...                               rows as they were answered

Every row also has `gateline_time`, `gateline_version` and `gateline_request`, which joins the two. Of files (bytes) it has
the length and the sha256 only. Loaded by path beside a registered model, so it imports nothing of the project.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

WAITING = 2000
WAITING_BYTES = 256 * 2**20
"""Requests, and what they and their answers take up, that may wait to be written; further ones are counted and not kept."""
FLUSH_SECONDS, FLUSH_ROWS, FLUSH_BYTES = 5.0, 20_000, 64 * 2**20
PARTS = ("inputs", "answers")


class PredictionLog:
    """Writes requests and answers in a thread of its own.

    Args:
        folder: where logs stand.
        name: of the registered model.
        version: that answers.
    """

    def __init__(self, folder: Path, name: str, version: int) -> None:
        self._folder, self._version = folder / name, version
        self._writer = uuid4().hex[:12]  # numbers of processes are alike in two containers that write to one volume
        self._waiting: queue.Queue[tuple[float, Any, Any, int] | None] = queue.Queue(WAITING)
        self._bytes, self._lock = 0, threading.Lock()
        self._rows: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
        self._held, self._held_bytes, self._number = 0, 0, 0
        self._lost, self._complained = 0, False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, asked: Any, answer: Any, *, wait: bool = False) -> None:
        """Keep a request and its answer, if there is room, or when there is."""
        size = _size(asked) + _size(answer)
        while not self._has_room(size):
            if not wait:
                self._lost += 1
                return
            time.sleep(0.01)
        try:
            self._waiting.put((time.time(), asked, answer, size), block=wait)
        except queue.Full:
            self._release(size)
            self._lost += 1

    def close(self) -> None:
        """Write what is left."""
        self._waiting.put(None)
        self._thread.join(timeout=30)

    def _has_room(self, size: int) -> bool:
        """Take up so many bytes, unless others have; a single large request always finds room."""
        with self._lock:
            if self._bytes and self._bytes + size > WAITING_BYTES:
                return False
            self._bytes += size
            return True

    def _release(self, size: int) -> None:
        with self._lock:
            self._bytes -= size

    def _write(self) -> None:
        flushed = time.monotonic()
        while True:
            try:
                item = self._waiting.get(timeout=1.0)
                if item is not None:
                    self._held_bytes += item[3]
                    self._take(*item[:3])
            except queue.Empty:
                item = (0.0, None, None, 0)
            except Exception as error:  # noqa: BLE001  (an answer that cannot be kept was given all the same)
                self._complain(error)
            full = self._held >= FLUSH_ROWS or self._held_bytes >= FLUSH_BYTES
            if item is None or full or time.monotonic() - flushed >= FLUSH_SECONDS:
                self._flush()
                flushed = time.monotonic()
            if item is None:
                return

    def _take(self, moment: float, asked: Any, answer: Any) -> None:
        request = uuid4().hex
        for part, rows in zip(PARTS, (asked, answer), strict=True):
            kept = pd.DataFrame({name: _without_bytes(values) for name, values in rows.items()})
            kept["gateline_time"] = datetime.fromtimestamp(moment, UTC)
            kept["gateline_version"], kept["gateline_request"] = self._version, request
            self._rows[part].append(kept)
            self._held += len(kept)

    def _flush(self) -> None:
        now = datetime.now(UTC)
        self._number += 1
        for part, pieces in self._rows.items():
            if not pieces:
                continue
            place = self._folder / part / f"day={now:%Y-%m-%d}"
            path = place / f"{now:%H%M%S}-{self._writer}-{self._number}.parquet"
            try:
                place.mkdir(parents=True, exist_ok=True)
                draft = path.with_suffix(".tmp")
                pd.concat(pieces, ignore_index=True).to_parquet(draft, index=False)
                draft.replace(path)
            except Exception as error:  # noqa: BLE001  (a full disk must not end the service)
                self._lost += len(pieces)
                self._complain(error)
            pieces.clear()
        self._release(self._held_bytes)
        self._held, self._held_bytes = 0, 0
        if self._lost:
            self._complain(f"{self._lost} requests were answered and not kept")

    def _complain(self, reason: object) -> None:
        if not self._complained:
            sys.stderr.write(f"gateline: the log of predictions: {' '.join(str(reason).split())}\n")
        self._complained = True


def _size(rows: pd.DataFrame) -> int:
    """Bytes that a frame takes up."""
    return int(rows.memory_usage(index=False, deep=True).sum())


def _without_bytes(values: pd.Series) -> pd.Series:
    """Put length and digest in the place of files."""
    if values.dtype == object and values.map(lambda value: isinstance(value, bytes)).any():
        return values.map(
            lambda value: f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}" if value else None
        )
    return values
