"""Baselines against loops that anyone can read, and against scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from gateline.baselines import forecasting as baselines
from gateline.baselines import forecasting_nlinear, forecasting_trees
from gateline.baselines.forecasting import (
    BASELINES,
    QUANTILE_BASELINES,
    VOLATILITY_BASELINES,
)
from gateline.baselines.forecasting_problem import Problem, VolatilityColumns
from gateline.data.calendar import Calendar
from gateline.data.series_encoding import Encoding, regular_table
from gateline.data.splits import TimeSplit, by_time, window_runs
from gateline.metrics import forecast_metrics
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload

SEASON, CYCLE, LOOKBACK, HORIZON = 24, 168, 30, 36


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As evaluate does: threads that wait for each other by spinning take minutes where other work takes the cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def problem() -> Problem:
    schema = Schema.model_validate(tiny_workload()["schema"])
    table = regular_table(tiny_table(), schema)
    split = TimeSplit(pd.Timestamp("2024-02-15T00:00:00Z"), pd.Timestamp("2024-02-28T00:00:00Z"))
    times = table["time"].dt.as_unit("s").astype("int64").to_numpy()
    encoding = Encoding.fit(
        table, split.rows("train", times), schema=schema, target="sales", past=("footfall",), known=("price",),
        calendar=Calendar(hour_of_day=1), transforms={},
    )  # fmt: skip
    store = encoding.encode(table)
    runs = window_runs(
        times, store.offsets, np.isfinite(store.arrays["values"][:, 0]), split, lookback=LOOKBACK, horizon=HORIZON
    )
    origins = {part: by_time(rows.rows(), times) for part, rows in runs.items()}
    volatility = VolatilityColumns("footfall", ("footfall", "sales"))  # any columns of numbers will do
    return Problem(store, encoding, origins, LOOKBACK, HORIZON, SEASON, CYCLE, (0.1, 0.5, 0.9), volatility)


def raw(problem: Problem) -> np.ndarray:
    return np.asarray(problem.store.arrays["raw_target"])


def last_observed_before(problem: Problem, origin: int) -> float:
    row = origin - 1
    while not np.isfinite(raw(problem)[row]):
        row -= 1
    return float(raw(problem)[row])


def test_last_value_is_the_last_observed_before_the_origin(problem: Problem) -> None:
    answer = BASELINES["last_value"](problem, "test")

    for place in range(0, len(answer), 37):
        assert answer[place].tolist() == [last_observed_before(problem, problem.origins["test"][place])] * HORIZON


def test_seasonal_naive_repeats_the_newest_season_that_is_past(problem: Problem) -> None:
    answer = BASELINES["seasonal_naive"](problem, "test")

    for place in range(0, len(answer), 37):
        origin = problem.origins["test"][place]
        for step in range(HORIZON):
            row = origin + step - SEASON
            while row >= origin:
                row -= SEASON
            value = raw(problem)[row]
            assert answer[place, step] == (value if np.isfinite(value) else last_observed_before(problem, origin))


def test_seasonal_median_is_that_of_the_training_part_at_the_same_hour_of_the_week(problem: Problem) -> None:
    answer = BASELINES["seasonal_median"](problem, "test")
    table = pd.DataFrame(
        {
            "time": pd.to_datetime(problem.store.arrays["time"], unit="s", utc=True),
            "series": problem.series_of_rows(),
            "value": raw(problem),
        }
    )
    seen = table[table["time"] < "2024-02-15"]

    for place in range(0, len(answer), 91):
        for step in (0, 13, 35):
            asked = table.iloc[problem.origins["test"][place] + step]
            same = seen[
                (seen["series"] == asked["series"])
                & (seen["time"].dt.day_of_week == asked["time"].day_of_week)
                & (seen["time"].dt.hour == asked["time"].hour)
            ]
            assert answer[place, step] == pytest.approx(same["value"].median())


def test_the_position_in_a_cycle_follows_the_local_clock(problem: Problem) -> None:
    local = pd.to_datetime(problem.store.arrays["time"], unit="s", utc=True)

    hours = problem.position(SEASON)

    assert (hours == local.hour).all()


@pytest.mark.parametrize("complete", [True, False])
def test_nlinear_equals_scikit_learns_ridge_above_the_last_value(problem: Problem, complete: bool) -> None:
    if complete:
        arrays = {key: np.array(value) for key, value in problem.store.arrays.items()}
        for target in (arrays["values"][:, 0], arrays["raw_target"]):
            target[~np.isfinite(target)] = np.nanmean(target)
        problem = replace(problem, store=replace(problem.store, arrays=arrays))
    scaled = problem.scaled_target
    lags, last = {}, {}
    for part in ("train", "validation", "test"):
        rows = problem.origins[part]
        past = scaled[rows[:, None] - LOOKBACK + np.arange(LOOKBACK)]
        last[part] = np.array([one[np.isfinite(one)][-1] for one in past])
        lags[part] = np.nan_to_num(past - last[part][:, None])
    errors, answers = [], []
    for alpha in forecasting_nlinear.ALPHAS:
        error, answer = 0.0, []
        for step in range(HORIZON):
            target = problem.target("train")[:, step] - last["train"]
            there = np.isfinite(target)
            model = Ridge(alpha=alpha).fit(lags["train"][there], target[there])
            held_out = problem.target("validation")[:, step] - last["validation"]
            error += float(np.nansum(np.square(model.predict(lags["validation"]) - held_out)))
            answer.append(model.predict(lags["test"]) + last["test"])
        errors.append(error)
        answers.append(np.stack(answer, axis=1))

    expected = problem.in_raw_units(answers[int(np.argmin(errors))], "test")

    np.testing.assert_allclose(BASELINES["nlinear"](problem, "test"), expected, rtol=1e-4)


@pytest.mark.parametrize("name", [*BASELINES, *VOLATILITY_BASELINES, *QUANTILE_BASELINES])
def test_what_happens_after_the_origin_changes_no_forecast(name: str, problem: Problem) -> None:
    """The test part is rewritten from the origin of the last test window on; that window's forecast stays as it was."""
    last = problem.origins["test"].max()
    arrays = {key: np.array(value) for key, value in problem.store.arrays.items()}
    arrays["raw_target"][last:] += 30
    assert problem.encoding.value_names()[:3] == ["sales", "footfall", "price"]
    arrays["values"][last:, :2] += 5  # the price and the calendar are known ahead
    other = replace(problem, store=replace(problem.store, arrays=arrays))
    place, baseline = (
        int(np.flatnonzero(problem.origins["test"] == last)[0]),
        {**BASELINES, **VOLATILITY_BASELINES, **QUANTILE_BASELINES}[name],
    )

    np.testing.assert_array_equal(baseline(problem, "test")[place], baseline(other, "test")[place])


def test_gradient_boosting_learns(problem: Problem) -> None:
    target = raw(problem)[problem.steps("test")]
    unit = np.ones(len(target))
    names = ("last_value", "seasonal_naive", "ridge", "gradient_boosting")
    mae = {name: forecast_metrics(BASELINES[name](problem, "test"), target, unit)["mae"] for name in names}

    assert mae["gradient_boosting"] < 0.8 * mae["seasonal_naive"] < mae["last_value"]
    assert mae["ridge"] < 0.8 * mae["seasonal_naive"]


@pytest.mark.parametrize("frequency", ["1h", "1D"])
def test_climatology_is_the_mean_of_the_same_hour_in_the_days_around(frequency: str, problem: Problem) -> None:
    """Days of other years count as well, and the year has no end: the last days of December are near the first."""
    hours = frequency == "1h"
    times = pd.date_range("2021-01-01", periods=600 if hours else 1300, freq=frequency, tz="UTC")
    random = np.random.default_rng(5)
    values = random.normal(size=2 * len(times))
    values[random.random(len(values)) < 0.1] = np.nan
    schema = Schema.model_validate(
        {
            "time": {"column": "time", "frequency": frequency.lower()},
            "keys": ["shop"],
            "columns": {"shop": {"type": "text"}, "time": {"type": "time"}, "sales": {"type": "float"}},
        }
    )
    table = pd.DataFrame({"shop": np.repeat(["a", "b"], len(times)), "time": [*times, *times], "sales": values})
    begin = times[400 if hours else 1100]
    train = (table["time"] < begin).to_numpy()
    encoding = Encoding.fit(
        regular_table(table, schema), train, schema=schema, target="sales", past=(), known=(),
        calendar=Calendar(), transforms={},
    )  # fmt: skip
    store = encoding.encode(regular_table(table, schema))
    rows = np.flatnonzero(train)
    inside = rows[(rows % len(times) >= 3) & (rows % len(times) <= (400 if hours else 1100) - 2)]
    asked = np.array([(420 if hours else 1150), len(times) + (450 if hours else 1290)])
    asked_problem = Problem(store, encoding, {"train": inside, "test": asked}, 3, 2, 24, 24)

    answer = BASELINES["climatology"](asked_problem, "test")

    for window, origin in enumerate(asked):
        for step in (0, 1):
            wanted, shop = table["time"][origin + step], table["shop"][origin + step]
            near = []
            for time, same, value in zip(table["time"], table["shop"], values, strict=True):
                apart = abs(time.day_of_year - wanted.day_of_year)
                close = min(apart, 366 - apart) <= baselines.CLIMATOLOGY_DAYS
                if close and time < begin and same == shop and time.hour == wanted.hour and np.isfinite(value):
                    near.append(value)
            assert near
            assert answer[window, step] == pytest.approx(np.mean(near))


def test_climatology_of_a_season_that_training_has_not_seen_is_the_mean_of_the_series(problem: Problem) -> None:
    train = replace(problem, origins={**problem.origins, "train": problem.origins["train"][:1]})

    answer = BASELINES["climatology"](train, "test")

    first = int(problem.origins["train"][0])
    seen = raw(problem)[first - LOOKBACK : first + HORIZON]
    series = problem.series("test")
    assert answer[series == problem.series("train")[0]][-1, -1] == pytest.approx(np.nanmean(seen))


def test_gradient_boosting_follows_a_level_that_training_has_not_seen(problem: Problem) -> None:
    """Trees answer nothing beyond what they were fitted on, but for the mean of the window."""
    arrays = {key: np.array(value) for key, value in problem.store.arrays.items()}
    arrays["values"][:, 0] += np.linspace(0, 40, len(arrays["values"]))  # scaled; the training part ends half-way
    grown = replace(problem, store=replace(problem.store, arrays=arrays))
    scaler = problem.encoding.scalers["sales"]

    answer = scaler.forward(BASELINES["gradient_boosting"](grown, "test"), grown.series("test"))

    error = np.abs(answer - grown.target("test"))
    assert np.nanmean(error) < 2


def test_the_rows_of_trees_are_of_every_step_ahead() -> None:
    """Every twelfth of windows of 24 steps would be of two steps only."""
    places = forecasting_trees._drawn(np.zeros((12 * forecasting_trees.MAX_ROWS // 24, 24)))

    assert len(places) == forecasting_trees.MAX_ROWS
    assert len(np.unique(places)) == len(places)
    assert np.bincount(places % 24).min() > 0.9 * forecasting_trees.MAX_ROWS / 24


def test_trees_see_the_newest_value_at_the_same_hour_and_nothing_after_the_origin(problem: Problem) -> None:
    origin = int(problem.origins["test"][40])
    ahead = np.array([0, 5, 23, 24, 35])
    places = 40 * HORIZON + ahead
    level = np.zeros(len(problem.origins["test"]))

    inputs = forecasting_trees._inputs(problem, "test", places, level)

    same_hour = inputs[:, forecasting_trees.LAGS + 1]
    for step, found in zip(ahead, same_hour, strict=True):
        back = next(row for row in range(origin + step, 0, -SEASON) if row < origin)
        expected = problem.scaled_target[back] if back >= origin - LOOKBACK else np.nan
        np.testing.assert_equal(found, expected)


def test_trees_of_groups_of_series_are_weighed_by_what_they_are_judged_on(problem: Problem) -> None:
    assert [group.tolist() for group in problem.series_by_unit()] == [list(range(problem.store.num_series))]
    alone = [np.array([number]) for number in range(problem.store.num_series)]

    together = forecasting_trees._fit_groups(problem, [np.arange(problem.store.num_series)])
    apart = forecasting_trees._fit_groups(problem, alone)

    assert len(apart.trees) == problem.store.num_series
    errors, counts = [], []
    for group, trees in apart.trees:
        part = problem.of_series(group)
        assert set(part.series("validation").tolist()) == set(group.tolist())
        errors.append(trees.error)
        counts.append(np.isfinite(part.target("validation")).sum())
    assert apart.error == pytest.approx(np.average(errors, weights=counts))
    assert together.error != apart.error
