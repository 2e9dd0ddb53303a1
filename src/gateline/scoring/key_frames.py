"""The frames of a film that are worth showing: where the probability of an event has its highest peaks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from gateline.data.pictures import read_film
from gateline.scoring import INK, MODEL, SOFT

SHOWN_FILMS = 3
SHOWN_FRAMES = 6
LEAST_APART = 3
"""Frames between two key frames."""


def key_frames(prob: np.ndarray, count: int = SHOWN_FRAMES, apart: int = LEAST_APART) -> np.ndarray:
    """Choose the frames of a summary.

    Args:
        prob: float (T,) of each frame.
        count: how many, at most.
        apart: a frame closer than this to one that is more probable is left out.

    Returns:
        int64, in order of time.
    """
    chosen: list[int] = []
    for frame in np.argsort(-prob, kind="stable").tolist():
        if len(chosen) < count and all(abs(frame - other) >= apart for other in chosen):
            chosen.append(frame)
    return np.array(sorted(chosen), dtype=np.int64)


def draw_key_frames(
    plt: Any, table: pd.DataFrame, sequence: pd.Series, raw: pd.DataFrame, column: str
) -> tuple[Any, str]:
    """Draw some films: the probability over time, and the key frames below it.

    Args:
        plt: `matplotlib.pyplot`.
        table: predictions, one row per step, with `step`, `label`, `prob` and baselines.
        sequence: name of the film of each row of the table.
        raw: the rows of the test part, in the order of the table.
        column: of `raw`, holds the frames.
    """
    unmarked = table["label"].isna().groupby(sequence, sort=False).all()
    films = unmarked.index[unmarked].tolist() or unmarked.index.tolist()
    films = films[:SHOWN_FILMS]
    figure = plt.figure(figsize=(11, 3.6 * len(films)))
    grid = figure.add_gridspec(2 * len(films), SHOWN_FRAMES, hspace=0.45, wspace=0.06)
    for place, film in enumerate(films):
        rows = np.flatnonzero((sequence == film).to_numpy())
        prob = table["prob"].to_numpy()[rows]
        chosen = key_frames(prob)
        axis = figure.add_subplot(grid[2 * place, :])
        axis.plot(prob, color=MODEL, linewidth=2, label="model")
        if "baseline_motion_energy" in table:
            axis.plot(
                table["baseline_motion_energy"].to_numpy()[rows], color=SOFT, linewidth=1.2, label="motion energy"
            )
        for first, after in _stretches(table["label"].to_numpy()[rows] == 1):
            axis.axvspan(first - 0.5, after - 0.5, color=INK, alpha=0.12)
        axis.plot(chosen, prob[chosen], "o", color=INK)
        axis.set(title=str(film), xlim=(0, len(prob) - 1))
        axis.set_ylabel("probability", color=MODEL)
        axis.set_ylim(bottom=0)
        frames = read_film([raw[column].iloc[row] for row in rows[chosen]])[:, 0]
        for number, (frame, picture) in enumerate(zip(chosen.tolist(), frames, strict=True)):
            below = figure.add_subplot(grid[2 * place + 1, number])
            below.imshow(picture, cmap="gray", vmin=0, vmax=255)
            below.set_title(f"frame {frame}: {prob[frame]:.2f}", fontsize=9, fontweight="normal")
            below.set_axis_off()
    real = "Films that nobody has marked" if unmarked.any() else "Films of the test part, with the marked frames shaded"
    return figure, (
        f"{real}: the probability of each frame, and below it the frames of the {SHOWN_FRAMES} highest peaks (points). Where all "
        "probabilities are low, the scorer has seen nothing like the events it knows, and the peaks are its best guesses."
    )


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Say where marked frames stand side by side: the first, and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]])))
    return list(pairwise(edges.tolist()))[::2]
