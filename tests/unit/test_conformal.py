"""Conformal intervals: what the theorem promises, and the quantile by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gateline.conformal import Intervals
from gateline.errors import DataError
from gateline.metrics import interval_metrics, pinball


def test_the_margin_is_the_order_statistic_that_the_theorem_names() -> None:
    """Of 9 errors 1..9 and a coverage of 0.8, the 8th: ceil((9 + 1) * 0.8)."""
    errors = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6])
    intervals = Intervals.calibrate(np.zeros((9, 1, 1)), errors[:, None], levels=(0.5,), coverages=(0.5, 0.8))

    assert intervals.margins[:, 0].tolist() == [5, 8]
    lower, upper = intervals.bounds(np.full((1, 1, 1), 100.0))
    assert lower[0, 0].tolist() == [95, 92]
    assert upper[0, 0].tolist() == [105, 108]


def test_a_coverage_that_the_windows_cannot_promise_is_refused() -> None:
    with pytest.raises(DataError, match="at least 19 validation windows with a target; found 18"):
        Intervals.calibrate(np.zeros((18, 1, 1)), np.ones((18, 1)), levels=(0.5,), coverages=(0.95,))
    Intervals.calibrate(np.zeros((19, 1, 1)), np.ones((19, 1)), levels=(0.5,), coverages=(0.95,))


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.5, 0.9), (0.3, 0.5, 0.95)])
def test_exchangeable_windows_are_covered_as_promised(levels: tuple[float, ...], rng: np.random.Generator) -> None:
    """Whatever the forecasts are worth: here their quantiles are wrong, and the noise differs from step to step."""
    spread = np.array([0.5, 2.0, 8.0])
    forecast = rng.normal(size=(4000, 3, 1)) + np.array(levels) * 3
    target = forecast.mean(axis=2) + rng.standard_t(4, size=(4000, 3)) * spread
    target[rng.random(target.shape) < 0.1] = np.nan
    intervals = Intervals.calibrate(forecast[:2000], target[:2000], levels=levels, coverages=(0.5, 0.8, 0.95))

    lower, upper = intervals.bounds(forecast[2000:])

    for place, coverage in enumerate((0.5, 0.8, 0.95)):
        for step in range(3):
            low, high = lower[:, step, place], upper[:, step, place]
            measured = interval_metrics(low, high, target[2000:, step], coverage)
            assert measured[f"coverage_{100 * coverage:g}"] == pytest.approx(coverage, abs=0.06)
    assert (np.diff(lower, axis=2) <= 0).all()
    assert (np.diff(upper, axis=2) >= 0).all()


def test_quantiles_make_wide_intervals_where_the_future_is_uncertain(rng: np.random.Generator) -> None:
    calm = rng.random(4000) < 0.5
    spread = np.where(calm, 1.0, 10.0)[:, None]
    target = rng.normal(size=(4000, 1)) * spread
    known = np.stack([-1.28 * spread, 0 * spread, 1.28 * spread], axis=2)
    intervals = Intervals.calibrate(known[:2000], target[:2000], levels=(0.1, 0.5, 0.9), coverages=(0.8,))

    lower, upper = intervals.bounds(known[2000:])

    inside = ((lower[:, :, 0] <= target[2000:]) & (target[2000:] <= upper[:, :, 0]))[:, 0]
    assert inside[calm[2000:]].mean() == pytest.approx(0.8, abs=0.06)
    assert inside[~calm[2000:]].mean() == pytest.approx(0.8, abs=0.06)
    assert intervals.pairs == ((0, 2),)


def test_intervals_never_turn_inside_out() -> None:
    """Quantiles far too wide get a margin below zero, larger than some of them are apart."""
    wide = np.tile([-10.0, 0.0, 10.0], (50, 1, 1)).reshape(50, 1, 3)
    intervals = Intervals.calibrate(wide, np.zeros((50, 1)), levels=(0.1, 0.5, 0.9), coverages=(0.8,))

    lower, upper = intervals.bounds(np.array([[[-1.0, 0.0, 2.0]]]))

    assert intervals.margins[0, 0] == -10
    assert lower[0, 0, 0] == upper[0, 0, 0] == 0.5


def test_intervals_are_read_back_exactly(rng: np.random.Generator) -> None:
    forecast, target = np.sort(rng.normal(size=(60, 4, 3)), axis=2), rng.normal(size=(60, 4))
    intervals = Intervals.calibrate(forecast, target, levels=(0.1, 0.5, 0.9), coverages=(0.8, 0.9))
    again = Intervals.from_json(json.loads(json.dumps(intervals.to_json())))

    np.testing.assert_array_equal(again.bounds(forecast), intervals.bounds(forecast))


def test_metrics_of_intervals_and_quantiles_count_only_what_was_observed() -> None:
    target = np.array([[1.0, np.nan, 3.0, 10.0]])
    lower, upper = np.zeros((1, 4)), np.array([[2.0, 2.0, 2.0, 12.0]])

    assert interval_metrics(lower, upper, target, 0.975) == {
        "coverage_97.5": pytest.approx(2 / 3),
        "width_97.5": pytest.approx(16 / 3),
    }
    assert pinball(np.zeros((1, 4, 1)), target, [0.5]) == pytest.approx(14 / 3 / 2)
