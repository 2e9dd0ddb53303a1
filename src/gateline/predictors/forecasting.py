"""A trained forecaster with its preprocessing inside: raw units in, raw units out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import (
    Encoding,
    at_steps,
    regular_columns,
    regular_table,
    series_names,
    series_offsets,
)
from gateline.data.store import SERIES, SequenceStore
from gateline.data.windows import WindowDataset
from gateline.errors import DataError
from gateline.manifest import Artifact
from gateline.models.stack import Stack
from gateline.table import TABLE, Columns, read_table

SCORING_BATCH = 512  # windows at a time
EXAMPLE_SERIES = 2  # series in the example request


class Forecaster:
    """A trained forecaster with its preprocessing inside: raw units in, raw units out.

    Args:
        network: in eval mode.
        encoding: fitted.
        lookback: past steps T it reads.
        horizon: steps U it forecasts.
    """

    def __init__(self, network: nn.Module, encoding: Encoding, *, lookback: int, horizon: int) -> None:
        self._network = network.eval()
        self.encoding = encoding
        self._inputs = encoding.inputs()
        self.lookback = lookback
        self.horizon = horizon
        schema, needed = encoding.schema, {name for name, _, _ in self.input_columns}
        columns = {name: column for name, column in schema.columns.items() if name in needed}
        self._asked = schema.model_copy(update={"columns": columns})

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""
        schema = self.encoding.schema
        needed = {schema.time.column, *schema.keys, self.encoding.target, *self.encoding.past, *self.encoding.known}
        return [(name, column.type, True) for name, column in schema.columns.items() if name in needed]

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer."""
        schema = self.encoding.schema
        named = [(name, str(schema.columns[name].type)) for name in (*schema.keys, schema.time.column)]
        return [*named, (self.encoding.target, "float")]

    def predict(self, frame: pd.DataFrame, origin: pd.Timestamp | None = None) -> pd.DataFrame:
        """Forecast the next `horizon` steps of every series in a request.

        Args:
            frame: rows in raw units, in any order: at least `lookback` steps of each series before the origin; and, when
                columns are known ahead, the `horizon` steps from it (their target and past columns are not read).
            origin: first time stamp to forecast. Without it, the last `horizon` rows of each series are forecast when
                columns are known ahead, else the steps after its last row.

        Returns:
            One row per series and step: keys, time stamp, forecast.

        Raises:
            DataError: a column, a series, or enough rows are not there, or a value is refused by the schema.
        """
        if origin is not None and pd.isna(origin):
            raise DataError("origin", expected="a time stamp", found="none", do="Leave it out, or send ISO 8601")
        if len(frame) == 0:
            raise DataError(
                "request", expected="rows of the table", found="none", do="Send the past steps of each series"
            )
        table = self._windows(regular_columns(frame, self._asked), origin)
        store = self.encoding.encode(table)
        starts = store.offsets[:-1] + self.lookback
        forecast = self.forecast(store, starts)
        steps = (starts[:, None] + np.arange(self.horizon)).ravel()
        place = (*self._asked.keys, self._asked.time.column)
        return pd.DataFrame({**{name: table[name][steps] for name in place}, self.encoding.target: forecast.ravel()})

    def forecast(self, store: SequenceStore, origins: np.ndarray) -> np.ndarray:
        """Forecast windows of an encoded store: float64 (W, U) in raw units, for rows of first steps (W,)."""
        dataset = WindowDataset(store, origins, inputs=self._inputs, lookback=self.lookback, horizon=self.horizon)
        # Without a DataLoader: to set one up takes longer than to forecast one window.
        rows = [
            np.arange(len(dataset))[first : first + SCORING_BATCH] for first in range(0, len(dataset), SCORING_BATCH)
        ]
        with torch.inference_mode():
            scaled = [self._network(dataset.__getitems__(some)).float() for some in rows]
        series = store.static(SERIES, origins)
        return self.encoding.scalers[self.encoding.target].inverse(torch.cat(scaled).numpy(), series)

    def trace(self, store: SequenceStore, origins: np.ndarray) -> dict[str, np.ndarray]:
        """Trace the gates and states of the encoder's last cell that reads forwards, while it reads the past of windows.

        Args:
            store: encoded.
            origins: rows of first steps (W,).

        Returns:
            what `Cell.trace` returns, each (W, steps, H); the encoder may take several steps of the past as one.
        """
        encoder = cast(Stack, self._network.encoder)
        read: list[torch.Tensor] = []
        hook = encoder.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            self.forecast(store, origins)
        finally:
            hook.remove()
        with torch.inference_mode():  # the first thing that it reads is the past
            traced = encoder.trace(read[0])[-encoder.directions]
        return {name: part.numpy() for name, part in traced.items()}

    def forecast_test_windows(self, prepared: Artifact) -> Mapping[str, Any]:
        """Forecast the test windows of a prepared folder, also one that was prepared otherwise than for this model.

        The windows' origins are found again by series and time in this model's own encoding of the table.

        Returns:
            `forecast` and `target` (W, U), `origin` (W,), `series` (W,), and `deviation` (W,), the prepared folder's
            unit of the metrics that are called scaled.

        Raises:
            DataError: the table lacks what this model reads, or forecasts other steps.
        """
        theirs = open_store(prepared)
        state = prepared.read_json(STATE)
        if state["windows"]["horizon"] != self.horizon:
            raise DataError(
                prepared.path,
                expected=f"windows of {self.horizon} steps to forecast",
                found=f"{state['windows']['horizon']}",
                do="Models of different horizons cannot be compared; register under another name",
            )
        rows = read_windows(prepared, "test")
        their_encoding, their_series = Encoding.from_json(state["encoding"]), theirs.static(SERIES, rows)
        names = np.array(their_encoding.series, dtype=object)[their_series]
        origin = np.asarray(theirs.arrays["time"])[rows]
        table = regular_table(read_table(prepared.path / TABLE), self.encoding.schema)
        store = self.encoding.encode(table)
        place = pd.MultiIndex.from_arrays([series_names(table, self.encoding.schema), store.arrays["time"]])
        starts = place.get_indexer(pd.MultiIndex.from_arrays([names, origin]))
        inside = (starts >= 0) & (starts - self.lookback >= store.offsets[store.series_of(np.maximum(starts, 0))])
        if not inside.all():
            raise DataError(
                prepared.path,
                expected=f"{self.lookback} steps before each test window",
                found=f"fewer for {int((~inside).sum())} of {len(inside)} windows",
                do="Bring more data before the test part",
            )
        return {
            "forecast": self.forecast(store, starts),
            "target": np.asarray(theirs.arrays["raw_target"])[rows[:, None] + np.arange(self.horizon)],
            "origin": origin,
            "series": names,
            "deviation": np.array(their_encoding.target_deviation)[their_series],
        }

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut the last window of one or two series from a table, as a request: what is not known ahead is left empty."""
        schema = self.encoding.schema
        regular = regular_table(table, schema)
        ahead = self.horizon if self.encoding.known else 0
        names = series_names(regular, schema)
        cut = []
        for name in self.encoding.series[:EXAMPLE_SERIES]:
            rows = regular[names == name].tail(self.lookback + ahead).copy()
            if ahead:
                rows.loc[rows.index[-ahead:], [self.encoding.target, *self.encoding.past]] = np.nan
            cut.append(rows)
        return pd.concat(cut, ignore_index=True)[[name for name, _, _ in self.input_columns]]

    def _windows(self, table: Columns, origin: pd.Timestamp | None) -> Columns:
        """Cut the steps origin - lookback .. origin + horizon - 1 of every series; steps that are not there are missing."""
        names = series_names(table, self._asked)
        stamps = table[self._asked.time.column].asi8.view("M8[us]")
        rows, first, grid = [], [], []
        for begin, end in pairwise(series_offsets(names)):
            steps = self._grid(stamps[end - 1], origin)  # (T + U,)
            place = begin + np.searchsorted(stamps[begin:end], steps)
            there = stamps[np.minimum(place, end - 1)] == steps
            self._refuse_if_short(str(names[begin]), steps, there)
            rows.append(np.where(there, place, -1))
            first.append(np.full(len(steps), begin))
            grid.append(steps)
        picked = np.concatenate(rows)
        if np.array_equal(picked, np.arange(len(names))):  # the request is these very rows
            return table
        return at_steps(table, picked, np.concatenate(first), np.concatenate(grid).view(np.int64), self._asked)

    def _grid(self, last: np.datetime64, origin: pd.Timestamp | None) -> np.ndarray:
        """List the steps of a window, in UTC; without an origin, from the last row of its series."""
        step = np.timedelta64(self._asked.time.frequency)
        if origin is not None:
            if origin.tzinfo is None:  # as time stamps of the table without an offset are read
                origin = origin.tz_localize(self._asked.time.timezone)
            first = origin.to_datetime64().astype("M8[us]")
        else:
            first = last - (self.horizon - 1) * step if self.encoding.known else last + step
        return first + step * np.arange(-self.lookback, self.horizon)

    def _refuse_if_short(self, name: str, steps: np.ndarray, there: np.ndarray) -> None:
        needed = there if self.encoding.known else there[: self.lookback]
        if not needed.all():
            begin, end = (pd.Timestamp(step, tz="UTC") for step in steps[[0, len(needed) - 1]])
            raise DataError(
                f"request, series {name}",
                expected=f"{len(needed)} rows from {begin} to {end}",
                found=f"{int(needed.sum())} of them",
                do=f"Send {self.lookback} past steps"
                + (f" and {self.horizon} to forecast" if self.encoding.known else ""),
            )
