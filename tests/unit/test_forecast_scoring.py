"""Metrics of steps and of slices, units that differ between series, maps of errors: against loops that anyone can read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.errors import WorkloadError
from gateline.evaluation import Scores
from gateline.judgement import judge
from gateline.metrics import step_metric
from gateline.scoring.series_maps import error_map
from gateline.tasks.forecasting import TASK
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from tests.tiny import tiny_workload

WINDOWS, HORIZON = 40, 5


@pytest.fixture
def outcome(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    forecast, target = rng.normal(size=(2, WINDOWS, HORIZON))
    target[rng.random((WINDOWS, HORIZON)) < 0.2] = np.nan
    return forecast, target


@pytest.mark.parametrize("name", ["mae_at_1", "mae_at_5", "rmse_at_2", "mae_to_1", "rmse_to_3", "rmse_to_5"])
def test_metrics_of_steps_are_those_of_a_loop(name: str, outcome: tuple[np.ndarray, np.ndarray]) -> None:
    forecast, target = outcome
    kind, which, last = name.split("_")
    errors = []
    for window in range(WINDOWS):
        for step in range(1, HORIZON + 1):
            inside = step == int(last) if which == "at" else step <= int(last)
            if inside and not np.isnan(target[window, step - 1]):
                errors.append(abs(forecast[window, step - 1] - target[window, step - 1]))
    expected = sum(errors) / len(errors) if kind == "mae" else (sum(e * e for e in errors) / len(errors)) ** 0.5

    assert step_metric(name, forecast, target) == pytest.approx(expected)


def test_a_step_at_which_nothing_was_observed_has_no_metric(outcome: tuple[np.ndarray, np.ndarray]) -> None:
    forecast, target = outcome
    target[:, 1] = np.nan

    assert np.isnan(step_metric("mae_at_2", forecast, target))
    assert np.isfinite(step_metric("mae_to_2", forecast, target))


def scores(**changes: Any) -> Scores:
    content: dict[str, Any] = {
        "metrics": {"mae": 1.0, "mae_at_2": 2.0},
        "baselines": {"ridge": {"mae": 1.5, "mae_at_2": 3.0}},
        "slices": {"shop=east": {"mae": 0.5, "mae_at_2": 2.5}, "shop=west": {"mae": 1.5, "mae_at_2": float("nan")}},
        "baseline_slices": {"ridge": {"shop=east": {"mae": 0.6, "mae_at_2": 2.4}}},
        "details": {},
        "num_examples": 500,
        "predictions": pd.DataFrame(),
    }
    return Scores(**{**content, **changes})


def verdict(gates: dict[str, Any]) -> tuple[bool, str]:
    read = Gates.model_validate({"metric": "mae", "baselines": {"ridge": {}}, **gates})
    found = judge(*scores().named(read.named_metrics()), 500, read)
    return found.passed, "; ".join(found.reasons)


def test_a_limit_can_be_asked_of_a_slice() -> None:
    assert verdict({"limits": {"shop=east/mae": {"max": 0.5}}})[0]
    passed, why = verdict({"limits": {"shop=east/mae": {"max": 0.4}}})
    assert not passed
    assert "shop=east/mae 0.5; must be at most 0.4" in why


def test_a_baseline_must_be_beaten_by_every_metric_that_is_named() -> None:
    assert verdict({"baselines": {"ridge": {"metrics": ["mae_at_2", "shop=east/mae"]}}})[0]
    passed, why = verdict({"baselines": {"ridge": {"metrics": ["mae_at_2", "shop=east/mae_at_2"]}}})
    assert not passed
    assert why.startswith("shop=east/mae_at_2 2.5 against 2.4 of ridge")


def test_a_slice_that_nobody_asks_for_judges_nothing() -> None:
    """`shop=west` has no number at step 2; it would refuse the model if it were among the metrics."""
    assert verdict({})[0]
    assert not verdict({"limits": {"shop=west/mae_at_2": {"max": 9}}})[0]


def test_a_gate_on_what_is_not_measured_is_refused() -> None:
    with pytest.raises(WorkloadError, match="shop=south/mae"):
        verdict({"limits": {"shop=south/mae": {"max": 9}}})


def checked(**changes: Any) -> None:
    workload = Workload.read(json.dumps(tiny_workload(**changes)))
    TASK.check(
        workload.section("schema", Schema),
        workload.section("preprocess", TASK.Preprocess),
        workload.section("evaluation", TASK.Evaluation),
        workload.section("gates", Gates),
    )


def test_a_workload_may_ask_of_slices_and_steps_that_it_names() -> None:
    checked(
        evaluation__slices=["shop"],
        evaluation__step_metrics=["mae_at_2"],
        gates__limits={"shop=east/mae_at_2": {"max": 9}, "mae_at_2": {"max": 9}},
    )


def test_days_are_not_read_by_the_clock_of_elsewhere() -> None:
    """Midnight in UTC is the evening before in New York: a Saturday would be no weekend."""
    there = {"preprocess__calendar": {"timezone": "America/New_York", "weekend": True}}
    checked(**there)
    with pytest.raises(WorkloadError, match=r"preprocess\.calendar\.timezone: expected UTC for steps of a day or more"):
        checked(**there, schema__time={"column": "time", "frequency": "1d"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation__step_metrics": ["mae_2"]}, "mae_at_7 or rmse_to_3"),
        ({"evaluation__step_metrics": ["mae_at_0"]}, "mae_at_7 or rmse_to_3"),
        ({"gates__limits": {"mae_at_2": {"max": 1}}}, "gates.limits.*mae_at_2"),
        ({"evaluation__slices": [], "gates__limits": {"shop=east/mae": {"max": 1}}}, "gates.limits.*'shop'"),
        ({"evaluation__step_metrics": ["mae_at_999"]}, "999"),
        (
            {"schema__columns__sales": {"type": "float", "units": {"shop": {"east": "kg"}}}, "gates__metric": "mae"},
            "mae_scaled",
        ),
        ({"schema__columns__sales": {"type": "float", "units": {"price": {"east": "kg"}}}}, "one of the keys"),
        (
            {"schema__columns__sales": {"type": "float", "unit": "kg", "units": {"shop": {"east": "kg"}}}},
            "no `unit` beside it",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_by_check(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        checked(**changes)


def test_the_error_map_is_that_of_a_loop_with_the_worst_series_first(rng: np.random.Generator) -> None:
    table: Any = pd.DataFrame(
        {
            "series": np.repeat(["a", "b", "c"], 40),
            "hour": np.tile(np.arange(4), 30),
            "target": rng.normal(size=120),
            "forecast": rng.normal(size=120) + np.repeat([0.0, 5.0, 1.0], 40),
        }
    )
    table.loc[(table["series"] == "a") & (table["hour"] == 3), "target"] = np.nan

    found: Any = error_map(table, table["hour"])

    assert next(iter(found.index)) == "b"
    assert np.isnan(found.loc["a", 3])
    for series, hour in (("a", 0), ("b", 3), ("c", 2)):
        rows = [row for row in table.itertuples() if row.series == series and row.hour == hour]
        expected = sum(abs(row.forecast - row.target) for row in rows) / len(rows)
        assert found.loc[series, hour] == pytest.approx(expected)
