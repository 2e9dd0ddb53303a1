"""Errors of forecasts by window: they add up to the metrics, and the worst of them do not overlap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gateline.intervals import positions_of
from gateline.metrics import forecast_metrics, interval_metrics, pinball
from gateline.predictors.forecasting import WindowForecasts
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


def test_windows_of_one_time_are_resampled_together_unless_there_are_too_few_times() -> None:
    series = np.repeat(np.arange(30), 10)
    position, dependence = positions_of(np.tile(np.arange(10), 30), series, horizon=1)
    assert (position.tolist(), dependence) == (np.tile(np.arange(10), 30).tolist(), 1)
    position, dependence = positions_of(np.tile(np.arange(10), 30), series, horizon=12)
    assert (position.tolist(), dependence) == (series.tolist(), 1)
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
