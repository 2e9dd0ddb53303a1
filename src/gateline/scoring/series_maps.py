"""Pictures of many series at once: where and when a forecaster errs, and what it saw coming."""

from __future__ import annotations

import calendar as months
from typing import Any

import numpy as np
import pandas as pd

from gateline.scoring import MODEL

FEW = 4
"""Series up to which a map says no more than the other pictures do."""
MANY = 24
"""Series from which rows of a map are too thin for a name each, and the whole field is drawn."""
NAMED = 12
SHOWN_HOURS = 24


def error_map(table: pd.DataFrame, position: pd.Series, unit: Any = 1.0) -> pd.DataFrame:
    """Mean absolute error of each series at each position in time, the series with the largest error first.

    Args:
        table: one row per window and step, with `series`, `target` and `forecast`.
        position: of each row, e.g. its hour of the day.
        unit: what errors are divided by, for all rows or each.

    Returns:
        Series by position; NaN where nothing was observed.
    """
    error = (table["forecast"] - table["target"]).abs() / unit
    by_place = error.groupby([table["series"], position]).mean().unstack()
    order = error.groupby(table["series"]).mean().sort_values(ascending=False, kind="stable").index
    return by_place.loc[order]


def draw_error_map(
    plt: Any, table: pd.DataFrame, unit: str, divisor: Any, timezone: str, daily: bool
) -> tuple[Any, str]:
    """Draw a row per series and a column per hour of the day, or per month for steps of a day or more.

    Args:
        plt: pyplot.
        table: one row per window and step, with `series`, `time`, `target` and `forecast`.
        unit: of the errors.
        divisor: what errors are divided by to have that unit.
        timezone: whose hours or months.
        daily: steps are a day or longer.
    """
    local = table["time"].dt.tz_convert(timezone).dt
    errors = error_map(table, (local.month if daily else local.hour).rename("position"), divisor)
    means = ((table["forecast"] - table["target"]).abs() / divisor).groupby(table["series"]).mean().loc[errors.index]
    height = 1.2 + min(7.0, 0.3 * len(errors))
    figure, (axis, bars) = plt.subplots(
        1, 2, figsize=(11, height), sharey=True, width_ratios=(4, 1), gridspec_kw={"wspace": 0.03}
    )
    shown = axis.imshow(
        np.ma.masked_invalid(errors.to_numpy()),
        aspect="auto",
        cmap="magma_r",
        vmin=0,
        vmax=float(np.nanquantile(errors.to_numpy(), 0.99)),
        interpolation="nearest",
    )
    bars.barh(range(len(means)), means, color=MODEL, height=1.0 if len(means) > MANY else 0.7)
    bars.set_xlabel(f"all hours [{unit}]" if not daily else f"all year [{unit}]")
    named = range(len(errors)) if len(errors) <= MANY else range(0, len(errors), -(-len(errors) // NAMED))
    axis.set_yticks(list(named), [str(errors.index[place]) for place in named])
    positions = [int(position) for position in errors.columns]
    places = range(0, len(positions), 1 if daily else 3)
    axis.set_xticks(list(places), [months.month_abbr[positions[p]] if daily else str(positions[p]) for p in places])
    axis.set_xlabel(f"month ({timezone})" if daily else f"hour of the day ({timezone})")
    figure.colorbar(shown, ax=bars, label=f"mean absolute error [{unit}]")
    most = f"{errors.index[0]} ({means.iloc[0]:.3g}), least of {errors.index[-1]} ({means.iloc[-1]:.3g} {unit})"
    return figure, (
        f"Mean absolute error over all steps ahead of each of {len(errors)} series, most at the top, by the "
        f"{'month' if daily else 'hour'} that was forecast. Most of {most}."
    )


def draw_field(plt: Any, table: pd.DataFrame, name: str, unit: str, timezone: str) -> tuple[Any, str]:
    """Draw what happened in all series over a day beside what was forecast a full horizon before.

    Args:
        plt: pyplot.
        table: one row per window and step, with `series`, `time`, `step`, `target` and `forecast`.
        name: of the target.
        unit: of the target.
        timezone: whose clock.
    """
    ahead = int(table["step"].max())
    last = table[table["step"] == ahead]
    last = last[last["time"] > last["time"].max() - pd.Timedelta(hours=SHOWN_HOURS)]
    observed, forecast = (last.pivot_table(index="series", columns="time", values=v) for v in ("target", "forecast"))
    order = observed.mean(axis=1).sort_values(kind="stable").index
    observed, forecast = observed.loc[order], forecast.loc[order]
    low, high = np.nanquantile(observed.to_numpy(), [0.01, 0.99])
    difference = forecast - observed
    reach = float(np.nanquantile(difference.abs().to_numpy(), 0.99)) or 1.0
    moments = observed.columns.tz_convert(timezone).tz_localize(None)
    import matplotlib.dates

    ends = matplotlib.dates.date2num([moments[0], moments[-1]])
    figure, axes = plt.subplots(3, 1, figsize=(11, 8.4), sharex=True)
    panels = (
        (f"{name}, observed", observed, {"cmap": "viridis", "vmin": low, "vmax": high}),
        (f"{name}, forecast {ahead} steps before", forecast, {"cmap": "viridis", "vmin": low, "vmax": high}),
        ("forecast less observed", difference, {"cmap": "RdBu", "vmin": -reach, "vmax": reach}),
    )
    for axis, (title, values, colours) in zip(axes, panels, strict=True):
        shown = axis.imshow(
            np.ma.masked_invalid(values.to_numpy()),
            aspect="auto",
            extent=(ends[0], ends[1], len(values), 0),
            interpolation="nearest",
            **colours,
        )
        axis.set_title(title)
        axis.set_yticks([])
        axis.set_ylabel(f"{len(values)} series")
        figure.colorbar(shown, ax=axis, label=unit or "-", pad=0.01)
    axes[-1].xaxis_date()
    axes[-1].xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes[-1].set_xlabel(f"{moments[0]:%d %B %Y %H:%M} to {moments[-1]:%d %B %Y %H:%M}")
    return figure, (
        f"The last {SHOWN_HOURS} hours of the test part, in {timezone} time: a row per series, those with the lowest mean "
        "at the top. Red in the last panel: the forecast was too low; blue: too high."
    )
