"""A table as it comes, and what is said of it."""

from __future__ import annotations

import pandas as pd
import pytest

from gateline.errors import DataError
from gateline.table import as_utc, clean
from gateline.workload.schema import Schema


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("time", "nonsense", "nonsense in row 1"),
        ("time", "2024-02-30T01:00:00Z", "2024-02-30T01:00:00Z in row 1"),
        ("time", "2024-01-01T01:00:00Z\0", "in row 1"),
        ("time", "2024-01-01T01:00:00", "some with an offset and some without"),
        ("patient", 1.5, "1.5 in row 1"),
        ("patient", 2.0**53, "in row 1"),
    ],
)
def test_a_stamp_or_key_that_cannot_be_told_is_named_by_its_row(column: str, value: object, said: str) -> None:
    schema = Schema.model_validate(
        {
            "time": {"column": "time", "frequency": "1h"},
            "keys": ["patient"],
            "columns": {"patient": {"type": "integer"}, "time": {"type": "time"}, "x": {"type": "float"}},
        }
    )
    frame = pd.DataFrame(
        {"patient": [1.0, 2.0], "time": ["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"], "x": [0.5, 1.5]}
    )
    clean(frame, schema)
    frame[column] = pd.Series([frame[column][0], value])

    with pytest.raises(DataError) as refused:
        clean(frame, schema)

    assert said in str(refused.value)
    assert f"column {column}" in str(refused.value)


@pytest.mark.parametrize("value", [["o", "k"], {"text": "ok"}, b"ok"])
def test_what_is_no_text_is_not_read_as_one(value: object) -> None:
    schema = Schema.model_validate({"keys": [], "columns": {"note": {"type": "text"}}})

    with pytest.raises(DataError, match=rf"column note: .*{type(value).__name__} in row 1"):
        clean(pd.DataFrame({"note": pd.Series(["fine", value], dtype=object)}), schema)


@pytest.mark.parametrize(
    "times",
    [
        ["2024-02-29T23:59:59Z", "1969-12-31T00:00:00Z"],
        ["2024-02-29T23:59:59Z", "2024-03-01T00:00:00.5Z"],
        ["2024-02-29T23:59:59+01:00", "2024-03-01T00:00:00+01:00"],
        ["2024-02-29T23:59:59Z", None],
        [],
    ],
    ids=["all alike", "a fraction", "an offset", "one missing", "none"],
)
def test_time_stamps_are_read_as_pandas_reads_them(times: list[str | None]) -> None:
    texts = pd.Series(times, dtype="str")

    read = as_utc(texts, "America/New_York")

    pd.testing.assert_series_equal(read, pd.to_datetime(texts, format="ISO8601", utc=True).dt.as_unit("us"))
