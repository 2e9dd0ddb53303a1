"""Draw what the gates of the cell do while it reads a few chosen test windows. W windows, T past steps, H hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gateline.data.store import SERIES, SequenceStore
from gateline.predictors.forecasting import Forecaster
from gateline.scoring import INK, MODEL, SOFT

CHOSEN = ("smallest error", "median error", "largest error")
KEEPING = ("forget_gate", "update_gate")  # the gate that keeps the state, by the names of LSTMs and of GRUs
AHEAD = 1 / 3  # of the past: how much of the forecast is shown beside it


@dataclass(frozen=True)
class Inside:
    """Chosen windows, and what the last layer's forward cell did while it read them.

    Args:
        titles: what each window is.
        past: float64 (W, T), the target before the forecast begins, in raw units.
        target: float64 (W, U), what happened.
        forecast: float64 (W, U).
        traced: gates and cell state by name, each (W, steps, H).
        bidirectional: whether another cell read the windows from the end, which is not drawn.
        attention: (W, U, T), how much each past step counted for each that was forecast; None without attention.
    """

    titles: list[str]
    past: np.ndarray
    target: np.ndarray
    forecast: np.ndarray
    traced: dict[str, np.ndarray]
    bidirectional: bool = False
    attention: np.ndarray | None = None


def look_inside(forecaster: Forecaster, store: SequenceStore, origins: np.ndarray, predictions: pd.DataFrame) -> Inside:
    """Choose the test windows with the smallest, the median and the largest error, and trace the cell on them.

    Args:
        forecaster: the model.
        store: the prepared arrays.
        origins: int64 (W,), rows of the first steps of the test windows.
        predictions: one row per window and step, with `target` and `forecast`.
    """
    shape = (len(origins), forecaster.horizon)
    target, forecast = (predictions[name].to_numpy(dtype=float).reshape(shape) for name in ("target", "forecast"))
    errors = np.abs(forecast - target)
    chosen = choose_windows(errors)
    rows = origins[chosen]
    traced = forecaster.trace(store, rows)
    names = np.array(forecaster.encoding.series, dtype=object)[store.static(SERIES, rows)]
    times = pd.to_datetime(np.asarray(store.arrays["time"])[rows], unit="s", utc=True)
    local = times.tz_convert(forecaster.encoding.calendar.timezone)
    return Inside(
        titles=[
            f"{how}, {np.nanmean(error):.3g} on average\n{name + ', ' if name else ''}from {moment:%d %b %Y %H:%M}"
            for how, error, name, moment in zip(CHOSEN, errors[chosen], names, local, strict=True)
        ],
        past=np.asarray(store.arrays["raw_target"])[rows[:, None] + np.arange(-forecaster.lookback, 0)],
        target=target[chosen],
        forecast=forecast[chosen],
        traced={name: part for name, part in traced.items() if name.endswith("_gate") or name == "cell_state"},
        bidirectional=forecaster.bidirectional,
        attention=forecaster.attention(store, rows),
    )


def choose_windows(errors: np.ndarray) -> np.ndarray:
    """Choose the windows with the smallest, median and largest mean of errors (W, U), among those most fully observed."""
    observed = np.isfinite(errors)
    full = np.flatnonzero(observed.sum(axis=1) == observed.sum(axis=1).max())
    mean = np.where(observed[full], errors[full], 0).sum(axis=1)
    ranked = full[np.argsort(mean, kind="stable")]
    return ranked[[0, len(ranked) // 2, -1]]


def draw_cell_gates(plt: Any, inside: Inside, unit: str | None) -> tuple[Any, str]:
    """Draw one column per window: the target above, then one map of units over time for each gate and the cell state."""
    past, horizon = inside.past.shape[1], inside.target.shape[1]
    shown = min(horizon, max(1, round(AHEAD * past)))
    keeping = next((name for name in KEEPING if name in inside.traced), None)
    order = np.arange(next(iter(inside.traced.values())).shape[2])
    if keeping is not None:
        order = np.argsort(-inside.traced[keeping].mean(axis=(0, 1)), kind="stable")
    heights = [1.25] + [1.0] * len(inside.traced)
    figure, axes = plt.subplots(
        len(heights), len(inside.titles), figsize=(12, 1.75 * sum(heights)), sharex=True, sharey="row", squeeze=False,
        height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for column, title in enumerate(inside.titles):
        axis = axes[0, column]
        observed = np.concatenate([inside.past[column], inside.target[column, :shown]])
        axis.plot(np.arange(-past, shown), observed, color=INK, linewidth=1.1, label="observed")
        axis.plot(np.arange(shown), inside.forecast[column, :shown], color=MODEL, linewidth=1.8, label="forecast")
        axis.axvline(-0.5, color=SOFT, linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=10)
    axes[0, 0].set_ylabel(f"target [{unit or '-'}]")
    axes[0, 0].legend(loc="best", fontsize=8)
    for place, (name, values) in enumerate(inside.traced.items(), start=1):
        gate = name.endswith("_gate")
        limit = 1.0 if gate else float(np.quantile(np.abs(values), 0.995)) or 1.0
        for column, axis in enumerate(axes[place]):
            drawn = axis.imshow(
                values[column].T[order], aspect="auto", interpolation="nearest",
                extent=(-past - 0.5, -0.5, len(order) + 0.5, 0.5),
                cmap="viridis" if gate else "RdBu_r", vmin=0.0 if gate else -limit, vmax=limit,
            )  # fmt: skip
        axes[place, 0].set_ylabel(f"{name.replace('_', ' ')}\nunit")
        axes[place, 0].set_yticks([1, len(order)])
        figure.colorbar(drawn, ax=axes[place, :], aspect=12, pad=0.01)
    for axis in axes[-1]:
        axis.set_xlim(-past - 0.5, shown - 0.5)
        axis.set_xlabel("steps from the first forecast")
    ordered = (
        ""
        if keeping is None
        else (
            f" Units are ordered by their mean {keeping.replace('_', ' ')}: those that keep the most stand at the top."
        )
    )
    at_once = past // next(iter(inside.traced.values())).shape[1]
    caption = (
        "What the last layer of the encoder did while it read three test windows"
        f"{', by its cell that reads forwards; the one that reads backwards is not drawn' if inside.bidirectional else ''}. "
        f"{f'One step of the cell is a segment of {at_once} time steps. ' if at_once > 1 else ''}A gate is between 0, shut, and 1, open; "
        f"the dotted line is where the forecast begins.{ordered}"
    )
    return figure, caption


def draw_attention(plt: Any, titles: list[str], attention: np.ndarray) -> tuple[Any, str]:
    """Draw one map per window: how much each past step counted, (W, U, T), for each step that was forecast."""
    _, ahead, past = attention.shape
    figure, axes = plt.subplots(1, len(titles), figsize=(12, 3.6), sharey=True, squeeze=False, layout="constrained")
    for axis, title, weights in zip(axes[0], titles, attention, strict=True):
        drawn = axis.imshow(
            weights, aspect="auto", interpolation="nearest", extent=(-past - 0.5, -0.5, ahead + 0.5, 0.5),
            cmap="Blues", vmin=0.0, vmax=float(attention.max()),
        )  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("steps from the first forecast")
    axes[0, 0].set_ylabel("step that was forecast")
    figure.colorbar(drawn, ax=axes, label="weight; those of a row add up to 1")
    return figure, (
        "Each row is a step that was forecast, each column a step of the past; the darker, the more it counted. "
        f"All alike would be {1 / past:.2g} each."
    )
