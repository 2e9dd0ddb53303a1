"""A trained forecaster with its preprocessing inside: raw units in, raw units out."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.batch import SCORING_BATCH
from gateline.comparison import ExampleErrors, digest_of_rows, example_errors, reduce_windows
from gateline.conformal import Intervals
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import (
    Encoding,
    at_steps,
    ordered_columns,
    regular_table,
    rows_with_values,
    series_names,
    series_offsets,
)
from gateline.data.store import SERIES, SequenceStore
from gateline.data.windows import WindowDataset
from gateline.errors import DataError
from gateline.intervals import positions_of
from gateline.inventory import STOCK, SafetyStock
from gateline.manifest import Artifact
from gateline.metrics import PINBALL, percent, pinball_by_step
from gateline.models.forecaster import ForecasterNetwork
from gateline.models.forecaster.settings import MEDIAN
from gateline.predictors import FLAGS, without_flags
from gateline.predictors.window_gaps import flags_of_gaps
from gateline.table import TABLE, Asked, Columns, as_frame, num_rows, read_table
from gateline.workload.section import format_span

EXAMPLE_SERIES = 2  # series in the example request
FEWEST_ROWS = 0.5
"""Of the rows that every window of training had, how many a request must have of its past; the others are as rows without
values."""
LONG_ENOUGH = 3  # steps of a past that has some between its ends
NARROWEST = 1e-6  # of the deviation: quantiles that fall together leave something to divide by


@dataclass(frozen=True)
class WindowForecasts:
    """Forecasts of W windows in raw units.

    Args:
        point: float64 (W, U).
        quantiles: float64 (W, U) by level, in rising order.
        intervals: lower and upper ends, each float64 (W, U), by coverage.
        stock: what is to stand ready up to each step, float64 (W, U) by name, see `gateline.inventory`; empty where the model
            does not decide on stock.
    """

    point: np.ndarray
    quantiles: Mapping[float, np.ndarray]
    intervals: Mapping[float, tuple[np.ndarray, np.ndarray]]
    stock: Mapping[str, np.ndarray] = field(default_factory=dict)

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """Name all of them, each (W, U), as columns of an answer or a table."""
        named = {name: self.point} | {f"{name}_q{percent(level)}": values for level, values in self.quantiles.items()}
        for coverage, (lower, upper) in self.intervals.items():
            named |= {f"{name}_low_{percent(coverage)}": lower, f"{name}_high_{percent(coverage)}": upper}
        return named | dict(self.stock)

    def uncertainty(self, deviation: np.ndarray) -> np.ndarray:
        """Say how unsure each step is, (W, U) > 0: how far the outer quantiles are apart, or one deviation (W,) without them."""
        flat = np.repeat(deviation[:, None], self.point.shape[1], axis=1)
        if not self.quantiles:
            return flat
        lowest, *_, highest = self.quantiles.values()
        return np.maximum(highest - lowest, NARROWEST * flat)


def columns_of_answer(target: str) -> tuple[str, ...]:
    """Name the columns that an answer may have beside those of the data; ``*`` and ``[...]`` stand for texts, as in file names.

    Example:
        >>> columns_of_answer("sales")[-1]
        'sales_high_[0-9]*'
    """
    literal = glob.escape(target)
    return FLAGS, *STOCK, *(f"{literal}_{end}[0-9]*" for end in ("q", "low_", "high_"))


class Forecaster:
    """A trained forecaster with its preprocessing inside: raw units in, raw units out.

    Args:
        network: in eval mode.
        encoding: fitted.
        intervals: calibrated; None for none.
        reserve: calibrated, of a model that decides on stock; None for one that does not.
        lookback: past steps T it reads.
        horizon: steps U it forecasts.
    """

    takes_columns = True
    """See `gateline.tasks.Predictor.answer`."""

    def __init__(
        self,
        network: ForecasterNetwork,
        encoding: Encoding,
        intervals: Intervals | None = None,
        reserve: SafetyStock | None = None,
        *,
        lookback: int,
        horizon: int,
    ) -> None:
        self._network = network.eval()
        self.levels, self.settings = network.levels, network.settings
        self.encoding = encoding
        self._inputs = encoding.inputs()
        self.intervals = intervals
        self.reserve = reserve
        self.lookback = lookback
        self.horizon = horizon
        schema, needed = encoding.schema, {name for name, _, _ in self.input_columns}
        columns = {name: column for name, column in schema.columns.items() if name in needed}
        self._asked = schema.model_copy(update={"columns": columns})
        self._steps = np.timedelta64(schema.grid.frequency) * np.arange(-lookback, horizon)  # (T + U,), from the origin

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""
        schema = self.encoding.schema
        read = (*self.encoding.past, *self.encoding.known, *self.encoding.static)
        needed = {schema.grid.column, *schema.keys, self.encoding.target, *read}
        return [(name, column.type, True) for name, column in schema.columns.items() if name in needed]

    @property
    def place_columns(self) -> list[str]:
        """Columns that say where a row of an answer belongs: the keys, and then the time stamp."""
        return [*self.encoding.schema.keys, self.encoding.schema.grid.column]

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer: place, point forecast, quantiles, ends of intervals."""
        columns = self.encoding.schema.columns
        empty = self._in_raw_units(np.zeros((0, self.horizon, len(self.levels))), np.zeros(0, dtype=np.int64))
        forecasts = [(name, "float") for name in empty.columns(self.encoding.target)]
        return [(name, str(columns[name].type)) for name in self.place_columns] + forecasts

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Name, MLflow's type and default of what a request may say beside its rows."""
        return [("origin", "string", "")]

    def predict(self, frame: pd.DataFrame, origin: pd.Timestamp | str | None = None) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(without_flags(self.answer(frame, origin)))

    def answer(self, frame: Asked, origin: pd.Timestamp | str | None = None) -> dict[str, Any]:
        """Forecast the next `horizon` steps of every series in a request.

        Args:
            frame: rows in raw units, in any order: at least `lookback` steps of each series before the origin; and, when
                columns are known ahead, the `horizon` steps from it (their target and past columns are not read). A row that
                is absent is as one without values.
            origin: first time stamp to forecast, or ISO 8601 text. Without it, or with an empty text, the last `horizon` rows of each series are forecast when
                columns are known ahead, else the steps after its last row.

        Returns:
            `Columns`, one row per series and step, see `output_columns`; and under `flags`, of which columns the window lacks more
            values than the schema allows.

        Raises:
            DataError: a column, a series, enough rows, any value of the target, or what must be known ahead is not there, or a
                value is refused by the schema.
        """
        if isinstance(origin, str):
            origin = read_origin(origin)
        if origin is not None and pd.isna(origin):
            raise DataError("origin", expected="a time stamp", found="none", do="Leave it out, or send ISO 8601")
        if origin is not None and origin.tzinfo is None:
            origin = localised(origin, self._asked.grid.timezone)
        if num_rows(frame) == 0:
            raise DataError(
                "request", expected="rows of the table", found="none", do="Send the past steps of each series"
            )
        table, there = self._windows(ordered_columns(frame, self._asked), origin)
        flags = flags_of_gaps(table, there, self.encoding, self.lookback)
        store = self.encoding.encode(table)
        starts = store.offsets[:-1] + self.lookback
        forecasts = self.forecast_windows(store, starts).columns(self.encoding.target)
        steps = (starts[:, None] + np.arange(self.horizon)).ravel()
        answer = {name: table[name][steps] for name in self.place_columns}
        answer |= {name: values.ravel() for name, values in forecasts.items()}
        return answer | {FLAGS: np.repeat(flags, self.horizon)}

    def forecast(self, store: SequenceStore, origins: np.ndarray) -> np.ndarray:
        """Point forecasts of windows, see `forecast_windows`: float64 (W, U)."""
        return self.forecast_windows(store, origins).point

    def forecast_windows(self, store: SequenceStore, origins: np.ndarray) -> WindowForecasts:
        """Forecast windows of an encoded store in raw units, for rows of first steps (W,)."""
        return self._in_raw_units(self.scaled(store, origins), store.static(SERIES, origins))

    def scaled(self, store: SequenceStore, origins: np.ndarray) -> np.ndarray:
        """Forecast windows of an encoded store in the scaled space of the target: float32 (W, U, Q)."""
        dataset = WindowDataset(store, origins, inputs=self._inputs, lookback=self.lookback, horizon=self.horizon)
        # Without a DataLoader: to set one up takes longer than to forecast one window.
        rows = np.arange(len(dataset))
        with torch.inference_mode():
            parts = [
                self._network(dataset.__getitems__(rows[first : first + SCORING_BATCH])).float().numpy()
                for first in range(0, len(dataset), SCORING_BATCH)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _in_raw_units(self, scaled: np.ndarray, series: np.ndarray) -> WindowForecasts:
        """Take forecasts (W, U, Q) back to raw units, and put intervals around them; series (W,)."""
        scaler = self.encoding.scalers[self.encoding.target]
        raw = scaler.inverse(scaled, series)
        quantiles = {level: raw[:, :, place] for place, level in enumerate(self.levels)} if len(self.levels) > 1 else {}
        around = {}
        if self.intervals is not None:
            lower, upper = (scaler.inverse(ends, series) for ends in self.intervals.bounds(scaled))
            around = {c: (lower[:, :, k], upper[:, :, k]) for k, c in enumerate(self.intervals.coverages)}
        forecasts = WindowForecasts(raw[:, :, self.levels.index(MEDIAN)], quantiles, around)
        if self.reserve is None:
            return forecasts
        uncertainty = forecasts.uncertainty(np.array(self.encoding.target_deviation)[series])
        return replace(forecasts, stock=self.reserve.decide(forecasts.point, uncertainty))

    @property
    def bidirectional(self) -> bool:
        """Whether the encoder also reads from the end."""
        return self._network.encoder.directions == 2

    def trace(self, store: SequenceStore, origins: np.ndarray) -> dict[str, np.ndarray]:
        """Trace the gates and states of the encoder's last cell that reads forwards, while it reads the past of windows.

        Args:
            store: encoded.
            origins: rows of first steps (W,).

        Returns:
            what `Cell.trace` returns, each (W, steps, H); the encoder may take several steps of the past as one.
        """
        dataset = WindowDataset(store, origins, inputs=self._inputs, lookback=self.lookback, horizon=self.horizon)
        encoder = self._network.encoder
        with torch.inference_mode():
            read = self._network.encoder_inputs(dataset.__getitems__(np.arange(len(dataset))))
            traced = encoder.trace(read)[-encoder.directions]
        return {name: part.numpy() for name, part in traced.items()}

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Forecast the test windows of a prepared folder, also one that was prepared otherwise than for this model.

        The windows' origins are found again by series and time in this model's own encoding of the table.

        Args:
            prepared: the test part, and the deviation of each series that metrics called scaled are in.
            metric: one of the task's `gate_metrics`.
            slices: names of slices, ``KEY=VALUE``.

        Raises:
            DataError: the table lacks what this model reads, or forecasts other steps; or the metric is of quantiles, and the
                model has none.
        """
        theirs = open_store(prepared)
        state = prepared.read_json(STATE)
        if state["windows"]["horizon"] != self.horizon:
            raise DataError(
                prepared.path,
                expected=f"windows of {self.horizon} steps to forecast",
                found=f"{state['windows']['horizon']}",
                do="Run preprocess of a workload with this horizon; models of different horizons cannot be compared",
            )
        rows = read_windows(prepared, "test")
        frequency = Encoding.from_json(state["encoding"]).schema.grid.frequency
        if frequency != self.encoding.schema.grid.frequency:
            raise DataError(
                prepared.path,
                expected=f"steps of {format_span(self.encoding.schema.grid.frequency)}",
                found=format_span(frequency),
                do="Run preprocess of a workload with these steps; models of different steps cannot be compared",
            )
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
        target = np.asarray(theirs.arrays["raw_target"], dtype=np.float64)[rows[:, None] + np.arange(self.horizon)]
        keys = self.encoding.schema.keys
        position, dependence = positions_of(origin, their_series, self.horizon)
        digest, inside = digest_of_rows(names, origin, target), {name: in_slice(name, keys, names) for name in slices}
        forecasts = self.forecast_windows(store, starts)
        if metric == PINBALL:
            # A mean over the levels: of other levels it is another metric, and two models of the same skill would differ by half.
            digest = digest_of_rows(names, origin, target, np.array(self.levels))
            losses = pinball_by_step(self._all_quantiles(forecasts), target, self.levels)
            observed = np.isfinite(target)
            total = np.where(observed, losses, 0.0).sum(axis=1)  # no number where a forecast is none
            errors = example_errors(metric, total, observed.sum(axis=1), rows=digest, position=position, slices=inside)
        else:
            errors = reduce_windows(
                metric,
                forecasts.point,
                target,
                position,
                rows=digest,
                slices={name: mask[:, None] for name, mask in inside.items()},
                deviation=np.array(their_encoding.target_deviation)[their_series],
            )
        return replace(errors, dependence=dependence)

    def _all_quantiles(self, forecasts: WindowForecasts) -> np.ndarray:
        """Lay quantiles side by side: (W, U, Q)."""
        if not forecasts.quantiles:
            raise DataError(
                f"gates.metric: {PINBALL}",
                expected="a model that forecasts quantiles",
                found="a point forecast only",
                do="Compare by mae, or name `model.quantiles`",
            )
        return np.stack(list(forecasts.quantiles.values()), axis=2)

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut the last window of one or two series from a table, as a request: what is not known ahead is left empty.

        It ends where the target does, and a series without a past value of it is passed over. Past rows that the table does not
        have, where the schema lets them be absent, are absent here, too.

        Raises:
            DataError: no series is left.
        """
        schema, target = self.encoding.schema, self.encoding.target
        regular = regular_table(table, schema)
        ahead = self.horizon if self.encoding.known else 0
        names = series_names(regular, schema)
        cut: list[pd.DataFrame] = []
        for name in self.encoding.series:
            rows = regular[names == name]
            observed = np.flatnonzero(rows[target].notna())
            until = rows[: observed[-1] + 1 + ahead if len(observed) else 0]
            rows = until.tail(self.lookback + ahead).copy()
            if not rows[target].head(self.lookback).notna().any():
                continue
            if ahead:
                rows.loc[rows.index[-ahead:], [target, *self.encoding.past]] = np.nan
            cut.append(self._that_came(until, rows) if schema.may_lack_rows else rows)
            if len(cut) == EXAMPLE_SERIES:
                break
        if not cut:
            raise DataError(
                f"column {target}",
                expected="a series with a value in its last window",
                found="none",
                do="Bring data in which the target is observed",
            )
        return pd.concat(cut, ignore_index=True)[[name for name, _, _ in self.input_columns]]

    def _that_came(self, until: pd.DataFrame, window: pd.DataFrame) -> pd.DataFrame:
        """Drop the past rows of a window that only stand in for absent ones; one before it then says that the request reaches so far.

        Args:
            until: rows of one series up to the end of the window, without gaps.
            window: the last rows of them, T past ones and those ahead.
        """
        there = rows_with_values(until, self.encoding.schema)
        earlier, came = until[: -len(window)][there[: -len(window)]], there[-len(window) :].copy()
        if not self._enough(came[: self.lookback]):  # fewer than would be answered: it is asked for with empty rows
            return window
        came[self.lookback :] = True
        if came[0]:
            return window[came]
        came[0] = earlier.empty
        return pd.concat([earlier.tail(1), window[came]])

    def _windows(self, table: Columns, origin: pd.Timestamp | None) -> tuple[Columns, np.ndarray]:
        """Cut the steps origin - lookback .. origin + horizon - 1 of every series of an ordered table.

        Returns:
            The steps of W windows, missing where there is no row; and where there is one, bool (W, T + U).
        """
        names = series_names(table, self._asked)
        stamps = table[self._asked.grid.column].asi8.view("M8[us]")
        rows, first, grid = [], [], []
        for begin, end in pairwise(series_offsets(names)):
            steps = self._grid(stamps[end - 1], origin)  # (T + U,)
            place = begin + np.searchsorted(stamps[begin:end], steps)
            there = stamps[np.minimum(place, end - 1)] == steps
            self._refuse_if_short(str(names[begin]), steps, there, stamps[begin:end])
            rows.append(np.where(there, place, -1))
            first.append(np.full(len(steps), begin))
            grid.append(steps)
        picked = np.concatenate(rows)
        came = (picked >= 0).reshape(len(rows), -1)
        if np.array_equal(picked, np.arange(len(names))):  # the request is these very rows
            return table, came
        stamps = np.concatenate(grid).view(np.int64)
        return at_steps(table, picked, np.concatenate(first), stamps, self._asked), came

    def _grid(self, last: np.datetime64, origin: pd.Timestamp | None) -> np.ndarray:
        """List the steps of a window, in UTC; without an origin, from the last row of its series."""
        if origin is not None:
            return origin.to_datetime64().astype("M8[us]") + self._steps
        # The last row is the last step to forecast, or the one before the first.
        return last + self._steps - self._steps[-1 if self.encoding.known else self.lookback - 1]

    def _refuse_if_short(self, name: str, steps: np.ndarray, there: np.ndarray, stamps: np.ndarray) -> None:
        """Refuse a series whose rows, with time stamps (N,), do not reach over the steps of its window, or stand in too few of them.

        Where rows may be absent, the steps just before an origin may have none: a shop that is asked about before it opens.
        """
        known, past = self.encoding.known, there[: self.lookback]
        needed = there if known else past
        begin, end = steps[[0, len(needed) - 1]]
        may_end_before = not known and self._asked.may_lack_rows
        if begin < stamps[0] or (stamps[-1] < end and not may_end_before):
            raise DataError(
                f"request, series {name}",
                expected=f"{len(needed)} rows from {pd.Timestamp(begin, tz='UTC')} to {pd.Timestamp(end, tz='UTC')}",
                found=f"{int(needed.sum())} of them",
                do=f"Send {self.lookback} past steps" + (f" and {self.horizon} to forecast" if known else ""),
            )
        if not self._enough(past):
            raise DataError(
                f"request, series {name}",
                expected=f"rows for the {self.lookback} steps from {pd.Timestamp(begin, tz='UTC')} on, half as many as in any "
                "window of training",
                found=f"{int(past.sum())} of them",
                do="Send what there is of them",
            )

    def _enough(self, past: np.ndarray) -> bool:
        """Say whether the past steps, bool (T,), that have a row are half as many as in the window of training that had fewest.

        Where those were not counted, a row between the ends is enough.
        """
        least = self.encoding.fewest_present
        if least is None:
            return len(past) < LONG_ENOUGH or bool(past[1:-1].any())
        return bool(np.count_nonzero(past) / len(past) >= FEWEST_ROWS * least)


def read_origin(text: str) -> pd.Timestamp | None:
    """Read the parameter `origin` of a request; an empty text is none.

    Raises:
        DataError: it is no time stamp.
    """
    if not text:
        return None
    try:
        return pd.Timestamp(text)
    except ValueError as error:
        raise DataError(
            "params.origin",
            expected="an ISO 8601 time stamp",
            found=repr(text)[:80],
            do="Write e.g. 2013-12-31T00:00:00Z",
        ) from error


def localised(origin: pd.Timestamp, timezone: str) -> pd.Timestamp:
    """Read an origin without an offset as time stamps of the table without one are read.

    Raises:
        DataError: it lies in an hour that the clock skips or repeats.
    """
    try:
        return origin.tz_localize(timezone)
    except ValueError as error:
        raise DataError(
            "params.origin",
            expected=f"a time that the clock of {timezone} shows once, or one with an offset",
            found=f"{origin}, which it skips or shows twice",
            do="Add the offset, e.g. 2024-03-10T03:30:00-04:00",
        ) from error


def in_slice(name: str, keys: Sequence[str], series: np.ndarray) -> np.ndarray:
    """Mark the windows of a slice ``KEY=VALUE``: bool (W,), given their series (W,), named by all keys with / between."""
    key, _, value = name.partition("=")
    place = list(keys).index(key)
    return np.array([one.split("/", len(keys) - 1)[place] == value for one in series.astype(str)])
