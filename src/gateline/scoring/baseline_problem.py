"""The problem that the baselines of forecasting are given: the model's windows, and in training those that it leaves out as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gateline.baselines.forecasting_problem import Problem, VolatilityColumns
from gateline.data.inputs import TARGET
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import Encoding
from gateline.data.splits import by_time, window_runs
from gateline.data.store import VALUES, SequenceStore
from gateline.manifest import Artifact
from gateline.tasks.forecasting import ForecastingEvaluation, Split


def baseline_problem(settings: ForecastingEvaluation, prepared: Artifact, levels: tuple[float, ...]) -> Problem:
    """Open a prepared folder for the baselines.

    `windows.stride` spares a network time; what is fitted in closed form, or draws some rows of all, is given every window of the training part.

    Args:
        settings: season, cycle and the columns of the baselines of volatility.
        prepared: windows and arrays.
        levels: levels of the model's quantiles, for baselines that forecast such.
    """
    state, store = prepared.read_json(STATE), open_store(prepared)
    origins = {part: read_windows(prepared, part) for part in ("validation", "test")}
    volatility = settings.volatility.model_dump() if settings.volatility else {}
    return Problem(
        store=store,
        encoding=Encoding.from_json(state["encoding"]),
        origins={"train": _training_windows(store, state), **origins},
        lookback=state["windows"]["lookback"],
        horizon=state["windows"]["horizon"],
        season=settings.season,
        cycle=settings.cycle,
        levels=levels,
        volatility=VolatilityColumns(**volatility),
    )


def _training_windows(store: SequenceStore, state: Mapping[str, Any]) -> np.ndarray:
    """List the rows of the first steps of all training windows, ordered by time, then by series: int64 (W,)."""
    times = np.asarray(store.arrays["time"])
    runs = window_runs(
        times,
        store.offsets,
        np.isfinite(store.arrays[VALUES][:, TARGET]),
        Split.model_validate(state["split"]).parts(),
        lookback=state["windows"]["lookback"],
        horizon=state["windows"]["horizon"],
    )
    return by_time(runs["train"].rows(), times)
