"""The ridge of forecasting against scikit-learn's, and on planted data that only one way of reading them forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from gateline.baselines import forecasting_ridge
from gateline.baselines.forecasting import BASELINES
from gateline.baselines.forecasting_problem import Problem
from gateline.data.calendar import Calendar
from gateline.data.prepared_windows import read_windows
from gateline.data.series_encoding import Encoding, regular_table, unix_seconds
from gateline.data.splits import TimeSplit, by_time, window_runs
from gateline.scoring.baseline_problem import baseline_problem
from gateline.tasks.forecasting import TASK
from gateline.workload.schema import Schema
from tests.tiny import TINY, prepare_tiny, tiny_table

LOOKBACK, HORIZON, SEASON = 24, 3, 24
PARTS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As evaluate does."""
    with threadpool_limits(1):
        yield


def problem_of(table: pd.DataFrame, columns: Mapping[str, Any], past: tuple[str, ...] = (), **more: Any) -> Problem:
    keys = more.pop("keys", ["shop"])
    content = {**TINY["schema"], "keys": keys, "columns": {**TINY["schema"]["columns"], **columns}}
    schema = Schema.model_validate(content)
    table = regular_table(table, schema)
    times = unix_seconds(table["time"])
    split = TimeSplit(pd.Timestamp("2024-02-15T00:00:00Z"), pd.Timestamp("2024-02-28T00:00:00Z"))
    encoding = Encoding.fit(
        table, split.rows("train", times), schema=schema, target="sales", past=past, calendar=Calendar(hour_of_day=1),
        **{"known": (), "transforms": {}, "scaling": "series", **more},
    )  # fmt: skip
    store = encoding.encode(table)
    observed = np.isfinite(store.arrays["values"][:, 0])
    runs = window_runs(times, store.offsets, observed, split, lookback=LOOKBACK, horizon=HORIZON)
    origins = {part: by_time(rows.rows(), times) for part, rows in runs.items()}
    return Problem(store, encoding, origins, LOOKBACK, HORIZON, SEASON, SEASON)


def error(problem: Problem) -> float:
    """Mean absolute error on the test part, in deviations of the target."""
    raw = np.asarray(problem.store.arrays["raw_target"])
    difference = np.abs(BASELINES["ridge"](problem, "test") - raw[problem.steps("test")])
    return float(np.nanmean(difference / np.array(problem.encoding.target_deviation)[problem.series("test")][:, None]))


def planted(sales: np.ndarray, **columns: Any) -> pd.DataFrame:
    return tiny_table().assign(sales=sales, **columns)


def shifted(values: np.ndarray, lag: int) -> np.ndarray:
    """The values of so many rows before, of two series, each one half of the rows."""
    return np.concatenate([np.roll(half, lag) for half in np.split(values, 2)])


def test_an_older_step_of_a_covariate_is_read() -> None:
    """Nothing but the footfall ten hours before says what is sold: its newest step is noise, and so are sales of the past."""
    footfall = np.random.default_rng(3).integers(0, 100, len(tiny_table()))
    sales = 3.0 * shifted(footfall, 10)

    assert error(problem_of(planted(sales, footfall=footfall), {}, ("footfall",))) < 0.1


def test_an_older_text_of_the_past_is_read() -> None:
    sky = np.random.default_rng(4).choice(["dry", "rain", "snow"], len(tiny_table()))
    sales = 10.0 * (shifted(sky, 5) == "rain")

    assert error(problem_of(planted(sales, sky=sky), {"sky": {"type": "text"}}, ("sky",))) < 0.1


def test_an_older_step_of_what_is_known_ahead_is_read() -> None:
    price = np.random.default_rng(5).uniform(1, 99, len(tiny_table()))
    sales = 2.0 * shifted(price, 8)

    assert error(problem_of(planted(sales, price=price), {}, known=("price",))) < 0.1


def test_that_an_older_step_is_missing_is_read() -> None:
    footfall = np.random.default_rng(6).integers(0, 100, len(tiny_table())).astype(float)
    missing = np.random.default_rng(7).random(len(footfall)) < 0.5
    sales = 100.0 * shifted(missing, 6)
    columns = {"footfall": {"type": "float", "missing_share": 0.9}}

    assert error(problem_of(planted(sales, footfall=np.where(missing, np.nan, footfall)), columns, ("footfall",))) < 0.1


def test_what_is_missing_counts_as_the_value_before_it_where_that_is_better() -> None:
    """A level that wanders, half of it unseen: what was seen last says more than the mean of all."""
    random = np.random.default_rng(8)
    level = np.concatenate([random.normal(0, 1, len(tiny_table()) // 2).cumsum() for _ in range(2)])
    footfall = np.where(random.random(len(level)) < 0.5, level, np.nan)
    problem = problem_of(
        planted(shifted(level, HORIZON), footfall=footfall), {"footfall": {"type": "float", "missing_share": 0.9}}, ("footfall",)
    )  # fmt: skip

    fits = [
        forecasting_ridge._fit_groups(problem, [np.arange(2)], forecasting_ridge._Past(1, c)) for c in (False, True)
    ]

    assert fits[1].error < 0.9 * fits[0].error
    assert forecasting_ridge._best(problem, [np.arange(2)]).past.carried


@pytest.fixture(scope="module")
def of_units() -> Problem:
    """Bread and milk at two shops: footfall of the hour before lifts the one and lowers the other."""
    tiny = tiny_table()
    footfall = np.random.default_rng(9).normal(50, 10, len(tiny))
    noise = np.random.default_rng(10).normal(0, 5, (2, len(tiny)))
    table = pd.concat(
        [
            tiny.assign(what=what, footfall=footfall, sales=sign * shifted(footfall, HORIZON) + noise[place])
            for place, (what, sign) in enumerate([("bread", 1), ("milk", -1)])
        ]
    )
    columns = {
        "what": {"type": "text"},
        "footfall": {"type": "float"},
        "sales": {"type": "float", "units": {"what": {"bread": "kg", "milk": "l"}}},
    }
    return problem_of(table, columns, ("footfall",), keys=["shop", "what"])


def test_series_are_taken_together_by_unit_and_alone(of_units: Problem) -> None:
    assert of_units.encoding.series == ("east/bread", "east/milk", "west/bread", "west/milk")

    groupings = [[group.tolist() for group in way] for way in forecasting_ridge._groupings(of_units)]

    assert groupings == [[[0, 1, 2, 3]], [[0, 2], [1, 3]], [[0], [1], [2], [3]]]


def test_series_of_too_few_windows_have_no_ridge_of_their_own(of_units: Problem) -> None:
    few = of_units.origins["train"][: 4 * forecasting_ridge.MIN_OWN_WINDOWS - 4]

    ways = forecasting_ridge._groupings(replace(of_units, origins={**of_units.origins, "train": few}))

    assert [len(way) for way in ways] == [1, 2]


def test_a_ridge_for_each_unit_reads_what_moves_them_apart(of_units: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = error(of_units)
    monkeypatch.setattr(forecasting_ridge, "_groupings", lambda _: [[np.arange(4)]])

    assert apart < 0.7 * error(of_units)


def test_ridge_equals_scikit_learns_with_all_that_is_chosen_on_validation() -> None:
    problem = problem_of(tiny_table(), {}, ("footfall",), known=("price",), scaling="column")
    problem = replace(problem, origins={part: rows[::3] for part, rows in problem.origins.items()})
    wanted, series = problem.target("validation"), {part: problem.series(part) for part in PARTS}

    def tried(groups: list[set[int]], reach: int, carried: bool) -> list[tuple[float, np.ndarray]]:
        inputs = {part: [by_hand(problem, part, step, reach, carried) for step in range(HORIZON)] for part in PARTS}
        fits = []
        for alpha in forecasting_ridge.ALPHAS:
            guess = {part: np.full((len(problem.origins[part]), HORIZON), np.nan) for part in PARTS}
            for group in groups:
                rows = {part: np.isin(series[part], list(group)) for part in PARTS}
                for step in range(HORIZON):
                    x = {part: inputs[part][step][rows[part]] for part in PARTS}
                    mean, deviation = x["train"].mean(axis=0), x["train"].std(axis=0)
                    deviation[deviation < 1e-6] = np.inf
                    target = problem.target("train")[rows["train"], step]
                    there = np.isfinite(target)
                    model = Ridge(alpha=alpha).fit(((x["train"] - mean) / deviation)[there], target[there])
                    for part in PARTS:
                        guess[part][rows[part], step] = model.predict((x[part] - mean) / deviation)
            fits.append((float(np.nansum(np.abs(guess["validation"] - wanted))), guess["test"]))
        return fits

    def best(fits: list[tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
        return min(fits, key=lambda fit: fit[0])

    ways = []
    for groups in ([{0, 1}], [{0}, {1}]):
        zero, carried = (best(tried(groups, 1, carried)) for carried in (False, True))
        fill = carried[0] < zero[0]
        ways.append(best([zero, carried, best(tried(groups, LOOKBACK, fill))]))
    apart = ways[1][0] < (1 - forecasting_ridge.MIN_GAIN) * ways[0][0]
    expected = problem.in_raw_units(ways[apart][1], "test")

    np.testing.assert_allclose(BASELINES["ridge"](problem, "test"), expected, rtol=1e-4)


def by_hand(problem: Problem, part: str, step: int, reach: int, carried: bool) -> np.ndarray:
    """The inputs of one step ahead, window by window, straight from the table of sales, footfall and price: (W, F)."""
    names = problem.encoding.value_names()
    values = pd.DataFrame(np.array(problem.store.arrays["values"], dtype=np.float64), columns=names)
    of_series = values.groupby(np.repeat([0, 1], np.diff(problem.store.offsets)))
    last = of_series["sales"].ffill().to_numpy()
    before = (of_series.ffill() if carried else values.fillna(0))[["sales", "footfall", "price"]].to_numpy()
    there = values["sales"].notna().to_numpy()
    ahead = values[["price", *problem.encoding.calendar.names()]].to_numpy()
    hours = pd.to_datetime(problem.store.arrays["time"], unit="s").hour
    rows = []
    for origin in problem.origins[part]:
        past = [(before[origin - 1 - lag, 0], there[origin - 1 - lag]) for lag in range(LOOKBACK)]
        covariates = [before[origin - 1 - lag, 1:] for lag in range(reach)]
        clock = np.eye(SEASON)[hours[origin + step]]
        series = np.eye(2)[int(origin >= problem.store.offsets[1])]
        rows.append(np.concatenate([*past, *covariates, [last[origin - 1]], series, ahead[origin + step], clock]))
    return np.array(rows)


@pytest.mark.parametrize(
    ("lookback", "columns", "reach"), [(24, 15, 24), (12, 15, 12), (168, 60, 11), (168, 600, None), (720, 3, None), (48, 0, 24)]
)  # fmt: skip
def test_columns_are_bounded(lookback: int, columns: int, reach: int | None) -> None:
    class Wide:
        def __init__(self) -> None:
            self.lookback = lookback

        def covariates(self, carried: bool) -> np.ndarray:  # noqa: ARG002
            return np.zeros((1, columns))

    reaches = forecasting_ridge._reaches(Wide())  # type: ignore[arg-type]

    assert reaches == ([] if reach is None else [reach])
    assert all(2 * lookback + one * columns <= forecasting_ridge.MAX_PAST_COLUMNS for one in reaches)


def test_baselines_are_fitted_on_every_window_of_the_training_part(tmp_path: Path) -> None:
    """The stride of the windows spares the network time; a baseline that lost as much by it would be an easy one."""
    evaluation = TASK.Evaluation.model_validate(TINY["evaluation"])
    windows = TINY["preprocess"]["windows"]
    problems = []
    for stride in (1, 6):
        (tmp_path / str(stride)).mkdir()
        prepared = prepare_tiny(tmp_path / str(stride), preprocess__windows={**windows, "stride": stride})
        problems.append(baseline_problem(evaluation, prepared, (0.5,)))
        thinned = read_windows(prepared, "train")
        assert set(thinned) <= set(problems[-1].origins["train"])

    every, other = problems
    assert len(other.origins["train"]) > 5 * len(thinned)
    for part in PARTS:
        np.testing.assert_array_equal(every.origins[part], other.origins[part])
    np.testing.assert_array_equal(BASELINES["ridge"](every, "test"), BASELINES["ridge"](other, "test"))
