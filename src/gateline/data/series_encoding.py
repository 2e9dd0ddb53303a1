"""From a table of time series in raw units to the numbers a network reads: one fitted, savable, invertible encoding.

Training, evaluation and the served model all call `encode` here, so they cannot disagree. Everything that is fitted is
fitted on rows of the training part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from gateline.data.calendar import Calendar
from gateline.data.scaling import Scaler, Transform, spread
from gateline.data.store import SequenceStore
from gateline.errors import DataError, examples
from gateline.table import TEXT, clean
from gateline.workload.schema import Schema
from gateline.workload.section import format_span

SINGLE_SERIES = "all"
Scaling = Literal["column", "series"]


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table become inputs and targets.

    At time t the encoder reads: the scaled target (0 where missing), whether it is there, the scaled past covariates
    (0, their training mean, where missing), whether each that may be missing is there, and what is known ahead. The
    decoder reads what is known ahead: covariates and calendar.

    Args:
        schema: columns, types, keys, time column and frequency.
        target: column to forecast.
        past: columns known up to the origin only.
        known: columns known ahead.
        calendar: calendar features, known ahead.
        scalers: one per column, fitted on the training part, with one scale or one per series.
        target_deviation: standard deviation of the raw target of each series in the training part, in the order of
            `series`: the unit of the metrics that are called scaled.
        may_be_missing: covariates that had missing values in the training part; each gets a mask.
        series: names of the series seen in training.
    """

    schema: Schema
    target: str
    past: tuple[str, ...]
    known: tuple[str, ...]
    calendar: Calendar
    scalers: Mapping[str, Scaler]
    target_deviation: tuple[float, ...]
    may_be_missing: tuple[str, ...]
    series: tuple[str, ...]

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
        scaling: Scaling = "column",
    ) -> Encoding:
        """Fit scalers and masks.

        Args:
            table: a regular table, see `regular_table`.
            train: bool (N,), the rows that may be looked at.
            schema: columns, keys, time column and frequency.
            target: column to forecast.
            past: columns known up to the origin only.
            known: columns known ahead.
            calendar: calendar features.
            transforms: by column; one without is only standardised.
            scaling: one scale per column, or one per column and series.

        Raises:
            DataError: the target has no value, or one and the same, in the training part.
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
        columns = (target, *past, *known)
        names, number = np.unique(series_names(rows, schema), return_inverse=True)  # sorted
        of_series = number if scaling == "series" else None
        return cls(
            schema=schema,
            target=target,
            past=past,
            known=known,
            calendar=calendar,
            scalers={
                name: Scaler.fit(rows[name].to_numpy(), transforms.get(name, Transform()), of_series)
                for name in columns
            },
            target_deviation=tuple(spread(values[number == one]) for one in range(len(names))),
            may_be_missing=tuple(name for name in (*past, *known) if rows[name].isna().any()),
            series=tuple(names.tolist()),
        )

    def encoder_names(self) -> list[str]:
        """Name the encoder's inputs, in order."""
        masks = [f"{name}_observed" for name in self.past if name in self.may_be_missing]
        return [self.target, f"{self.target}_observed", *self.past, *masks, *self.decoder_names()]

    def decoder_names(self) -> list[str]:
        """Name the decoder's inputs, in order."""
        masks = [f"{name}_observed" for name in self.known if name in self.may_be_missing]
        return [*self.known, *masks, *self.calendar.names()]

    def encode(self, table: pd.DataFrame) -> SequenceStore:
        """Encode a regular table.

        Args:
            table: N rows in raw units, see `regular_table`.

        Returns:
            A store of `encoder` float32 (N, len(encoder_names())), `decoder` float32 (N, len(decoder_names())),
            `target` float32 (N,) scaled, NaN where missing, `raw_target` float64 (N,), `time` int64 (N,) in Unix
            seconds, `series` int64 (N,), the place of each row's series in `self.series`.

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
        series = np.repeat(np.array([places[name] for name in there], dtype=np.int64), np.diff(offsets))
        scaled = {
            name: scaler.forward(table[name].to_numpy(np.float64), series) for name, scaler in self.scalers.items()
        }
        ahead = _filled(scaled, self.known, self.may_be_missing)
        times = table[self.schema.time.column]
        decoder = np.column_stack([*ahead, self.calendar.features(times)]).astype(np.float32)
        target = scaled[self.target]
        past = _filled(scaled, self.past, self.may_be_missing)
        history = np.column_stack([np.nan_to_num(target), np.isfinite(target), *past])
        return SequenceStore(
            {
                "encoder": np.column_stack([history.astype(np.float32), decoder]),
                "decoder": decoder,
                "target": target.astype(np.float32),
                "raw_target": table[self.target].to_numpy(np.float64),
                "time": unix_seconds(times),
                "series": series,
            },
            offsets,
        )

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {
            "schema": self.schema.model_dump(mode="json"),
            "target": self.target,
            "past": list(self.past),
            "known": list(self.known),
            "calendar": self.calendar.model_dump(mode="json"),
            "scalers": {name: scaler.to_json() for name, scaler in self.scalers.items()},
            "target_deviation": list(self.target_deviation),
            "may_be_missing": list(self.may_be_missing),
            "series": list(self.series),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Encoding:
        """Read what `to_json` wrote."""
        return cls(
            schema=Schema.model_validate(value["schema"]),
            target=value["target"],
            past=tuple(value["past"]),
            known=tuple(value["known"]),
            calendar=Calendar.model_validate(value["calendar"]),
            scalers={name: Scaler.from_json(scaler) for name, scaler in value["scalers"].items()},
            target_deviation=tuple(value["target_deviation"]),
            may_be_missing=tuple(value["may_be_missing"]),
            series=tuple(value["series"]),
        )


def regular_table(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Clean a table and put every series on its complete grid of time stamps; rows that were absent become missing.

    Args:
        frame: the table in raw units, in any order of rows.
        schema: columns, keys and frequency.

    Returns:
        The same columns, ordered by series and time, without gaps.

    Raises:
        DataError: a time stamp is missing, stands twice in a series, or lies off the grid.
    """
    table = clean(frame, schema)
    time = schema.time.column
    if table[time].isna().any():
        raise DataError(
            f"column {time}",
            expected="a time stamp in every row",
            found=f"{table[time].isna().sum()} without",
            do="Add them",
        )
    for key in schema.keys:
        if table[key].isna().any():
            raise DataError(
                f"column {key}",
                expected="a name in every row, since it tells the series apart",
                found=f"{table[key].isna().sum()} rows without",
                do="Add them",
            )
    step = np.int64(schema.time.frequency.total_seconds())
    names = series_names(table, schema)
    if _is_regular(names, unix_seconds(table[time]), step):
        return table
    pieces = []
    for name, group in table.groupby(names, sort=True):
        rows = group
        seconds = unix_seconds(rows[time])
        place, off_grid = np.divmod(seconds - seconds[0], step)
        where = f"series {name}, column {time}"
        if off_grid.any():
            stamps = examples(rows[time][off_grid > 0].astype(str).tolist())
            raise DataError(
                where,
                expected=f"steps of {format_span(schema.time.frequency)}",
                found=f"off the grid: {stamps}",
                do="Resample",
            )
        twice = np.flatnonzero(np.diff(place) == 0)
        if len(twice):
            stamps = examples(rows[time].iloc[twice].astype(str).tolist())
            raise DataError(
                where, expected="each time stamp once", found=f"twice: {stamps}", do="Remove the duplicates"
            )
        if place[-1] + 1 > len(rows):
            full = pd.date_range(rows[time].iloc[0], periods=place[-1] + 1, freq=schema.time.frequency, unit="us")
            keys = {key: rows[key].iloc[0] for key in schema.keys}
            rows = (
                rows.set_index(time).reindex(full).rename_axis(time).reset_index().assign(**keys)[list(table.columns)]
            )
        pieces.append(rows)
    return pd.concat(pieces, ignore_index=True) if pieces else table


def series_names(table: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Name the series of each row by the values of its keys: object (N,)."""
    if not schema.keys:
        return np.full(len(table), SINGLE_SERIES, dtype=object)
    columns = [_key_text(table[key]) for key in schema.keys]
    if len(columns) > 1:
        for key, column in zip(schema.keys, columns, strict=True):
            if (with_slash := column[column.str.contains("/", regex=False)]).any():
                raise DataError(
                    f"column {key}",
                    expected="names without a /, which stands between the keys of a series",
                    found=examples(sorted(set(with_slash))),
                    do="Replace it in the query",
                )
    names = columns[0]
    for column in columns[1:]:
        names = names + "/" + column
    return names.to_numpy(dtype=object)


def series_offsets(names: np.ndarray) -> np.ndarray:
    """Find where each run of one and the same name begins, and the end of the last: int64 (S + 1,) for names (N,)."""
    begins = np.flatnonzero(names[1:] != names[:-1]) + 1
    return np.array([*([0] if len(names) else []), *begins, len(names)], dtype=np.int64)


def unix_seconds(times: pd.Series) -> np.ndarray:
    """Time stamps with a time zone as whole seconds since 1970: int64 (N,)."""
    return pd.DatetimeIndex(times).as_unit("s").asi8


def _is_regular(names: np.ndarray, seconds: np.ndarray, step: np.int64) -> bool:
    """Say whether rows ordered by series and time are what `regular_table` makes: each next row is one step later."""
    offsets = series_offsets(names)
    within = np.delete(
        np.diff(seconds), offsets[1:-1] - 1
    )  # not from the last row of a series to the first of the next
    series = names[offsets[:-1]].tolist()
    return bool((within == step).all()) and series == sorted(set(series))


def _key_text(values: pd.Series) -> pd.Series:
    # Whole numbers arrive as 7 or 7.0, depending on how the request was written; both name the same series.
    if pd.api.types.is_numeric_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values if values.dtype == TEXT else values.astype("str")


def _filled(
    scaled: Mapping[str, np.ndarray], names: tuple[str, ...], may_be_missing: tuple[str, ...]
) -> list[np.ndarray]:
    masks = [np.isfinite(scaled[name]) for name in names if name in may_be_missing]
    return [*(np.nan_to_num(scaled[name]) for name in names), *masks]
