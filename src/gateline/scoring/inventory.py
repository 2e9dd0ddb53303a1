"""What a model's decisions on stock would have cost on the test part, beside a textbook policy, and the picture of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gateline.baselines.forecasting import BASELINES
from gateline.baselines.forecasting_problem import Problem
from gateline.inventory import normal_safety_stock, policy_metrics, policy_sums, up_to_each_step
from gateline.predictors.forecasting import Forecaster, WindowForecasts
from gateline.scoring import INK, MODEL, SOFT
from gateline.scoring.window_errors import WindowSums
from gateline.tasks.forecasting import Inventory

BAD = "#b3261e"
SHOWN_DECISIONS = 60


@dataclass(frozen=True)
class Policy:
    """What is measured.

    Args:
        steps: that the stock has to last for: lead time and review period.
        holding_cost: of one unit that is left over.
        shortage_cost: of one unit that is missing.
        service_level: share of times that the stock is to suffice.
    """

    steps: int
    holding_cost: float
    shortage_cost: float
    service_level: float

    def measure(self, stock: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Measure a stock (W,) by what was asked for (W, U)."""
        demand = up_to_each_step(target)[:, self.steps - 1]
        return policy_metrics(stock, demand, holding_cost=self.holding_cost, shortage_cost=self.shortage_cost)

    def sums(self, stock: np.ndarray, target: np.ndarray) -> dict[str, WindowSums]:
        """What each window adds to what `measure` gives."""
        demand = up_to_each_step(target)[:, self.steps - 1]
        return policy_sums(stock, demand, holding_cost=self.holding_cost, shortage_cost=self.shortage_cost)


def policy_of(forecaster: Forecaster, settings: Inventory) -> Policy | None:
    """Take the policy of a model; None where it does not decide on stock."""
    inventory = forecaster.settings.inventory
    if inventory is None:
        return None
    return Policy(settings.steps(forecaster.horizon), *inventory.costs, inventory.level)


def textbook_stock(
    policy: Policy, problem: Problem, guess: np.ndarray, forecast: Callable[[Problem, str], np.ndarray]
) -> np.ndarray:
    """Decide as a textbook does: a baseline's forecast of the lead time, and z deviations of its errors in reserve.

    Args:
        policy: steps and service level.
        problem: the windows.
        guess: (W, U) what the baseline says of the test part.
        forecast: the baseline; its errors on the validation part have the deviation.

    Returns:
        float64 (W,).

    The deviation is the root mean square of the errors, so that what a forecast is wrong by on average counts, too.

    Source: Silver, Pyke and Thomas (2017), equation 6.10, with one deviation for each series.
    """
    target = np.asarray(problem.store.arrays["raw_target"])[problem.steps("validation")]
    last = policy.steps - 1
    error = (up_to_each_step(target) - up_to_each_step(forecast(problem, "validation")))[:, last]
    of_window, asked = problem.series("validation"), problem.series("test")
    deviation = {number: _root_mean_square(error[of_window == number]) for number in np.unique(of_window).tolist()}
    spread = np.array([deviation.get(number, _root_mean_square(error)) for number in asked.tolist()])
    return up_to_each_step(guess)[:, last] + normal_safety_stock(spread, policy.service_level)


def _root_mean_square(error: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(error))))


def stocks(
    policy: Policy,
    settings: Inventory,
    problem: Problem,
    forecasts: WindowForecasts,
    guesses: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Decide on the stock (W,) of each window: by the model, under "model", and by the textbook on some baselines, by name."""
    beside = [name for name in settings.beside if name in guesses]
    return {"model": forecasts.stock["reorder_point"][:, policy.steps - 1]} | {
        name: textbook_stock(policy, problem, guesses[name], BASELINES[name]) for name in beside
    }


def draw_stock(plt: Any, predictions: pd.DataFrame, details: Mapping[str, Any]) -> tuple[Any, str]:
    """Draw what was decided and what was asked for, lead time after lead time, and what each policy would have cost."""
    policy, policies = details["policy"], details["policies"]
    steps = policy["steps"]
    keys = list(predictions.columns[: predictions.columns.get_loc("origin")])
    windows = predictions.groupby([*keys, "origin"], sort=True, observed=True)
    demand = windows["target"].apply(lambda values: values.iloc[:steps].sum(skipna=False))
    at_end = predictions[predictions["step"] == steps].set_index([*keys, "origin"])
    table = at_end[["forecast_demand", "reorder_point"]].assign(demand=demand).reset_index()
    if keys:  # one series says it
        first = table[keys].iloc[0]
        table = table[(table[keys] == first).all(axis=1)]
    table = table.sort_values("origin").iloc[::steps].tail(SHOWN_DECISIONS)
    figure, (axis, bars) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(3, 1))
    short = table["demand"] > table["reorder_point"]
    axis.step(table["origin"], table["reorder_point"], where="mid", color=MODEL, label="reorder point")
    axis.plot(table["origin"], table["forecast_demand"], color=SOFT, linestyle=":", label="forecast")
    axis.plot(table["origin"], table["demand"], ".", color=INK, label="demand")
    axis.plot(table["origin"][short], table["demand"][short], "x", color=BAD, label="short")
    axis.set_ylabel(f"demand of {steps} steps [{details['unit'] or '-'}]")
    axis.legend(loc="lower left", ncols=4, fontsize=8)
    axis.tick_params(axis="x", rotation=30)
    names = list(policies)
    costs = [policies[name]["newsvendor_cost"] for name in names]
    bars.barh(names, costs, color=[MODEL if name == "model" else SOFT for name in names])
    bars.invert_yaxis()
    bars.set_yticks(range(len(names)), [name.replace("_", "\n") for name in names])
    bars.set_xlabel("mean cost")
    figure.tight_layout()
    served = ", ".join(f"{name.replace('_', ' ')} {values['service_level']:.1%}" for name, values in policies.items())
    return figure, (
        f"Left, the last {len(table)} decisions one lead time apart: the stock that stands ready for the next {steps} steps, and what "
        f"was asked for. Right, the mean cost of one decision at {policy['holding_cost']:g} for a unit left over and "
        f"{policy['shortage_cost']:g} for a unit missing; beside the model the textbook's reserve (z deviations) on a baseline. "
        f"The stock was to suffice in {policy['service_level']:.1%} of decisions and did in: {served}."
    )
