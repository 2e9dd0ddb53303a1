"""Forecasting: two shops, six hours ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tests.task_example import TaskExample
from tests.tiny import tiny_table, tiny_workload

LOOKBACK, HORIZON = 24, 6
BORDERS = {
    "train": ("2024-01-01T00:00:00Z", "2024-02-10T00:00:00Z"),  # the last days before a border are read by what follows
    "validation": ("2024-02-15T00:00:00Z", "2024-02-27T00:00:00Z"),
    "test": ("2024-02-28T00:00:00Z", "2024-12-31T00:00:00Z"),
}
WORKLOAD = tiny_workload(
    training__epochs=1,
    training__loss="pinball",
    model__quantiles=[0.1, 0.5, 0.9],
    model__intervals=[0.5],
    model__inventory={"service_level": 0.8},
    evaluation__inventory={"lead_time": 3, "review_period": 2},
)
"""With all that is fitted after training: widths of intervals and the safety stock."""
SECTIONS = {name: section for name, section in WORKLOAD.items() if isinstance(section, dict)}


def altered(part: str | None) -> pd.DataFrame:
    table = tiny_table()
    if part is not None:
        first, after = BORDERS[part]
        inside = (table["time"] >= first) & (table["time"] < after)
        table.loc[inside, ["sales", "price"]] *= 1.5
        table["footfall"] += 7 * inside
    return table


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    there = predictions[predictions["target"].notna()]
    error = (there["forecast"] - there["target"]).to_numpy()
    return {"mae": np.abs(error).mean(), "rmse": np.sqrt(np.square(error).mean()), "bias": error.mean()}


def request(table: pd.DataFrame, predictions: pd.DataFrame, _: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    origin = predictions["origin"].sort_values().iloc[len(predictions) // 2]
    time = pd.to_datetime(table["time"])
    rows = table[
        (time >= origin - pd.Timedelta(hours=LOOKBACK)) & (time < origin + pd.Timedelta(hours=HORIZON))
    ].reset_index(drop=True)
    ahead = pd.to_datetime(rows["time"]) >= origin
    rows = rows.assign(sales=rows["sales"].mask(ahead), footfall=rows["footfall"].astype(float).mask(ahead))
    evaluated = predictions[predictions["origin"] == origin].sort_values(["shop", "time"])
    return rows, pd.DataFrame({"shop": evaluated["shop"], "sales": evaluated["forecast"]})


def with_value(column: str, value: Any, row: int = 3) -> Any:
    return lambda frame: frame.assign(**{column: frame[column].where(frame.index != frame.index[row], value)})


def first_and_last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.groupby("shop").cumcount().eq(0) | ~frame.duplicated("shop", keep="last")]


EXAMPLE = TaskExample(
    sections=SECTIONS,
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "a series that was never seen": (with_value("shop", "north"), "north"),
        "a price out of range": (with_value("price", -5.0), "price"),
        "no time": (with_value("time", "soon"), "time"),
        "no value of the target": (lambda frame: frame.assign(sales=np.nan), "column sales"),
        "a price that is not known ahead": (with_value("price", np.nan, -1), "column price"),
        "two rows a window apart": (first_and_last, "half as many as in any window of training"),
        "too few rows": (lambda frame: frame.groupby("shop").tail(10), "30 rows"),
    },
)
