"""A model that decides on stock: the served answer says what was evaluated, and the report says what it would have cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gateline.errors import WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.models.forecaster.settings import ForecasterSettings, InventorySettings
from gateline.predictors.forecasting import Forecaster
from gateline.table import read_table
from gateline.tasks.forecasting import TASK, ForecastingEvaluation, ForecastingPreprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload

STOCK = ["forecast_demand", "safety_stock", "reorder_point"]
HOLDING, SHORTAGE, LEAD_TIME, REVIEW = 1.0, 4.0, 3, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("stock")
    content = tiny_workload(
        training__epochs=2,
        training__loss="pinball",
        model__quantiles=[0.1, 0.5, 0.9],
        model__inventory={"holding_cost": HOLDING, "shortage_cost": SHORTAGE},
        evaluation__inventory={"lead_time": LEAD_TIME, "review_period": REVIEW, "beside": ["seasonal_naive"]},
        gates__limits={"service_level": {"min": 0.5}},
    )
    with write_artifact(folder / "raw", "raw"):
        pass
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        schema = Schema.model_validate(content["schema"])
        TASK.prepare(tiny_table(), schema, ForecastingPreprocess.model_validate(content["preprocess"]), draft)
    prepared = open_artifact(folder / "prepared", "prepared")
    whole = Workload("tiny", "forecasting", "", "test", content)
    model = train(whole, prepared, folder / "model", RunSettings(seed=1))
    return TASK.load_predictor(model.path), prepared, evaluate(whole, prepared, model, folder / "evaluation")


def test_the_answer_names_the_stock_of_every_lead_time(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = made
    answer = forecaster.predict(forecaster.example(read_table(prepared.path / "table.parquet")))

    assert [name for name, _ in forecaster.output_columns] == list(answer.columns)
    assert list(answer.columns)[-3:] == STOCK
    for _, rows in answer.groupby("shop"):
        np.testing.assert_allclose(rows["forecast_demand"], rows["sales"].cumsum())
        np.testing.assert_allclose(rows["reorder_point"], rows["forecast_demand"] + rows["safety_stock"])


def test_the_served_stock_is_the_evaluated_one(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, _, evaluation = made
    table, predictions = tiny_table(), read_table(evaluation.path / "predictions.parquet")
    origin = predictions["origin"].iloc[len(predictions) // 4]
    time = pd.to_datetime(table["time"])
    request = table[(time >= origin - pd.Timedelta(hours=24)) & (time < origin + pd.Timedelta(hours=6))].copy()
    request.loc[pd.to_datetime(request["time"]) >= origin, ["sales", "footfall"]] = np.nan

    answer = forecaster.predict(request)
    expected = predictions[predictions["origin"] == origin].sort_values(["shop", "time"], ignore_index=True)

    np.testing.assert_allclose(answer[STOCK], expected[STOCK], rtol=1e-5)


def test_what_it_cost_follows_from_the_predictions(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    _, _, evaluation = made
    measured, predictions = evaluation.read_json("metrics.json"), read_table(evaluation.path / "predictions.parquet")
    last, costs, served, asked = LEAD_TIME + REVIEW, [], [], []
    for _, rows in predictions.groupby(["shop", "origin"]):
        window = rows.sort_values("step")
        demand = float(window["target"].iloc[:last].sum(skipna=False))
        if np.isfinite(demand):
            stock = float(window["reorder_point"].iloc[last - 1])
            costs.append(HOLDING * max(stock - demand, 0) + SHORTAGE * max(demand - stock, 0))
            served.append(min(stock, demand))
            asked.append(demand)

    assert measured["test"]["newsvendor_cost"] == pytest.approx(np.mean(costs))
    assert measured["test"]["fill_rate"] == pytest.approx(sum(served) / sum(asked))
    assert measured["test"]["service_level"] == pytest.approx(np.mean(np.isclose(served, asked)))
    assert measured["baselines"]["seasonal_naive"]["newsvendor_cost"] > measured["test"]["newsvendor_cost"]
    assert "newsvendor_cost" not in measured["baselines"]["ridge"], "only what `beside` names has a textbook policy"
    assert set(measured["slices"]["shop=east"]) >= {"newsvendor_cost", "service_level"}


def test_the_report_shows_the_stock_and_the_gate_judges_it(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    _, _, evaluation = made

    assert (evaluation.path / "plots" / "stock.png").is_file()
    page = (evaluation.path / "report.html").read_text(encoding="utf-8")
    assert "Stock that the forecast asks for" in page
    assert "service_level 0." in page.split("What the gates asked")[1]


def test_a_service_level_and_costs_say_the_same() -> None:
    by_costs = InventorySettings(holding_cost=2.0, shortage_cost=6.0)
    by_level = InventorySettings(service_level=0.75)

    assert by_costs.level == by_level.level == pytest.approx(0.75)
    for wrong in ({}, {"holding_cost": 1.0}, {"holding_cost": 1.0, "shortage_cost": 1.0, "service_level": 0.5}):
        with pytest.raises(ValueError, match="either `holding_cost` and `shortage_cost`, or `service_level`"):
            InventorySettings.model_validate(wrong)


def test_a_lead_time_beyond_the_horizon_is_refused() -> None:
    content = tiny_workload(evaluation__inventory={"lead_time": 5, "review_period": 2})

    with pytest.raises(WorkloadError, match="6 steps together"):
        TASK.check(
            Schema.model_validate(content["schema"]),
            ForecastingPreprocess.model_validate(content["preprocess"]),
            ForecastingEvaluation.model_validate(content["evaluation"]),
            None,
        )


def test_stock_is_not_measured_of_a_model_that_decides_on_none(
    made: tuple[Forecaster, Artifact, Artifact], tmp_path: Path
) -> None:
    """`gateline check` says so before anything is trained, and evaluate of a model that was."""
    content = tiny_workload(training__epochs=1, evaluation__inventory={"lead_time": 3})
    settings = ForecastingEvaluation.model_validate(content["evaluation"])
    with pytest.raises(WorkloadError, match=r"evaluation\.inventory: expected no such key without `model\.inventory`"):
        TASK.check_evaluation(ForecasterSettings.model_validate(content["model"]), settings)

    whole = Workload("tiny", "forecasting", "", "test", content)
    model = train(whole, made[1], tmp_path / "model", RunSettings(seed=1))

    with pytest.raises(WorkloadError, match=r"evaluation\.inventory"):
        evaluate(whole, made[1], model, tmp_path / "evaluation")


def test_columns_of_volatility_that_no_baseline_reads_are_refused() -> None:
    content = tiny_workload(evaluation__volatility={"ewma": "footfall", "har": ["footfall"]})

    with pytest.raises(
        WorkloadError, match=r"evaluation\.volatility: expected no such key without a baseline that reads it"
    ):
        TASK.check(
            Schema.model_validate(content["schema"]),
            ForecastingPreprocess.model_validate(content["preprocess"]),
            ForecastingEvaluation.model_validate(content["evaluation"]),
            None,
        )
