"""What the training part of a model looked like, in numbers that travel with it: later input is checked and compared by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gateline.column_statistics import instant_text, statistics
from gateline.model_folder import TRAINING_STATISTICS
from gateline.workload.schema import Column, Schema, Time

__all__ = ["TRAINING_STATISTICS", "answer_statistics", "effective_count", "training_statistics"]

ANSWER_STATISTICS = "answer_statistics.json"
"""In the folder `evaluation`."""

Json = Any
BLOCKS = (48, 24, 12)
"""Numbers of equal stretches of time by whose means it is seen how much neighbouring rows say the same; of longer stretches,
since a level that wanders for weeks looks steady within a day."""
FEWEST_BLOCKS = 8
LASTING = 0.5
"""Share of the time of all rows over which a series must reach for its mean to be its level."""


def training_statistics(rows: pd.DataFrame, schema: Schema, vocabulary: Json = None) -> dict[str, Json]:
    """Describe the rows of a training part.

    Args:
        rows: cleaned.
        schema: what the columns mean.
        vocabulary: report of a tokenizer, or of several by column; None for a task without one.

    Returns:
        ``schema``; ``rows``; ``first`` and ``last`` time stamp, null for a table without times; ``columns``, see
        `gateline.column_statistics.statistics`, with ``effective_count`` of the values and ``effective_rows`` of whether there is
        one; and ``unknown_tokens``: the share in the
        validation part, which the vocabulary was not made of.
    """
    times = None if schema.time is None else rows[schema.time.column]
    columns = statistics(rows, schema)
    series = series_of(rows, schema)
    for name, described in columns.items():
        described["effective_count"] = effective_count(rows[name], times, series)
        described["effective_rows"] = effective_count(rows[name].isna().astype(float), times, series)
    reports = {"": vocabulary} if vocabulary and "parts" in vocabulary else dict(vocabulary or {})
    return {
        "schema": schema.model_dump(mode="json"),
        "rows": len(rows),
        "first": None if times is None else instant_text(times.min()),
        "last": None if times is None else instant_text(times.max()),
        "columns": columns,
        "unknown_tokens": {name: _unknown(report) for name, report in reports.items()},
    }


def answer_statistics(
    answers: pd.DataFrame, columns: Mapping[str, str], time: str | None, keys: Sequence[str] = ()
) -> dict[str, Json]:
    """Describe what a model answered on its test part, so that later answers can be compared with it.

    Args:
        answers: as evaluate wrote them, one row per answer.
        columns: the served model's name of each column of numbers that is described.
        time: column of time stamps; None where answers have nothing to do with each other.
        keys: columns that tell one series from another, as far as answers have them.

    Returns:
        as `training_statistics`.
    """
    times = {} if time is None or time not in answers else {time: Column(type="time")}
    numbers = {served: Column(type="float", missing_share=1.0) for served in columns.values()}
    names = {key: Column(type="text") for key in keys if key in answers}
    schema = Schema(
        columns={**names, **times, **numbers}, keys=tuple(names), time=Time(column=time) if times and time else None
    )
    rows = answers[[*names, *times, *columns]].rename(columns=dict(columns)).astype(dict.fromkeys(names, "str"))
    return training_statistics(rows, schema)


def series_of(rows: pd.DataFrame, schema: Schema) -> pd.Series | None:
    """Number the series of each row; None where a table has one, or lacks a key."""
    keys = list(schema.keys)
    if not keys or not set(keys) <= set(rows):
        return None
    return rows.groupby(keys, sort=False, dropna=False).ngroup()


def effective_count(values: pd.Series, times: pd.Series | None, series: pd.Series | None = None) -> float:
    """Say how many independent values a column of a table with times is worth.

    Rows that stand near each other in time, in one series or in several, are alike: a warm week is a warm week for each of
    its hours and in every town. If rows were independent, the mean over a stretch of m of them would vary by the variance of
    the values divided by m. It varies more, and by how much more, the rows are worth less.

    Args:
        values: (N,); of a column without numbers, whether there is a value.
        times: (N,); None where rows have nothing to do with each other, and so they count where no time of them is known.
        series: (N,) number of the series of each row; None for one. Values count from the mean of their series: that one town
            is always warmer than another makes no hour of either worth more.

    Returns:
        At most the number of values.

    Source: batch means, e.g. Law, Simulation Modeling and Analysis, section 9.5.3.
    """
    numbers = values if pd.api.types.is_numeric_dtype(values) else values.notna()
    if times is not None and not (numbers.notna() & times.notna()).any():
        times = None
    there = numbers.notna().to_numpy() if times is None else (numbers.notna() & times.notna()).to_numpy()
    count = int(there.sum())
    if times is None or count < 2 * FEWEST_BLOCKS:
        return float(count)
    moments = pd.DatetimeIndex(times[there]).asi8.astype(np.float64)
    low, high = moments.min(), moments.max()
    if low == high:
        return float(count)
    kept, share = numbers[there].to_numpy(dtype=np.float64), (moments - low) / (high - low)
    if series is not None:
        kept = _from_mean_of_series(kept, share, series[there].to_numpy())
    worth = min(_worth_in_blocks(kept, share, blocks) for blocks in BLOCKS)
    return float(f"{min(count, max(1.0, worth)):.6g}")


def _from_mean_of_series(values: np.ndarray, share: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Subtract from values (N,) the mean of their series, where that lasts; of short ones, e.g. stays in hospital, the mean of all.

    What is the level of a short series, and what is a slow change that its rows share, cannot be told.
    """
    _, number = np.unique(series, return_inverse=True)
    first, last = np.ones(number.max() + 1), np.zeros(number.max() + 1)
    np.minimum.at(first, number, share)
    np.maximum.at(last, number, share)
    lasts = last - first >= LASTING
    group = np.where(lasts[number], number, len(first))
    return np.asarray(values - (np.bincount(group, values) / np.maximum(1, np.bincount(group)))[group])


def _worth_in_blocks(values: np.ndarray, share: np.ndarray, blocks: int) -> float:
    """Compare the variance between blocks with that of all values (N,), which stand at a share of the way from 0 to 1."""
    block = np.minimum((share * blocks).astype(np.int64), blocks - 1)
    sizes = np.bincount(block, minlength=blocks)
    means = np.bincount(block, values, blocks)[sizes > 0] / sizes[sizes > 0]
    spread, between = values.var(), means.var(ddof=1) if len(means) > 1 else 0.0
    if len(means) < FEWEST_BLOCKS or spread <= 0 or between <= 0:
        return float(len(values))
    return float(spread / between * len(means))


def _unknown(report: Mapping[str, Json]) -> dict[str, Json]:
    held_out = report["parts"]["validation"]
    return {"tokens": held_out["tokens"], "unknown": held_out["unknown"]}
