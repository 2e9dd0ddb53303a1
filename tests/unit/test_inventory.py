"""Stock follows from demand as the closed forms of the newsvendor say, and a calibrated reserve serves what it promises."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from gateline.errors import DataError
from gateline.inventory import (
    SafetyStock,
    critical_ratio,
    newsvendor_cost,
    normal_safety_stock,
    policy_metrics,
    up_to_each_step,
)


def test_a_unit_that_is_missing_and_costs_nine_times_as_much_is_worth_a_service_level_of_ninety_percent() -> None:
    assert critical_ratio(holding_cost=1.0, shortage_cost=9.0) == pytest.approx(0.9)
    assert critical_ratio(holding_cost=2.0, shortage_cost=2.0) == 0.5


def test_the_cheapest_stock_for_a_known_demand_is_its_quantile_at_the_critical_ratio() -> None:
    demand = np.arange(1.0, 101.0)  # each as likely as the other
    stocks = np.arange(0.0, 120.0)
    cost = newsvendor_cost(stocks[:, None], demand[None], holding_cost=1.0, shortage_cost=3.0).mean(axis=1)
    assert stocks[cost.argmin()] == 75.0


def test_normal_demand_costs_what_its_closed_form_says(rng: np.random.Generator) -> None:
    """At the optimum the expected cost is (holding + shortage) * deviation * density(z)."""
    holding, shortage, mean, deviation = 1.0, 4.0, 200.0, 30.0
    ratio = critical_ratio(holding, shortage)
    stock = mean + normal_safety_stock(deviation, ratio)
    demand = rng.normal(mean, deviation, 400_000)
    cost = newsvendor_cost(np.full(demand.shape, stock), demand, holding_cost=holding, shortage_cost=shortage)
    z = NormalDist().inv_cdf(ratio)
    closed_form = (holding + shortage) * deviation * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert cost.mean() == pytest.approx(closed_form, rel=0.01)
    measured = policy_metrics(np.full(demand.shape, stock), demand, holding_cost=holding, shortage_cost=shortage)
    assert measured["newsvendor_cost"] == pytest.approx(cost.mean())
    assert measured["service_level"] == pytest.approx(ratio, abs=0.005)


def test_the_calibrated_reserve_of_normal_errors_is_z_times_the_deviation_of_their_sum(
    rng: np.random.Generator,
) -> None:
    """Errors of one step are independent here, so that of k steps together has a deviation of sqrt(k)."""
    windows, steps, level = 60_000, 9, 0.9
    forecast = np.full((windows, steps), 10.0)
    demand = forecast + rng.normal(0, 1, (windows, steps))
    unit = np.ones_like(forecast)
    stock = SafetyStock.calibrate(forecast, unit, demand, level).decide(forecast[:1], unit[:1])
    expected = normal_safety_stock(np.sqrt(np.arange(1, steps + 1)), level)
    np.testing.assert_allclose(stock["safety_stock"][0], expected, rtol=0.03)
    np.testing.assert_allclose(stock["forecast_demand"][0], 10.0 * np.arange(1, steps + 1))
    np.testing.assert_allclose(stock["reorder_point"], stock["forecast_demand"] + stock["safety_stock"])


def test_errors_that_go_together_need_more_in_reserve_than_independent_ones(rng: np.random.Generator) -> None:
    shock = rng.normal(0, 1, (20_000, 1))
    forecast, unit = np.full((20_000, 4), 50.0), np.ones((20_000, 4))
    together = SafetyStock.calibrate(forecast, unit, forecast + shock, 0.9).margins * np.arange(1, 5)
    np.testing.assert_allclose(together, normal_safety_stock(np.arange(1.0, 5.0), 0.9), rtol=0.05)


def test_new_windows_are_served_as_often_as_promised_and_unsure_ones_keep_more(rng: np.random.Generator) -> None:
    unsure = rng.uniform(1, 5, (8_000, 1)) * np.ones((1, 3))
    forecast = np.full(unsure.shape, 40.0)
    demand = forecast + unsure * rng.normal(0, 1, unsure.shape)
    reserve = SafetyStock.calibrate(forecast[:4_000], unsure[:4_000], demand[:4_000], 0.8)
    stock = reserve.decide(forecast[4_000:], unsure[4_000:])
    served = (up_to_each_step(demand[4_000:]) <= stock["reorder_point"]).mean(axis=0)
    np.testing.assert_allclose(served, 0.8, atol=0.03)
    ratio = stock["safety_stock"][:, 2] / unsure[4_000:, 0]
    np.testing.assert_allclose(ratio, ratio[0])


def test_a_window_whose_demand_is_not_known_to_the_end_counts_up_to_where_it_is() -> None:
    demand = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(up_to_each_step(demand), [[1.0, np.nan, np.nan], [2.0, 4.0, 6.0]])
    measured = policy_metrics(np.array([5.0, 5.0]), up_to_each_step(demand)[:, 2], holding_cost=1.0, shortage_cost=9.0)
    assert measured == {"newsvendor_cost": 9.0, "service_level": 0.0, "fill_rate": pytest.approx(5 / 6)}


def test_an_order_below_zero_is_never_advised() -> None:
    reserve = SafetyStock(0.5, np.array([-3.0]))
    stock = reserve.decide(np.array([[2.0]]), np.array([[1.0]]))
    assert stock["reorder_point"][0, 0] == 0.0
    assert stock["safety_stock"][0, 0] == -2.0


def test_too_few_windows_for_a_service_level_are_refused() -> None:
    few = np.ones((9, 2))
    assert len(SafetyStock.calibrate(few, few, few, 0.9).margins) == 2
    with pytest.raises(DataError, match="at least 19 validation windows"):
        SafetyStock.calibrate(few, few, few, 0.95)


def test_a_reserve_reads_back_exactly() -> None:
    reserve = SafetyStock(0.9, np.array([0.1, 1 / 3]))
    again = SafetyStock.from_json(reserve.to_json())
    assert again.service_level == 0.9
    np.testing.assert_array_equal(again.margins, reserve.margins)
