"""From a table of time series in raw units to the numbers a network reads: one fitted, savable, invertible encoding.

Training, evaluation and the served model all call `encode` here, so they cannot disagree. Everything that is fitted is
fitted on rows of the training part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

from gateline.data.calendar import Calendar
from gateline.data.categories import Vocabulary
from gateline.data.inputs import TARGET, Inputs
from gateline.data.scaling import Scaler, Transform, spread
from gateline.data.store import SERIES, STATIC, STATIC_CODES, VALUES, SequenceStore
from gateline.errors import DataError, examples
from gateline.table import TEXT, Asked, Columns, clean, stamps_of
from gateline.workload.schema import Schema
from gateline.workload.section import format_span

SINGLE_SERIES = "all"
Scaling = Literal["column", "series"]
LEAST_FILLED = 0.01
"""Of the steps from the first to the last row of each series, for which a table must have rows: one year that is mistyped makes
millions of steps."""


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become inputs and targets.

    At time t the encoder reads: the scaled target (0 where missing), whether it is there, the scaled past covariates
    (0, their training mean, where missing), whether each that may be missing is there, and what is known ahead. The
    decoder reads what is known ahead: covariates and calendar. Text columns stand apart, as codes; so do static columns,
    which have one value per series.

    Args:
        schema: columns, types, keys, time column and frequency.
        target: column to forecast.
        past: columns known up to the origin only.
        known: columns known ahead.
        calendar: calendar features, known ahead.
        static: columns with one value per series.
        scalers: one per column of numbers, fitted on the training part, with one scale or one per series.
        vocabularies: one per column of texts, fitted on the training part.
        target_deviation: standard deviation of the raw target of each series in the training part, in the order of
            `series`: the unit of the metrics that are called scaled.
        may_be_missing: the target and covariates that had missing values in the training part; each covariate of them gets
            a mask, the target always has one.
        series: names of the series seen in training.
        fewest_present: least share of the past steps of a window of training that had a row with values, 0..1; None of a
            model from before it was counted.
    """

    schema: Schema
    target: str
    past: tuple[str, ...]
    known: tuple[str, ...]
    calendar: Calendar
    static: tuple[str, ...]
    scalers: Mapping[str, Scaler]
    vocabularies: Mapping[str, Vocabulary]
    target_deviation: tuple[float, ...]
    may_be_missing: tuple[str, ...]
    series: tuple[str, ...]
    fewest_present: float | None = 1.0

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        train: np.ndarray,
        *,
        schema: Schema,
        target: str,
        past: tuple[str, ...],
        known: tuple[str, ...],
        calendar: Calendar,
        transforms: Mapping[str, Transform],
        static: tuple[str, ...] = (),
        scaling: Scaling = "column",
    ) -> Encoding:
        """Fit scalers, vocabularies and masks.

        Args:
            table: a regular table, see `regular_table`.
            train: bool (N,), the rows that may be looked at.
            schema: columns, keys, time column and frequency.
            target: column to forecast.
            past: columns known up to the origin only.
            known: columns known ahead.
            calendar: calendar features.
            transforms: by column; one without is only standardised.
            static: columns with one value per series; they have one scale for all series.
            scaling: one scale per column, or one per column and series.

        Raises:
            DataError: the target has no value, or one and the same, in the training part; or a static column changes within
                a series.
        """
        rows = table[train]
        values = rows[target].to_numpy()
        if len(np.unique(values[np.isfinite(values)])) < 2:
            raise DataError(
                f"column {target}",
                expected="a target that varies in the training part",
                found=f"{len(np.unique(values[np.isfinite(values)]))} different values in {len(rows)} rows",
                do="Check the target and the split",
            )
        names, number = _numbered(series_names(rows, schema))
        of_series = number if scaling == "series" else None
        texts = [name for name in (*past, *known, *static) if schema.columns[name].type == "text"]
        scalers = {
            name: Scaler.fit(rows[name].to_numpy(np.float64), transforms.get(name, Transform()), of_series)
            for name in (target, *past, *known)
            if name not in texts
        }
        for name in static:
            _refuse_change(name, table, schema)
            if name not in texts:
                once = rows[name].groupby(number).first()  # a long series does not count more than a short one
                scalers[name] = Scaler.fit(once.to_numpy(np.float64), transforms.get(name, Transform()))
        numbers = [name for name in (target, *past, *known) if name not in texts]
        return cls(
            schema=schema,
            target=target,
            past=past,
            known=known,
            static=static,
            calendar=calendar,
            scalers=scalers,
            vocabularies={name: Vocabulary.fit(rows[name]) for name in texts},
            target_deviation=spread(values, number),
            may_be_missing=tuple(name for name in numbers if rows[name].isna().any()),
            series=tuple(names.tolist()),
        )

    def numbers(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Take the columns of numbers among some."""
        return tuple(name for name in names if name not in self.vocabularies)

    def texts(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Take the columns of texts among some."""
        return tuple(name for name in names if name in self.vocabularies)

    def unit_of_series(self) -> tuple[int, ...]:
        """Say of each series which unit its target has, counted from 0; empty where all have one (`units` of the target's column)."""
        key = next(iter(self.schema.columns[self.target].units), None)
        if key is None:
            return ()
        place, most = self.schema.keys.index(key), len(self.schema.keys) - 1
        value = np.array([name.split("/", most)[place] for name in self.series])
        return tuple(np.unique(value, return_inverse=True)[1].tolist())

    def encoder_names(self) -> list[str]:
        """Name the encoder's inputs, in order."""
        masks = [f"{name}_observed" for name in self.past if name in self.may_be_missing]
        return [self.target, f"{self.target}_observed", *self.numbers(self.past), *masks, *self.decoder_names()]

    def decoder_names(self) -> list[str]:
        """Name the decoder's inputs, in order."""
        masks = [f"{name}_observed" for name in self.known if name in self.may_be_missing]
        return [*self.numbers(self.known), *masks, *self.calendar.names()]

    def value_names(self) -> list[str]:
        """Name the columns that the store holds, in order."""
        numbers = (*self.numbers(self.past), *self.numbers(self.known))
        return [self.target, *numbers, *self.calendar.names(), *self.texts((*self.past, *self.known))]

    def inputs(self) -> Inputs:
        """Say which inputs are which columns of the store, in the order of the names above."""
        place = {name: index for index, name in enumerate(self.value_names())}

        def read(names: tuple[str, ...]) -> list[int]:
            numbers = self.numbers(names)
            masks = [len(place) + place[name] for name in numbers if name in self.may_be_missing]
            return [*(place[name] for name in numbers), *masks]

        decoder = [*read(self.known), *(place[name] for name in self.calendar.names())]
        return Inputs(
            num_values=len(place),
            encoder=[TARGET, len(place) + TARGET, *read(self.past), *decoder],
            decoder=decoder,
            encoder_codes=[place[name] for name in self.texts((*self.past, *self.known))],
            decoder_codes=[place[name] for name in self.texts(self.known)],
        )

    def encode(self, table: pd.DataFrame | Columns) -> SequenceStore:
        """Encode a regular table.

        Args:
            table: N rows in raw units, see `regular_table`; or windows of one, each with what it reads.

        Returns:
            A store of `values` float32 (N, len(value_names())), scaled, NaN where missing, texts as codes; `raw_target`
            float64 (N,); `time` int64 (N,) in Unix seconds; and per series int64 `series` (S,), its place in `self.series`,
            and, where there are static columns, float32 `static` (S, Fs) and int32 `static_codes` (S, Cs).

        Raises:
            DataError: a series that training has not seen.
        """
        names = series_names(table, self.schema)
        offsets = series_offsets(names)
        places = {name: place for place, name in enumerate(self.series)}
        there = names[offsets[:-1]]
        if unknown := sorted({name for name in there if name not in places}):
            raise DataError(
                f"columns {', '.join(self.schema.keys) or '-'}",
                expected=f"series seen in training ({examples(self.series)})",
                found=examples(unknown),
                do="Leave them out, or train with them",
            )
        series = np.array([places[name] for name in there], dtype=np.int64)
        of_row = np.repeat(series, np.diff(offsets))
        columns = [
            self.scalers[name].forward(np.asarray(table[name], np.float64), of_row)
            for name in (self.target, *self.numbers(self.past), *self.numbers(self.known))
        ]
        codes = [self.vocabularies[name].codes(table[name]) for name in self.texts((*self.past, *self.known))]
        times = table[self.schema.grid.column]
        read = [*columns, *self.calendar.features(times).T, *codes]
        values = np.empty((len(names), len(read)), dtype=np.float32)
        for place, column in enumerate(read):
            values[:, place] = column
        return SequenceStore(
            {
                VALUES: values,
                "raw_target": np.asarray(table[self.target], np.float64),
                "time": unix_seconds(times),
            },
            offsets,
            {SERIES: series, **self._statics(table, offsets)},
        )

    def _statics(self, table: pd.DataFrame | Columns, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Static columns: the first value that each series has; 0, their mean, where a number is missing."""
        once = {name: _first_values(table[name], offsets) for name in self.static}
        numbers = [
            np.nan_to_num(self.scalers[name].forward(once[name].astype(np.float64)))
            for name in self.numbers(self.static)
        ]
        codes = [self.vocabularies[name].codes(once[name]) for name in self.texts(self.static)]
        statics = {STATIC: (numbers, np.float32), STATIC_CODES: (codes, np.int32)}
        return {name: np.column_stack(columns).astype(kind) for name, (columns, kind) in statics.items() if columns}

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        counted = {"fewest_present": self.fewest_present} if self.schema.may_lack_rows else {}  # else all of them
        return counted | {
            "schema": self.schema.model_dump(mode="json"),
            "target": self.target,
            "past": list(self.past),
            "known": list(self.known),
            "static": list(self.static),
            "calendar": self.calendar.model_dump(mode="json"),
            "scalers": {name: scaler.to_json() for name, scaler in self.scalers.items()},
            "vocabularies": {name: list(vocabulary.texts) for name, vocabulary in self.vocabularies.items()},
            "target_deviation": list(self.target_deviation),
            "may_be_missing": list(self.may_be_missing),
            "series": list(self.series),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Encoding:
        """Read what `to_json` wrote."""
        schema = Schema.model_validate(value["schema"])
        return cls(
            schema=schema,
            target=value["target"],
            past=tuple(value["past"]),
            known=tuple(value["known"]),
            static=tuple(value["static"]),
            calendar=Calendar.model_validate(value["calendar"]),
            scalers={name: Scaler.from_json(scaler) for name, scaler in value["scalers"].items()},
            vocabularies={name: Vocabulary(tuple(texts)) for name, texts in value["vocabularies"].items()},
            target_deviation=tuple(value["target_deviation"]),
            may_be_missing=tuple(value["may_be_missing"]),
            series=tuple(value["series"]),
            fewest_present=value.get("fewest_present", None if schema.may_lack_rows else 1.0),
        )


def rows_with_values(table: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Mark the rows of a regular table that say more than their place: bool (N,). Those that stand in for absent ones do not."""
    place = {schema.grid.column, *schema.keys}
    return table[[name for name in schema.columns if name not in place]].notna().any(axis=1).to_numpy(bool)


def fewest_present(there: np.ndarray, origins: np.ndarray, lookback: int) -> float:
    """Least share of the past steps of a window that have a row, 0..1.

    Args:
        there: bool (N,), see `rows_with_values`.
        origins: int64 (W,), rows of first steps to forecast, W >= 1.
        lookback: past steps of a window.
    """
    before = np.concatenate([[0], there.cumsum()])
    return float((before[origins] - before[origins - lookback]).min() / lookback)


def regular_table(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Clean a table and put every series on its complete grid of time stamps; rows that were absent become missing.

    Args:
        frame: the table in raw units, in any order of rows.
        schema: columns, keys and frequency.

    Returns:
        The same columns, ordered by series and time, without gaps.

    Raises:
        DataError: a time stamp is missing, stands twice in a series, or lies off the grid; or nearly every step has no row.
    """
    table = _without_gaps(ordered_columns(frame, schema), schema)
    texts = {name: pd.array(table[name], dtype=TEXT) for name, c in schema.columns.items() if c.type == "text"}
    return pd.DataFrame({**table, **texts})


def ordered_columns(frame: Asked, schema: Schema) -> Columns:
    """Clean a table and order it by series and time, left by column: most requests are in order as they come, and cost next to nothing.

    Rows that are absent stay absent: of a request, only the steps that are read are laid out, however far apart its rows are.

    Raises:
        DataError: as `regular_table`.
    """
    table = clean(frame, schema)
    _refuse_without_place(table, schema)
    names, times = series_names(table, schema), table[schema.grid.column]
    labels, series = _numbered(names)
    seconds, step = unix_seconds(times), int(schema.grid.frequency.total_seconds())
    if _is_regular(series, seconds, step):
        return table
    order = np.lexsort((times.asi8, series))
    table = {name: values[order] for name, values in table.items()}
    series, seconds, times = series[order], seconds[order], times[order]
    first = np.searchsorted(series, np.arange(len(labels)))  # (S,)
    place, off_grid = np.divmod(seconds - seconds[first][series], step)
    twice = np.append((np.diff(place) == 0) & (np.diff(series) == 0), False)  # the earlier of two rows
    if off_grid.any() or twice[:-1].any():
        _refuse_irregular(labels, series, times, off_grid > 0, twice, schema)
    return table


def _without_gaps(table: Columns, schema: Schema) -> Columns:
    """Put every series of an ordered table on its complete grid."""
    times, step = table[schema.grid.column], int(schema.grid.frequency.total_seconds())
    offsets = series_offsets(series_names(table, schema))
    rows_of, seconds = np.diff(offsets), unix_seconds(times)
    place = (seconds - np.repeat(seconds[offsets[:-1]], rows_of)) // step
    lengths = place[offsets[1:] - 1] + 1  # (S,)
    if lengths.sum() == len(seconds):
        return table
    refuse_mostly_absent(series_names(table, schema), seconds, int(lengths.sum()), schema.grid.column)
    begins = np.cumsum(lengths) - lengths
    rows = np.full(lengths.sum(), -1)
    rows[np.repeat(begins, rows_of) + place] = np.arange(len(seconds))
    first = np.repeat(offsets[:-1], lengths)
    steps = np.arange(len(rows)) - np.repeat(begins, lengths)
    return at_steps(table, rows, first, times.asi8[first] + steps * step * 1_000_000, schema)


def refuse_mostly_absent(names: np.ndarray, seconds: np.ndarray, steps: int, column: str) -> None:
    """Refuse a table of which nearly every step has no row, before its steps are laid out.

    Args:
        names: (N,), of the series of each row, in order of series and time.
        seconds: int64 (N,), when each row is, Unix time.
        steps: from the first to the last row of each series, of all series.
        column: of the time stamps.

    Raises:
        DataError: names the rows around the largest gap.
    """
    if len(seconds) >= LEAST_FILLED * steps:
        return
    gaps = np.where(names[1:] == names[:-1], np.diff(seconds), 0)
    widest = int(gaps.argmax())
    before, after = (pd.Timestamp(int(seconds[row]), unit="s") for row in (widest, widest + 1))
    raise DataError(
        f"column {column}",
        expected=f"rows for at least {LEAST_FILLED:.0%} of the steps from the first to the last of each series",
        found=f"{len(seconds):,} rows for {steps:,} steps; in series {names[widest]}, {after} comes next after {before}",
        do="Correct the time stamp that is wrong, or aggregate to longer steps",
    )


def at_steps(table: Columns, rows: np.ndarray, series: np.ndarray, stamps: np.ndarray, schema: Schema) -> Columns:
    """Pick rows of a table for given steps; a step that has no row is missing but for its series and its time.

    Args:
        table: N rows.
        rows: int64 (M,), the row of each step, -1 where there is none.
        series: int64 (M,), any row of the series of each step.
        stamps: int64 (M,), when each step is, in microseconds.
        schema: says which columns are keys and time.

    Returns:
        M rows.
    """
    picked = {name: pd.api.extensions.take(values, rows, allow_fill=True) for name, values in table.items()}
    picked |= {key: table[key].take(series) for key in schema.keys}
    picked[schema.grid.column] = pd.DatetimeIndex(stamps.view("M8[us]"), tz="UTC").array
    return picked


def series_names(table: pd.DataFrame | Columns, schema: Schema) -> np.ndarray:
    """Name the series of each row by the values of its keys: object (N,)."""
    if not schema.keys:
        return np.full(len(table[schema.grid.column]), SINGLE_SERIES, dtype=object)
    columns = [_key_text(table[key]) for key in schema.keys]
    if len(columns) > 1:
        for key, column in zip(schema.keys, columns, strict=True):
            if with_slash := {text for text in column if "/" in text}:
                raise DataError(
                    f"column {key}",
                    expected="names without a /, which stands between the keys of a series",
                    found=examples(sorted(with_slash)),
                    do="Replace it in the query",
                )
    names = columns[0]
    for column in columns[1:]:
        names = names + "/" + column
    return names


def series_offsets(names: np.ndarray) -> np.ndarray:
    """Find where each run of one and the same name begins, and the end of the last: int64 (S + 1,) for names (N,)."""
    begins = np.flatnonzero(names[1:] != names[:-1]) + 1
    return np.array([*([0] if len(names) else []), *begins, len(names)], dtype=np.int64)


def unix_seconds(times: Any) -> np.ndarray:
    """Time stamps with a time zone as whole seconds since 1970: int64 (N,)."""
    seconds: np.ndarray = stamps_of(times).as_unit("s").asi8
    return seconds


def _refuse_without_place(table: Columns, schema: Schema) -> None:
    wanted = {schema.grid.column: "a time stamp in every row"}
    wanted |= dict.fromkeys(schema.keys, "a name in every row, since it tells the series apart")
    for name, expected in wanted.items():
        missing = np.asarray(pd.isna(table[name]))
        if missing.any():
            rows = "" if name == schema.grid.column else "rows "
            raise DataError(
                f"column {name}", expected=expected, found=f"{int(missing.sum())} {rows}without", do="Add them"
            )


def _refuse_irregular(
    labels: np.ndarray, series: np.ndarray, times: Any, off_grid: np.ndarray, twice: np.ndarray, schema: Schema
) -> None:
    """Refuse the first series that is no grid; all (N,) but the names of the series, rows in order."""
    first = series[np.argmax(off_grid | twice)]
    where = f"series {labels[first]}, column {schema.grid.column}"
    off_grid, twice = off_grid & (series == first), twice & (series == first)
    if off_grid.any():
        raise DataError(
            where,
            expected=f"steps of {format_span(schema.grid.frequency)}",
            found=f"off the grid: {examples([str(time) for time in times[off_grid]])}",
            do="Resample",
        )
    stamps = examples([str(time) for time in times[twice]])
    raise DataError(where, expected="each time stamp once", found=f"twice: {stamps}", do="Remove the duplicates")


def _first_values(values: Any, offsets: np.ndarray) -> np.ndarray:
    """Take the first value of each series that is not missing, NaN where there is none: object (S,)."""
    pieces = [pd.Series(values[begin:end]).dropna() for begin, end in pairwise(offsets)]
    return np.array([piece.iloc[0] if len(piece) else np.nan for piece in pieces], dtype=object)


def _refuse_change(name: str, table: pd.DataFrame, schema: Schema) -> None:
    """Refuse a static column that has several values within a series."""
    names = series_names(table, schema)
    different = table[name].groupby(names).nunique()
    if (different > 1).any():
        raise DataError(
            f"column {name}",
            expected="one value for each series, as it is listed under `static`",
            found=f"several for {examples(different.index[different > 1].tolist())}",
            do="List it under `past` or `known`",
        )


def _numbered(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the names of the series in order, object (S,), and say for each row which one it has, int64 (N,)."""
    if (names == names[:1]).all():  # one series, as in most requests
        return names[:1], np.zeros(len(names), dtype=np.int64)
    series, labels = pd.factorize(names, sort=True)
    return labels, series


def _is_regular(series: np.ndarray, seconds: np.ndarray, step: int) -> bool:
    """Say whether rows are in order of series, and each is one step later than the one before it in its series."""
    next_series = np.diff(series)
    return bool(((next_series > 0) | (next_series == 0) & (np.diff(seconds) == step)).all())


def _key_text(values: Any) -> np.ndarray:
    if values.dtype == object:
        return np.asarray(values)
    if values.dtype != TEXT:
        # Whole numbers arrive as 7 or 7.0, depending on how the request was written; both name the same series.
        numbers = pd.Series(values)
        if pd.api.types.is_numeric_dtype(numbers) and (numbers.dropna() % 1 == 0).all():
            numbers = numbers.astype("Int64")
        values = numbers.astype("str")
    return np.asarray(values, dtype=object)
