"""Errors of forecasts by window: they add up to the metrics, and the worst of them do not overlap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gateline.intervals import positions_of
from gateline.inventory import policy_sums
from gateline.metrics import forecast_metrics, interval_metrics, pinball
from gateline.predictors.forecasting import WindowForecasts
from gateline.scoring.competition import competition_sums, owa_interval
from gateline.scoring.window_errors import window_errors, worst_windows

WINDOWS, STEPS = 40, 5


def test_window_errors_add_up_to_the_metrics(rng: np.random.Generator) -> None:
    target = rng.normal(10, 3, size=(WINDOWS, STEPS))
    target[rng.random(target.shape) < 0.2] = np.nan
    point, deviation = rng.normal(10, 3, size=target.shape), rng.uniform(1, 3, size=WINDOWS)
    quantiles = {level: point + shift for level, shift in ((0.1, -2.0), (0.5, 0.0), (0.9, 2.0))}
    intervals = {0.8: (point - 2, point + 2)}
    metrics = {
        **forecast_metrics(point, target, deviation),
        **interval_metrics(*intervals[0.8], target, 0.8),
        "pinball": pinball(np.stack(list(quantiles.values()), axis=2), target, list(quantiles)),
    }

    errors = window_errors(
        WindowForecasts(point, quantiles, intervals), target, deviation, np.arange(WINDOWS), set(metrics)
    )

    assert {each.metric for each in errors} == set(metrics) - {"median_ae"}
    for each in errors:
        assert each.score() == pytest.approx(metrics[each.metric], rel=1e-9), each.metric


def test_only_metrics_that_were_measured_are_written() -> None:
    forecasts = WindowForecasts(np.zeros((2, 3)), {}, {})
    errors = window_errors(forecasts, np.ones((2, 3)), np.ones(2), np.arange(2), ["mae", "smape"])
    assert [each.metric for each in errors] == ["mae"]


def test_windows_of_one_time_are_resampled_together_and_series_only_where_each_has_one() -> None:
    times, series = np.tile(np.arange(10), 30), np.repeat(np.arange(30), 10)
    position, dependence = positions_of(times, series, horizon=1)
    assert (position.tolist(), dependence) == (times.tolist(), 2)
    position, dependence = positions_of(times, series, horizon=12)
    assert (position.tolist(), dependence) == (times.tolist(), 12), (
        "few times are no reason to forget what series share"
    )
    position, dependence = positions_of(np.repeat([5, 7], 15), np.arange(30), horizon=12)
    assert (position.tolist(), dependence) == (list(range(30)), 1)
    _, dependence = positions_of(np.arange(300), np.zeros(300), horizon=12)
    assert dependence == 12


def test_the_worst_windows_are_the_worst_and_none_overlaps_a_worse_one(rng: np.random.Generator) -> None:
    hours, rows = pd.date_range("2024-01-01", periods=60, freq="h", tz="UTC"), []
    for shop in ("east", "west"):
        for begin in range(60 - STEPS):
            error = rng.uniform(0, 1) + (9 if begin in (20, 21) else 0)
            rows += [(shop, hours[begin], hours[begin + step], 10.0, 10.0 + error) for step in range(STEPS)]
    table = pd.DataFrame(rows, columns=["shop", "origin", "time", "target", "forecast"])

    worst = worst_windows(table, ["shop"], "pieces")

    errors = worst["mean error [pieces]"]
    assert errors.is_monotonic_decreasing
    assert (errors > 9).sum() == 2, "one of each shop, not the neighbour that shares four of its five hours"
    for _, of_shop in worst.groupby("shop"):
        begins = of_shop["from (UTC)"].sort_values()
        assert (begins.diff().dropna() >= pd.Timedelta(hours=STEPS)).all()
    assert len(worst_windows(table.assign(target=np.nan), ["shop"], "")) == 0


def test_a_forecast_that_is_no_number_is_not_forgiven() -> None:
    quantiles, target = np.ones((4, 3, 2)), np.full((4, 3), 2.0)
    target[0, 0] = quantiles[0, 0, 0] = np.nan
    assert pinball(quantiles, target, [0.1, 0.5]) == pytest.approx(0.3), "not where nothing was observed"
    quantiles[1, 1, 0] = np.nan
    assert np.isnan(pinball(quantiles, target, [0.1, 0.5]))
    assert np.isnan(pinball(quantiles, np.full((4, 3), np.nan), [0.1, 0.5]))


def test_sums_of_competition_metrics_and_decisions_are_the_metrics(rng: np.random.Generator) -> None:
    target, forecast, scale = rng.uniform(1, 9, (40, 6)), rng.uniform(1, 9, (40, 6)), rng.uniform(1, 3, 40)
    target[rng.uniform(size=target.shape) < 0.3] = np.nan
    target[:2] = np.nan
    seen = np.isfinite(target)
    mase = [np.abs(f - t)[s].mean() / q for f, t, s, q in zip(forecast, target, seen, scale, strict=True) if s.any()]
    expected = {
        "smape": (200 * np.abs(forecast - target) / (forecast + target))[seen].mean(),
        "mase": np.mean(mase),
    }
    stock, demand = forecast[:, 0], target[:, 0]
    came, stood = demand[np.isfinite(demand)], stock[np.isfinite(demand)]
    decided = {
        "newsvendor_cost": np.mean([2 * max(s - d, 0) + 7 * max(d - s, 0) for s, d in zip(stood, came, strict=True)]),
        "service_level": np.mean(came <= stood),
        "fill_rate": np.minimum(came, stood).sum() / came.sum(),
    }

    sums = competition_sums(["smape", "mase"], forecast, target, scale)
    sums |= policy_sums(stock, demand, holding_cost=2, shortage_cost=7)

    assert sums.keys() == {*expected, *decided}
    for name, value in {**expected, **decided}.items():
        total, count = sums[name]
        assert total.sum() / count.sum() == pytest.approx(value), name


def test_naive_2_beside_itself_is_surely_as_good_as_itself(rng: np.random.Generator) -> None:
    target, scale = rng.uniform(1, 9, (60, 6)), rng.uniform(1, 3, 60)
    naive2, better = (competition_sums(["smape", "mase"], target + shift, target, scale) for shift in (2.0, 1.0))

    assert owa_interval(naive2, naive2, np.arange(60), 1) == {"owa": (1.0, 1.0)}
    low, high = owa_interval(better, naive2, np.arange(60), 1)["owa"]
    expected = np.mean([better[n][0].sum() / naive2[n][0].sum() for n in ("smape", "mase")])
    assert low <= expected <= high
    assert high - low < 0.1, "what is hard for both cancels"
