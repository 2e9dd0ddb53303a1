"""The served model answers a request made of rows of the table with the very numbers that were evaluated."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.series_encoding import Encoding, regular_table
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


def make(folder: Path, table: pd.DataFrame | None = None, **changes: Any) -> tuple[Forecaster, Artifact, Artifact]:
    content = tiny_workload(training__epochs=1, **changes)
    with write_artifact(folder / "raw", "raw"):
        pass
    raw = open_artifact(folder / "raw", "raw")
    with write_artifact(folder / "prepared", "prepared", {"raw": raw}) as draft:
        TASK.prepare(
            tiny_table() if table is None else table,
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


def test_two_columns_of_one_name_are_refused(with_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    from mlflow.exceptions import MlflowException

    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE))

    for name in ("price", "shop"):
        with pytest.raises(MlflowException, match=f"one column of a name; found more {name}"):
            served(forecaster).predict(None, pd.concat([asked, asked[[name]]], axis=1))


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


def test_a_past_without_any_value_of_the_target_is_refused_whatever_the_schema_allows(
    with_known: tuple[Forecaster, Artifact, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster, prepared, _ = with_known
    asked = forecaster.example(read_table(prepared.path / TABLE)).assign(sales=np.nan)
    columns = forecaster.encoding.schema.columns
    monkeypatch.setitem(columns, "sales", columns["sales"].model_copy(update={"missing_share": 1.0}))

    with pytest.raises(DataError, match=rf"column sales: expected a value in some of the {LOOKBACK} past steps"):
        forecaster.predict(asked)


def open_hours() -> pd.DataFrame:
    """The shops' table with rows for the nine hours that they are open."""
    table = tiny_table()
    return table[pd.to_datetime(table["time"]).dt.hour.between(9, 17)].reset_index(drop=True)


@pytest.fixture(scope="module")
def open_by_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forecaster, Artifact, Artifact]:
    return make(
        tmp_path_factory.mktemp("open"),
        open_hours(),
        schema__time={"column": "time", "frequency": "1h", "max_missing": 2500},
        preprocess__known=[],
        preprocess__past=["footfall", "price"],
    )


@pytest.mark.parametrize("hour", [9, 13, 18])  # as it opens, while it is open, as it shuts
def test_of_a_table_with_few_rows_what_was_evaluated_is_answered(
    hour: int, open_by_day: tuple[Forecaster, Artifact, Artifact]
) -> None:
    forecaster, _, evaluation = open_by_day
    origins = read_table(evaluation.path / "predictions.parquet")["origin"]
    origin = (
        origins[origins.dt.hour == hour].iloc[20]
        if hour < 18
        else origins.dt.normalize().iloc[20] + pd.Timedelta("18h")
    )
    table = open_hours()
    rows = table[pd.to_datetime(table["time"]).between(origin - pd.Timedelta("40h"), origin, inclusive="left")]

    answer = served(forecaster).predict(None, rows, {"origin": origin.isoformat()})

    assert answer["flags"].unique().tolist() == [""]
    if hour < 18:
        np.testing.assert_allclose(answer["sales"], evaluated(evaluation, origin)["forecast"], rtol=1e-5)


def test_fewer_rows_than_in_training_are_flagged_and_fewer_than_half_refused(
    open_by_day: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, _, _ = open_by_day
    asked = open_hours().groupby("shop").tail(18)
    asked = asked[asked["shop"] == "east"].reset_index(drop=True)
    assert forecaster.encoding.fewest_present == 9 / LOOKBACK

    few = served(forecaster).predict(None, asked.drop(index=asked.index[9:13]))

    assert few["flags"].unique().tolist() == ["time: no row for 19 of 24 past steps, beyond the 15 of training"]
    with pytest.raises(DataError, match=r"rows for the 24 steps .* half as many .* found 4 of them"):
        forecaster.predict(asked.drop(index=asked.index[9:14]))


def test_the_example_has_the_rows_of_the_table_alone(open_by_day: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = open_by_day

    example = forecaster.example(read_table(prepared.path / TABLE))

    assert len(example) == 2 * (9 + 1), "the last says that nothing is left out before the window"
    assert example["sales"].notna().mean() > 0.8
    answer = forecaster.predict(regular_table(open_hours(), forecaster.encoding.schema))
    pd.testing.assert_frame_equal(forecaster.predict(example), answer)


def test_a_model_that_did_not_count_the_rows_of_training_refuses_ends_alone(
    open_by_day: tuple[Forecaster, Artifact, Artifact],
) -> None:
    forecaster, prepared, _ = open_by_day
    state = forecaster.encoding.to_json()
    assert Encoding.from_json(state) == forecaster.encoding
    del state["fewest_present"]
    older = TASK.load_predictor(prepared.path.parent / "model")
    older.encoding = Encoding.from_json(state)
    asked = older.example(read_table(prepared.path / TABLE)).query("shop == 'east'").reset_index(drop=True)

    older.predict(asked.iloc[[0, 5, -1]])

    with pytest.raises(DataError, match="found 1 of them"):
        older.predict(asked.iloc[[0, -1]])


def test_two_rows_a_window_apart_are_refused(with_known: tuple[Forecaster, Artifact, Artifact]) -> None:
    forecaster, prepared, _ = with_known
    assert "fewest_present" not in forecaster.encoding.to_json(), "the schema says that no row may be absent"
    asked = forecaster.example(read_table(prepared.path / TABLE))
    asked = asked[asked["shop"] == "east"].reset_index(drop=True)

    forecaster.predict(asked.drop(index=asked.index[1:13]))

    for dropped in (asked.index[1:-1], asked.index[1:14]):
        with pytest.raises(DataError, match=r"rows for the 24 steps .* found (1|11) of them"):
            forecaster.predict(asked.drop(index=dropped))


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
