"""A forecaster with texts, static columns, quantiles and intervals, scaled per series: no leak, and served as evaluated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.baselines.forecasting import BASELINES
from gateline.baselines.forecasting_problem import Problem
from gateline.data.prepared_windows import STATE, open_store, read_windows
from gateline.data.series_encoding import Encoding
from gateline.errors import DataError, WorkloadError
from gateline.evaluation import evaluate
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.metrics import interval_metrics, pinball
from gateline.paired import on_the_same_rows
from gateline.predictors.forecasting import Forecaster
from gateline.table import read_table
from gateline.tasks.forecasting import TASK, ForecastingPreprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from tests.tiny import TINY, tiny_table, tiny_workload

LOOKBACK, HORIZON = 24, 6
QUANTILES, COVERAGES = (0.1, 0.5, 0.9), (0.5, 0.9)
TEST_FROM = pd.Timestamp("2024-02-28T00:00:00Z")
COLUMNS = {
    **TINY["schema"]["columns"],
    "weather": {"type": "text", "missing_share": 0.5},
    "campaign": {"type": "text", "missing_share": 0.9},
    "town": {"type": "text"},
    "area": {"type": "float", "min": 0},
}
SETTINGS: Mapping[str, Any] = {
    "schema__columns": COLUMNS,
    "preprocess__past": ["footfall", "weather"],
    "preprocess__known": ["price", "campaign"],
    "preprocess__static": ["town", "area"],
    "preprocess__scaling": "series",
    "model": {
        "mode": "segment",
        "segment": 4,
        "hidden_size": 12,
        "normalisation": "revin",
        "quantiles": list(QUANTILES),
        "intervals": list(COVERAGES),
    },
    "training__epochs": 1,
    "training__loss": "pinball",
    "training__monitor": "mae_scaled",
}


def rich_table() -> pd.DataFrame:
    """The tiny table with a past text, a known text, a static text and a static number."""
    table = tiny_table()
    hour = np.arange(len(table)) % (len(table) // 2)
    return table.assign(
        weather=pd.Series(np.array(["dry", "rain", "snow"])[hour // 7 % 3]).mask(hour % 5 == 0),
        campaign=np.array(["none", "flyer", "radio"])[hour // 24 % 3],
        town=table["shop"].map({"east": "Aarau", "west": "Baden"}),
        area=table["shop"].map({"east": 120.0, "west": 300.0}),
    )


def prepare(folder: Path, table: pd.DataFrame, **changes: Any) -> Artifact:
    content = tiny_workload(**{**SETTINGS, **changes})
    with write_artifact(folder / "raw", "raw"):
        pass
    with write_artifact(folder / "prepared", "prepared", {"raw": open_artifact(folder / "raw", "raw")}) as draft:
        schema = Schema.model_validate(content["schema"])
        preprocess = ForecastingPreprocess.model_validate(content["preprocess"])
        TASK.check(schema, preprocess, None, None)
        TASK.prepare(table, schema, preprocess, draft)
    return open_artifact(folder / "prepared", "prepared")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("rich")
    prepared = prepare(folder, rich_table())
    whole = Workload("tiny", "forecasting", "", "test", tiny_workload(**SETTINGS))
    model = train(whole, prepared, folder / "model", RunSettings(seed=1))
    evaluation = evaluate(whole, prepared, model, folder / "evaluation")
    return TASK.load_predictor(model.path), prepared, evaluation


def request(origin: pd.Timestamp) -> pd.DataFrame:
    table = rich_table()
    time = pd.to_datetime(table["time"])
    rows = table[(time >= origin - pd.Timedelta(hours=LOOKBACK)) & (time < origin + pd.Timedelta(hours=HORIZON))]
    future = pd.to_datetime(rows["time"]) >= origin
    return rows.assign(
        sales=rows["sales"].mask(future),
        footfall=rows["footfall"].astype(float).mask(future),
        weather=rows["weather"].mask(future),
    )


def test_every_column_of_an_answer_equals_the_evaluated_one(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, _, evaluation = made
    table = read_table(evaluation.path / "predictions.parquet")
    origin = table["origin"].drop_duplicates().sort_values().iloc[40]
    expected = table[table["origin"] == origin].sort_values(["shop", "time"], ignore_index=True)

    answer = forecaster.predict(request(origin))

    assert answer.columns.tolist() == [name for name, _ in forecaster.output_columns]
    ends = [f"{end}_{coverage}" for coverage in (50, 90) for end in ("low", "high")]
    assert answer.columns.tolist()[3:] == [f"sales_{name}" for name in ("q10", "q50", "q90", *ends)]
    for name in answer.columns[2:]:
        np.testing.assert_allclose(answer[name], expected[name.replace("sales", "forecast")], rtol=1e-5, err_msg=name)
    assert (answer["sales_low_90"] <= answer["sales_low_50"]).all()
    assert (answer["sales_q10"] <= answer["sales"]).all()
    np.testing.assert_array_equal(answer["sales"], answer["sales_q50"])


def test_models_of_other_quantiles_are_not_compared_by_the_pinball_loss(
    made: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, evaluation = made
    other = copy.copy(forecaster)
    other.levels = (0.01, 0.5, 0.99)  # a mean over farther levels is less, and no better

    mine, theirs = (each.test_errors(prepared, "pinball") for each in (forecaster, other))

    assert mine.score() == pytest.approx(evaluation.read_json("metrics.json")["test"]["pinball"], rel=1e-5)
    assert theirs.score() < mine.score()
    assert not on_the_same_rows(theirs, mine)
    assert on_the_same_rows(*(each.test_errors(prepared, "mae") for each in (forecaster, other)))


def test_the_evaluation_measures_quantiles_and_intervals(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    _, _, evaluation = made
    table = read_table(evaluation.path / "predictions.parquet")
    shape = (-1, HORIZON)
    column = {name: table[name].to_numpy(float).reshape(shape) for name in table if table[name].dtype == float}
    measured = evaluation.read_json("metrics.json")

    quantiles = np.stack([column[f"forecast_q{level:g}"] for level in (10, 50, 90)], axis=2)
    assert measured["test"]["pinball"] == pytest.approx(pinball(quantiles, column["target"], QUANTILES))
    for coverage in COVERAGES:
        lower, upper = (column[f"forecast_{end}_{100 * coverage:g}"] for end in ("low", "high"))
        for name, value in interval_metrics(lower, upper, column["target"], coverage).items():
            assert measured["test"][name] == pytest.approx(value)
            assert name in measured["slices"]["shop=east"]
    assert len(measured["details"]["coverage_by_step"]["90"]) == HORIZON
    assert "coverage_90" in (evaluation.path / "report.html").read_text(encoding="utf-8")
    assert (evaluation.path / "plots" / "coverage_by_step.png").is_file()


def test_intervals_hold_on_the_part_that_calibrated_them(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = made
    store, origins = open_store(prepared), read_windows(prepared, "validation")
    target = np.asarray(store.arrays["raw_target"])[origins[:, None] + np.arange(HORIZON)]

    found = forecaster.forecast_windows(store, origins).intervals

    for coverage, (lower, upper) in found.items():
        for step in range(HORIZON):
            share = interval_metrics(lower[:, step], upper[:, step], target[:, step], coverage)
            observed = int(np.isfinite(target[:, step]).sum())
            # One target lies on the very end of the interval; rounding decides on which side.
            assert abs(share[f"coverage_{100 * coverage:g}"] - coverage) <= 2 / observed


def test_vocabularies_and_scales_are_fitted_on_the_training_part(tmp_path: Path) -> None:
    table = rich_table()
    later = pd.to_datetime(table["time"]) >= TEST_FROM
    changed = table.assign(
        weather=table["weather"].mask(later, "hail"),
        campaign=table["campaign"].mask(later, "television"),
        sales=table["sales"].mask(later, table["sales"] * 2),
    )
    honest, planted = prepare(tmp_path / "honest", table), prepare(tmp_path / "planted", changed)

    assert honest.read_json(STATE) == planted.read_json(STATE)
    encoding = Encoding.from_json(honest.read_json(STATE)["encoding"])
    assert encoding.vocabularies["weather"].texts == ("dry", "rain", "snow")
    assert len(encoding.scalers["sales"].mean) == 2
    assert len(encoding.scalers["area"].mean) == 1


def test_a_text_that_training_has_not_seen_reads_as_a_missing_one(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster = made[0]
    rows = request(TEST_FROM + pd.Timedelta(days=3))

    unknown = forecaster.predict(rows.assign(weather="hail"))

    pd.testing.assert_frame_equal(unknown, forecaster.predict(rows.assign(weather=None)))
    assert not unknown.equals(forecaster.predict(rows.assign(weather="rain")))


def test_a_static_column_that_changes_is_refused(tmp_path: Path) -> None:
    table = rich_table()

    with pytest.raises(DataError, match=r"column area: expected one value for each series.*several for east, west"):
        prepare(tmp_path, table.assign(area=np.arange(len(table)).astype(float)))


def test_baselines_read_texts_and_static_columns(made: tuple[Forecaster, Artifact, Artifact]) -> None:
    """A campaign that lifts sales by 30 is seen by the ridge, which knows it ahead, and not by the naive ones."""
    _, prepared, _ = made
    encoding = Encoding.from_json(prepared.read_json(STATE)["encoding"])
    store = open_store(prepared)
    place = encoding.value_names().index("campaign")
    values = np.array(store.arrays["values"])
    lift = 30 * (values[:, place] == 1)
    raw = np.asarray(store.arrays["raw_target"]) + lift
    values[:, 0] = encoding.scalers["sales"].forward(raw, np.repeat([0, 1], np.diff(store.offsets)))
    lifted = type(store)({**store.arrays, "values": values, "raw_target": raw}, store.offsets, store.statics)
    origins = {part: read_windows(prepared, part) for part in ("train", "validation", "test")}
    problem = Problem(lifted, encoding, origins, LOOKBACK, HORIZON, season=24, cycle=24)
    target = raw[problem.steps("test")]

    error = {name: np.nanmean(np.abs(BASELINES[name](problem, "test") - target)) for name in BASELINES}

    assert error["ridge"] < 0.6 * error["nlinear"]
    assert error["gradient_boosting"] < 0.6 * error["nlinear"]


@pytest.mark.parametrize(
    ("model", "loss"), [({"quantiles": [0.5, 0.9]}, "absolute"), ({}, "pinball")], ids=["quantiles", "no quantiles"]
)
def test_quantiles_and_the_pinball_loss_need_each_other(model: dict[str, Any], loss: str, tmp_path: Path) -> None:
    prepared = prepare(tmp_path, rich_table())
    content = tiny_workload(**{**SETTINGS, "model": {"hidden_size": 4, **model}, "training__loss": loss})

    with pytest.raises(WorkloadError, match=r"`pinball` with `model\.quantiles`, and only then"):
        train(Workload("tiny", "forecasting", "", "test", content), prepared, tmp_path / "model", RunSettings(seed=1))


def test_the_task_accepts_only_metrics_that_can_be() -> None:
    content = tiny_workload(**SETTINGS)
    schema = Schema.model_validate(content["schema"])
    evaluation = TASK.Evaluation.model_validate(content["evaluation"])

    def gates(**limits: Any) -> Gates:
        return Gates.model_validate({**content["gates"], "limits": limits})

    preprocess = ForecastingPreprocess.model_validate(content["preprocess"])
    TASK.check(
        schema, preprocess, evaluation, gates(coverage_90={"min": 0.8}, pinball={"max": 3}, mse_scaled={"max": 1})
    )
    with pytest.raises(WorkloadError, match="coverage"):
        TASK.check(schema, preprocess, evaluation, gates(coverage={"min": 0.8}))
