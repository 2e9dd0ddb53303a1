"""Draw what a network does inside while it reads a few chosen test windows, or sequences: gates, cell state, attention.

W windows, T steps read, U steps forecast, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.data.store import SERIES, SequenceStore
from gateline.models.sequence_input import SequenceInput
from gateline.predictors.forecasting import Forecaster
from gateline.scoring import INK, MODEL, SOFT

CHOSEN = ("smallest error", "median error", "largest error")
KEEPING = ("forget_gate", "update_gate")  # the gate that keeps the state, by the names of LSTMs and of GRUs
SHOWN_INSIDE = 2  # sequences
SHOWN_STEPS = 60  # of a text: more words stand on one another
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
        traced=_gates(traced),
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
    of_windows = [{name: part[column] for name, part in inside.traced.items()} for column in range(len(inside.titles))]
    ordered = _draw_maps(figure, axes[1:], of_windows, [(-past - 0.5, -0.5)] * len(of_windows))
    for axis in axes[-1]:
        axis.set_xlim(-past - 0.5, shown - 0.5)
        axis.set_xlabel("steps from the first forecast")
    at_once = past // next(iter(inside.traced.values())).shape[1]
    caption = (
        "What the last layer of the encoder did while it read three test windows"
        f"{', by its cell that reads forwards; the one that reads backwards is not drawn' if inside.bidirectional else ''}. "
        f"{f'One step of the cell is a segment of {at_once} time steps. ' if at_once > 1 else ''}A gate is between 0, shut, and 1, open; "
        f"the dotted line is where the forecast begins.{ordered}"
    )
    return figure, caption


@dataclass(frozen=True)
class ReadSequence:
    """A chosen sequence, and what the last layer's forward cell did while it read it.

    Args:
        title: which one.
        traced: gates and cell state by name, each (T, H).
        steps: what each step is, e.g. its word; empty: steps are counted.
    """

    title: str
    traced: Mapping[str, np.ndarray]
    steps: Sequence[str] = ()


def read_sequence(reader: SequenceInput, inputs: torch.Tensor, title: str, steps: Sequence[str] = ()) -> ReadSequence:
    """Trace a cell while it reads one sequence.

    Args:
        reader: of a network in eval mode.
        inputs: int64 (T,) tokens, or float (T, F).
        title: which one.
        steps: what each step is; of more than `SHOWN_STEPS` the first are kept.
    """
    with torch.inference_mode():
        traced = {name: part[0].float().numpy() for name, part in _gates(reader.trace(inputs[None])).items()}
    kept = len(inputs) if not steps else SHOWN_STEPS
    return ReadSequence(title, {name: part[:kept] for name, part in traced.items()}, steps[:kept])


def gates_picture(
    reader: SequenceInput, sequences: Sequence[ReadSequence], axis_name: str
) -> dict[str, tuple[Callable[[Any], tuple[Any, str]], str]]:
    """Make of sequences the picture of a report, by its name; none where there is no sequence."""
    backwards = reader.stack.directions == 2
    draw = partial(draw_sequence_gates, sequences=sequences, axis_name=axis_name, bidirectional=backwards)
    return {"cell_gates": (draw, "Inside the cell")} if sequences else {}


def draw_sequence_gates(
    plt: Any, sequences: Sequence[ReadSequence], axis_name: str, bidirectional: bool
) -> tuple[Any, str]:
    """Draw one column per sequence: a map of units over time for each gate and the cell state."""
    rows = len(sequences[0].traced)
    figure, axes = plt.subplots(
        rows, len(sequences), figsize=(12, 1.75 * rows + 0.6), sharex="col", sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    lengths = [len(next(iter(each.traced.values()))) for each in sequences]
    traced = [each.traced for each in sequences]
    ordered = _draw_maps(figure, axes, traced, [(0.5, length + 0.5) for length in lengths])
    for column, (each, length) in enumerate(zip(sequences, lengths, strict=True)):
        axes[0, column].set_title(each.title, fontsize=10)
        axes[-1, column].set_xlabel(axis_name)
        if each.steps:
            upright = max(map(len, each.steps)) <= 2  # single letters
            axes[-1, column].set_xticks(range(1, length + 1), each.steps, rotation=0 if upright else 90, fontsize=7)
    return figure, (
        f"What the last layer did while it read {'this sequence' if len(sequences) == 1 else 'these sequences'}"
        f"{', by its cell that reads forwards; the one that reads backwards is not drawn' if bidirectional else ''}. "
        f"A gate is between 0, shut, and 1, open.{ordered}"
    )


def _gates(traced: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of what a cell traces the gates and the cell state."""
    return {name: part for name, part in traced.items() if name.endswith("_gate") or name == "cell_state"}


def _draw_maps(
    figure: Any, axes: Any, traced: Sequence[Mapping[str, np.ndarray]], extents: Sequence[tuple[float, float]]
) -> str:
    """Draw a row of maps of units over time for each gate and the cell state; say how the units are ordered.

    Args:
        figure: holds the axes.
        axes: (rows, columns), a column for each example.
        traced: of each example, by name, (steps, H).
        extents: of each example, where its first step begins and its last one ends.
    """
    keeping = next((name for name in KEEPING if name in traced[0]), None)
    order = np.arange(next(iter(traced[0].values())).shape[1])
    if keeping is not None:
        order = np.argsort(-np.concatenate([each[keeping] for each in traced]).mean(axis=0), kind="stable")
    for row, name in zip(axes, traced[0], strict=True):
        gate = name.endswith("_gate")
        values = np.concatenate([each[name] for each in traced])
        limit = 1.0 if gate else float(np.quantile(np.abs(values), 0.995)) or 1.0
        for axis, each, (first, last) in zip(row, traced, extents, strict=True):
            drawn = axis.imshow(
                each[name].T[order], aspect="auto", interpolation="nearest",
                extent=(first, last, len(order) + 0.5, 0.5),
                cmap="viridis" if gate else "RdBu_r", vmin=0.0 if gate else -limit, vmax=limit,
            )  # fmt: skip
        row[0].set_ylabel(f"{name.replace('_', ' ')}\nunit")
        row[0].set_yticks([1, len(order)])
        figure.colorbar(drawn, ax=row, aspect=12, pad=0.01)
    if keeping is None:
        return ""
    return f" Units are ordered by their mean {keeping.replace('_', ' ')}: those that keep the most stand at the top."


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
