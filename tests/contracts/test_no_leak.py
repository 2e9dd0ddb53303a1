"""Leaks planted on purpose: each is caught, or proven to change nothing that training sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.series_encoding import Encoding, regular_table, unix_seconds
from gateline.data.splits import PARTS, TimeSplit, window_runs
from gateline.errors import DataError, WorkloadError
from gateline.manifest import Draft, open_artifact, write_artifact
from gateline.tasks.forecasting import TASK, ForecastingEvaluation, ForecastingPreprocess
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload

VALIDATE_FROM = pd.Timestamp("2024-02-15T00:00:00Z")
TEST_FROM = pd.Timestamp("2024-02-28T00:00:00Z")


def sections(**changes: Any) -> tuple[Schema, ForecastingPreprocess]:
    workload = tiny_workload(**changes)
    return Schema.model_validate(workload["schema"]), ForecastingPreprocess.model_validate(workload["preprocess"])


def prepare(folder: Path, table: pd.DataFrame, **changes: Any) -> Path:
    """Write what training would read."""
    schema, preprocess = sections(**changes)
    with write_artifact(folder, "prepared") as draft:
        TASK.prepare(table, schema, preprocess, draft)
    return folder


def in_time(table: pd.DataFrame, first: pd.Timestamp, after: pd.Timestamp | None = None) -> np.ndarray:
    times = pd.to_datetime(table["time"])
    return ((times >= first) & (times < after if after is not None else True)).to_numpy()


def altered_from(first: pd.Timestamp) -> pd.DataFrame:
    table = tiny_table()
    late = in_time(table, first)
    table.loc[late, ["sales", "price"]] *= 1.5
    table.loc[late, "footfall"] += 7
    return table


def bytes_of(folder: Path, *names: str) -> list[bytes]:
    return [(folder / name).read_bytes() for name in names]


def test_changed_test_rows_change_no_statistic_no_training_row_and_no_weight(tmp_path: Path) -> None:
    workload = tiny_workload()
    runs = []
    for name, table in (("plain", tiny_table()), ("altered", altered_from(TEST_FROM))):
        prepare(tmp_path / name, table)
        model = train(
            Workload("tiny", "forecasting", "", "test", {key: workload[key] for key in ("model", "training")}),
            open_artifact(tmp_path / name, "prepared"),
            tmp_path / f"{name}-model",
            RunSettings(seed=1),
        )
        runs.append(bytes_of(tmp_path / name, "state.json") + bytes_of(model.path, "weights.pt", "history.json"))

    assert runs[0] == runs[1]
    assert bytes_of(tmp_path / "plain", "arrays/values.npy") != bytes_of(tmp_path / "altered", "arrays/values.npy")


def test_changed_validation_rows_change_no_statistic(tmp_path: Path) -> None:
    prepare(tmp_path / "plain", tiny_table())
    prepare(tmp_path / "altered", altered_from(VALIDATE_FROM))

    assert bytes_of(tmp_path / "plain", "state.json") == bytes_of(tmp_path / "altered", "state.json")


def test_changed_training_rows_do_change_the_statistics(tmp_path: Path) -> None:
    """The control: the comparison above can fail."""
    prepare(tmp_path / "plain", tiny_table())
    prepare(tmp_path / "altered", altered_from(pd.Timestamp("2024-02-01T00:00:00Z")))

    assert bytes_of(tmp_path / "plain", "state.json") != bytes_of(tmp_path / "altered", "state.json")


def test_a_planted_global_scaler_is_seen() -> None:
    """Fitting on all rows gives other statistics than the library's, so the byte comparisons above would catch it."""
    schema, preprocess = sections()
    table = regular_table(altered_from(TEST_FROM), schema)
    train_rows = preprocess.split.parts().rows("train", unix_seconds(table["time"]))

    def fit(rows: np.ndarray) -> Encoding:
        return Encoding.fit(
            table, rows, schema=schema, target="sales", past=("footfall",), known=("price",),
            calendar=preprocess.calendar, transforms={},
        )  # fmt: skip

    honest, planted = fit(train_rows), fit(np.ones(len(table), dtype=bool))

    assert honest.scalers["sales"].mean[0] == pytest.approx(table["sales"][train_rows].mean(), rel=1e-12)
    assert abs(planted.scalers["sales"].mean[0] - honest.scalers["sales"].mean[0]) > 0.5


def test_the_embargo_hides_the_end_of_training_from_the_statistics() -> None:
    schema, preprocess = sections()
    table = regular_table(tiny_table(), schema)
    rows = preprocess.split.parts().rows("train", unix_seconds(table["time"]))

    assert table["time"][rows].max() == VALIDATE_FROM - pd.Timedelta(hours=7)


def test_no_window_crosses_a_border(tmp_path: Path, rng: np.random.Generator) -> None:
    """Every target of every window lies in its part, and the embargo before each border in none; for random splits."""
    hours, lookback, horizon = 600, int(rng.integers(1, 50)), int(rng.integers(1, 30))
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    first, second = sorted(rng.choice(np.arange(200, 500), size=2, replace=False).tolist())
    second = max(second, first + 2 * horizon)
    embargo = timedelta(hours=int(rng.integers(0, horizon)))
    split = TimeSplit(begin + timedelta(hours=first), begin + timedelta(hours=second), embargo=embargo)
    one = np.arange(hours) * 3600 + int(begin.timestamp())
    times, offsets = np.concatenate([one, one]), np.array([0, hours, 2 * hours])

    runs = window_runs(times, offsets, np.ones(2 * hours, bool), split, lookback=lookback, horizon=horizon)
    origins = {part: found.rows() for part, found in runs.items()}

    targets = {part: times[origins[part][:, None] + np.arange(horizon)] for part in PARTS}
    border = {"validation": split.validate_from.timestamp(), "test": split.test_from.timestamp()}
    gap = embargo.total_seconds()
    assert targets["train"].max() < border["validation"] - gap
    assert targets["validation"].min() >= border["validation"]
    assert targets["validation"].max() < border["test"] - gap
    assert targets["test"].min() >= border["test"]
    for part in PARTS:
        series = np.searchsorted(offsets, origins[part], side="right") - 1
        assert (origins[part] - lookback >= offsets[series]).all()
        assert (origins[part] + horizon <= offsets[series + 1]).all()
    # And none is forgotten: every hour whose targets fit a part is an origin, in both series.
    assert len(origins["test"]) == 2 * (hours - horizon - max(second, lookback) + 1)


def test_a_planted_window_across_the_split_is_seen() -> None:
    """The control: windows that begin before the border and end after it exist, and are in no part."""
    hours, horizon = 400, 12
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    times = np.arange(hours) * 3600 + int(begin.timestamp())
    split = TimeSplit(begin + timedelta(hours=200), begin + timedelta(hours=300))
    runs = window_runs(times, np.array([0, hours]), np.ones(hours, bool), split, lookback=24, horizon=horizon)
    origins = {part: found.rows() for part, found in runs.items()}
    all_of_them = set(range(24, hours - horizon + 1))

    across = all_of_them - set(np.concatenate(list(origins.values())).tolist())

    assert across == set(range(200 - horizon + 1, 200)) | set(range(300 - horizon + 1, 300))


def test_shuffled_rows_give_the_same_windows_as_ordered_ones(tmp_path: Path) -> None:
    """A shuffled split is impossible: parts follow from time stamps, not from the order of rows."""
    prepare(tmp_path / "ordered", tiny_table())
    prepare(tmp_path / "shuffled", tiny_table().sample(frac=1, random_state=3))

    for name in ("state.json", "arrays/values.npy", "windows/train.npy", "windows/test.npy"):
        assert bytes_of(tmp_path / "ordered", name) == bytes_of(tmp_path / "shuffled", name)


@pytest.mark.parametrize("rule", ["random", "shuffle"])
def test_a_shuffled_split_cannot_be_asked_for(rule: str) -> None:
    with pytest.raises(ValueError, match="time"):
        ForecastingPreprocess.model_validate(
            tiny_workload(preprocess__split={"rule": rule, "validate_from": VALIDATE_FROM, "test_from": TEST_FROM})[
                "preprocess"
            ]
        )


def test_what_a_past_column_says_after_the_origin_reaches_no_input(tmp_path: Path) -> None:
    """A column that holds the future target is planted as `past`: no input of a window reads it at or after the origin."""
    table = tiny_table()
    table["footfall"] = table.groupby("shop")["sales"].shift(-1).fillna(0).clip(0, 100).round().astype(int)
    prepare(tmp_path / "prepared", table)
    other = table.copy()
    late = in_time(other, TEST_FROM)
    other.loc[late, "footfall"] = (other.loc[late, "footfall"] + 13) % 100
    prepare(tmp_path / "other", other)

    first = {}
    for name in ("prepared", "other"):
        dataset = TASK.dataset(open_artifact(tmp_path / name, "prepared"), "test")
        # The first test windows of both series, one after the other: their origin is the border itself.
        first[name] = dataset.__getitems__(np.array([0, len(dataset) // 2]))

    assert (first["prepared"].past == first["other"].past).all()
    assert (first["prepared"].known == first["other"].known).all()


def test_the_target_cannot_be_declared_known_ahead() -> None:
    schema, preprocess = sections(preprocess__known=["sales"])

    with pytest.raises(WorkloadError, match="one role"):
        TASK.check(schema, preprocess, None, None)


def test_the_target_after_the_origin_reaches_no_forecast(tmp_path: Path) -> None:
    """Asked for the same origin, the served model answers the same, whatever the rows to forecast claim."""
    workload = tiny_workload(training__epochs=1)
    prepare(tmp_path / "prepared", tiny_table())
    prepared = open_artifact(tmp_path / "prepared", "prepared")
    model = train(
        Workload("tiny", "forecasting", "", "test", {key: workload[key] for key in ("model", "training")}),
        prepared,
        tmp_path / "model",
        RunSettings(seed=1),
    )
    predictor = TASK.load_predictor(model.path)
    request = predictor.example(tiny_table())
    answer = predictor.predict(request)
    claimed = request.copy()
    future = claimed.groupby("shop").cumcount() >= 24
    claimed.loc[future, "sales"], claimed.loc[future, "footfall"] = 99.0, 1

    assert predictor.predict(claimed).equals(answer)


def test_baselines_use_the_split_of_the_model() -> None:
    """No section of a baseline has a split or a scaler of its own."""
    known = {"season", "cycle", "baselines", "slices", "metrics", "step_metrics", "volatility", "inventory"}
    assert set(ForecastingEvaluation.model_fields) == known


def test_a_part_without_windows_is_refused(tmp_path: Path) -> None:
    schema, preprocess = sections(
        preprocess__split={"validate_from": "2024-03-05T00:00:00Z", "test_from": "2024-03-20T00:00:00Z"}
    )

    with pytest.raises(DataError, match=r"preprocess\.split: test"):
        TASK.prepare(tiny_table(), schema, preprocess, Draft(tmp_path))
