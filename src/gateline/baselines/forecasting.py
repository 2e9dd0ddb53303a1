"""Baselines of forecasting, on the same windows, the same inputs and the same split as the model.

`last_value`, `seasonal_naive`, `seasonal_median` and `climatology` are fitted on nothing or on the training part; `ridge`, `nlinear` and
`gradient_boosting` are fitted on the training part, with their settings chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from gateline.baselines.naive2 import naive2
from gateline.baselines.quantiles import ewma_quantiles, historical_quantiles
from gateline.baselines.volatility import ewma, har
from gateline.data.inputs import TARGET
from gateline.data.series_encoding import Encoding
from gateline.data.store import SERIES, STATIC, STATIC_CODES, VALUES, SequenceStore

ALPHAS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Strengths of the ridge's penalty that are tried; the features are standardised."""

NLINEAR_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0)
"""The same for `nlinear`, whose inputs are differences in the scaled space, not standardised."""
GRAM_ROWS = 8192
"""Windows at a time whose products are summed in float64."""

CLIMATOLOGY_DAYS = 15
"""Days before and after a day of the year whose mean is its `climatology`: a month, as normals are smoothed."""
DAYS_OF_A_YEAR = 366

BOOSTING_LEARNING_RATE = 0.1
BOOSTING_LAGS = 24
MAX_BOOSTING_ROUNDS = 100
BOOSTING_PATIENCE = 10
"""Trees in a row without a better validation loss."""
MAX_BOOSTING_ROWS = 50_000
"""Rows of one window and step each that the trees are fitted on; more are thinned evenly, which cost flight_delays less
than 0.1 minutes and saved four fifths of the time."""


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
    def decoder(self) -> np.ndarray:
        """What the model's decoder reads of every row: float32 (N, Fk)."""
        return self.encoding.inputs().decoder_of(self.store.arrays[VALUES])

    def series(self, part: str) -> np.ndarray:
        """Number of each window's series: int64 (W,)."""
        return self.store.static(SERIES, self.origins[part])

    def series_of_rows(self) -> np.ndarray:
        """Number of each row's series: int64 (N,)."""
        return np.repeat(self.store.statics[SERIES], np.diff(self.store.offsets))

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


def last_value(problem: Problem, part: str) -> np.ndarray:
    """The last observed value, for every step."""
    return np.repeat(_carried_forward(problem)[problem.origins[part] - 1][:, None], problem.horizon, axis=1)


def seasonal_naive(problem: Problem, part: str) -> np.ndarray:
    """The value one season before, or as many seasons as it takes to lie in the past; the last value where it is missing."""
    ahead = np.arange(problem.horizon)
    back = problem.season * (ahead // problem.season + 1)
    rows = problem.steps(part) - back
    values = np.asarray(problem.store.arrays["raw_target"])[np.maximum(rows, 0)]
    begins = problem.store.offsets[problem.store.series_of(problem.origins[part])][:, None]
    return np.where(np.isfinite(values) & (rows >= begins), values, last_value(problem, part))


def seasonal_median(problem: Problem, part: str) -> np.ndarray:
    """The median of the training part at the same place of the cycle, per series."""
    fitted = pd.DataFrame(
        {
            "series": problem.series_of_rows(),
            "position": problem.position(problem.cycle),
            "value": np.asarray(problem.store.arrays["raw_target"]),
        }
    )
    train = fitted[problem.training_rows()]
    by_position = train.groupby(["series", "position"])["value"].median()
    by_series = train.groupby("series")["value"].median()
    asked = fitted.iloc[problem.steps(part).ravel()]
    median = by_position.reindex(pd.MultiIndex.from_frame(asked[["series", "position"]])).to_numpy()
    fallback = by_series.reindex(asked["series"]).to_numpy()
    return np.where(np.isfinite(median), median, fallback).reshape(-1, problem.horizon)


def climatology(problem: Problem, part: str) -> np.ndarray:
    """The mean of the training part at the same time of the day, at most CLIMATOLOGY_DAYS from the same day of the year.

    Per series, by the clock of `preprocess.calendar.timezone`; the mean of the series where the training part has no such day, and that of all
    where it has no window of the series.
    """
    local = problem.local_times()
    slot = problem.position(problem.steps_of_a_day)
    day = local.dt.day_of_year.to_numpy() - 1
    series, value = problem.series_of_rows(), np.asarray(problem.store.arrays["raw_target"])
    shape = (problem.store.num_series, DAYS_OF_A_YEAR, problem.steps_of_a_day)
    usable = problem.training_rows() & np.isfinite(value)
    place = np.ravel_multi_index((series, day, slot), shape)
    total, count = (
        np.bincount(place[usable], weights=weights, minlength=int(np.prod(shape))).reshape(shape)
        for weights in (value[usable], np.ones(int(usable.sum())))
    )
    near_total, near_count = _sum_of_near_days(total), _sum_of_near_days(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = (near_total / near_count).ravel()
        of_series = total.sum(axis=(1, 2)) / count.sum(axis=(1, 2))
        of_series = np.where(np.isfinite(of_series), of_series, total.sum() / count.sum())
    asked = problem.steps(part)
    return np.where(np.isfinite(normal[place[asked]]), normal[place[asked]], of_series[series[asked]])


def _sum_of_near_days(sums: np.ndarray) -> np.ndarray:
    """Add to each day of the year those around it: (series, days, steps of a day) -> the same."""
    near = np.zeros_like(sums)
    for shift in range(-CLIMATOLOGY_DAYS, CLIMATOLOGY_DAYS + 1):
        near += np.roll(sums, shift, axis=1)
    return near


def ridge(problem: Problem, part: str) -> np.ndarray:
    """A linear function for each step: past targets and their masks, the newest covariates, and what is known ahead.

    Fitted in the scaled, transformed space of the target. In closed form, from one Gram matrix per step.
    """
    train, validation = problem.target("train"), problem.target("validation")
    errors = np.zeros(len(ALPHAS))
    answers = np.empty((len(ALPHAS), len(problem.origins[part]), problem.horizon))
    inputs = {name: _ridge_inputs(problem, name) for name in {"train", "validation", part}}
    for step in range(problem.horizon):
        x, y = inputs["train"](step), train[:, step]
        x, y = x[np.isfinite(y)], y[np.isfinite(y)].astype(np.float64)
        mean, deviation, level = x.mean(axis=0), x.std(axis=0) + 1e-8, float(y.mean()) if len(y) else 0.0
        x = (x - mean) / deviation
        gram, right = x.T @ x, x.T @ (y - level)
        held_out = (inputs["validation"](step) - mean) / deviation
        asked = (inputs[part](step) - mean) / deviation
        for index, alpha in enumerate(ALPHAS):
            weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), right)
            difference = held_out @ weights + level - validation[:, step]
            errors[index] += np.abs(difference[np.isfinite(difference)]).sum()
            answers[index, :, step] = asked @ weights + level
    return problem.in_raw_units(answers[int(np.argmin(errors))], part)


def nlinear(problem: Problem, part: str) -> np.ndarray:
    """A linear function of the past, one for all series and without other inputs, of what is left above the last value.

    Fitted by least squares in closed form in the scaled space, with the ridge's penalty chosen on the validation part.

    Source: Zeng et al. (2023), arXiv 2205.13504, section 4 (NLinear), there fitted by gradient descent.
    """
    train, validation, asked = (_above_last(problem, name) for name in ("train", "validation", part))
    errors = np.zeros(len(NLINEAR_ALPHAS))
    answers = np.empty((len(NLINEAR_ALPHAS), len(asked.inputs), problem.horizon), dtype=np.float32)
    complete = bool(np.isfinite(train.target).all())
    # With every target there, all steps share one Gram matrix; where some are missing, each step has its own.
    for steps in [slice(None)] if complete else [slice(step, step + 1) for step in range(problem.horizon)]:
        rows = np.flatnonzero(np.isfinite(train.target[:, steps]).all(axis=1))
        mean, level, gram, right = _moments(train.inputs, train.target[:, steps], rows)
        for index, alpha in enumerate(NLINEAR_ALPHAS):
            weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), right)
            shift = level - mean @ weights
            difference = validation.inputs @ weights.astype(np.float32) + shift - validation.target[:, steps]
            errors[index] += np.square(difference[np.isfinite(difference)]).sum()
            answers[index][:, steps] = asked.inputs @ weights.astype(np.float32) + shift
    return problem.in_raw_units(answers[int(np.argmin(errors))] + asked.last[:, None], part)


def gradient_boosting(problem: Problem, part: str) -> np.ndarray:
    """Histogram gradient boosting with an absolute loss, all steps in one model; the number of trees chosen on validation."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    train, validation = _thinned(problem.target("train")), _thinned(problem.target("validation"))
    model = HistGradientBoostingRegressor(
        loss="absolute_error",
        learning_rate=BOOSTING_LEARNING_RATE,
        max_iter=MAX_BOOSTING_ROUNDS,
        early_stopping=True,
        n_iter_no_change=BOOSTING_PATIENCE,
        random_state=0,
    ).fit(
        _boosting_inputs(problem, "train", train),
        problem.target("train").ravel()[train],
        X_val=_boosting_inputs(problem, "validation", validation),
        y_val=problem.target("validation").ravel()[validation],
    )
    everything = np.arange(len(problem.origins[part]) * problem.horizon)
    answer = np.concatenate(
        [
            model.predict(_boosting_inputs(problem, part, some))
            for some in np.array_split(everything, 1 + len(everything) // MAX_BOOSTING_ROWS)
        ]
    )
    return problem.in_raw_units(answer.reshape(-1, problem.horizon), part)


BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {
    "last_value": last_value,
    "seasonal_naive": seasonal_naive,
    "seasonal_median": seasonal_median,
    "climatology": climatology,
    "ridge": ridge,
    "nlinear": nlinear,
    "gradient_boosting": gradient_boosting,
    "naive2": naive2,
}
"""Each takes a problem and a part, and returns forecasts (W, U) in raw units."""

VOLATILITY_BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {"ewma": ewma, "har": har}
"""The same, for problems that say which columns hold a volatility."""

QUANTILE_BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {
    "historical_quantiles": historical_quantiles,
    "ewma_quantiles": ewma_quantiles,
}
"""The same, but they return quantiles (W, U, Q) at the levels of the problem."""


def _carried_forward(problem: Problem) -> np.ndarray:
    """Last observed raw target up to each row: (N,); the median of the training part where nothing came before."""
    target = pd.Series(np.asarray(problem.store.arrays["raw_target"]))
    carried = target.groupby(problem.series_of_rows()).ffill()
    return carried.fillna(target[problem.training_rows()].median()).to_numpy()


def _last_scaled(problem: Problem, origins: np.ndarray) -> np.ndarray:
    """Last observed target before each origin, scaled: (W,)."""
    scaler = problem.encoding.scalers[problem.encoding.target]
    series = problem.store.static(SERIES, origins)
    return scaler.forward(_carried_forward(problem)[origins - 1], series)


@dataclass(frozen=True)
class _AboveLast:
    """Windows less their last observed value: inputs float32 (W, T), 0 where missing; target (W, U); last (W,)."""

    inputs: np.ndarray
    target: np.ndarray
    last: np.ndarray


def _above_last(problem: Problem, part: str) -> _AboveLast:
    origins = problem.origins[part]
    last = np.nan_to_num(_last_scaled(problem, origins)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(problem.scaled_target, problem.lookback)
    inputs = np.nan_to_num(views[origins - problem.lookback] - last[:, None])
    return _AboveLast(inputs, problem.target(part) - last[:, None], last)


def _moments(
    inputs: np.ndarray, target: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means (T,) and (U,), and centred products (T, T) and (T, U), in float64, of some rows."""
    pieces = [rows[first : first + GRAM_ROWS] for first in range(0, len(rows), GRAM_ROWS)]
    mean = sum((inputs[piece].sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(inputs.shape[1]))
    level = sum((target[piece].sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(target.shape[1]))
    mean, level = mean / max(1, len(rows)), level / max(1, len(rows))
    gram, right = np.zeros((len(mean), len(mean))), np.zeros((len(mean), len(level)))
    for piece in pieces:
        centred = inputs[piece] - mean
        gram += centred.T @ centred
        right += centred.T @ (target[piece] - level)
    return mean, level, gram, right


def _one_hot(values: np.ndarray, size: int) -> np.ndarray:
    return (values[:, None] == np.arange(size)).astype(np.float64)


def _thinned(target: np.ndarray) -> np.ndarray:
    """Choose places in a flattened target (W, U) that hold a value, evenly, at most MAX_BOOSTING_ROWS of them."""
    usable = np.flatnonzero(np.isfinite(target))
    return usable[:: max(1, -(-len(usable) // MAX_BOOSTING_ROWS))]


def _ridge_inputs(problem: Problem, part: str) -> Callable[[int], np.ndarray]:
    """Return a function from the step ahead to the features of every window: float64 (W, 2 T + ...)."""
    encoder, decoder = problem.encoder, problem.decoder
    origins = problem.origins[part]
    lags = encoder[origins[:, None] - 1 - np.arange(problem.lookback), :2].reshape(len(origins), -1)
    series = problem.store.static(SERIES, origins)
    last = np.nan_to_num(_last_scaled(problem, origins))
    season = _one_hot(problem.position(problem.season), problem.season)
    encoding = problem.encoding
    texts = [*problem.past_texts(origins - 1), *problem.static_texts(origins)]
    sizes = [*problem.num_codes((*encoding.past, *encoding.known)), *problem.num_codes(encoding.static)]
    of_window = [
        *(lags, last, encoder[origins - 1, 2:], _one_hot(series, problem.store.num_series)),
        *problem.static_numbers(origins),
        *(_one_hot(codes, size) for codes, size in zip(texts, sizes, strict=True)),
    ]

    def inputs(step: int) -> np.ndarray:
        rows = origins + step
        known = zip(problem.known_texts(rows), problem.num_codes(encoding.known), strict=True)
        ahead = [decoder[rows], season[rows], *(_one_hot(codes, size) for codes, size in known)]
        return np.column_stack([*of_window, *ahead]).astype(np.float64)

    return inputs


def _boosting_inputs(problem: Problem, part: str, places: np.ndarray) -> np.ndarray:
    """Features of single steps of windows: float32 (n, ...), for n places in the flattened (W, U); trees read NaN as such."""
    encoder, decoder = problem.encoder, problem.decoder
    window, ahead = np.divmod(places, problem.horizon)
    origins = problem.origins[part][window]
    lags = problem.scaled_target[origins[:, None] - 1 - np.arange(min(BOOSTING_LAGS, problem.lookback))]
    last = _last_scaled(problem, origins)
    series = problem.store.static(SERIES, origins)
    rows = origins + ahead
    position = problem.position(problem.cycle)[rows]
    texts = [*problem.past_texts(origins - 1), *problem.known_texts(rows), *problem.static_texts(origins)]
    more = [*problem.static_numbers(origins), *texts]
    columns = [lags, last, encoder[origins - 1, 2:], series, decoder[rows], position, ahead, *more]
    return np.column_stack(columns).astype(np.float32)
