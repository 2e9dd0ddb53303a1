"""How much better the baselines of two workloads could be: ``python -m benchmarks.stronger_baselines``.

Those that evaluate measures are the same for every workload. `bike_demand` is harder to beat by trees that see the demand at the same
hour of the days before and read it, as the network does, less its mean over the window; `weather` by a ridge and trees that are
fitted on one of its three variables alone. Trains no network. Writes `benchmarks/results/stronger_baselines.json` and the tables
of `docs/workloads/bike_demand.md` and `docs/workloads/weather.md` between ``<!-- stronger -->`` and ``<!-- /stronger -->``.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.machine import ROOT, shown_commits, where
from benchmarks.tables import markdown, write_json, write_table
from benchmarks.workload import PAGES, prepare
from gateline.baselines.forecasting import BASELINES, Problem
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import Encoding
from gateline.data.splits import PARTS
from gateline.manifest import Artifact
from gateline.tasks.forecasting import ForecastingEvaluation
from gateline.workload import Workload

TABLE, RESULT = "stronger", "stronger_baselines"
LAGS = 24
SAME_HOUR_BEFORE = (24, 48, 168)
ROWS, ROUNDS, PATIENCE = 30_000, 600, 20
VARIABLES = {"temperature": "°F", "humidity": "%", "pressure": "hPa"}
POOLED = ("ridge", "gradient_boosting")


def read(name: str) -> Workload:
    """Read a workload of the project."""
    return Workload.read(ROOT / "workloads" / f"{name}.yaml")


def problem_of(workload: Workload, prepared: Artifact) -> Problem:
    """Lay out what a baseline may look at, as evaluate does."""
    state = prepared.read_json(STATE)
    settings = workload.section("evaluation", ForecastingEvaluation)
    return Problem(
        store=open_store(prepared),
        encoding=Encoding.from_json(state["encoding"]),
        origins={part: read_windows(prepared, part) for part in PARTS},
        lookback=state["windows"]["lookback"],
        horizon=state["windows"]["horizon"],
        season=settings.season,
        cycle=settings.cycle,
    )


def error_of(problem: Problem, forecast: np.ndarray) -> float:
    """Mean absolute error of the test part, in raw units, of forecasts (W, U)."""
    target = np.asarray(problem.store.arrays["raw_target"])[problem.steps("test")]
    return float(np.nanmean(np.abs(forecast - target)))


def seasonal_trees(problem: Problem) -> tuple[np.ndarray, int]:
    """Histogram gradient boosting on lags, lags of the same hour and what is known, all demand less its mean over the window.

    Returns:
        Forecasts (W, U) of the test part in raw units, and the number of trees that the validation part chose.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    scaled = problem.scaled_target
    means = {
        part: np.nanmean(scaled[origins[:, None] - 1 - np.arange(problem.lookback)], axis=1)
        for part, origins in problem.origins.items()
    }

    def features(part: str, places: np.ndarray) -> np.ndarray:
        window, ahead = np.divmod(places, problem.horizon)
        origins, mean = problem.origins[part][window], means[part][window]
        rows = origins + ahead
        lags = scaled[origins[:, None] - 1 - np.arange(LAGS)]
        same = [scaled[rows - back * (ahead // back + 1)] for back in SAME_HOUR_BEFORE if back <= problem.lookback]
        demand = np.column_stack([lags, *same]) - mean[:, None]
        position = problem.position(problem.cycle)[rows]
        past = [problem.encoder[origins - 1, 2:], *problem.past_texts(origins - 1)]
        known = [problem.decoder[rows], *problem.known_texts(rows)]
        return np.column_stack([demand, mean, *past, *known, position, ahead]).astype(np.float32)

    def some(part: str) -> tuple[np.ndarray, np.ndarray]:
        """Draw steps that hold a value; evenly spaced ones would all be of a few steps ahead."""
        target = problem.target(part).ravel()
        usable = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(target)))[:ROWS]
        return features(part, usable), target[usable] - means[part][usable // problem.horizon]

    (train, wanted), (validation, validated) = some("train"), some("validation")
    model = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=ROUNDS, early_stopping=True, n_iter_no_change=PATIENCE, random_state=0
    ).fit(train, wanted, X_val=validation, y_val=validated)
    every = np.arange(len(problem.origins["test"]) * problem.horizon)
    answer = np.concatenate(
        [
            model.predict(features("test", part)) + means["test"][part // problem.horizon]
            for part in np.array_split(every, 1 + len(every) // 50_000)
        ]
    )
    return problem.in_raw_units(answer.reshape(-1, problem.horizon), "test"), int(model.n_iter_)


def of_variable(workload: Workload, variable: str) -> Workload:
    """Make the workload in which there is one variable only."""
    source, schema = dict(workload.sections["source"]), dict(workload.sections["schema"])
    source["query"] = (
        f"SELECT * FROM ({source['query']}) WHERE variable = '{variable}' ORDER BY airport, variable, hour"
    )
    schema["rows"] = {"min": 1}
    value = schema["columns"]["value"] | {
        "missing_share": 0.15
    }  # of the pressure alone, more is missing than of all three
    schema["columns"] = schema["columns"] | {"value": value}
    return replace(workload, sections={**workload.sections, "source": source, "schema": schema})


def bike_demand(folder: Path) -> dict[str, Any]:
    """Measure the trees of evaluate, and those that are seasonal."""
    workload = read("bike_demand")
    problem = problem_of(workload, prepare(workload, folder))
    forecast, trees = seasonal_trees(problem)
    return {
        "gradient_boosting": error_of(problem, BASELINES["gradient_boosting"](problem, "test")),
        "seasonal_trees": error_of(problem, forecast),
        "trees": trees,
    }


def weather(folder: Path) -> dict[str, dict[str, float]]:
    """Measure ridge and trees of each variable alone."""
    found = {}
    for variable in VARIABLES:
        workload, place = of_variable(read("weather"), variable), folder / variable
        place.mkdir()
        problem = problem_of(workload, prepare(workload, place))
        found[variable] = {name: error_of(problem, BASELINES[name](problem, "test")) for name in POOLED}
    return found


def main() -> None:
    """Measure both, and write the tables."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        folders = {name: Path(scratch) / name for name in ("bike_demand", "weather")}
        for folder in folders.values():
            folder.mkdir()
        bike, of_weather = bike_demand(folders["bike_demand"]), weather(folders["weather"])
    machine = where()
    write_json(
        RESULT,
        {"where": machine, "seconds": round(time.monotonic() - began, 1), "bike_demand": bike, "weather": of_weather},
    )
    said = f"`python -m benchmarks.stronger_baselines` prints this, test part, {shown_commits([machine])}."
    rows = [
        ["trees as evaluate has them", f"{bike['gradient_boosting']:.2f}"],
        [f"trees that are seasonal ({bike['trees']} of them)", f"{bike['seasonal_trees']:.2f}"],
    ]
    write_table(PAGES / "bike_demand.md", TABLE, f"{said}\n\n{markdown(['mean absolute error', 'rentals'], rows)}")
    rows = [
        [f"{variable}, {unit}", *(f"{of_weather[variable][name]:.2f}" for name in POOLED)]
        for variable, unit in VARIABLES.items()
    ]
    head = ["mean absolute error, fitted on this variable alone", "ridge", "gradient boosting"]
    write_table(PAGES / "weather.md", TABLE, f"{said}\n\n{markdown(head, rows)}")


if __name__ == "__main__":
    main()
