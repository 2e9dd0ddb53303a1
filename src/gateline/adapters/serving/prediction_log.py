"""Keep what a served model was asked and has answered, as parquet files by day; answering never waits for it.

    FOLDER/NAME/
    ├── inputs/day=2026-01-31/HHMMSS-WRITER-NUMBER.parquet      rows as they were asked, in raw units
    └── answers/day=2026-01-31/...                               rows as they were answered

Every row also has `gateline_time`, `gateline_version` and `gateline_request`, which joins the two. Of files (bytes) it has
the length and the sha256 only. Requests whose values are of other types stand in files of their own. Loaded by path beside a
registered model, so it imports nothing of the project.
"""

from __future__ import annotations

import hashlib
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

WAITING = 2000
WAITING_BYTES = 256 * 2**20
"""Requests, and what they and their answers take up, that may wait to be written; further ones are counted and not kept."""
FLUSH_SECONDS, FLUSH_ROWS, FLUSH_BYTES = 5.0, 20_000, 64 * 2**20
QUIET_SECONDS = 600.0
"""Between two lines on stderr."""
LONGEST_REASON = 300  # characters
PARTS = ("inputs", "answers")


class PredictionLog:
    """Writes requests and answers in a thread of its own.

    Args:
        folder: where logs stand.
        name: of the registered model.
        version: that answers.
        columns: of a request that the model reads; what else a client sends is not kept.
    """

    def __init__(self, folder: Path, name: str, version: int, columns: Sequence[str]) -> None:
        self._folder, self._version, self._columns = folder / name, version, tuple(columns)
        self._writer = uuid4().hex[:12]  # numbers of processes are alike in two containers that write to one volume
        self._waiting: queue.Queue[tuple[float, pd.DataFrame, pd.DataFrame, int] | None] = queue.Queue(WAITING)
        self._bytes, self._lock = 0, threading.Lock()
        self._rows: dict[str, list[pa.Table]] = {part: [] for part in PARTS}
        self._held, self._held_bytes, self._number = 0, 0, 0
        self._lost, self._said_lost, self._quiet_until = 0, 0, 0.0
        self._why: object = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, asked: Any, answer: Any, *, wait: bool = False) -> None:
        """Keep a request and its answer, if there is room, or when there is; what cannot be kept is counted.

        Args:
            asked: rows as MLflow hands them to a model: a frame, columns by name, or a list of rows by name.
            answer: the same of the answer.
            wait: for room.
        """
        try:
            asked, answer = _frame(asked), _frame(answer)
            asked = asked[[name for name in self._columns if name in asked]]
            self._put(asked, answer, wait=wait)
        except Exception as error:  # noqa: BLE001  (the answer was found, and must reach whoever asked)
            self._lose(1, error)

    def close(self) -> None:
        """Write what is left, for half a minute at most."""
        self._closing.set()
        with suppress(queue.Full):  # the thread is awake, and looks when it has written what waits
            self._waiting.put_nowait(None)
        self._thread.join(timeout=30)

    def _put(self, asked: pd.DataFrame, answer: pd.DataFrame, *, wait: bool) -> None:
        size = _size(asked) + _size(answer)
        while self._thread.is_alive():
            if self._has_room(size):
                with suppress(queue.Full):
                    self._waiting.put_nowait((time.time(), asked, answer, size))
                    return
                self._release(size)
            if not wait:
                break
            time.sleep(0.01)
        self._lose(1)

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
                ends = item is None
            except queue.Empty:
                ends = self._closing.is_set()
            except Exception as error:  # noqa: BLE001  (an answer that cannot be kept was given all the same)
                ends = False
                self._lose(1, error)
            full = self._held >= FLUSH_ROWS or self._held_bytes >= FLUSH_BYTES
            if ends or full or time.monotonic() - flushed >= FLUSH_SECONDS:
                self._flush(last=ends)
                flushed = time.monotonic()
            if ends:
                return

    def _take(self, moment: float, asked: pd.DataFrame, answer: pd.DataFrame) -> None:
        request, when = uuid4().hex, datetime.fromtimestamp(moment, UTC)
        tables = []
        for rows in (asked, answer):
            count = len(rows)
            kept = {str(name): _column(values) for name, values in rows.items()}
            kept["gateline_time"] = pa.repeat(pa.scalar(when, pa.timestamp("us", "UTC")), count)
            kept["gateline_version"] = pa.repeat(pa.scalar(self._version, pa.int64()), count)
            kept["gateline_request"] = pa.repeat(request, count)
            tables.append(pa.table(kept))
        for part, table in zip(PARTS, tables, strict=True):
            self._rows[part].append(table)
            self._held += len(table)

    def _flush(self, *, last: bool) -> None:
        now = datetime.now(UTC)
        lost: dict[str, Exception] = {}
        for part, tables in self._rows.items():
            try:
                lost |= self._save(part, now, tables) if tables else {}
            except Exception as error:  # noqa: BLE001  (nothing may end the thread: the next request finds room by it)
                lost |= _with_reason(tables, error)
            tables.clear()
        self._release(self._held_bytes)
        self._held, self._held_bytes = 0, 0
        if lost:
            self._lose(len(lost), next(iter(lost.values())))
        self._say_lost(now=last)

    def _save(self, part: str, now: datetime, tables: Sequence[pa.Table]) -> dict[str, Exception]:
        """Write requests into one file, or, where they do not go together, into several.

        Returns:
            Why a request could not be written, by request.
        """
        place = self._folder / part / f"day={now:%Y-%m-%d}"
        self._number += 1
        path = place / f"{now:%H%M%S}-{self._writer}-{self._number}.parquet"
        draft = path.with_suffix(".tmp")
        try:
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.concat_tables(tables, promote_options="permissive"), draft)
            draft.replace(path)
            return {}
        except Exception as error:  # noqa: BLE001  (a full disk must not end the service)
            with suppress(OSError):  # what cannot be written to can often not be deleted from
                draft.unlink(missing_ok=True)
            if len(tables) == 1 or isinstance(error, OSError):
                return _with_reason(tables, error)
        lost: dict[str, Exception] = {}
        for some in _apart(tables):
            lost |= self._save(part, now, some)
        return lost

    def _lose(self, requests: int, why: object = "there was no room") -> None:
        """Count requests that are not kept, and say so unless something was said a moment ago."""
        with self._lock:
            self._lost += requests
            self._why = why
        self._say_lost(now=False)

    def _say_lost(self, *, now: bool) -> None:
        with self._lock:
            if self._lost == self._said_lost or (not now and time.monotonic() < self._quiet_until):
                return
            self._said_lost, self._quiet_until = self._lost, time.monotonic() + QUIET_SECONDS
            words = f"{self._lost} requests were answered and not kept: {str(self._why)[:LONGEST_REASON]}"
        with suppress(OSError, ValueError):  # nobody reads it any more
            sys.stderr.write(f"gateline: the log of predictions: {' '.join(words.split())}\n")


def _frame(rows: Any) -> pd.DataFrame:
    """Make a frame of rows as MLflow does: it hands over those of `inputs` and `instances` by column, or as a list."""
    if isinstance(rows, pd.DataFrame):
        return rows
    if not isinstance(rows, Mapping):
        return pd.DataFrame(rows)
    columns = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in rows.items()}
    one = not any(isinstance(values, list) for values in columns.values())
    return pd.DataFrame([columns] if one else columns)


def _size(rows: pd.DataFrame) -> int:
    """Bytes that a frame takes up."""
    return int(rows.memory_usage(index=False, deep=True).sum())


def _with_reason(tables: Sequence[pa.Table], why: Exception) -> dict[str, Exception]:
    """Say of every request why it is lost."""
    return {table["gateline_request"][0].as_py(): why for table in tables if len(table)}


def _apart(tables: Sequence[pa.Table]) -> list[Sequence[pa.Table]]:
    """Part tables by their types, or in the middle where they are all alike."""
    kinds: dict[pa.Schema, list[pa.Table]] = {}
    for table in tables:
        kinds.setdefault(table.schema, []).append(table)
    middle = len(tables) // 2
    return list(kinds.values()) if len(kinds) > 1 else [tables[:middle], tables[middle:]]


def _column(values: pd.Series) -> pa.Array:
    """Bring a column to one type: numbers among texts are written out, since MLflow passes both on as texts."""
    values = _without_bytes(values)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)])


def _without_bytes(values: pd.Series) -> pd.Series:
    """Put length and digest in the place of files."""
    if values.dtype == object and values.map(lambda value: isinstance(value, bytes)).any():
        return values.map(
            lambda value: f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}" if value else None
        )
    return values
