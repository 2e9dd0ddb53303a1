"""Score a forecaster and its baselines on the test windows, and draw what a person of the field would want to see."""

from __future__ import annotations

import calendar as months
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from gateline.baselines.forecasting import (
    BASELINES,
    QUANTILE_BASELINES,
    VOLATILITY_BASELINES,
)
from gateline.baselines.forecasting_problem import Problem
from gateline.comparison import digest_of_rows
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import Encoding
from gateline.evaluation import Figure, Scores
from gateline.intervals import positions_of
from gateline.manifest import Artifact
from gateline.metrics import (
    SCALE_FREE_METRIC,
    UNITLESS_METRIC,
    by_step,
    forecast_metrics,
    interval_metrics,
    percent,
    pinball,
    step_metric,
)
from gateline.models.forecaster.settings import MEDIAN
from gateline.predictors.forecasting import Forecaster, WindowForecasts
from gateline.scoring import INK, MODEL
from gateline.scoring.baseline_problem import baseline_problem
from gateline.scoring.calibration import draw_quantile_calibration, share_below
from gateline.scoring.competition import (
    OWA,
    add_competition_metrics,
    competition_sums,
    draw_error_by_series,
    draw_fans,
    one_window_each,
    owa_interval,
    require_scale,
    seasonal_scale,
)
from gateline.scoring.inside import draw_attention, draw_cell_gates, look_inside
from gateline.scoring.inventory import Policy, draw_stock, policy_of, stocks
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.series_maps import FEW, MANY, draw_error_map, draw_field
from gateline.scoring.window_errors import WindowSums, median_interval, window_errors, worst_windows
from gateline.table import TABLE, read_table
from gateline.tasks.forecasting import TASK as FORECASTING
from gateline.tasks.forecasting import Forecasting, ForecastingEvaluation

SHOWN_DAYS = 14  # of forecasts in the picture
SHOWN_DAYS_OF_DAYS = 365  # where steps are of a day or more
SHOWN_SERIES = 3


def score(task: Forecasting, settings: ForecastingEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Forecast the test windows with the model and with every baseline.

    Args:
        task: the task.
        settings: season, cycle, baselines and slices.
        prepared: windows and arrays.
        model: weights and configuration.

    Raises:
        WorkloadError: decisions on stock are to be measured of a model that makes none.
    """
    forecaster = task.load_predictor(model.path)
    task.check_evaluation(forecaster.settings, settings)
    problem = baseline_problem(settings, prepared, forecaster.levels)
    encoding = problem.encoding
    target = np.asarray(problem.store.arrays["raw_target"])[problem.steps("test")]  # (W, U)
    forecasts = forecaster.forecast_windows(problem.store, problem.origins["test"])
    # One thread: sums over threads differ in their last bits, and an oversubscribed OpenMP crawls.
    with threadpool_limits(1):
        in_quantiles = {
            name: QUANTILE_BASELINES[name](problem, "test") for name in settings.baselines if name in QUANTILE_BASELINES
        }
        medians = {name: guess[:, :, forecaster.levels.index(MEDIAN)] for name, guess in in_quantiles.items()}
        point = {**BASELINES, **VOLATILITY_BASELINES}
        baselines = {n: medians[n] if n in medians else point[n](problem, "test") for n in settings.baselines}
    names = np.array(encoding.series, dtype=object)[problem.series("test")]
    deviation = np.array(encoding.target_deviation)[problem.series("test")]
    key_values = _keys_of(names, encoding)
    policy, units = policy_of(forecaster, settings.inventory), Units.of(encoding)
    measured = partial(_measure, forecasts, target, deviation, settings.step_metrics, policy)
    measured_baselines = {
        name: partial(_measure, _points(guess), target, deviation, settings.step_metrics, None)
        for name, guess in baselines.items()
    }
    of_baselines = {name: measure() for name, measure in measured_baselines.items()}
    spread: dict[str, np.ndarray] = {}
    if forecasts.quantiles:  # who says one number says that all quantiles are there
        spread = {
            n: in_quantiles.get(n, np.repeat(g[:, :, None], len(problem.levels), 2)) for n, g in baselines.items()
        }
        for name, guess in spread.items():
            of_baselines[name]["pinball"] = pinball(guess, target, problem.levels)
    metrics, unit = measured(), units.shared
    sums: dict[str, dict[str, WindowSums]] = {name: {} for name in ("model", *baselines)}
    if settings.metrics:
        scale = seasonal_scale(problem, "test")
        if "mase" in settings.metrics:
            require_scale(scale, names)
        for name, forecast in {"model": forecasts.point, **baselines}.items():
            sums[name] |= competition_sums(settings.metrics, forecast, target, scale)
        add_competition_metrics(
            settings.metrics, metrics, of_baselines, {"": forecasts.point, **baselines}, target, scale
        )
    stock = {}
    if policy is not None:
        decided = stocks(policy, settings.inventory, problem, forecasts, baselines)
        policies = {name: policy.measure(of_one, target) for name, of_one in decided.items()}
        stock = {"inventory": {"policy": asdict(policy), "policies": policies, "unit": unit}}
        for name, of_one in decided.items():
            sums[name] |= policy.sums(of_one, target)
            if name in of_baselines:
                of_baselines[name] |= policies[name]
    calibration = {}
    if forecasts.quantiles:
        by_name = {"model": forecasts.quantiles}
        by_name |= {n: dict(zip(problem.levels, np.moveaxis(g, 2, 0), strict=True)) for n, g in in_quantiles.items()}
        calibration = {"share_below": {name: share_below(levels, target) for name, levels in by_name.items()}}
    slices = {
        f"{key}={value}": (key, key_values[key] == value)
        for key in settings.slices
        for value in sorted(set(key_values[key].tolist()))
    }

    def by_slice(measure: Callable[[np.ndarray], dict[str, float]]) -> dict[str, dict[str, float]]:
        return {name: units.comparable(measure(rows), key) for name, (key, rows) in slices.items()}

    metrics = units.comparable(metrics)
    origin = np.asarray(problem.store.arrays["time"])[problem.origins["test"]]
    position, dependence = positions_of(origin, problem.series("test"), target.shape[1])
    predictions = _as_table(problem, key_values, target, forecasts, baselines)
    errors_of = partial(
        window_errors,
        target=target,
        deviation=deviation,
        position=position,
        dependence=dependence,
        rows=digest_of_rows(names, origin, target.astype(np.float64)),
    )
    levels = {name: dict(zip(problem.levels, np.moveaxis(each, 2, 0), strict=True)) for name, each in spread.items()}
    return Scores(
        metrics=metrics,
        baselines={name: units.comparable(each) for name, each in of_baselines.items()},
        slices=by_slice(measured),
        details={
            "unit": units.shared,
            "target": encoding.target,
            "mae_by_step": _curves(forecasts, baselines, target / deviation[:, None], deviation)
            if units.key
            else _curves(forecasts, baselines, target),
            "mae_by_step_of": {
                value: {
                    "unit": unit,
                    "curves": _curves(forecasts, baselines, target, rows=key_values[units.key] == value),
                }
                for value, unit in units.by_value.items()
            },
            "mae_by_series": _by_series(forecasts.point, target, names),
            "deviations": dict(zip(encoding.series, encoding.target_deviation, strict=True)),
            "coverage_by_step": {
                percent(coverage): _coverage_by_step(ends, target) for coverage, ends in forecasts.intervals.items()
            },
            "validation": _validation_metrics(problem, forecaster, units),
            **stock,
            **calibration,
        },
        num_examples=len(target),
        predictions=predictions,
        intervals={
            **(median_interval(forecasts.point - target, position, dependence) if "median_ae" in metrics else {}),
            **(owa_interval(sums["model"], sums["naive2"], position, dependence) if OWA in settings.metrics else {}),
        },
        errors=errors_of(forecasts, metrics=metrics, others=sums["model"]),
        baseline_errors={
            name: errors_of(
                WindowForecasts(guess, levels.get(name, {}), {}),
                metrics=of_baselines[name].keys() & metrics.keys() - {"bias"},
                others=sums[name],
            )
            for name, guess in baselines.items()
        },
        worst=worst_windows(predictions, list(key_values), units.shared),
        units={name: units.shared for name in metrics if units.shared and not UNITLESS_METRIC.fullmatch(name)},
        slice_units={f"{units.key}={value}": unit for value, unit in units.by_value.items()},
        baseline_slices={name: by_slice(measure) for name, measure in measured_baselines.items()},
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: forecasts, error by step ahead, error by hour or day, gates of the cell, training."""
    encoding = Encoding.from_json(prepared.read_json(STATE)["encoding"])
    forecaster = FORECASTING.load_predictor(model.path)
    inside = look_inside(forecaster, open_store(prepared), read_windows(prepared, "test"), scores.predictions)
    draw = {
        "forecasts": (partial(_draw_forecasts, scores=scores, encoding=encoding), "Forecasts beside what happened"),
        "error_by_step": (partial(_draw_error_by_step, scores=scores), "Error by how far ahead"),
        "error_by_position": (partial(_draw_error_by_position, scores=scores, encoding=encoding), "Error over the day"),
        "cell_gates": (partial(draw_cell_gates, inside=inside, unit=scores.details["unit"]), "Inside the cell"),
        "training": (partial(draw_training, model=model), "Training"),
    }
    if inside.attention is not None:
        draw_looks = partial(draw_attention, titles=inside.titles, attention=inside.attention)
        draw["attention"] = (draw_looks, "What the forecasts looked at")
    if one_window_each(scores.predictions, encoding):
        past = read_table(prepared.path / TABLE)
        del draw["error_by_position"]  # hours of the one window are its steps
        draw["forecasts"] = (
            partial(draw_fans, predictions=scores.predictions, past=past, encoding=encoding),
            "Forecasts beside what happened",
        )
        draw["error_by_series"] = (
            partial(draw_error_by_series, predictions=scores.predictions, encoding=encoding),
            "Error by series",
        )
    if "inventory" in scores.details:
        drawing = partial(draw_stock, predictions=scores.predictions, details=scores.details["inventory"])
        draw = {"stock": (drawing, "Stock that the forecast asks for")} | draw
    if "share_below" in scores.details:
        drawing = partial(draw_quantile_calibration, curves=scores.details["share_below"])
        draw["quantile_calibration"] = (drawing, "Quantiles")
    if scores.details["coverage_by_step"]:
        draw["coverage_by_step"] = (partial(_draw_coverage, scores=scores), "How often the intervals held")
    draw |= _maps(scores, encoding)
    return draw_all(draw, folder)


def _maps(scores: Scores, encoding: Encoding) -> dict[str, tuple[Any, str]]:
    """Pictures of all series at once, where there are enough of them."""
    table, units = scores.predictions, Units.of(encoding)
    table = table.assign(series=_series_column(table, encoding))
    if table["series"].nunique() <= FEW or one_window_each(table, encoding):
        return {}
    timezone, daily = encoding.calendar.timezone, encoding.schema.grid.frequency >= pd.Timedelta(days=1)
    divisor = table["series"].map(scores.details["deviations"]) if units.key else 1.0
    unit = "deviations of each series" if units.key else units.shared or "-"
    maps = {
        "error_map": (
            partial(draw_error_map, table=table, unit=unit, divisor=divisor, timezone=timezone, daily=daily),
            f"Error by series and {'month' if daily else 'hour'}",
        )
    }
    if table["series"].nunique() >= MANY and not daily:
        field = partial(draw_field, table=table, name=encoding.target, unit=units.shared, timezone=timezone)
        maps["field"] = (field, "All series over a day")
    return maps


@dataclass(frozen=True)
class Units:
    """Unit of the target, which may depend on a key of the series.

    Args:
        shared: unit of all series; empty where they differ, or have none.
        key: the key that it depends on; empty where all series share it.
        by_value: unit by value of that key.
    """

    shared: str
    key: str
    by_value: Mapping[str, str]

    @classmethod
    def of(cls, encoding: Encoding) -> Units:
        """Read them from the schema."""
        column = encoding.schema.columns[encoding.target]
        key, by_value = next(iter(column.units.items()), ("", {}))
        return cls(column.unit, key, by_value)

    def comparable(self, measured: dict[str, float], key: str = "") -> dict[str, float]:
        """Leave out what would add up different units: all in raw units, but for slices by the key that says the unit."""
        if not self.key or key == self.key:
            return measured
        return {name: value for name, value in measured.items() if SCALE_FREE_METRIC.fullmatch(name)}

    def of_series(self, name: str, keys: Sequence[str]) -> str:
        """Unit of a series, named by all keys with / between."""
        if not self.key:
            return self.shared
        return self.by_value.get(name.split("/", len(keys) - 1)[list(keys).index(self.key)], "")


def _points(forecast: np.ndarray) -> WindowForecasts:
    """Point forecasts without quantiles and intervals, as those of baselines are."""
    return WindowForecasts(forecast, {}, {})


def _curves(
    forecasts: WindowForecasts,
    baselines: Mapping[str, np.ndarray],
    target: np.ndarray,
    deviation: np.ndarray | None = None,
    rows: np.ndarray | slice = slice(None),
) -> dict[str, list[float]]:
    """Mean absolute error by step ahead of the model and of each baseline; with the deviation (W,), in units of it."""
    unit = 1.0 if deviation is None else deviation[:, None]
    each = {"model": forecasts.point, **baselines}
    return {name: by_step((forecast / unit)[rows], target[rows]) for name, forecast in each.items()}


def _measure(
    forecasts: WindowForecasts,
    target: np.ndarray,
    deviation: np.ndarray,
    step_metrics: Sequence[str] = (),
    policy: Policy | None = None,
    rows: np.ndarray | slice = slice(None),
) -> dict[str, float]:
    """All metrics of some windows: of the point forecast, of quantiles and of intervals where there are some."""
    measured = forecast_metrics(forecasts.point[rows], target[rows], deviation[rows])
    measured |= {name: step_metric(name, forecasts.point[rows], target[rows]) for name in step_metrics}
    if forecasts.quantiles:
        quantiles = np.stack([values[rows] for values in forecasts.quantiles.values()], axis=2)
        measured["pinball"] = pinball(quantiles, target[rows], list(forecasts.quantiles))
    for coverage, (lower, upper) in forecasts.intervals.items():
        measured |= interval_metrics(lower[rows], upper[rows], target[rows], coverage)
    if policy is not None:
        measured |= policy.measure(forecasts.stock["reorder_point"][rows, policy.steps - 1], target[rows])
    return measured


def _by_series(forecast: np.ndarray, target: np.ndarray, names: np.ndarray) -> dict[str, float]:
    """Mean absolute error of each series, in its own unit; NaN where nothing was observed."""
    error = pd.DataFrame(np.abs(forecast - target)).groupby(names.astype(str))
    total, count = error.sum().sum(axis=1), error.count().sum(axis=1)
    return {str(name): float(total[name] / count[name]) if count[name] else float("nan") for name in total.index}


def _coverage_by_step(ends: tuple[np.ndarray, np.ndarray], target: np.ndarray) -> list[float]:
    lower, upper = ends
    inside = (lower <= target) & (target <= upper)
    counts = np.isfinite(target).sum(axis=0)
    return [float(share) for share in inside.sum(axis=0) / np.maximum(counts, 1)]


def _validation_metrics(problem: Problem, forecaster: Forecaster, units: Units) -> dict[str, float]:
    """What settings are chosen by: `mae`, and what does not depend on the unit."""
    target = np.asarray(problem.store.arrays["raw_target"])[problem.steps("validation")]
    forecast = forecaster.forecast(problem.store, problem.origins["validation"])
    deviation = np.array(problem.encoding.target_deviation)[problem.series("validation")]
    measured = units.comparable(forecast_metrics(forecast, target, deviation))
    return {name: measured[name] for name in ("mae", "rmse", "mae_scaled") if name in measured}


def _keys_of(names: np.ndarray, encoding: Encoding) -> Mapping[str, np.ndarray]:
    """Split names of series into the values of their keys: (W,) per key."""
    keys = encoding.schema.keys
    parts = np.array([name.split("/", len(keys) - 1) for name in names], dtype=object).reshape(len(names), -1)
    return {key: parts[:, place] for place, key in enumerate(keys)}


def _as_table(
    problem: Problem,
    keys: Mapping[str, np.ndarray],
    target: np.ndarray,
    forecasts: WindowForecasts,
    baselines: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """One row per window and step: keys, origin, step (1..U), time, target, forecasts, baselines."""
    windows, horizon = target.shape
    times = np.asarray(problem.store.arrays["time"])
    steps = problem.steps("test")
    return pd.DataFrame(
        {
            **{key: np.repeat(values, horizon).astype(str) for key, values in keys.items()},
            "origin": pd.to_datetime(np.repeat(times[problem.origins["test"]], horizon), unit="s", utc=True),
            "step": np.tile(np.arange(1, horizon + 1), windows),
            "time": pd.to_datetime(times[steps].ravel(), unit="s", utc=True),
            "target": target.ravel(),
            **{name: values.ravel() for name, values in forecasts.columns("forecast").items()},
            **{f"baseline_{name}": guess.ravel() for name, guess in baselines.items()},
        }
    )


def _series_column(table: pd.DataFrame, encoding: Encoding) -> pd.Series:
    if not encoding.schema.keys:
        return pd.Series("", index=table.index)
    first, *others = encoding.schema.keys
    return table[first].str.cat(table[others], sep="/") if others else table[first]


def _interval_columns(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Columns of the lower and upper ends of intervals, and their coverage in percent."""
    start = "forecast_low_"
    coverages = [name.removeprefix(start) for name in table.columns if name.startswith(start)]
    return [(f"forecast_low_{coverage}", f"forecast_high_{coverage}", coverage) for coverage in coverages]


def _draw_forecasts(plt: Any, scores: Scores, encoding: Encoding) -> tuple[Any, str]:
    """The liveliest weeks of the test part, each value as it was forecast half the horizon before."""
    table = scores.predictions
    ahead = max(1, int(table["step"].max()) // 2)
    table = table[table["step"] == ahead]
    series = _series_column(table, encoding)
    table = table.assign(series=series, local=table["time"].dt.tz_convert(encoding.calendar.timezone))
    shown, units = list(dict.fromkeys(sorted(series)))[:SHOWN_SERIES], Units.of(encoding)
    day = table["local"].dt.tz_localize(None).dt.floor("D")
    spread = table["target"].groupby(day).std().fillna(0).rolling(SHOWN_DAYS, min_periods=1).mean()
    last_day, days, which = spread.index[int(np.argmax(spread.to_numpy()))], SHOWN_DAYS, f"{SHOWN_DAYS} most varied"
    if encoding.schema.grid.frequency >= pd.Timedelta(days=1):  # a day has one value, and two weeks show nothing
        last_day, days, which = day.max(), SHOWN_DAYS_OF_DAYS, f"last {SHOWN_DAYS_OF_DAYS}"
    inside = (day > last_day - pd.Timedelta(days=days)) & (day <= last_day)
    import matplotlib.dates

    figure, axes = plt.subplots(len(shown), 1, figsize=(11, 1 + 2.1 * len(shown)), sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], shown, strict=True):
        rows = table[inside & (table["series"] == name)].sort_values("local")
        moments = rows["local"].dt.tz_localize(None)
        for low, high, coverage in _interval_columns(table):
            axis.fill_between(
                moments, rows[low], rows[high], color=MODEL, alpha=0.15, linewidth=0, label=f"{coverage} % interval"
            )
        axis.plot(moments, rows["target"], color=INK, linewidth=1.1, label="observed")
        axis.plot(moments, rows["forecast"], color=MODEL, linewidth=1.6, label=f"forecast {ahead} steps before")
        axis.set_ylabel(f"{encoding.target} [{units.of_series(name, encoding.schema.keys) or '-'}]")
        axis.set_title(name)
    axes[0, 0].legend(loc="upper right", ncols=4)
    axes[-1, 0].xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%d %b"))
    caption = (
        f"The {which} days of the test part, in {encoding.calendar.timezone} time. Each point of the blue "
        f"line was forecast {ahead} steps before."
    )
    return figure, caption


def _draw_error_by_step(plt: Any, scores: Scores) -> tuple[Any, str]:
    several = scores.details["mae_by_step_of"]
    shared = {"": {"unit": scores.details["unit"], "curves": scores.details["mae_by_step"]}}
    panels = several or shared
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 0.6 + 3.4 * len(panels)), sharex=True, squeeze=False)
    for axis, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
        for name, curve in panel["curves"].items():
            style = (
                {"color": MODEL, "linewidth": 2.6, "zorder": 3}
                if name == "model"
                else {"linewidth": 1.2, "alpha": 0.85}
            )
            axis.plot(range(1, len(curve) + 1), curve, label=name.replace("_", " "), **style)
        axis.set_title(title)
        axis.set_ylabel(f"mean absolute error [{panel['unit'] or '-'}]")
        axis.set_ylim(bottom=0)
    axes[-1, 0].set_xlabel("steps ahead")
    axes[0, 0].legend(loc="best", ncols=2)
    return figure, "Mean absolute error on the test part for each step ahead; lower is better."


def _draw_coverage(plt: Any, scores: Scores) -> tuple[Any, str]:
    figure, axis = plt.subplots(figsize=(8, 3.4))
    for coverage, shares in scores.details["coverage_by_step"].items():
        (line,) = axis.plot(range(1, len(shares) + 1), [100 * share for share in shares], label=f"{coverage} %")
        axis.axhline(float(coverage), color=line.get_color(), linewidth=0.8, linestyle=":")
    axis.set_xlabel("steps ahead")
    axis.set_ylabel("targets inside [%]")
    axis.legend(loc="lower right", ncols=3)
    return figure, (
        "Share of the test part's targets inside each interval, and what it was calibrated to (dotted) on the validation "
        "part, which also chose the epoch: rather less is to be expected."
    )


def _draw_error_by_position(plt: Any, scores: Scores, encoding: Encoding) -> tuple[Any, str]:
    table = scores.predictions
    local = table["time"].dt.tz_convert(encoding.calendar.timezone).dt
    within_days = encoding.schema.grid.frequency.total_seconds() < 86_400
    position = local.hour if within_days else local.day_of_week
    unit = _series_column(table, encoding).map(scores.details["deviations"]) if Units.of(encoding).key else 1.0
    error = ((table["forecast"] - table["target"]).abs() / unit).groupby(position).mean()
    count = table["target"].notna().groupby(position).mean()
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.bar(error.index, error.where(count > 0), color=MODEL, width=0.75)
    mixed = "deviations of each series" if Units.of(encoding).key else "-"
    axis.set_ylabel(f"mean absolute error [{scores.details['unit'] or mixed}]")
    axis.set_xlabel(f"hour of the day ({encoding.calendar.timezone})" if within_days else "day of the week")
    if within_days:
        axis.set_xticks(range(0, 24, 3))
    else:
        axis.set_xticks(range(7), [months.day_abbr[day] for day in range(7)])
    return figure, "Mean absolute error of the model on the test part by the time that was forecast."
