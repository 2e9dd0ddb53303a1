"""Baselines that a field brings along, and its metrics, against definitions written out in loops and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from gateline.baselines.forecasting import QUANTILE_BASELINES, VOLATILITY_BASELINES
from gateline.baselines.forecasting_problem import Problem, VolatilityColumns
from gateline.baselines.naive2 import is_seasonal, naive2_of, seasonal_indices
from gateline.data.calendar import Calendar
from gateline.data.scaling import Transform
from gateline.data.series_encoding import Encoding, regular_table
from gateline.data.splits import TimeSplit, window_runs
from gateline.errors import DataError
from gateline.metrics import mase, owa, pinball, smape
from gateline.scoring.calibration import share_below
from gateline.scoring.competition import add_competition_metrics, require_scale, seasonal_scale
from gateline.workload.schema import Schema

LEVELS = (0.05, 0.5, 0.95)


def decomposed_by_loops(series: list[float], season: int) -> list[float]:
    """The indices of R's `decompose(type = "multiplicative")`, straight from its help page."""
    half = season // 2
    ratios: dict[int, list[float]] = {place: [] for place in range(season)}
    for now in range(half, len(series) - half):
        around = series[now - half : now + half + 1]
        trend = (sum(around) - (around[0] + around[-1]) / 2) / season if season % 2 == 0 else sum(around) / season
        ratios[now % season].append(series[now] / trend)
    figure = [sum(values) / len(values) for values in ratios.values()]
    return [one / (sum(figure) / season) for one in figure]


@pytest.mark.parametrize("season", [4, 7, 24])
def test_seasonal_indices_are_those_of_the_classical_decomposition(season: int, rng: np.random.Generator) -> None:
    steps = np.arange(9 * season + 3)
    series = (50 + 0.3 * steps) * (1 + 0.4 * np.sin(2 * np.pi * steps / season)) * rng.lognormal(0, 0.05, len(steps))

    np.testing.assert_allclose(seasonal_indices(series, season), decomposed_by_loops(series.tolist(), season))


def test_a_pure_season_is_continued_by_naive_2_and_noise_by_its_last_value(rng: np.random.Generator) -> None:
    season = 12
    pattern = rng.uniform(0.5, 1.5, season)
    series = np.tile(pattern, 10)[:-5]  # the cut is not at the end of a season
    noise = rng.normal(100, 1, 115)

    np.testing.assert_allclose(naive2_of(series, season, 30), np.tile(pattern, 14)[115:145])
    assert not is_seasonal(noise, season)
    np.testing.assert_array_equal(naive2_of(noise, season, 5), np.full(5, noise[-1]))


@pytest.mark.parametrize(
    ("history", "adjusted"),
    [
        (np.tile([0.0, 5, 9, 5, 0, 0], 40), False),  # the last hour is one at which the shop is always closed
        (np.concatenate([np.tile([0.0, 0, 5, 9, 5, 0], 40), np.zeros(24)]), False),  # closed for good, four days ago
        (np.concatenate([np.zeros(24), np.tile([0.0, 0, 5, 9, 5, 3], 40)]), True),  # not open yet in the first days
        (np.tile([-4.0, -1, 5, 1, 0, -1], 40), False),  # no level to take a season out of
    ],
)
def test_a_season_of_zeros_leaves_a_forecast(history: np.ndarray, adjusted: bool) -> None:
    assert is_seasonal(history, 6)

    with np.errstate(all="raise"):
        forecast = naive2_of(history, 6, 12)

    expected = history[-12:] if adjusted else np.full(12, history[-1])
    np.testing.assert_allclose(forecast, expected, rtol=0.2 if adjusted else 0, atol=0)


def test_the_test_of_seasonality_compares_one_autocorrelation_with_bartletts_limit(rng: np.random.Generator) -> None:
    agreed = []
    for _ in range(40):
        series = rng.normal(0, 1, 90) + 0.5 * rng.uniform(0, 1) * np.sin(np.arange(90) / 6 * 2 * np.pi)
        mean = sum(series) / 90
        of_lag = []
        for lag in range(1, 7):
            pairs = sum((series[t] - mean) * (series[t - lag] - mean) for t in range(lag, 90))
            of_lag.append(pairs / sum((value - mean) ** 2 for value in series))
        limit = 1.645 / 90**0.5 * (1 + 2 * sum(one**2 for one in of_lag[:5])) ** 0.5
        agreed.append(is_seasonal(series, 6) == (abs(of_lag[5]) > limit))

    assert all(agreed)
    assert not is_seasonal(np.tile([1.0, 2.0], 2), 2), "shorter than three seasons"
    assert not is_seasonal(np.ones(50), 5), "without variance nothing is a season"


def test_competition_metrics_are_their_formulas() -> None:
    target, forecast = np.array([[2.0, 4.0], [0.0, 8.0]]), np.array([[4.0, 4.0], [0.0, 10.0]])

    assert smape(forecast, target) == pytest.approx((200 * 2 / 6 + 0 + 0 + 200 * 2 / 18) / 4)
    assert mase(forecast, target, np.array([2.0, 0.5])) == pytest.approx((1.0 / 2 + 1.0 / 0.5) / 2)
    assert owa({"smape": 5.0, "mase": 1.0}, {"smape": 10.0, "mase": 4.0}) == pytest.approx((0.5 + 0.25) / 2)


def test_what_was_not_observed_does_not_count_in_competition_metrics() -> None:
    target, forecast = np.array([[2.0, np.nan], [np.nan, np.nan]]), np.array([[3.0, 9.0], [1.0, 1.0]])

    assert smape(forecast, target) == pytest.approx(200 / 5)
    assert mase(forecast, target, np.array([4.0, 1.0])) == pytest.approx(0.25)
    assert np.isnan(smape(forecast[1:], target[1:]))
    assert np.isnan(mase(forecast[1:], target[1:], np.ones(1)))


def test_naive_2_has_an_overall_weighted_average_of_one() -> None:
    target, naive = np.array([[2.0, 4.0]]), np.array([[3.0, 3.0]])
    metrics: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {"naive2": {}}

    add_competition_metrics(
        ("smape", "mase", "owa"), metrics, baselines, {"": target + 0.1, "naive2": naive}, target, np.ones(1)
    )

    assert baselines["naive2"]["owa"] == pytest.approx(1.0)
    assert metrics["owa"] < 0.2


@pytest.fixture(scope="module")
def market() -> Problem:
    """Two markets whose volatility wanders; what was measured of it in a day, a week and a month is in the table."""
    random = np.random.default_rng(5)
    pieces = []
    for name, level in (("a", 1.0), ("b", 3.0)):
        log = np.zeros(400)
        for day in range(1, 400):
            log[day] = 0.95 * log[day - 1] + random.normal(0, 0.15)
        volatility = level * np.exp(log)
        measured = {window: pd.Series(volatility).rolling(window, min_periods=1).mean() for window in (1, 5, 22)}
        pieces.append(
            pd.DataFrame(
                {
                    "market": name,
                    "day": pd.date_range("2020-01-01", periods=400).strftime("%Y-%m-%d"),
                    "moved": volatility * random.lognormal(0, 0.2, 400),
                    "gain": volatility * random.normal(0, 1, 400),
                    **{f"of_{window}": values for window, values in measured.items()},
                }
            )
        )
    numbers = {name: {"type": "float"} for name in ("moved", "gain", "of_1", "of_5", "of_22")}
    schema = Schema.model_validate(
        {
            "time": {"column": "day", "frequency": "1d"},
            "keys": ["market"],
            "columns": {"market": {"type": "text"}, "day": {"type": "time"}, **numbers},
        }
    )
    table = regular_table(pd.concat(pieces, ignore_index=True), schema)
    split = TimeSplit(pd.Timestamp("2020-10-01T00:00:00Z"), pd.Timestamp("2020-12-01T00:00:00Z"))
    times = table["day"].dt.as_unit("s").astype("int64").to_numpy()
    encoding = Encoding.fit(
        table, split.rows("train", times), schema=schema, target="moved", past=("gain", "of_1", "of_5", "of_22"), known=(),
        calendar=Calendar(), transforms={"moved": Transform(kind="log1p")}, scaling="series",
    )  # fmt: skip
    store = encoding.encode(table)
    observed = np.isfinite(store.arrays["values"][:, 0])
    runs = window_runs(times, store.offsets, observed, split, lookback=10, horizon=2)
    origins = {part: rows.rows() for part, rows in runs.items()}
    return Problem(store, encoding, origins, 10, 2, 1, 7, LEVELS, VolatilityColumns("of_5", ("of_1", "of_5", "of_22")))


def column(problem: Problem, name: str, rows: np.ndarray) -> np.ndarray:
    """A column in raw units, one series after the other as the store has them."""
    place = problem.encoding.value_names().index(name)
    scaler = problem.encoding.scalers[name]
    series = problem.series_of_rows()[rows]
    scaled = problem.store.arrays["values"][rows, place]
    return scaled * np.array(scaler.deviation)[series] + np.array(scaler.mean)[series]


def test_ewma_says_for_every_step_what_its_column_says_before_the_origin(market: Problem) -> None:
    expected = column(market, "of_5", market.origins["test"] - 1)

    for step in range(2):
        np.testing.assert_allclose(VOLATILITY_BASELINES["ewma"](market, "test")[:, step], expected, rtol=1e-5)


def test_har_is_the_better_of_two_least_squares_regressions_on_the_validation_part(market: Problem) -> None:
    names, raw = ("of_1", "of_5", "of_22"), market.store.arrays["raw_target"]
    values, scaler = market.store.arrays["values"], market.encoding.scalers["moved"]
    of_name = [market.encoding.value_names().index(name) for name in names]
    answers, errors = [], []
    for transformed in (False, True):
        inputs = {
            part: values[rows - 1][:, of_name] if transformed else np.column_stack([column(market, n, rows - 1) for n in names])
            for part, rows in market.origins.items()
        }  # fmt: skip
        target = market.target("train") if transformed else raw[market.steps("train")]
        model = LinearRegression().fit(inputs["train"], target)
        said = {part: model.predict(inputs[part]) for part in ("validation", "test")}
        if transformed:
            said = {part: scaler.inverse(guess, market.series(part)) for part, guess in said.items()}
        errors.append(np.abs(said["validation"] - raw[market.steps("validation")]).mean())
        answers.append(said["test"])

    assert errors[0] != errors[1]
    np.testing.assert_allclose(VOLATILITY_BASELINES["har"](market, "test"), answers[int(np.argmin(errors))], rtol=1e-3)


def test_historical_quantiles_are_those_of_each_series_in_training(market: Problem) -> None:
    answer = QUANTILE_BASELINES["historical_quantiles"](market, "test")
    raw, seen = market.store.arrays["raw_target"], market.training_rows()

    for number in (0, 1):
        expected = np.quantile(raw[seen & (market.series_of_rows() == number)], LEVELS)
        of_one = answer[market.series("test") == number]
        np.testing.assert_allclose(of_one, np.broadcast_to(expected, of_one.shape))


def test_ewma_quantiles_cover_as_often_as_they_say_whatever_the_level(market: Problem) -> None:
    stretched = QUANTILE_BASELINES["ewma_quantiles"](market, "train")
    target = np.asarray(market.store.arrays["raw_target"])[market.steps("train")]
    below = share_below(dict(zip(LEVELS, np.moveaxis(stretched, 2, 0), strict=True)), target)

    assert [below[f"{level:g}"] for level in LEVELS] == pytest.approx(LEVELS, abs=0.01)
    now = QUANTILE_BASELINES["ewma_quantiles"](market, "test")
    unit = now / VOLATILITY_BASELINES["ewma"](market, "test")[:, :, None]
    np.testing.assert_allclose(unit, np.broadcast_to(unit[:1], unit.shape), err_msg="one shape, stretched")
    fixed = QUANTILE_BASELINES["historical_quantiles"](market, "train")
    assert pinball(stretched, target, LEVELS) < pinball(fixed, target, LEVELS)


def test_the_scale_of_mase_is_the_seasonal_naive_error_before_the_first_origin(market: Problem) -> None:
    raw, offsets = market.store.arrays["raw_target"], market.store.offsets
    scale = seasonal_scale(market, "test")

    for number in (0, 1):
        first = market.origins["test"][market.series("test") == number].min()
        steps = [abs(raw[row] - raw[row - market.season]) for row in range(offsets[number] + market.season, first)]
        np.testing.assert_allclose(scale[market.series("test") == number], np.mean(steps))


def test_a_series_whose_errors_mase_cannot_scale_is_named() -> None:
    scale, series = (
        np.array([1.0, 0.0, np.nan, 2.0]),
        np.array(["east", "never sold", "too short", "west"], dtype=object),
    )
    with pytest.raises(DataError, match="found none in never sold, too short"):
        require_scale(scale, series)
    require_scale(scale[[0, 3]], series[[0, 3]])


@pytest.mark.parametrize("naive2", [{"smape": 0.0, "mase": 1.0}, {"smape": 1.0, "mase": 0.0}])
def test_owa_beside_a_naive_forecast_without_error_is_no_number(naive2: dict[str, float]) -> None:
    assert np.isnan(owa({"smape": 1.0, "mase": 1.0}, naive2))
