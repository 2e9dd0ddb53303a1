"""`gateline predict`: answer a file of any length with a registered version, and go on where a stopped run was."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from gateline.adapters.serving.batch_worker import read_frame, write_frame
from gateline.adapters.serving.checked_copy import checked_copy
from gateline.adapters.serving.input_batches import BATCH_BYTES, ROW, Asked, InputBatches, is_parquet
from gateline.adapters.serving.prediction_log import PredictionLog
from gateline.adapters.serving.service import require_champion, version_named
from gateline.adapters.serving.version_process import clean_environment
from gateline.errors import DataError, Preempted, RegistryError
from gateline.manifest import digest_of, file_digest

VERSION = "gateline_version"
STATE = "state.json"
WORKER = "batch_worker.py"
ENDING_SECONDS = 20.0

OnRows = Callable[[int, int], None]
"""Told of the rows answered so far, and of all rows."""


class BatchProcess:
    """A process that answers batches with one version.

    Args:
        name: of the registered model.
        version: that answers.
        model: checked copy of it.
    """

    def __init__(self, name: str, version: int, model: Path) -> None:
        self.version = version
        self.place = f"{name} version {version}"
        self._process = subprocess.Popen(  # noqa: S603  (this very Python)
            [sys.executable, "-I", str(Path(__file__).with_name(WORKER))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which finishes its batch
        )
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it ended; what follows says why
                self._process.stdin.write(json.dumps({"model": str(model)}).encode() + b"\n")
                self._process.stdin.flush()
        self.asked = Asked.of(json.loads(self._read()["model"][0].as_py()))

    def answer(self, batch: pa.Table) -> pa.Table:
        """Answer one batch; a table with the column `refused` or `failed` says why not.

        Raises:
            RegistryError: the process ended.
        """
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # it ended; what follows says why
                write_frame(batch, self._process.stdin)
        return self._read()

    def close(self) -> None:
        """Let the process end, which takes its copy of the model away."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> pa.Table:
        found = None if self._process.stdout is None else read_frame(self._process.stdout)
        if found is None:
            code = self._process.wait()
            raise RegistryError(
                self.place,
                expected="a model that loads and answers",
                found=f"a process that ended with exit code {code}; what it said stands above",
                do="Look at its files in MLflow; with exit code -9, ask for smaller batches by --batch-rows",
            )
        return found


def predict(
    model: str,
    source: Path,
    output: Path,
    *,
    version: int | None,
    batch_rows: int,
    log: Path | None,
    on_rows: OnRows,
    stop: Callable[[], bool],
) -> tuple[str, int, int]:
    """Answer every row of a file.

        OUTPUT.parts/           while it is under way; a run that was stopped goes on from it
        ├── state.json          input (sha256), model, version, rows of a batch: a run with others begins anew
        └── 000000.parquet      answers to each batch

    Args:
        model: name of the registered model, the workload's file, or an address of MLflow's, with a version or without.
        source: csv or parquet with the columns of a request; files either as bytes or by their paths.
        output: csv or parquet to write: the answers, with the version.
        version: that answers; None for the champion, or for the one that a stopped run began with.
        batch_rows: rows asked at once, or fewer with files of together `BATCH_BYTES`; a series is never parted.
        log: folder for what is asked and answered; None for no log.
        on_rows: see `OnRows`.
        stop: asked between two batches.

    Returns:
        Name and version that answered, and how many rows it answered with.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row that is refused; or a folder that is not this
            command's, or another run of it, is where it would write.
        RegistryError: there is no such version, its files are not those that were registered, or it does not load or answer.
        Preempted: `stop` said so; the same call goes on.
    """
    if output.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(output, expected="a name that ends with .csv or .parquet", found=output.name, do="Rename it")
    if not source.is_file():
        raise DataError(source, expected="a csv or parquet file", found="no such file", do="Correct the path")
    is_parquet(source)
    if output.is_dir() or not output.parent.is_dir():
        found = "a folder" if output.is_dir() else f"no folder {output.parent}"
        raise DataError(output, expected="a file in a folder that is there", found=found, do="Name another --output")
    if output.exists() and output.samefile(source):
        raise DataError(output, expected="another file than the input", found="the same", do="Name another --output")
    if log is not None:
        log.mkdir(parents=True, exist_ok=True)
    name, version = version_named(model, version)
    parts = output.with_name(output.name + ".parts")
    asked = {"input": file_digest(source), "model": name, "batch_rows": batch_rows, "batch_bytes": BATCH_BYTES}
    begun = _begun_with(parts, asked)
    goes_on = begun is not None and version in (None, begun)
    # Whoever is champion now: one file is answered by one version.
    chosen = version or (begun if goes_on else None) or require_champion(name)
    try:
        with _asking(name, chosen, log) as (process, kept):
            batches = InputBatches(source, process.asked, parts)
            if not goes_on:  # only now: what cannot answer this file is not what the next run goes on with
                _begin(parts, {**asked, "version": chosen})
            with _claimed(parts):
                if goes_on and _version_in(parts, asked) != chosen:  # another run came between the look and the claim
                    raise _under_way(parts)
                answered = _answer_all(process, kept, batches, source, parts, batch_rows, on_rows, stop)
                rows = _join(answered, output)
                shutil.rmtree(parts)
    except RegistryError as error:
        if not goes_on or version is not None:
            raise
        raise RegistryError(
            error.where,
            expected=error.expected,
            found=error.found,
            do=f"{parts} is of a stopped run that began with version {chosen}: name another by --version, and it begins anew",
        ) from error
    return name, chosen, rows


def _answer_all(
    process: BatchProcess,
    kept: PredictionLog | None,
    batches: InputBatches,
    source: Path,
    parts: Path,
    batch_rows: int,
    on_rows: OnRows,
    stop: Callable[[], bool],
) -> list[Path]:
    """Answer what no run before has answered; returns the files of all answers in the order of the rows."""
    done, answered = 0, []
    for number, batch in enumerate(batches.batches(batch_rows)):
        part = parts / f"{number:06d}.parquet"
        if not part.exists():
            if stop():
                raise Preempted("a request to stop")
            answer = _answered(process, batch, source)
            draft = part.with_suffix(".tmp")
            with _named_in_errors(draft):
                pq.write_table(answer, draft)
            draft.rename(part)
            if kept is not None:
                kept.put(batch.drop_columns([ROW]).to_pandas(), answer.drop_columns([VERSION]).to_pandas(), wait=True)
        done += len(batch)
        answered.append(part)
        on_rows(done, batches.num_rows)
    if not answered:
        raise DataError(source, expected="rows", found="none", do="Name another file")
    return answered


@contextmanager
def _asking(name: str, version: int, log: Path | None) -> Iterator[tuple[BatchProcess, PredictionLog | None]]:
    with tempfile.TemporaryDirectory(prefix="gateline-predict-") as scratch:
        process = BatchProcess(name, version, checked_copy(name, version, Path(scratch)))
        kept = None if log is None else PredictionLog(log, name, version, tuple(process.asked.types))
        try:
            yield process, kept
        finally:
            process.close()
            if kept is not None:
                kept.close()


def _begun_with(parts: Path, asked: dict[str, object]) -> int | None:
    """Say with which version a stopped run of the very same began; None if there is none, it asked something else, or answered nothing.

    Raises:
        DataError: the folder is there, and no run of this command made it, or one is under way.
    """
    if not parts.exists():
        return None
    with _claimed(parts):  # said now, not when the model is loaded
        return _version_in(parts, asked)


def _version_in(parts: Path, asked: dict[str, object]) -> int | None:
    """Read what `_begun_with` says, in a claimed folder."""
    try:
        state = json.loads((parts / STATE).read_text(encoding="utf-8"))
        own = state.pop("key") == digest_of(state)
        version = int(state.pop("version"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = False
    if not own:
        raise DataError(
            parts,
            expected=f"what a stopped `gateline predict` left, with its {STATE}",
            found="another folder or file",
            do="Move it away, or name another --output; nothing was deleted",
        )
    return version if state == asked and any(parts.glob("*.parquet")) else None


def _begin(parts: Path, state: dict[str, object]) -> None:
    """Make the folder anew; one that is there is this command's own."""
    if parts.exists():
        with _claimed(parts):
            shutil.rmtree(parts)
    draft = Path(tempfile.mkdtemp(prefix=f"{parts.name}.new-", dir=parts.parent))
    said = json.dumps({"key": digest_of(state), **state}, indent=2)
    try:
        (draft / STATE).write_text(said, encoding="utf-8")
        draft.rename(parts)  # so that there is no folder without its state, whenever this process ends
    except OSError as error:
        shutil.rmtree(draft)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _under_way(parts) from error


@contextmanager
def _claimed(parts: Path) -> Iterator[None]:
    """Keep other runs out of the folder; the system forgets a claim with its process, however that ends.

    Raises:
        DataError: another run has it.
    """
    folder = os.open(parts, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _under_way(parts) from error
        yield
    finally:
        os.close(folder)


def _under_way(parts: Path) -> DataError:
    return DataError(
        parts,
        expected="one `gateline predict` for one --output",
        found="another that is under way",
        do="Wait for it, or name another --output",
    )


def _answered(process: BatchProcess, batch: pa.Table, source: Path) -> pa.Table:
    answer = process.answer(batch)
    if answer.column_names not in (["refused"], ["failed"]):
        return answer.append_column(VERSION, pa.array([process.version] * len(answer), pa.int64()))
    rows = batch[ROW].to_pylist()
    where, found = f"{source}, among rows {min(rows)} to {max(rows)}", answer[0][0].as_py()
    if answer.column_names == ["failed"]:
        raise RegistryError(
            f"{process.place}: {where}",
            expected="a model that answers",
            found=found,
            do="Nothing says that the file is at fault: look at the version, or name another one by --version",
        )
    raise DataError(
        where, expected="rows that the model answers", found=found, do="Correct them in the file; rows count from 0"
    )


def _join(parts: list[Path], output: Path) -> int:
    """Write all parts into one file, one after the other."""
    schema = pa.unify_schemas([pq.read_schema(part).remove_metadata() for part in parts])
    draft, rows = output.with_name(output.name + ".tmp"), 0
    with _named_in_errors(draft):
        writer = (
            pq.ParquetWriter(draft, schema)
            if output.suffix.lower() == ".parquet"
            else pa_csv.CSVWriter(str(draft), schema)
        )
        with writer:
            for part in parts:
                table = pq.read_table(part).cast(schema)
                writer.write_table(table)
                rows += len(table)
    draft.rename(output)
    return rows


@contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Let what the system says of a file say which: Arrow leaves that out where a disk is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
