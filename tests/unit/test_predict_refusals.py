"""What `gateline predict` refuses before a model is loaded, and what a disk that fails makes it say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from gateline.adapters.door import path_in_words
from gateline.adapters.serving import predict as module
from gateline.adapters.serving.input_batches import ROW, Asked, InputBatches
from gateline.cli import app


def predict(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """Exit code and the one line."""
    with pytest.raises(SystemExit) as ended:
        app(["predict", "tiny", *flags])
    (line,) = capsys.readouterr().err.splitlines()
    return int(str(ended.value)), line


def test_a_log_in_whose_place_a_file_is_is_refused_before_anything_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, taken = tmp_path / "in.csv", tmp_path / "f"
    source.write_text("size\n1\n")
    taken.write_text("a file")
    code, line = predict(capsys, "--input", str(source), "--output", str(tmp_path / "out.csv"), "--log", str(taken))
    assert code == 2
    assert line == (
        f"gateline: {taken}: expected a place to read or write; found a file where a folder should be. "
        "Correct the path or its rights."
    )


@pytest.mark.parametrize("name", ["in.jsonl", "in", "in.parquet.txt"])
def test_a_file_that_is_neither_csv_nor_parquet_is_refused_by_its_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("size\n1\n")
    code, line = predict(capsys, "--input", str(tmp_path / name), "--output", str(tmp_path / "out.csv"))
    assert code == 2
    assert f"{name}: expected a name that ends with .csv or .parquet; found {name}." in line


@pytest.mark.parametrize("name", ["IN.PARQUET", "IN.CSV", "in.csv.gz"])
def test_how_a_name_is_written_is_no_matter(name: str, tmp_path: Path) -> None:
    rows, path = pd.DataFrame({"size": [1.0, 2.0]}), tmp_path / name
    if name.endswith("PARQUET"):
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False)
    asked = Asked({"size": "double"}, ("size",), (), None)
    (batch,) = InputBatches(path, asked, tmp_path).batches(10)
    assert batch["size"].to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("part", [True, False])
def test_a_full_disk_is_said_with_the_file_that_found_no_room(output: str, part: bool, tmp_path: Path) -> None:
    table = pa.table({"size": [1.0] * 100_000, ROW: range(100_000)})
    draft = tmp_path / ("000000.tmp" if part else f"{output}.tmp")
    draft.symlink_to("/dev/full")
    batches: Any = SimpleNamespace(batches=lambda _: [table], num_rows=len(table))
    process: Any = SimpleNamespace(answer=lambda batch: batch, version=1)

    def answer() -> int:
        answered = module._answer_all(
            process, None, batches, tmp_path / "in.csv", tmp_path, 10, lambda *_: None, lambda: False
        )
        return module._join(answered, tmp_path / output)

    with pytest.raises(OSError, match="No space left on device") as raised:
        answer()
    assert path_in_words(raised.value) == (
        f"{draft}: expected a place to read or write; found a full disk. Make room and run the same command again."
    )
