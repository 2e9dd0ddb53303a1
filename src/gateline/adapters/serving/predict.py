"""`gateline predict`: answer a file of any length with a registered version, and go on where a stopped run was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from gateline.adapters.mlflow_server import connected
from gateline.adapters.serving.batch_worker import read_frame, write_frame
from gateline.adapters.serving.input_batches import ROW, Asked, InputBatches
from gateline.adapters.serving.prediction_log import PredictionLog
from gateline.adapters.serving.service import require_champion
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
    """

    def __init__(self, name: str, version: int) -> None:
        self.version = version
        self._place = f"{name} version {version}"
        self._process = subprocess.Popen(  # noqa: S603  (this very Python)
            [sys.executable, "-I", str(Path(__file__).with_name(WORKER))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,  # Ctrl-C reaches this process alone, which finishes its batch
        )
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps({"uri": f"models:/{name}/{version}"}).encode() + b"\n")
            self._process.stdin.flush()
        self.asked = Asked.of(json.loads(self._read()["model"][0].as_py()))

    def answer(self, batch: pa.Table) -> pa.Table:
        """Answer one batch; a table with the column `refused` says why not.

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
                self._place,
                expected="a model that loads and answers",
                found=f"a process that ended with exit code {code}; what it said stands above",
                do="Look at its files in MLflow; with exit code -9, ask for smaller batches by --batch-rows",
            )
        return found


def predict(
    name: str,
    source: Path,
    output: Path,
    *,
    version: int | None,
    batch_rows: int,
    log: Path | None,
    on_rows: OnRows,
    stop: Callable[[], bool],
) -> tuple[int, int]:
    """Answer every row of a file.

        OUTPUT.parts/           while it is under way; a run that was stopped goes on from it
        ├── state.json          input (sha256), version, rows of a batch: a run with others begins anew
        └── 000000.parquet      answers to each batch

    Args:
        name: of the registered model.
        source: csv or parquet with the columns of a request; files either as bytes or by their paths.
        output: csv or parquet to write: the answers, with the version.
        version: that answers; None for the champion.
        batch_rows: rows asked at once; a series is never parted.
        log: folder for what is asked and answered; None for no log.
        on_rows: see `OnRows`.
        stop: asked between two batches.

    Returns:
        The version, and how many rows it answered with.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row that is refused.
        RegistryError: there is no such version, or it does not load.
        Preempted: `stop` said so; the same call goes on.
    """
    if output.suffix not in (".csv", ".parquet"):
        raise DataError(output, expected="a name that ends with .csv or .parquet", found=output.name, do="Rename it")
    if not source.is_file():
        raise DataError(source, expected="a csv or parquet file", found="no such file", do="Correct the path")
    version = require_champion(name) if version is None else _require(name, version)
    parts = output.with_name(output.name + ".parts")
    _open_parts(parts, {"input": file_digest(source), "model": name, "version": version, "batch_rows": batch_rows})
    with _asking(name, version, log) as (process, kept):
        batches = InputBatches(source, process.asked, parts)
        done, count = 0, 0
        for number, batch in enumerate(batches.batches(batch_rows)):
            part = parts / f"{number:06d}.parquet"
            if not part.exists():
                if stop():
                    raise Preempted("a request to stop")
                answer = _answered(process, batch, source)
                pq.write_table(answer, part.with_suffix(".tmp"))
                part.with_suffix(".tmp").rename(part)
                if kept is not None:
                    kept.put(
                        batch.drop_columns([ROW]).to_pandas(), answer.drop_columns([VERSION]).to_pandas(), wait=True
                    )
            done += len(batch)
            count = number + 1
            on_rows(done, batches.num_rows)
    if not count:
        raise DataError(source, expected="rows", found="none", do="Name another file")
    rows = _join([parts / f"{number:06d}.parquet" for number in range(count)], output)
    shutil.rmtree(parts)
    return version, rows


def _require(name: str, version: int) -> int:
    from mlflow.exceptions import MlflowException

    with connected(name) as to:
        try:
            to.client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(
                f"models:/{name}/{version}", expected="a registered version", found="none", do="Correct --version"
            ) from error
    return version


@contextmanager
def _asking(name: str, version: int, log: Path | None) -> Iterator[tuple[BatchProcess, PredictionLog | None]]:
    process = BatchProcess(name, version)
    kept = None if log is None else PredictionLog(log, name, version)
    try:
        yield process, kept
    finally:
        process.close()
        if kept is not None:
            kept.close()


def _open_parts(parts: Path, state: dict[str, object]) -> None:
    """Find the folder of a stopped run of the very same, or begin one."""
    said = json.dumps({"key": digest_of(state), **state}, indent=2)
    if not (parts / STATE).is_file() or (parts / STATE).read_text(encoding="utf-8") != said:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        (parts / STATE).write_text(said, encoding="utf-8")


def _answered(process: BatchProcess, batch: pa.Table, source: Path) -> pa.Table:
    answer = process.answer(batch)
    if answer.column_names == ["refused"]:
        rows = batch[ROW].to_pylist()
        raise DataError(
            f"{source}, among rows {min(rows)} to {max(rows)}",
            expected="rows that the model answers",
            found=answer["refused"][0].as_py(),
            do="Correct them in the file; rows count from 0",
        )
    return answer.append_column(VERSION, pa.array([process.version] * len(answer), pa.int64()))


def _join(parts: list[Path], output: Path) -> int:
    """Write all parts into one file, one after the other."""
    schema = pa.unify_schemas([pq.read_schema(part).remove_metadata() for part in parts])
    draft, rows = output.with_name(output.name + ".tmp"), 0
    writer = pq.ParquetWriter(draft, schema) if output.suffix == ".parquet" else pa_csv.CSVWriter(str(draft), schema)
    with writer:
        for part in parts:
            table = pq.read_table(part).cast(schema)
            writer.write_table(table)
            rows += len(table)
    draft.rename(output)
    return rows
