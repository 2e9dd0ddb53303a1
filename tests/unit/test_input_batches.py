"""A file is asked in batches of bounded size: every row once, and no series parted."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateline.adapters.serving import input_batches
from gateline.adapters.serving.input_batches import ROW, Asked, InputBatches
from gateline.errors import DataError

SERIES = Asked({"shop": "string", "time": "string", "price": "double"}, ("shop", "time", "price"), ("shop",), "time")
ALONE = Asked({"text": "string"}, ("text",), (), None)

PICTURES = Asked({"clip": "string", "image": "binary", "frame": "double"}, ("image",), ("clip",), "frame")
PICTURES_ALONE = Asked({"image": "binary"}, ("image",), (), None)


def shops(rng: np.random.Generator, count: int) -> pd.DataFrame:
    pieces = [
        pd.DataFrame(
            {
                "shop": f"shop {number:03d}",
                "time": pd.date_range("2024-01-01", periods=int(rng.integers(1, 60)), freq="h", tz="UTC"),
                "unasked": 1,
            }
        )
        for number in range(count)
    ]
    frame = pd.concat(pieces, ignore_index=True)
    return frame.assign(price=rng.integers(0, 9, len(frame))).sample(frac=1, random_state=int(rng.integers(99)))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "PARQUET"])
def test_every_row_is_asked_once_in_order_and_no_series_is_parted(
    suffix: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    frame, path = shops(rng, 200), tmp_path / f"in.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    batches = list(InputBatches(path, SERIES, tmp_path).batches(300))

    whole = pa.concat_tables(batches).to_pandas()
    assert max(len(batch) for batch in batches) < 300 + 60
    assert all(len(batch) >= 300 for batch in batches[:-1])
    places = [set(batch["shop"].to_pylist()) for batch in batches]
    assert sum(map(len, places)) == 200
    assert sorted(whole[ROW]) == list(range(len(frame)))
    expected = frame.reset_index(drop=True).loc[whole[ROW]]
    assert whole["shop"].tolist() == expected["shop"].tolist()
    assert pd.to_datetime(whole["time"], format="ISO8601").tolist() == expected["time"].tolist()
    assert whole["price"].dtype == np.float64
    assert list(whole.columns) == ["shop", "time", "price", ROW]
    assert whole.groupby("shop")["time"].apply(lambda times: times.is_monotonic_increasing).all()


def test_rows_of_their_own_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(1001)]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)

    batches = list(InputBatches(tmp_path / "in.csv", ALONE, tmp_path).batches(100))

    assert [len(batch) for batch in batches] == [100] * 10 + [1]
    assert pa.concat_tables(batches)["text"].to_pylist() == texts


def test_files_are_read_by_their_paths_from_the_folder_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "one.wav").write_bytes(b"one")
    asked = Asked({"sound": "binary"}, ("sound",), (), None)
    pd.DataFrame({"sound": ["one.wav", None]}).to_csv(tmp_path / "in.csv", index=False)
    (batch,) = InputBatches(tmp_path / "in.csv", asked, tmp_path).batches(10)
    assert batch["sound"].to_pylist() == [b"one", None]

    pd.DataFrame({"sound": ["one.wav", "two.wav"]}).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(DataError, match=r"in.csv, row 1: .* found two.wav: No such file"):
        list(InputBatches(tmp_path / "in.csv", asked, tmp_path).batches(10))


def test_a_file_without_a_column_or_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("shop,time\na,2024-01-01\n")
    with pytest.raises(DataError, match="no price"):
        InputBatches(tmp_path / "in.csv", SERIES, tmp_path)
    (tmp_path / "in.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="a csv or parquet file"):
        InputBatches(tmp_path / "in.parquet", SERIES, tmp_path)


def test_a_column_that_may_be_left_out_is_not_misspelt_in_silence(tmp_path: Path) -> None:
    columns = [{"name": "text", "type": "string"}, {"name": "weight", "type": "double", "required": False}]
    asked = Asked.of({"asked": columns, "answers": [], "columns": {"text": {}, "weight": {}, "label": {}}, "keys": []})

    def read(*names: str) -> int:
        pd.DataFrame({name: ["1"] for name in names}).to_csv(tmp_path / "in.csv", index=False)
        return InputBatches(tmp_path / "in.csv", asked, tmp_path).num_rows

    for names in (["text"], ["text", "label"], ["text", "weight", "wieght"], ["text", "ward"]):
        assert read(*names) == 1
    with pytest.raises(DataError, match=r"column wieght: .* and no weight\. .* Did you mean 'weight'\?"):
        read("text", "ward", "wieght")


def test_the_rows_of_a_request_that_is_no_row_of_the_table_are_kept_together_by_what_answers_repeat() -> None:
    columns = [
        {"name": "clip", "type": "string"},
        {"name": "frame", "type": "double"},
        {"name": "image", "type": "binary"},
    ]
    asked = Asked.of(
        {"asked": columns, "answers": [*columns[:2], {"name": "flags"}], "columns": {"number": {}}, "keys": []}
    )
    assert (asked.keys, asked.order) == (("clip",), "frame")


def test_texts_of_a_csv_are_asked_as_they_stand(tmp_path: Path) -> None:
    texts = ["1.50", "2e3", "False", "10:30", "03/04/2024", "007", 'it"s']
    pd.DataFrame({"text": texts, "unasked": range(7)}).to_csv(tmp_path / "in.csv", index=False)
    for one in ([text] for text in texts):
        pd.DataFrame({"text": one}).to_csv(tmp_path / "one.csv", index=False)
        (batch,) = InputBatches(tmp_path / "one.csv", ALONE, tmp_path).batches(10)
        assert batch["text"].to_pylist() == one
    (batch,) = InputBatches(tmp_path / "in.csv", ALONE, tmp_path).batches(10)
    assert batch["text"].to_pylist() == texts


@pytest.mark.parametrize("value", ["2024-01-01", "10:30", "2024-01-01T10:00:00Z", "true", "x"])
def test_what_is_no_number_is_left_to_the_model_to_refuse(value: str, tmp_path: Path) -> None:
    asked = Asked({"price": "double"}, ("price",), (), None)
    (tmp_path / "in.csv").write_text(f"price\n{value}\n")
    (batch,) = InputBatches(tmp_path / "in.csv", asked, tmp_path).batches(10)
    (found,) = batch["price"].to_pylist()
    assert found == 1.0 if value == "true" else isinstance(found, str)


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"text": [["a", "b"]]}).to_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"column text: expected one text.* VARCHAR\[\]"):
        InputBatches(tmp_path / "in.parquet", ALONE, tmp_path)


def test_time_stamps_of_a_csv_order_the_rows_and_are_asked_as_they_stand(tmp_path: Path) -> None:
    stamps = ["2024-01-01T10:00:00.5Z", "2024-01-01 12:00+02:00", "2024-01-01T09:00:00Z"]
    pd.DataFrame({"shop": "a", "time": stamps, "price": 1.0}).to_csv(tmp_path / "in.csv", index=False)
    (batch,) = InputBatches(tmp_path / "in.csv", SERIES, tmp_path).batches(10)
    assert batch["time"].to_pylist() == [stamps[2], stamps[1], stamps[0]]

    pd.DataFrame({"shop": "a", "time": ["03/04/2024", "04/04/2024"], "price": 1.0}).to_csv(
        tmp_path / "in.csv", index=False
    )
    (batch,) = InputBatches(tmp_path / "in.csv", SERIES, tmp_path).batches(10)
    assert batch["time"].to_pylist() == ["03/04/2024", "04/04/2024"], "the model refuses it, as it does over HTTP"


def pictures(path: Path, rng: np.random.Generator, rows: int, size: int) -> pd.DataFrame:
    """Write pictures of a few clips in no order, in row groups of 20; no picture in every seventh row."""
    frame = pd.DataFrame({"frame": np.arange(rows) // 5, "clip": [f"clip {row % 5}" for row in range(rows)]})
    frame["image"] = [None if row % 7 == 3 else rng.bytes(size) for row in range(rows)]
    frame = frame.sample(frac=1, random_state=0, ignore_index=True)
    frame.to_parquet(path, row_group_size=20, index=False)
    return frame


@pytest.mark.parametrize("asked", [PICTURES, PICTURES_ALONE], ids=["clips", "alone"])
def test_files_that_stand_in_the_table_come_with_their_rows(
    asked: Asked, rng: np.random.Generator, tmp_path: Path
) -> None:
    frame = pictures(tmp_path / "in.parquet", rng, 210, 50)

    batches = list(InputBatches(tmp_path / "in.parquet", asked, tmp_path).batches(25))

    whole = pa.concat_tables(batches).to_pandas()
    assert list(whole.columns) == [*asked.types, ROW]
    expected = frame.sort_values([*asked.keys, "frame"]) if asked.keys else frame
    assert whole[ROW].tolist() == expected.index.tolist()
    for name in asked.types:
        assert whole[name].tolist() == expected[name].tolist()
    assert [len(batch) for batch in batches] == [42] * 5 if asked.keys else [25] * 8 + [10]
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_batch_ends_with_a_series_where_its_files_are_many_bytes(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_batches, "BATCH_BYTES", 1000)
    frame = pictures(tmp_path / "in.parquet", rng, 100, 300)
    batches = list(InputBatches(tmp_path / "in.parquet", PICTURES_ALONE, tmp_path).batches(30))
    assert max(sum(len(image) for image in batch["image"].to_pylist() if image) for batch in batches) <= 1200
    assert pa.concat_tables(batches)["image"].to_pylist() == frame["image"].tolist()
    clips = list(InputBatches(tmp_path / "in.parquet", PICTURES, tmp_path).batches(30))
    assert [sorted(set(batch["clip"].to_pylist())) for batch in clips] == [[f"clip {number}"] for number in range(5)]
    assert [len(batch) for batch in clips] == [20] * 5


MEMORY = """
import sys
from pathlib import Path
from gateline.adapters.serving.input_batches import Asked, InputBatches
from gateline.peak_memory import peak_memory
clips = ("clip",) if sys.argv[2] == "clips" else ()
asked = Asked({"clip": "string", "frame": "double", "image": "binary"}, ("image",), clips, "frame" if clips else None)
rows = sum(len(batch) for batch in InputBatches(Path(sys.argv[1]), asked, Path(sys.argv[1]).parent).batches(10))
print(rows, peak_memory())
"""


def test_a_full_disk_is_not_taken_for_a_file_that_cannot_be_read(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, count = tmp_path / "disk", 200_000
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    shop = np.char.add("a shop with a long name, number ", rng.integers(0, 9999, count).astype(str))
    pd.DataFrame({"shop": shop, "time": "2024-01-01", "price": rng.random(count)}).to_parquet(tmp_path / "in.parquet")
    monkeypatch.setattr(input_batches, "MEMORY", "20MB")  # more is sorted on the disk
    try:
        with pytest.raises(OSError) as full:  # noqa: PT011  its number is compared
            list(InputBatches(tmp_path / "in.parquet", SERIES, disk).batches(300))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # DuckDB may hold a file a moment longer
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(disk))


@pytest.mark.parametrize("together", ["clips", "alone"])
def test_memory_does_not_grow_with_a_file_of_pictures(together: str, rng: np.random.Generator, tmp_path: Path) -> None:
    peaks = []
    for rows in (40, 400):
        path = tmp_path / f"{rows}.parquet"
        writer = None
        for first in range(0, rows, 20):
            clips, frames = [f"{(first + row) % (rows // 10):03d}" for row in range(20)], np.arange(20.0)
            images = [rng.bytes(2**18) for _ in range(20)]
            table = pa.table({"clip": clips, "frame": frames, "image": pa.array(images, pa.binary())})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
        done = subprocess.run([sys.executable, "-c", MEMORY, str(path), together], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found, size = map(int, done.stdout.split())
        assert found == rows
        peaks.append(size >> 20)
    assert peaks[1] - peaks[0] < 30, "MiB, of 90 more in the file"


def test_a_file_whose_pictures_cannot_be_read_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pictures(path, rng, 100, 300)
    content = bytearray(path.read_bytes())
    content[8000:12000] = b"\xff" * 4000
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"in\.parquet: expected a csv or parquet file"):
        list(InputBatches(path, PICTURES_ALONE, tmp_path).batches(10))
