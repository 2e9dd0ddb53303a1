"""From a forecast of demand to a decision about stock. Pure numpy; knows no model and no task.

Who keeps too much pays `holding_cost` for each unit that is left over, who keeps too little pays `shortage_cost` for each unit
that is missing. The stock with the smallest expected cost is the quantile of the demand at the *critical ratio*,
shortage / (shortage + holding): the share of times that the stock suffices, which is also called the cycle service level.

An order takes a *lead time* to arrive, so what has to be covered is the demand over it. The *reorder point* is the stock at which
to order: the demand expected over the lead time, and the *safety stock* beside it. Where stock is looked at only every R steps,
what has to be covered is the demand over lead time + R steps: the reorder point of that longer time.

The sum of several steps has no quantile that follows from theirs, since their errors go together. So the safety stock is
calibrated on sums: split conformal prediction, one-sided, for the demand up to each step ahead. W windows, U steps ahead.

Source: Arrow, Harris and Marschak (1951), Optimal Inventory Policy, Econometrica 19(3); Silver, Pyke and Thomas (2017), Inventory
and Production Management in Supply Chains, sections 6.7 (service level) and 9.2 (newsvendor).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from gateline.errors import DataError

STOCK = ("forecast_demand", "safety_stock", "reorder_point")
"""Columns of what is decided on stock."""


def critical_ratio(holding_cost: float, shortage_cost: float) -> float:
    """Say which quantile of the demand is the cheapest stock.

    Args:
        holding_cost: of one unit that is left over, > 0.
        shortage_cost: of one unit that is missing, > 0.

    Source: Arrow, Harris and Marschak (1951); Silver, Pyke and Thomas (2017), equation 9.2.
    """
    return shortage_cost / (shortage_cost + holding_cost)


def newsvendor_cost(stock: np.ndarray, demand: np.ndarray, *, holding_cost: float, shortage_cost: float) -> np.ndarray:
    """Count what a stock cost once the demand was known, element by element; NaN where the demand is not known."""
    left = np.asarray(stock) - np.asarray(demand)
    return np.where(left >= 0, holding_cost * left, -shortage_cost * left)


def normal_safety_stock(deviation: float | np.ndarray, service_level: float) -> float | np.ndarray:
    """Say how much to keep in reserve if errors of the lead time's demand are normal: z times their deviation.

    Source: Silver, Pyke and Thomas (2017), equation 6.10.
    """
    return NormalDist().inv_cdf(service_level) * deviation


def up_to_each_step(values: np.ndarray) -> np.ndarray:
    """Sum a demand (W, U) up to each step ahead: (W, U); NaN from the first step on that is not known."""
    return np.cumsum(values, axis=1)


@dataclass(frozen=True)
class SafetyStock:
    """How much to keep in reserve for the demand up to each step ahead.

    Args:
        service_level: share of times that the stock is to suffice.
        margins: float64 (U,), in units of the uncertainty of a window, see `calibrate`.
    """

    service_level: float
    margins: np.ndarray

    @classmethod
    def calibrate(
        cls, forecast: np.ndarray, uncertainty: np.ndarray, demand: np.ndarray, service_level: float
    ) -> SafetyStock:
        """Find the margins.

        Args:
            forecast: (W, U) demand expected at each step.
            uncertainty: (W, U) > 0, how unsure each step is, in the same unit: a window that is twice as unsure keeps twice
                as much in reserve.
            demand: (W, U) what was asked for, NaN where not known.
            service_level: share of times that the stock is to suffice.

        Raises:
            DataError: too few windows to promise the service level.

        Source: Lei et al. (2018), arXiv 1604.04173, algorithm 2, with one-sided scores; divided by the uncertainty as in
            its section 5.2.
        """
        error = up_to_each_step(demand) - up_to_each_step(forecast)
        scores = error / up_to_each_step(uncertainty)
        require_enough(np.isfinite(scores).sum(axis=0), service_level)
        margins = np.empty(scores.shape[1])
        for step in range(scores.shape[1]):
            known = scores[np.isfinite(scores[:, step]), step]
            rank = _rank(service_level, len(known))
            margins[step] = np.partition(known, rank - 1)[rank - 1]
        return cls(service_level, margins)

    def decide(self, forecast: np.ndarray, uncertainty: np.ndarray) -> dict[str, np.ndarray]:
        """Say what follows from forecasts, see `calibrate` for the arguments.

        Returns:
            `STOCK`, (W, U) each, for a lead time that ends with that step. A reorder point is never below 0; a safety stock is,
            where forecasts tend to be too high.
        """
        expected = up_to_each_step(forecast)
        reserve = up_to_each_step(uncertainty) * self.margins
        reorder = np.maximum(expected + reserve, 0.0)
        return dict(zip(STOCK, (expected, reorder - expected, reorder), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {"service_level": self.service_level, "margins": self.margins.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SafetyStock:
        """Read what `to_json` wrote."""
        return cls(float(value["service_level"]), np.array(value["margins"], dtype=np.float64))


def require_enough(known: Iterable[int], service_level: float) -> None:
    """Refuse a service level that so few windows cannot promise; this needs no forecast.

    Args:
        known: for each step ahead, in how many windows all of the demand up to it is known.
        service_level: share of times that the stock is to suffice.

    Raises:
        DataError: too few windows.
    """
    for step, count in enumerate(known, start=1):
        if _rank(service_level, count) > count:
            raise DataError(
                f"model.inventory, the demand up to step {step} ahead",
                expected=f"at least {math.ceil(service_level / (1 - service_level) - 1e-9)} validation windows "
                "in which all of it is known",
                found=f"{count}, for a service level of {service_level:g}",
                do="Lengthen the validation part, or ask for a smaller service level",
            )


def _rank(service_level: float, count: int) -> int:
    """Which of so many errors, in rising order, is the margin."""
    return math.ceil((count + 1) * service_level - 1e-9)  # less rounding, as in `gateline.conformal`


def policy_metrics(
    stock: np.ndarray, demand: np.ndarray, *, holding_cost: float, shortage_cost: float
) -> dict[str, float]:
    """Measure a policy: what it would have cost, and how often and how much of the demand it would have served.

    Args:
        stock: (W,) that stood ready.
        demand: (W,) that came, NaN where not known.
        holding_cost: of one unit that is left over.
        shortage_cost: of one unit that is missing.

    Returns:
        newsvendor_cost (mean), service_level (share of times that the stock sufficed), fill_rate (share of the demand that
        was served); NaN if no demand is known.
    """
    sums = policy_sums(stock, demand, holding_cost=holding_cost, shortage_cost=shortage_cost)
    return {
        name: float(total.sum() / count.sum()) if count.sum() > 0 else float("nan")
        for name, (total, count) in sums.items()
    }


def policy_sums(
    stock: np.ndarray, demand: np.ndarray, *, holding_cost: float, shortage_cost: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What each decision adds to the metrics of `policy_metrics`, and what it is divided by: (W,) each, 0 where no demand is known."""
    known = np.isfinite(demand)
    came = np.where(known, demand, 0.0)
    cost = newsvendor_cost(stock, came, holding_cost=holding_cost, shortage_cost=shortage_cost)
    sums = {
        "newsvendor_cost": (cost, known),
        "service_level": (came <= stock, known),
        "fill_rate": (np.minimum(stock, came), came),
    }
    return {name: (np.where(known, total, 0.0), np.asarray(count, np.float64)) for name, (total, count) in sums.items()}
