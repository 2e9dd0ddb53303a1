"""A file is asked in batches of bounded size: every row once, and no series parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from gateline.adapters.serving.input_batches import ROW, Asked, InputBatches
from gateline.errors import DataError

SERIES = Asked({"shop": "string", "time": "string", "price": "double"}, ("shop", "time", "price"), ("shop",), "time")
ALONE = Asked({"text": "string"}, ("text",), (), None)


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


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
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
