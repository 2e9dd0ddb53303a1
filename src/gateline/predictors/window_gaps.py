"""What windows of a request lack: refused where a forecast would rest on nothing, else said in flags.

W windows of T past steps and U to forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from gateline.data.series_encoding import Encoding, series_names
from gateline.errors import DataError, examples
from gateline.table import Columns


def flags_of_gaps(table: Columns, there: np.ndarray, encoding: Encoding, lookback: int) -> np.ndarray:
    """Say of windows which columns lack more values than the schema allows, and where more rows are absent than in any of training.

    Args:
        table: the steps of all windows, one window after the other.
        there: bool (W, T + U), the steps that the request had rows of.
        encoding: fitted; says which columns are read.
        lookback: T.

    Returns:
        object (W,) of texts, empty for nothing.

    Raises:
        DataError: a window has no past value of the target, or lacks a value that must be known ahead.
    """
    found: list[list[str]] = [[] for _ in there]
    names = list(dict.fromkeys((encoding.target, *encoding.past, *encoding.known, *encoding.static)))
    missing = np.stack([np.asarray(pd.isna(table[name])) for name in names]).reshape(len(names), *there.shape)
    for place in _to_look_at(names, missing, encoding, lookback):
        _refuse_nothing(table, names[place], missing[place], encoding, lookback)
        for window, words in _lacking(names[place], missing[place], there, encoding, lookback):
            found[window].append(words)
    least = encoding.fewest_present
    if encoding.schema.may_lack_rows and least is not None:
        came = there[:, :lookback]
        for window in np.flatnonzero(came.mean(axis=1) < least).tolist():
            absent, most = lookback - int(came[window].sum()), lookback - round(least * lookback)
            words = f"no row for {absent} of {lookback} past steps, beyond the {most} of training"
            found[window].append(f"{encoding.schema.grid.column}: {words}")
    return np.array(["; ".join(words) for words in found], dtype=object)


def _to_look_at(names: Sequence[str], missing: np.ndarray, encoding: Encoding, lookback: int) -> list[int]:
    """Number the columns, of C, that may lack too much in some window; of most requests none does, and one look at all is enough.

    Args:
        names: of the columns.
        missing: bool (C, W, T + U).
        encoding: says which columns are known ahead, and its schema how much may be missing.
        lookback: T.
    """
    past, ahead = (
        np.count_nonzero(part, axis=2) / part.shape[2] for part in (missing[:, :, :lookback], missing[:, :, lookback:])
    )  # (C, W) each
    allowed = np.array([encoding.schema.columns[name].missing_share for name in names])[:, None]
    known = np.array([name in encoding.known for name in names])[:, None]
    much = (past > allowed) | (past == 1) | (known & (ahead > allowed))
    return np.flatnonzero(much.any(axis=1)).tolist()


def _refuse_nothing(table: Columns, name: str, missing: np.ndarray, encoding: Encoding, lookback: int) -> None:
    """Refuse windows without a past value of the target, or without one that is known ahead where training had them all."""
    if name == encoding.target:
        empty, expected = missing[:, :lookback].all(axis=1), f"a value in some of the {lookback} past steps"
    elif name in encoding.known and not (
        encoding.schema.columns[name].missing_share or name in encoding.may_be_missing
    ):
        ahead = missing.shape[1] - lookback
        empty, expected = missing[:, lookback:].any(axis=1), f"a value in each of the {ahead} steps to forecast"
    else:
        return
    if empty.any():
        steps = missing.shape[1]
        series = series_names(table, encoding.schema)[::steps][empty].tolist()
        raise DataError(
            f"request, series {examples(series)}, column {name}",
            expected=expected,
            found="none" if name == encoding.target else f"none in {int(missing[empty, lookback:].sum())} of them",
            do="Send it",
        )


def _lacking(
    name: str, missing: np.ndarray, there: np.ndarray, encoding: Encoding, lookback: int
) -> Iterator[tuple[int, str]]:
    """Number of each window that lacks more values of a column than the schema allows, and what says so."""
    schema = encoding.schema
    allowed = schema.columns[name].missing_share
    if name in encoding.static:
        if not allowed:
            yield from ((int(window), f"{name}: no value") for window in np.flatnonzero(missing.all(axis=1)))
        return
    parts = {"past steps": missing[:, :lookback]}
    if schema.may_lack_rows:  # rows were absent in training, too
        parts["past steps"] = parts["past steps"] & there[:, :lookback]
    if name in encoding.known:
        parts["steps to forecast"] = missing[:, lookback:]
    limit = f", beyond the {allowed:.1%} of the schema" if allowed else ""
    for which, part in parts.items():
        for window in np.flatnonzero(part.mean(axis=1) > allowed):
            yield int(window), f"{name}: missing in {int(part[window].sum())} of {part.shape[1]} {which}{limit}"
