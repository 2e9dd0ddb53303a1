"""A trained forecaster with its preprocessing inside: raw units in, raw units out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import Encoding, regular_table, series_names, series_offsets
from gateline.data.store import SequenceStore
from gateline.data.windows import WindowDataset
from gateline.errors import DataError
from gateline.manifest import Artifact
from gateline.table import TABLE, read_table

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
        regular = regular_table(frame, self._asked)
        names = series_names(regular, self._asked)
        windows = [
            self._window(str(names[first]), regular.iloc[first:end], origin)
            for first, end in pairwise(series_offsets(names))
        ]
        table = pd.concat(windows, ignore_index=True) if len(windows) > 1 else windows[0]
        store = self.encoding.encode(table)
        starts = store.offsets[:-1] + self.lookback
        forecast = self.forecast(store, starts)
        steps = (starts[:, None] + np.arange(self.horizon)).ravel()
        place = (*self._asked.keys, self._asked.time.column)
        return pd.DataFrame(
            {**{name: table[name].array[steps] for name in place}, self.encoding.target: forecast.ravel()}
        )

    def forecast(self, store: SequenceStore, origins: np.ndarray) -> np.ndarray:
        """Forecast windows of an encoded store: float64 (W, U) in raw units, for rows of first steps (W,)."""
        dataset = WindowDataset(store, origins, lookback=self.lookback, horizon=self.horizon)
        # Without a DataLoader: to set one up takes longer than to forecast one window.
        rows = [
            np.arange(len(dataset))[first : first + SCORING_BATCH] for first in range(0, len(dataset), SCORING_BATCH)
        ]
        with torch.inference_mode():
            scaled = [self._network(dataset.__getitems__(some)).float() for some in rows]
        series = np.asarray(store.arrays["series"])[origins]
        return self.encoding.scalers[self.encoding.target].inverse(torch.cat(scaled).numpy(), series)

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
        their_encoding, their_series = Encoding.from_json(state["encoding"]), theirs.arrays["series"][rows]
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

    def _origin(self, table: pd.DataFrame, origin: pd.Timestamp | None) -> pd.Timestamp:
        times = table[self.encoding.schema.time.column]
        if origin is not None:
            if origin.tzinfo is None:  # as time stamps of the table without an offset are read
                origin = origin.tz_localize(self.encoding.schema.time.timezone)
            return origin.tz_convert("UTC")
        if not self.encoding.known:
            return times.iloc[-1] + self.encoding.schema.time.frequency
        return times.iloc[-1] - (self.horizon - 1) * pd.Timedelta(self.encoding.schema.time.frequency)

    def _window(self, name: str, table: pd.DataFrame, origin: pd.Timestamp | None) -> pd.DataFrame:
        """Cut the steps origin - lookback .. origin + horizon - 1 of one series; steps that are not there are missing."""
        time, step = self.encoding.schema.time.column, np.timedelta64(self.encoding.schema.time.frequency)
        first = self._origin(table, origin).to_datetime64().astype("M8[us]")
        grid = first + step * np.arange(-self.lookback, self.horizon)
        stamps = table[time].to_numpy("M8[us]")  # ascending
        place = np.searchsorted(stamps, grid)
        there = stamps[np.minimum(place, len(stamps) - 1)] == grid
        needed = there if self.encoding.known else there[: self.lookback]
        if not needed.all():
            begin, end = (pd.Timestamp(moment, tz="UTC") for moment in grid[[0, len(needed) - 1]])
            raise DataError(
                f"request, series {name}",
                expected=f"{len(needed)} rows from {begin} to {end}",
                found=f"{int(needed.sum())} of them",
                do=f"Send {self.lookback} past steps"
                + (f" and {self.horizon} to forecast" if self.encoding.known else ""),
            )
        if there.all():
            return table.iloc[place[0] : place[-1] + 1]
        window = table.reindex(np.where(there, table.index[0] + place, -1))
        keys = {key: table[key].iloc[0] for key in self.encoding.schema.keys}
        return window.assign(**{time: pd.DatetimeIndex(grid, tz="UTC")}, **keys)
