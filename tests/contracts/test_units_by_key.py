"""Series of different units in one model: each is told in its own, and nothing is told over all that adds them up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.scoring.series_maps import draw_error_map, draw_field
from gateline.table import read_table
from gateline.tasks.forecasting import TASK, ForecastingPreprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload

SETTINGS: Mapping[str, Any] = {
    "schema__keys": ["shop", "variable"],
    "schema__columns": {
        "shop": {"type": "text"},
        "variable": {"type": "text"},
        "time": {"type": "time"},
        "value": {"type": "float", "missing_share": 0.1, "units": {"variable": {"sales": "pieces", "grams": "g"}}},
        "price": {"type": "float"},
    },
    "preprocess__target": "value",
    "preprocess__past": [],
    "preprocess__scaling": "series",
    "training__epochs": 1,
    "training__monitor": "mae_scaled",
    "evaluation__slices": ["variable", "shop"],
    "evaluation__step_metrics": ["mae_at_6"],
    "evaluation__baselines": ["last_value", "climatology"],
    "gates__metric": "mae_scaled",
    "gates__baselines": {"last_value": {"metrics": ["variable=grams/mae_at_6"]}},
    "gates__limits": {"variable=sales/mae": {"max": 100}},
}


def long_table() -> pd.DataFrame:
    """Sales, and what they weigh: the same series a thousand times as large."""
    table = tiny_table().drop(columns="footfall")
    pieces = [
        table.assign(variable=name, value=table["sales"] * factor).drop(columns="sales")
        for name, factor in (("sales", 1.0), ("grams", 1000.0))
    ]
    return pd.concat(pieces, ignore_index=True)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("units")
    workload = Workload.read(json.dumps(tiny_workload(**SETTINGS)))
    with write_artifact(folder / "raw", "raw"):
        pass
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        schema, preprocess = workload.section("schema", Schema), workload.section("preprocess", ForecastingPreprocess)
        TASK.prepare(long_table(), schema, preprocess, draft)
    prepared = open_artifact(folder / "prepared", "prepared")
    model = train(workload, prepared, folder / "model", RunSettings(7))
    return evaluate(workload, prepared, model, folder / "evaluation")


def test_over_all_series_only_what_has_no_unit_is_told(evaluation: Artifact) -> None:
    metrics = evaluation.read_json("metrics.json")

    assert set(metrics["test"]) == {"mae_scaled", "mse_scaled"}
    assert set(metrics["baselines"]["climatology"]) == {"mae_scaled", "mse_scaled"}
    assert set(metrics["slices"]["shop=east"]) == {"mae_scaled", "mse_scaled"}
    assert set(metrics["details"]["validation"]) == {"mae_scaled"}


@pytest.mark.parametrize("variable", ["sales", "grams"])
def test_a_slice_of_one_unit_is_told_in_it(variable: str, evaluation: Artifact) -> None:
    metrics = evaluation.read_json("metrics.json")
    table = read_table(evaluation.path / "predictions.parquet")
    rows = table[(table["variable"] == variable) & table["target"].notna()]
    last = rows[rows["step"] == 6]

    for found, column in (
        (metrics["slices"], "forecast"),
        (metrics["baseline_slices"]["climatology"], "baseline_climatology"),
    ):
        assert found[f"variable={variable}"]["mae"] == pytest.approx((rows[column] - rows["target"]).abs().mean())
        assert found[f"variable={variable}"]["mae_at_6"] == pytest.approx((last[column] - last["target"]).abs().mean())
    curve = metrics["details"]["mae_by_step_of"][variable]
    assert curve["unit"] == {"sales": "pieces", "grams": "g"}[variable]
    assert curve["curves"]["model"][5] == pytest.approx((last["forecast"] - last["target"]).abs().mean())


def test_the_curve_over_all_series_is_in_deviations(evaluation: Artifact) -> None:
    metrics = evaluation.read_json("metrics.json")
    deviations = metrics["details"]["deviations"]
    table = read_table(evaluation.path / "predictions.parquet")
    first = table[(table["step"] == 1) & table["target"].notna()]
    unit = (first["shop"] + "/" + first["variable"]).map(deviations)

    expected = ((first["forecast"] - first["target"]).abs() / unit).mean()

    assert metrics["details"]["mae_by_step"]["model"][0] == pytest.approx(expected)
    assert deviations["east/grams"] == pytest.approx(1000 * deviations["east/sales"])


def test_the_verdict_names_the_slices_that_were_asked_for(evaluation: Artifact) -> None:
    page = (evaluation.path / "report.html").read_text(encoding="utf-8")

    assert "variable=sales/mae" in page
    assert "variable=grams/mae_at_6" in page


def test_maps_of_many_series_are_drawn(tmp_path: Path, rng: np.random.Generator) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    times = pd.date_range("2024-01-01", periods=60, freq="h", tz="UTC")
    table = pd.DataFrame(
        {
            "series": np.repeat([f"s{number:02d}" for number in range(30)], 60),
            "time": np.tile(times, 30),
            "step": 3,
            "target": rng.normal(size=1800),
            "forecast": rng.normal(size=1800) + np.repeat(np.arange(30) == 7, 60) * 4.0,
        }
    )
    table.loc[:20, "target"] = np.nan

    figure, words = draw_error_map(plt, table, "mph", 1.0, "UTC", daily=False)
    field, _ = draw_field(plt, table, "speed", "mph", "UTC")

    assert "Most of s07" in words
    for name, drawn in (("map", figure), ("field", field)):
        drawn.savefig(tmp_path / f"{name}.png")
        plt.close(drawn)
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_each_slice_says_its_unit_and_only_what_it_has(evaluation: Artifact) -> None:
    measured = evaluation.read_json("metrics.json")

    assert set(measured["slices"]) == {"variable=sales", "variable=grams", "shop=east", "shop=west"}
    assert measured["slice_units"] == {"variable=sales": "pieces", "variable=grams": "g"}
    assert "mae" not in measured["slices"]["shop=east"]
    page = (evaluation.path / "report.html").read_text(encoding="utf-8")
    assert 'variable=grams <span class="soft">[g]</span>' in page
