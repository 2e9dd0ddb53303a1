"""The served model answers a request made of rows of the table with the very numbers that were evaluated."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.series_encoding import regular_table
from gateline.errors import DataError
from gateline.evaluation import evaluate
from gateline.input_check import InputCheck
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.predictors.forecasting import Forecaster, localised
from gateline.table import TABLE, as_frame, clean, read_table
from gateline.tasks.forecasting import TASK, ForecastingPreprocess
from gateline.training import RunSettings, train
from gateline.training_statistics import training_statistics
from gateline.workload import Workload
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload

LOOKBACK, HORIZON = 24, 6


def make(folder: Path, **changes: Any) -> tuple[Forecaster, Artifact, Artifact]:
    content = tiny_workload(training__epochs=1, **changes)
    with write_artifact(folder / "raw", "raw"):
        pass
    raw = open_artifact(folder / "raw", "raw")
    with write_artifact(folder / "prepared", "prepared", {"raw": raw}) as draft:
        TASK.prepare(
            tiny_table(),
            Schema.model_validate(content["schema"]),
            ForecastingPreprocess.model_validate(content["preprocess"]),
            draft,
        )
    prepared = open_artifact(folder / "prepared", "prepared")
    whole = Workload("tiny", "forecasting", "", "test", content)
    model = train(whole, prepared, folder / "model", RunSettings(seed=1))
    evaluation = evaluate(whole, prepared, model, folder / "evaluation")
    return TASK.load_predictor(model.path), prepared, evaluation


@pytest.fixture(scope="module")
def with_known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Artifact, Artifact]:
    return make(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def without_known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Artifact, Artifact]:
    return make(tmp_path_factory.mktemp("unknown"), preprocess__known=[], preprocess__past=["footfall", "price"])


def request(origin: pd.Timestamp, ahead: int) -> pd.DataFrame:
    """Rows around an origin, as they stand in the file that a user has."""
    table = tiny_table()
    time = pd.to_datetime(table["time"])
    inside = (time >= origin - pd.Timedelta(hours=LOOKBACK)) & (time < origin + pd.Timedelta(hours=ahead))
    rows = table[inside].copy()
    future = pd.to_datetime(rows["time"]) >= origin
    return rows.assign(sales=rows["sales"].mask(future), footfall=rows["footfall"].astype(float).mask(future))


def evaluated(evaluation: Artifact, origin: pd.Timestamp) -> pd.DataFrame:
    table = read_table(evaluation.path / "predictions.parquet")
    return table[table["origin"] == origin].sort_values(["shop", "time"], ignore_index=True)


@pytest.mark.parametrize("place", [0, 17, 100, -1])
def test_an_answer_equals_the_evaluated_forecast(place: int, with_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, _, evaluation = with_known
    origins = read_table(evaluation.path / "predictions.parquet")["origin"].drop_duplicates().sort_values()
    origin = origins.iloc[place]

    answer = forecaster.predict(request(origin, HORIZON))

    expected = evaluated(evaluation, origin)
    assert answer["shop"].tolist() == expected["shop"].tolist()
    assert answer["time"].tolist() == expected["time"].tolist()
    np.testing.assert_allclose(answer["sales"], expected["forecast"], rtol=1e-5)


def test_without_columns_known_ahead_the_past_is_enough(without_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, _, evaluation = without_known
    origin = read_table(evaluation.path / "predictions.parquet")["origin"].iloc[60]

    answer = forecaster.predict(request(origin, 0))

    np.testing.assert_allclose(answer["sales"], evaluated(evaluation, origin)["forecast"], rtol=1e-5)


def test_the_champions_way_of_scoring_gives_the_same_forecasts(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, evaluation = with_known
    scores = read_table(evaluation.path / "predictions.parquet")
    error = (scores["forecast"] - scores["target"]).abs()
    there = scores["target"].notna()

    errors = forecaster.test_errors(prepared, "mae", ["shop=west"])

    assert errors.count.sum() == there.sum()
    assert errors.score() == pytest.approx(error.mean(), rel=1e-5)
    assert errors.slices == {"shop=west": pytest.approx(error[scores["shop"] == "west"].mean(), rel=1e-5)}
    assert sorted(set(errors.position)) == sorted(set(scores["origin"].astype("int64") // 10**6))


def test_order_of_rows_and_columns_and_more_of_the_past_change_nothing(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, _ = with_known
    plain = forecaster.example(read_table(prepared.path / TABLE))
    answer = forecaster.predict(plain)

    shuffled = plain.sample(frac=1, random_state=0)[list(reversed(plain.columns))]
    pd.testing.assert_frame_equal(forecaster.predict(shuffled), answer)
    one = plain[plain["shop"] == "west"]
    only = forecaster.predict(one)
    np.testing.assert_allclose(only["sales"], answer.loc[answer["shop"] == "west", "sales"], rtol=1e-5)


def test_a_row_that_is_absent_is_a_row_without_values(
    with_known: tuple[Forecaster, Artifact, Artifact], rng: np.random.Generator
) -> None:
    forecaster, prepared, _ = with_known
    plain = forecaster.example(read_table(prepared.path / TABLE))
    first = plain[plain["shop"] == plain["shop"].iloc[0]]
    gone = first.index[rng.choice(np.arange(1, LOOKBACK), 3, replace=False)]
    empty = plain.copy()
    empty.loc[gone, ["sales", "footfall", "price"]] = np.nan

    pd.testing.assert_frame_equal(forecaster.predict(plain.drop(index=gone)), forecaster.predict(empty))


def test_the_origin_may_be_said_or_follow_from_the_rows(
    with_known: tuple[Forecaster, Artifact, Artifact], without_known: tuple[Forecaster, Artifact, Artifact]
) -> None:
    for (forecaster, _, _), ahead in ((with_known, HORIZON), (without_known, 0)):
        origin = pd.Timestamp(tiny_table()["time"].iloc[1500])
        wider = regular_table(tiny_table(), forecaster.encoding.schema)

        answer = forecaster.predict(request(origin, ahead))

        assert answer["time"].min() == origin
        told = forecaster.predict(wider, origin=origin)
        pd.testing.assert_frame_equal(told, answer)


@pytest.mark.parametrize("hour", ["2024-03-10T02:30:00", "2023-11-05T01:00:00"])  # skipped, and shown twice
def test_an_origin_that_the_clock_does_not_tell_is_refused(hour: str) -> None:
    with pytest.raises(DataError, match=rf"params\.origin: .*New_York shows once.* found {hour.replace('T', ' ')}"):
        localised(pd.Timestamp(hour), "America/New_York")

    assert localised(pd.Timestamp("2024-03-10T03:30:00"), "America/New_York") == pd.Timestamp("2024-03-10T07:30:00Z")


def test_an_origin_without_an_offset_is_read_in_the_time_of_the_table(
    with_known: tuple[Forecaster, Artifact, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster, prepared, _ = with_known
    origin = pd.Timestamp(tiny_table()["time"].iloc[1500])
    asked = forecaster._asked
    assert asked.time is not None
    local = asked.time.model_copy(update={"timezone": "America/New_York"})
    monkeypatch.setattr(forecaster, "_asked", asked.model_copy(update={"time": local}))
    wider = read_table(prepared.path / TABLE)

    answer = forecaster.predict(wider, origin=origin.tz_convert("America/New_York").strftime("%Y-%m-%dT%H:%M:%S"))

    assert answer["time"].min() == origin
    with pytest.raises(DataError, match=r"params\.origin"):
        forecaster.predict(wider, origin="2024-03-10T02:30:00")


def served(forecaster: Forecaster) -> Any:
    """The model as MLflow serves it, without the time that MLflow takes to load it."""
    from gateline.adapters.served_model import ServedModel

    schema = Schema.model_validate(tiny_workload()["schema"])
    trained_on = as_frame(clean(tiny_table(), schema)).query("time < '2024-02-15T00:00:00Z'")
    columns = [name for name, _, _ in forecaster.input_columns]
    model = ServedModel()
    model.predictor, model.times = forecaster, ["time"]
    model.check = InputCheck(training_statistics(trained_on, schema), columns, {})
    return model


def test_the_served_model_answers_as_the_library_does_but_for_times_as_text(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))
    answer = forecaster.predict(asked)

    as_text = answer["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    expected = answer.assign(time=as_text, flags="").astype({"flags": answer["shop"].dtype})
    pd.testing.assert_frame_equal(served(forecaster).predict(None, asked), expected)


def test_what_training_has_not_seen_is_answered_and_flagged_for_its_series_alone(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))
    usual = served(forecaster).predict(None, asked)
    first, second = asked["shop"].unique()
    asked.loc[asked["shop"] == second, "price"] = 99.0

    answer = served(forecaster).predict(None, asked)

    flags = answer.groupby("shop")["flags"].unique()
    assert flags[first].tolist() == [""]
    assert re.fullmatch(r"price: 99 above the [0-9.]+ of training in 30 rows", flags[second].item())
    of_first = usual["shop"] == first
    np.testing.assert_array_equal(answer.loc[of_first, "sales"], usual.loc[of_first, "sales"])


def test_more_missing_values_than_the_schema_allows_are_flagged_for_their_series_alone(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))
    first, second = asked["shop"].unique()
    rows = asked.index[asked["shop"] == second]
    asked.loc[rows[:LOOKBACK], "sales"] = 60.0
    asked.loc[rows[2:14], "sales"] = np.nan  # the schema allows a tenth
    asked.loc[rows[:3], "footfall"] = np.nan
    asked.loc[rows[5], "price"] = np.nan
    asked = asked.drop(index=rows[8])  # a row that is absent lacks everything

    answer = served(forecaster).predict(None, asked)

    flags = answer.groupby("shop")["flags"].unique()
    assert flags[first].tolist() == [""]
    assert flags[second].item().split("; ") == [
        "sales: missing in 12 of 24 past steps, beyond the 10.0% of the schema",
        "footfall: missing in 4 of 24 past steps",
        "price: missing in 2 of 24 past steps",
    ]


def test_rows_that_the_schema_lets_be_absent_are_no_flag_and_half_of_them_must_come(tmp_path: Path) -> None:
    time = {"column": "time", "frequency": "1h", "max_missing": 100}
    forecaster, prepared, _ = make(
        tmp_path, schema__time=time, preprocess__known=[], preprocess__past=["footfall", "price"]
    )
    asked = forecaster.example(read_table(prepared.path / TABLE))
    asked = asked[asked["shop"] == "east"].reset_index(drop=True)

    half = served(forecaster).predict(None, asked.drop(index=asked.index[1:13]))

    assert half["flags"].unique().tolist() == [""]
    with pytest.raises(DataError, match=r"expected 24 rows from .* found 11 of them"):
        forecaster.predict(asked.drop(index=asked.index[1:14]))


def test_rows_far_apart_cost_no_memory(with_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))
    early = asked.head(1).assign(time="0100-01-01T00:00:00Z")
    moved = pd.concat([early, asked.assign(time=asked["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))])

    tracemalloc.start()
    answer = forecaster.predict(moved)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    pd.testing.assert_frame_equal(answer, forecaster.predict(asked))
    assert peak < 20e6, "17 million hours lie between"


def test_the_example_ends_where_the_target_does(with_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = with_known
    table = read_table(prepared.path / TABLE)
    last = table["time"] >= table["time"].max() - pd.Timedelta(hours=99)
    table.loc[last & (table["shop"] == "west"), "sales"] = np.nan
    table.loc[table["shop"] == "east", "sales"] = np.nan

    example = forecaster.example(table)

    assert example["shop"].unique().tolist() == ["west"]
    assert forecaster.predict(example)["time"].min() == table["time"].max() - pd.Timedelta(hours=99)


def test_a_value_that_is_refused_is_named_by_row_and_column(
    with_known: tuple[Forecaster, Artifact, Artifact],
) -> None:
    from mlflow.exceptions import MlflowException

    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))
    asked.loc[5, "price"] = -1.0

    with pytest.raises(
        MlflowException, match=r"^request, row 5, column price: expected values from 0 to 100; found -1"
    ):
        served(forecaster).predict(None, asked)


@pytest.mark.parametrize("also_wrong", [{}, {"price": -1.0}], ids=["alone", "beside a price out of range"])
@pytest.mark.parametrize("column", ["shop", "time"])
def test_the_served_model_names_rows_without_a_place_by_the_clients_own_numbers(
    column: str, also_wrong: dict[str, float], with_known: tuple[Forecaster, Artifact, Artifact]
) -> None:
    from mlflow.exceptions import MlflowException

    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE)).assign(**also_wrong)
    asked.loc[[3, 7], column] = None

    with pytest.raises(
        MlflowException, match=rf"request, column {column}: expected a value .*none in row 3, 7\. Add it"
    ):
        served(forecaster).predict(None, asked)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.iloc[:0], "found none"),
        (lambda r: r.drop(columns="price"), "no price"),
        (lambda r: r.assign(shop="north"), "found north"),
        (lambda r: r.groupby("shop").tail(20), "30 rows from"),
        (lambda r: r.assign(price="cheap"), "expected numbers"),
        (lambda r: r.assign(price=-1.0), "from 0 to 100"),
        (lambda r: r.assign(time="soon"), "ISO 8601"),
        (lambda r: r.assign(shop=None), "column shop"),
        (lambda r: pd.concat([r, r.head(1)]), "twice"),
    ],
    ids=[
        "nothing",
        "no column",
        "unknown series",
        "too short",
        "text",
        "out of range",
        "no time",
        "no name",
        "a row twice",
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    spoil: Any, words: str, with_known: tuple[Forecaster, Artifact, Artifact]
) -> None:
    forecaster, _, evaluation = with_known
    origin = read_table(evaluation.path / "predictions.parquet")["origin"].iloc[0]

    with pytest.raises(DataError, match=words):
        forecaster.predict(spoil(request(origin, HORIZON)))
