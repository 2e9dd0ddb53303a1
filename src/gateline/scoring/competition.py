"""Metrics of the M competitions beside the others, and the picture of a test part that is one window for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gateline.baselines.forecasting_problem import Problem
from gateline.data.series_encoding import Encoding
from gateline.errors import DataError, examples
from gateline.intervals import Interval, bootstrap_intervals
from gateline.metrics import mase, mase_by_window, owa, smape, smape_by_step
from gateline.scoring import INK, MODEL, SOFT
from gateline.scoring.window_errors import WindowSums

OWA = "owa"
SHOWN_FANS = 9
SHOWN_PAST = 3
"""Times the horizon of past that is drawn before a forecast."""


def seasonal_scale(problem: Problem, part: str) -> np.ndarray:
    """Mean absolute error of the seasonal naive forecast within what a series had before the part: (W,), of each window's series.

    Source: Hyndman and Koehler (2006), with the season of `evaluation.season`; the denominator of MASE.
    """
    raw, offsets, season = np.asarray(problem.store.arrays["raw_target"]), problem.store.offsets, problem.season
    place = problem.store.series_of(problem.origins[part])
    scale = np.empty(len(place))
    for number in np.unique(place).tolist():
        history = raw[offsets[number] : problem.origins[part][place == number].min()]
        scale[place == number] = np.nanmean(np.abs(history[season:] - history[:-season]))
    return scale


def require_scale(scale: np.ndarray, series: np.ndarray) -> None:
    """Refuse series whose errors MASE cannot scale.

    Args:
        scale: (W,), see `seasonal_scale`.
        series: (W,), name of each window's series.

    Raises:
        DataError: the history of a series is shorter than a season, or repeats itself from season to season.
    """
    without = sorted(set(series[~(scale > 0)].tolist()))
    if without:
        raise DataError(
            "evaluation.metrics: mase",
            expected="a history in every series that is longer than `season` and changes from season to season, to divide by",
            found=f"none in {examples(without)}",
            do="Leave these series out in the query, or `mase` and `owa` out of evaluation.metrics and the gates",
        )


def add_competition_metrics(
    names: Sequence[str],
    metrics: dict[str, float],
    baselines: Mapping[str, dict[str, float]],
    forecasts: Mapping[str, np.ndarray],
    target: np.ndarray,
    scale: np.ndarray,
) -> None:
    """Add what `evaluation.metrics` names to the metrics of the model and of each baseline.

    Args:
        names: smape, mase, owa.
        metrics: of the model.
        baselines: metrics of each baseline.
        forecasts: (W, U) in raw units, of the model under the name "" and of each baseline under its own.
        target: (W, U) in raw units, NaN where not observed.
        scale: see `seasonal_scale`.
    """
    measured = {"": metrics, **baselines}
    for name, forecast in forecasts.items():
        if "smape" in names:
            measured[name]["smape"] = smape(forecast, target)
        if "mase" in names:
            measured[name]["mase"] = mase(forecast, target, scale)
    if "owa" in names:
        for of_one in measured.values():
            of_one["owa"] = owa(of_one, baselines["naive2"])


def competition_sums(
    names: Sequence[str], forecast: np.ndarray, target: np.ndarray, scale: np.ndarray
) -> dict[str, WindowSums]:
    """What each window adds to those metrics that are means: sMAPE over steps, MASE over windows."""
    observed = np.isfinite(target)
    there = observed.any(axis=1)
    sums = {
        "smape": (
            np.where(observed, smape_by_step(forecast, target), 0.0).sum(axis=1),
            observed.sum(axis=1).astype(np.float64),
        ),
        "mase": (np.where(there, mase_by_window(forecast, target, scale), 0.0), there.astype(np.float64)),
    }
    return {name: each for name, each in sums.items() if name in names}


def owa_interval(
    model: Mapping[str, WindowSums], naive2: Mapping[str, WindowSums], position: np.ndarray, dependence: int
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of OWA, which is no ratio of sums but made of four; model and Naive 2 are drawn alike."""

    def measure(rows: np.ndarray) -> dict[str, float]:
        mine, theirs = (
            {name: float(total[rows].sum() / count[rows].sum()) for name, (total, count) in sums.items()}
            for sums in (model, naive2)
        )
        return {OWA: owa(mine, theirs)}

    return bootstrap_intervals(measure, position, dependence=dependence)


def one_window_each(predictions: pd.DataFrame, encoding: Encoding) -> bool:
    """Say whether every series is forecast once, as in a competition."""
    once = predictions.drop_duplicates(["origin", *encoding.schema.keys])
    return bool(encoding.schema.keys) and not once.duplicated(encoding.schema.keys).any()


def draw_fans(plt: Any, predictions: pd.DataFrame, past: pd.DataFrame, encoding: Encoding) -> tuple[Any, str]:
    """Draw whole forecasts beside what happened, of series from the best forecast to the worst.

    Args:
        plt: pyplot.
        predictions: one window for each series.
        past: the table in raw units.
        encoding: keys, time and target.
    """
    keys, time = encoding.schema.keys, encoding.schema.grid.column
    table = predictions.assign(name=_names(predictions, keys))
    relative = (table["forecast"] - table["target"]).abs().groupby(table["name"]).mean()
    relative /= table["target"].abs().groupby(table["name"]).mean()
    ranked = relative.dropna().sort_values().index
    shown = ranked[np.linspace(0, len(ranked) - 1, min(SHOWN_FANS, len(ranked))).round().astype(int)]
    past = past.assign(name=_names(past, keys))
    figure, axes = plt.subplots(-(-len(shown) // 3), 3, figsize=(11, 2.3 * -(-len(shown) // 3)), squeeze=False)
    for axis, name in zip(axes.flat, shown, strict=False):
        rows = table[table["name"] == name].sort_values("step")
        before = past[(past["name"] == name) & (past[time] < rows["origin"].iloc[0])].tail(SHOWN_PAST * len(rows))
        axis.plot(range(1 - len(before), 1), before[encoding.target], color=SOFT, linewidth=0.9)
        axis.plot(rows["step"], rows["target"], color=INK, linewidth=1.1, label="observed")
        axis.plot(rows["step"], rows["forecast"], color=MODEL, linewidth=1.6, label="forecast")
        axis.set_title(f"{name}  ({100 * relative[name]:.1f} % off)", fontsize=9)
        axis.tick_params(labelsize=8)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    axes[0, 0].legend(loc="upper left", fontsize=8)
    figure.supxlabel("steps from the cut", fontsize=9)
    figure.tight_layout()
    return figure, (
        f"{len(shown)} of {len(ranked)} series, evenly from the one that was forecast best to the worst: mean absolute error as a "
        "share of the mean. Grey is the past."
    )


def draw_error_by_series(plt: Any, predictions: pd.DataFrame, encoding: Encoding) -> tuple[Any, str]:
    """Draw the error of every series beside the baselines', each sorted."""
    names = _names(predictions, encoding.schema.keys)
    size = predictions["target"].abs().groupby(names).mean()
    figure, axis = plt.subplots(figsize=(8, 3.8))
    guesses = ["forecast", *(name for name in predictions.columns if name.startswith("baseline_"))]
    for guess in guesses:
        share = 100 * (predictions[guess] - predictions["target"]).abs().groupby(names).mean() / size
        style = (
            {"color": MODEL, "linewidth": 2.4, "zorder": 3} if guess == "forecast" else {"linewidth": 1.1, "alpha": 0.8}
        )
        label = "model" if guess == "forecast" else guess.removeprefix("baseline_").replace("_", " ")
        axis.plot(np.linspace(0, 100, len(share)), np.sort(share), label=label, **style)
    axis.set_yscale("log")
    axis.set_xlabel("share of the series [%]")
    axis.set_ylabel("mean absolute error / mean [%]")
    axis.legend(loc="upper left", ncols=2)
    return figure, "Errors of single series, each method's from its best to its worst: the middle is its median series."


def _names(table: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    names = table[keys[0]].astype("str")
    for key in keys[1:]:
        names = names.str.cat(table[key].astype("str"), sep="/")
    return names
