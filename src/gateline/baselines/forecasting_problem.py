"""What a baseline of forecasting may look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from gateline.data.inputs import TARGET
from gateline.data.series_encoding import Encoding
from gateline.data.store import SERIES, STATIC, STATIC_CODES, VALUES, SequenceStore


@dataclass(frozen=True)
class VolatilityColumns:
    """Columns of numbers, known up to the origin, that say how much moves: one for `ewma`, several horizons for `har`."""

    ewma: str = ""
    har: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What a baseline may look at.

    Args:
        store: encoded series.
        encoding: how they were encoded.
        origins: rows of the first steps (W,) of each part.
        lookback: past steps T.
        horizon: steps to forecast U.
        season: steps of one season.
        cycle: steps after which the whole pattern repeats.
        levels: Q levels in rising order, 0.5 among them, for baselines that forecast quantiles.
        volatility: columns that the baselines of volatility read.
    """

    store: SequenceStore
    encoding: Encoding
    origins: Mapping[str, np.ndarray]
    lookback: int
    horizon: int
    season: int
    cycle: int
    levels: tuple[float, ...] = (0.5,)
    volatility: VolatilityColumns = VolatilityColumns()

    def steps(self, part: str) -> np.ndarray:
        """Rows of the steps to forecast: int64 (W, U)."""
        return self.origins[part][:, None] + np.arange(self.horizon)

    def target(self, part: str) -> np.ndarray:
        """What happened, scaled: (W, U), NaN where not observed."""
        return self.scaled_target[self.steps(part)]

    @cached_property
    def scaled_target(self) -> np.ndarray:
        """Scaled target of every row: float32 (N,), NaN where missing."""
        return np.array(self.store.arrays[VALUES][:, TARGET])

    @cached_property
    def encoder(self) -> np.ndarray:
        """What the model's encoder reads of every row: float32 (N, Fp)."""
        return self.encoding.inputs().encoder_of(self.store.arrays[VALUES])

    @cached_property
    def carried_inputs(self) -> np.ndarray:
        """What the encoder reads of every row, with the value before where one is missing in place of 0: float32 (N, Fp)."""
        values, inputs = np.asarray(self.store.arrays[VALUES]), self.encoding.inputs()
        carried = pd.DataFrame(values).groupby(self.series_of_rows()).ffill().to_numpy()
        masks = np.array(inputs.encoder) >= inputs.num_values
        return np.where(masks, self.encoder, inputs.encoder_of(carried))

    def covariates(self, carried: bool) -> np.ndarray:
        """`encoder` or `carried_inputs` without the target and the clock, and with a column for each code of a text: float32 (N, Fc).

        What the clock said before follows from what it will say, which `decoder` holds.
        """
        encoder = self.carried_inputs if carried else self.encoder
        codes = zip(
            self.past_texts(np.arange(len(encoder))),
            self.num_codes((*self.encoding.past, *self.encoding.known)),
            strict=True,
        )
        numbers = encoder[:, 2 : encoder.shape[1] - len(self.encoding.calendar.names())]
        return np.column_stack([numbers, *(one_hot(values, size) for values, size in codes)])

    @cached_property
    def decoder(self) -> np.ndarray:
        """What the model's decoder reads of every row: float32 (N, Fk)."""
        return self.encoding.inputs().decoder_of(self.store.arrays[VALUES])

    def series(self, part: str) -> np.ndarray:
        """Number of each window's series: int64 (W,)."""
        return self.store.static(SERIES, self.origins[part])

    def series_of_rows(self) -> np.ndarray:
        """Number of each row's series: int64 (N,)."""
        return np.repeat(self.store.statics[SERIES], np.diff(self.store.offsets))

    def of_series(self, group: np.ndarray) -> Problem:
        """The same with the windows of some series only, by their numbers."""
        return replace(
            self, origins={part: rows[np.isin(self.series(part), group)] for part, rows in self.origins.items()}
        )

    def series_by_unit(self) -> list[np.ndarray]:
        """Numbers of the series of each unit, where a key says it (`units` of the target's column); all in one group otherwise."""
        unit = np.array(self.encoding.unit_of_series() or (0,) * self.store.num_series)
        return [np.flatnonzero(unit == one) for one in np.unique(unit)]

    def past_texts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Codes of the texts that the encoder reads at some rows: (n,) each."""
        values = self.store.arrays[VALUES]
        return [values[rows, column] for column in self.encoding.inputs().encoder_codes]

    def known_texts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Codes of the texts that are known ahead, at some rows: (n,) each."""
        values = self.store.arrays[VALUES]
        return [values[rows, column] for column in self.encoding.inputs().decoder_codes]

    def static_numbers(self, rows: np.ndarray) -> list[np.ndarray]:
        """Static numbers of the series of some rows: (n,) each."""
        return list(self.store.static(STATIC, rows).T) if STATIC in self.store.statics else []

    def static_texts(self, rows: np.ndarray) -> list[np.ndarray]:
        """Codes of the static texts of the series of some rows: (n,) each."""
        return list(self.store.static(STATIC_CODES, rows).T) if STATIC_CODES in self.store.statics else []

    def num_codes(self, names: Sequence[str]) -> list[int]:
        """How many codes the columns of texts among some have, in order."""
        return [self.encoding.vocabularies[name].num_codes for name in self.encoding.texts(tuple(names))]

    def in_raw_units(self, forecast: np.ndarray, part: str) -> np.ndarray:
        """Take scaled forecasts (W, U) of a part back to raw units."""
        return self.encoding.scalers[self.encoding.target].inverse(forecast, self.series(part))

    def training_rows(self) -> np.ndarray:
        """Mark the rows that a training window reads or forecasts: bool (N,)."""
        marked = np.zeros(self.store.offsets[-1], dtype=bool)
        for shift in range(-self.lookback, self.horizon):
            marked[self.origins["train"] + shift] = True
        return marked

    def position(self, period: int) -> np.ndarray:
        """Place of every row within a period, by the clock of `preprocess.calendar.timezone`: int64 (N,)."""
        step: timedelta = self.encoding.schema.grid.frequency
        return (self.local_times().dt.as_unit("s").astype("int64").to_numpy() // int(step.total_seconds())) % period

    def local_times(self) -> pd.Series:
        """Time of every row by the clock of `preprocess.calendar.timezone`, without its zone: (N,)."""
        times = pd.to_datetime(pd.Series(self.store.arrays["time"]), unit="s", utc=True)
        return times.dt.tz_convert(self.encoding.calendar.timezone).dt.tz_localize(None)

    @property
    def steps_of_a_day(self) -> int:
        """Steps that begin within a day; 1 for steps of a day or more."""
        return max(1, int(86_400 // self.encoding.schema.grid.frequency.total_seconds()))

    @cached_property
    def carried_forward(self) -> np.ndarray:
        """Last observed raw target up to each row: (N,); the median of the training part where nothing came before."""
        target = pd.Series(np.asarray(self.store.arrays["raw_target"]))
        carried = target.groupby(self.series_of_rows()).ffill()
        return carried.fillna(target[self.training_rows()].median()).to_numpy()

    def last_scaled(self, origins: np.ndarray) -> np.ndarray:
        """Last observed target before each origin, scaled: (W,)."""
        scaler = self.encoding.scalers[self.encoding.target]
        return scaler.forward(self.carried_forward[origins - 1], self.store.static(SERIES, origins))


def one_hot(values: np.ndarray, size: int) -> np.ndarray:
    """Turn codes (n,) into a column for each: float32 (n, size)."""
    return (values[:, None] == np.arange(size)).astype(np.float32)
