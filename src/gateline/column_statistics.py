"""Describe every column of a table in numbers that drift can be measured against later. Deterministic, and plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from gateline.table import violations
from gateline.workload.schema import ColumnType, Schema

Json = Any
FREQUENT_VALUES = 50
HISTOGRAM_BINS = 20
HISTOGRAM_TAIL = (
    0.005  # share of values below and above the equal bins: one wild value must not squeeze all others into one
)
QUANTILES = tuple(step / 100 for step in range(101))
BOOLEANS = {"0.0": "false", "1.0": "true"}
"""How booleans are spelt in statistics, for they are numbers in a cleaned table, and how they are told to a reader."""


def statistics(frame: pd.DataFrame, schema: Schema) -> dict[str, dict[str, Json]]:
    """Describe every column of the schema, so that later data can be compared with these.

    Values that the schema takes as missing are counted as missing. Numbers have quantiles in steps of one per cent (for
    a Kolmogorov-Smirnov distance) and a histogram (for a population stability index): `counts` has one entry more at
    each end than there are bins between the `edges`, for what lies below the first and above the last.

    Args:
        frame: the table as `read_out` typed it, or as `gateline.table.clean` left it.
        schema: what its columns mean.

    Returns:
        By column: ``type``, ``unit``, ``count`` (rows with a value), ``missing``, ``taken_as_missing``, and what its type
        has; of texts, also their lengths in characters as numbers.
    """
    described = {}
    for name, column in schema.columns.items():
        if name not in frame.columns:
            continue
        values = frame[name]
        taken = violations(values.to_numpy(), column) if column.violation == "missing" else np.zeros(len(values), bool)
        values = values[~taken].dropna()
        described[name] = {
            "type": column.type,
            "unit": column.unit,
            "count": len(values),
            "missing": len(frame) - len(values),
            "taken_as_missing": int(taken.sum()),
            **_describe(values, column.type),
        }
    return described


def plain(value: Any) -> Json:
    """Turn one cell into what JSON can say; a long text is cut."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def rounded(value: float) -> float:
    """Keep 12 significant digits: the last ones of a sum differ between processors. See `all_rounded` for who compares with it."""
    return float(f"{value:.12g}")


def all_rounded(numbers: np.ndarray) -> np.ndarray:
    """Round numbers (N,) as those in `statistics` are: a frequent 1/3 is then equal to the quantile, or the maximum, that it makes."""
    values, place = np.unique(numbers, return_inverse=True)
    return np.array([rounded(value) for value in values.tolist()], dtype=np.float64)[place]


def spelt(values: pd.Series, kind: ColumnType) -> pd.Series:
    """Spell texts or booleans as `statistics` do: whoever compares values with those that they name spells them by this.

    Args:
        values: (N,), none missing.
        kind: text or boolean.

    Returns:
        texts (N,), long ones cut.
    """
    plainer = values.astype(np.float64) if kind == "boolean" else values
    return plainer.map({value: str(plain(value)) for value in plainer.unique()})


def shown(value: str, kind: ColumnType) -> str:
    """Tell a reader a value that is `spelt`."""
    return BOOLEANS.get(value, value) if kind == "boolean" else value


def frequent_values(described: Mapping[str, Json]) -> dict[str, int]:
    """Count the rows of each value that `statistics` name of a column of texts or booleans.

    Models that were registered earlier name a value twice where long texts begin alike.
    """
    counts: dict[str, int] = {}
    for each in described["values"]:
        counts[each["value"]] = counts.get(each["value"], 0) + each["count"]
    return counts


def instant_text(value: datetime) -> str:
    """Write a moment in UTC as ISO 8601 text."""
    stamp = pd.Timestamp(value)
    stamp = stamp.tz_convert("UTC") if stamp.tzinfo else stamp.tz_localize("UTC")
    return stamp.isoformat().replace("+00:00", "Z")


def _describe(values: pd.Series, kind: ColumnType) -> dict[str, Json]:
    if kind == "time":
        return (
            {"min": instant_text(values.min()), "max": instant_text(values.max())}
            if len(values)
            else {"min": None, "max": None}
        )
    if kind == "bytes":
        return {}
    if kind in ("text", "boolean"):
        counts = spelt(values, kind).value_counts()
        # Equal counts in order of the value: value_counts leaves their order open.
        ranked = sorted(((value, int(count)) for value, count in counts.items()), key=lambda pair: (-pair[1], pair[0]))
        frequent = ranked[:FREQUENT_VALUES]
        rest = sum(count for _, count in ranked[FREQUENT_VALUES:])
        return {
            "distinct": values.nunique(),
            "values": [{"value": value, "count": count} for value, count in frequent],
            "other": rest,
        } | ({"lengths": _numbers(values.str.len().to_numpy(dtype=np.float64))} if kind == "text" else {})
    return _numbers(values.to_numpy())


def _numbers(numbers: np.ndarray) -> dict[str, Json]:
    if not len(numbers):
        return {
            "mean": None,
            "std": None,
            "min": None,
            "max": None,
            "quantiles": {},
            "histogram": {"edges": [], "counts": []},
        }
    quantiles = np.quantile(numbers, QUANTILES)
    return {
        "mean": rounded(numbers.mean()),
        "std": rounded(numbers.std()),
        "min": rounded(numbers.min()),
        "max": rounded(numbers.max()),
        "quantiles": {f"{share:.2f}": rounded(value) for share, value in zip(QUANTILES, quantiles, strict=True)},
        "histogram": _histogram(numbers),
    }


def _histogram(numbers: np.ndarray) -> dict[str, list[Json]]:
    low, high = np.quantile(numbers, (HISTOGRAM_TAIL, 1 - HISTOGRAM_TAIL))
    if low == high:
        low, high = numbers.min(), numbers.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.array([rounded(edge) for edge in np.linspace(low, high, HISTOGRAM_BINS + 1)])
    inner, _ = np.histogram(numbers, edges)
    counts = [int((numbers < edges[0]).sum()), *inner.tolist(), int((numbers > edges[-1]).sum())]
    return {"edges": edges.tolist(), "counts": counts}
