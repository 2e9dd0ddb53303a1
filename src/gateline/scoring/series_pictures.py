"""A few whole series as a person would read them: what was said over time, above what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gateline.scoring import INK, MODEL, SOFT


@dataclass(frozen=True)
class Course:
    """One series.

    Args:
        title: which one, and why it is shown.
        at: (T,), when something was said.
        prob: (T,), what was said.
        marked: bool (T,), where the label is 1.
        measured: by column, when (n,) and what (n,).
    """

    title: str
    at: np.ndarray
    prob: np.ndarray
    marked: np.ndarray
    measured: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def measured_in(raw: pd.DataFrame, time: str, columns: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Take what was measured of one series: hours since its first row, and values, by column."""
    hours = ((raw[time] - raw[time].min()).dt.total_seconds() / 3600).to_numpy()
    there = {name: raw[name].notna().to_numpy() for name in columns}
    return {name: (hours[there[name]], raw[name].to_numpy()[there[name]]) for name in columns}


def chosen(loss: pd.Series, is_yes: pd.Series, yes: str, no: str) -> list[tuple[Any, str]]:
    """Choose by its loss one series that was told well and one that was told badly, of those with a yes and of the others.

    Args:
        loss: by series.
        is_yes: bool by series.
        yes: what a yes is called.
        no: what the others are called.

    Returns:
        Up to four series with a title each.
    """
    found: list[tuple[Any, str]] = []
    for kind, word in ((True, yes), (False, no)):
        ranked = loss[is_yes == kind].sort_values(kind="stable").index.tolist()
        for place, how in ((len(ranked) // 10, "told well"), (len(ranked) - 1 - len(ranked) // 50, "told badly")):
            if 0 <= place < len(ranked) and ranked[place] not in [name for name, _ in found]:
                found.append((ranked[place], f"{word}, {how}"))
    return found


def draw_courses(
    plt: Any, courses: Sequence[Course], *, what: str, threshold: float | None, axis_name: str
) -> tuple[Any, str]:
    """Draw them side by side.

    Args:
        plt: pyplot.
        courses: up to four.
        what: what the probability is of.
        threshold: from where on a 1 is called; None for none.
        axis_name: what `at` counts.
    """
    shown = list(dict.fromkeys(name for course in courses for name in course.measured))
    rows = 1 + len(shown)
    figure, axes = plt.subplots(
        rows,
        len(courses),
        figsize=(3.4 * len(courses), 2.2 + 1.15 * len(shown)),
        squeeze=False,
        sharex="col",
        sharey="row",
        height_ratios=[2.2, *[1] * len(shown)],
    )
    for column, course in enumerate(courses):
        top = axes[0, column]
        top.fill_between(course.at, 0, course.marked.astype(float), color=INK, alpha=0.06, step="mid", linewidth=0)
        top.plot(course.at, course.prob, color=MODEL, linewidth=2)
        if threshold is not None:
            top.axhline(threshold, color=SOFT, linewidth=0.8, linestyle=":")
        top.set_ylim(0, 1)
        top.set_title(course.title, fontsize=9)
        for row, name in enumerate(shown, start=1):
            hours, values = course.measured.get(name, (np.zeros(0), np.zeros(0)))
            axes[row, column].plot(hours, values, color=INK, linewidth=0.8, marker=".", markersize=3)
        axes[-1, column].set_xlabel(axis_name)
    axes[0, 0].set_ylabel(f"probability of\n{what}")
    for row, name in enumerate(shown, start=1):
        axes[row, 0].set_ylabel(name.replace("_", "\n"), fontsize=8)
    figure.align_ylabels(axes[:, 0])
    dotted = f" Dotted: {threshold:.2f}, from where on a 1 is called." if threshold is not None else ""
    return figure, (
        f"Grey: the label is 1.{dotted} Of the series with a 1, and of those without, one near the best and one near the worst told."
    )
