"""Baselines that forecast quantiles: of the training part as they are, or stretched by how much moves now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gateline.baselines.volatility import ewma

if TYPE_CHECKING:
    from gateline.baselines.forecasting_problem import Problem


def historical_quantiles(problem: Problem, part: str) -> np.ndarray:
    """The quantiles of each series' target over the training part, whatever has happened since ("historical simulation")."""
    series, past = problem.series_of_rows(), problem.training_rows()
    raw = np.asarray(problem.store.arrays["raw_target"])
    of_series = {
        number: np.nanquantile(raw[past & (series == number)], problem.levels)
        for number in np.unique(problem.series(part)).tolist()
    }
    found = np.stack([of_series[number] for number in problem.series(part).tolist()])  # (W, Q)
    return np.repeat(found[:, None], problem.horizon, axis=1)


def ewma_quantiles(problem: Problem, part: str) -> np.ndarray:
    """The quantiles of what training windows' targets were in units of the volatility before them, times that of now.

    Source: filtered historical simulation, Hull and White (1998), Incorporating Volatility Updating into the Historical
        Simulation Method for Value-at-Risk, Journal of Risk 1(1), with an exponentially weighted volatility.
    """
    raw = np.asarray(problem.store.arrays["raw_target"])[problem.steps("train")]
    standardised = raw / ewma(problem, "train")
    shape = np.stack(
        [np.nanquantile(standardised[:, step], problem.levels) for step in range(problem.horizon)]
    )  # (U, Q)
    return ewma(problem, part)[:, :, None] * shape
