"""Answer batches with one registered version: `python -I batch_worker.py`, one question and one answer at a time.

Run by path in a process of its own, as `worker.py` is and for the same reason; it imports nothing of the project. The first
line of stdin is JSON: `model`, a folder that was checked. Then both sides send frames: the length in eight bytes, and a table in
Arrow's file format. What cannot be answered is a frame of a table with the one column `refused`, where the rows are at fault, or
`failed`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa

LENGTH_BYTES = 8
ROW = "gateline_row"
"""Column of a question: the row of the file."""


def read_frame(stream: IO[bytes]) -> pa.Table | None:
    """Read one table; None where the other side has ended."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    with pa.ipc.open_file(pa.BufferReader(stream.read(int.from_bytes(head, "big")))) as reader:
        return reader.read_all()


def write_frame(table: pa.Table, stream: IO[bytes]) -> None:
    """Write one table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue()
    stream.write(len(content).to_bytes(LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def answer(model: Any, table: pa.Table, double: set[str]) -> pa.Table:
    """Ask the model, or say why it does not answer."""
    frame = table.to_pandas()
    if ROW in frame:
        frame = frame.set_index(ROW)  # a refusal names rows by it
    for name in double & set(frame.columns):
        numbers = pd.to_numeric(frame[name], errors="coerce").astype("float64")
        wrong = numbers.isna() & frame[name].notna()
        if wrong.any():
            first = [f"{str(value)[:40]!r} in row {row}" for row, value in frame.loc[wrong, name].head(3).items()]
            return pa.table({"refused": [f"column {name}: expected numbers; found {', '.join(first)}."]})
        frame[name] = numbers
    try:
        return pa.Table.from_pandas(model.predict(frame), preserve_index=False)
    except Exception as error:  # noqa: BLE001  (whatever a model raises is said by the other side, which knows the rows)
        # As served: the status is 400 where rows are refused, and 500 where anything else went wrong.
        refused = getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"
        words = " ".join(str(getattr(error, "message", error)).rpartition("Error: ")[2].split())
        said = words if refused and words else f"{type(error).__name__}: {words}"
        return pa.table({"refused" if refused else "failed": [said]})


def main() -> None:
    """Load, say which columns are numbers, and answer until stdin ends."""
    settings = json.loads(sys.stdin.buffer.readline())
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what a library prints must not get between frames
    import mlflow
    import torch

    torch.set_num_threads(1)
    folder = Path(settings["model"])
    model = mlflow.pyfunc.load_model(str(folder))
    schema = model.metadata.get_input_schema().to_dict()
    double = {column["name"] for column in schema if column["type"] == "double"}
    statistics = json.loads(next(folder.rglob("training_statistics.json")).read_text(encoding="utf-8"))
    answers = model.metadata.get_output_schema().to_dict()
    write_frame(pa.table({"model": [json.dumps({"asked": schema, "answers": answers, **statistics["schema"]})]}), out)
    while (asked := read_frame(sys.stdin.buffer)) is not None:
        write_frame(answer(model, asked, double), out)


if __name__ == "__main__":
    main()
