"""The encoding: regular grids, invertible scaling, masks, calendars; checked against plain pandas and arithmetic."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data.calendar import Calendar
from gateline.data.scaling import Scaler, Transform, spread
from gateline.data.series_encoding import Encoding, regular_table, series_names, unix_seconds
from gateline.errors import DataError
from gateline.workload.schema import Schema
from tests.tiny import tiny_table, tiny_workload


def schema(**changes: Any) -> Schema:
    return Schema.model_validate(tiny_workload(**changes)["schema"])


def encoding(table: pd.DataFrame, **changes: Any) -> Encoding:
    settings: dict[str, Any] = {"target": "sales", "past": ("footfall",), "known": ("price",), "calendar": Calendar()}
    settings |= {"transforms": {}} | changes
    return Encoding.fit(table, np.ones(len(table), dtype=bool), schema=schema(), **settings)


@pytest.mark.parametrize("kind", ["none", "arcsinh", "log1p"])
def test_scaling_is_inverted_exactly_enough(kind: Any, rng: np.random.Generator) -> None:
    values = rng.exponential(30, 1000)
    scaler = Scaler.fit(values, Transform(kind=kind, scale=10))

    assert scaler.inverse(scaler.forward(values)) == pytest.approx(values, rel=1e-12, abs=1e-12)
    assert scaler.forward(values).mean() == pytest.approx(0, abs=1e-12)
    assert scaler.forward(values).std() == pytest.approx(1)
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))) == scaler


def test_each_series_is_scaled_by_itself_where_that_is_asked(rng: np.random.Generator) -> None:
    series = np.repeat([0, 1, 2], 100)
    values = rng.normal(size=300) * np.array([1, 10, 100])[series] + np.array([0, 50, -500])[series]
    scaler = Scaler.fit(values, Transform(), series)

    scaled = scaler.forward(values, series)

    for one in range(3):
        assert scaled[series == one].mean() == pytest.approx(0, abs=1e-12)
        assert scaled[series == one].std() == pytest.approx(1)
    windows = scaler.inverse(np.stack([scaled, scaled], axis=1), series)
    np.testing.assert_allclose(windows, np.stack([values, values], axis=1), rtol=1e-12, atol=1e-12)
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))) == scaler


def test_a_scale_per_series_is_that_of_its_rows_wherever_they_stand(rng: np.random.Generator) -> None:
    series = rng.permutation(np.repeat(np.arange(40), rng.integers(2, 9, 40)))
    values = rng.normal(series, 1 + series)
    values[rng.random(len(values)) < 0.2] = np.nan
    values[series == 7] = np.nan  # nothing known of it
    values[series == 8] = 3.0
    scaler = Scaler.fit(values, Transform(), series)

    grouped = pd.Series(values).groupby(series)
    assert scaler.mean == pytest.approx(grouped.mean().fillna(0).to_numpy())
    assert scaler.deviation == pytest.approx(grouped.std(ddof=0).replace(0, 1).fillna(1).to_numpy())
    assert spread(values, series) == scaler.deviation
    assert scaler.deviation[7] == scaler.deviation[8] == 1


class Metered(np.ndarray):
    """Counts the numbers that arithmetic reads of it."""

    read = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        Metered.read += self.size
        return getattr(ufunc, method)(*(np.asarray(one) for one in inputs), **options)


def test_fitting_does_not_read_all_rows_again_for_each_series(rng: np.random.Generator) -> None:
    series, values = np.repeat(np.arange(500), 4).view(Metered), rng.normal(size=2000)
    Metered.read = 0
    deviation = Scaler.fit(values, Transform(), series).deviation

    assert spread(values, series) == deviation
    assert 0 < Metered.read < 10 * len(series)


def test_transforms_are_what_their_names_say() -> None:
    values = np.array([-20.0, 0.0, 35.0])

    assert Transform(kind="arcsinh", scale=10).forward(values) == pytest.approx(
        np.log(values / 10 + np.hypot(values / 10, 1))
    )
    assert Transform(kind="log1p", scale=10).forward(values)[1:] == pytest.approx([0, np.log(4.5)])
    assert np.isnan(Transform(kind="log1p", scale=10).forward(values)[0])


def test_a_table_of_which_nearly_every_step_is_absent_is_refused_before_it_is_laid_out() -> None:
    table = tiny_table(hours=200)
    table.loc[table.index[250], "time"] = table["time"][250].replace("2024", "1024")
    tracemalloc.start()

    with pytest.raises(
        DataError, match=r"found 400 rows for 8,.* steps; in series west, 2024-01-01 00:00:00 comes next "
    ):
        regular_table(table, schema())

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_missing_values_are_not_counted_as_zero() -> None:
    with_gaps = np.array([10.0, np.nan, 20.0, np.nan])

    assert Scaler.fit(with_gaps, Transform()).mean == (15,)


def test_a_constant_column_is_not_divided_by_zero() -> None:
    assert Scaler.fit(np.full(5, 3.0), Transform()).forward(np.array([3.0, 4.0])).tolist() == [0, 1]


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e12])
def test_what_counts_as_constant_does_not_depend_on_the_unit(unit: float, rng: np.random.Generator) -> None:
    values = rng.normal(3, 0.5, 1000)

    assert Scaler.fit(unit * values, Transform()).deviation == pytest.approx((unit * values.std(),))
    assert Scaler.fit(unit * (values - values.mean()), Transform()).deviation == pytest.approx((unit * values.std(),))
    # 0.1 is no sum of powers of two: the mean of a thousand is off by rounding, and so is the deviation.
    assert Scaler.fit(np.full(1000, 0.1 * unit) * (1 + 1e-16 * rng.normal(size=1000)), Transform()).deviation == (1,)


def test_the_noise_of_arithmetic_around_0_is_not_blown_up(rng: np.random.Generator) -> None:
    a, b = rng.random(1000), rng.random(1000)
    noise = (a + b) - a - b  # 0, but for rounding

    assert noise.std() > 0
    assert Scaler.fit(noise, Transform()).deviation == (1,)
    assert Scaler.fit(np.zeros(5), Transform()).deviation == (1,)


def test_rows_that_are_absent_become_missing_and_nothing_else_changes() -> None:
    whole = regular_table(tiny_table(), schema())
    holed = regular_table(tiny_table().drop(index=[5, 6, 2000]), schema())

    assert len(holed) == len(whole)
    assert holed["time"].equals(whole["time"])
    assert holed["shop"].equals(whole["shop"])
    gone = holed["price"].isna().to_numpy()
    assert gone.sum() == 3
    pd.testing.assert_frame_equal(holed[~gone], whole[~gone])


def test_any_table_is_laid_out_as_pandas_would_series_by_series(rng: np.random.Generator) -> None:
    two = Schema.model_validate(
        {
            "time": {"column": "t", "frequency": "15min", "timezone": "Europe/Berlin"},
            "keys": ["store", "item"],
            "columns": {
                "store": {"type": "integer"},
                "t": {"type": "time"},
                "note": {"type": "text"},
                "item": {"type": "text"},
                "y": {"type": "float", "max": 90, "violation": "missing"},
            },
        }
    )
    pieces = []
    for store, item in ((2, "b"), (10, "a"), (2, "a")):  # as text, 10 comes before 2
        rows = int(rng.integers(2, 40))
        begin = pd.Timestamp("2024-03-30T21:15Z") + pd.Timedelta("15min") * int(rng.integers(50))
        piece = pd.DataFrame({"store": store, "t": pd.date_range(begin, periods=rows, freq="15min"), "item": item})
        piece["note"], piece["y"] = rng.choice(["x", "", "long"], rows), rng.uniform(0, 100, rows)
        pieces.append(piece.sample(frac=0.7, random_state=int(rng.integers(1000))))
    shuffled = pd.concat(pieces).sample(frac=1, random_state=int(rng.integers(1000)))

    laid_out = regular_table(shuffled, two)

    expected = []
    for store, item in ((10, "a"), (2, "a"), (2, "b")):
        piece = shuffled[(shuffled["store"] == store) & (shuffled["item"] == item)]
        full = piece.set_index("t").sort_index().asfreq("15min").reset_index()
        expected.append(full.assign(store=float(store), item=item, y=full["y"].where(full["y"] <= 90)))
    pd.testing.assert_frame_equal(
        laid_out, pd.concat(expected, ignore_index=True)[list(two.columns)].astype({"t": "datetime64[us, UTC]"})
    )
    assert regular_table(laid_out, two).equals(laid_out)


def test_a_time_stamp_off_the_grid_is_named() -> None:
    table = tiny_table()
    table.loc[4, "time"] = "2024-01-01T04:30:00Z"

    with pytest.raises(DataError, match=r"series east.*04:30"):
        regular_table(table, schema())


def test_a_duplicate_is_named() -> None:
    table = tiny_table()
    table["time"] = table["time"].where(table.index != 4, table["time"].shift(1))

    with pytest.raises(DataError, match=r"series east.*twice: 2024-01-01 03:00"):
        regular_table(table, schema())


@pytest.mark.parametrize("timezone", ["UTC", "America/New_York"])
def test_local_time_stamps_become_utc(timezone: str) -> None:
    table = tiny_table(hours=24 * 60).assign(time=lambda t: t["time"].str.removesuffix("Z"))
    clean = regular_table(table, schema(schema__time={"column": "time", "frequency": "1h", "timezone": timezone}))

    assert clean["time"].iloc[0] == pd.Timestamp("2024-01-01").tz_localize(timezone)
    assert str(clean["time"].dtype) == "datetime64[us, UTC]"


def test_the_arrays_hold_what_their_names_say() -> None:
    table = regular_table(tiny_table(), schema())
    table["footfall"] = table["footfall"].mask(table.index == 7)
    fitted = encoding(table, calendar=Calendar(hour_of_day=1, weekend=True))
    store = fitted.encode(table)
    encoder = dict(zip(fitted.encoder_names(), fitted.inputs().encoder_of(store.arrays["values"]).T, strict=True))
    sales = table["sales"].to_numpy()

    there = np.isfinite(sales)
    assert (encoder["sales_observed"] == there).all()
    assert (encoder["sales"][~there] == 0).all()
    standard = (sales - np.nanmean(sales)) / np.nanstd(sales)
    assert encoder["sales"][there] == pytest.approx(standard[there], rel=1e-5, abs=1e-6)
    assert encoder["footfall_observed"].tolist().count(0) == 1
    assert encoder["footfall"][7] == 0
    assert "price_observed" not in encoder
    hour = table["time"].dt.hour.to_numpy()
    assert encoder["hour_of_day_sin1"] == pytest.approx(np.sin(2 * np.pi * hour / 24), abs=1e-6)
    assert (encoder["weekend"] == (table["time"].dt.day_of_week >= 5)).all()
    assert store.offsets.tolist() == [0, len(table) // 2, len(table)]
    assert (store.arrays["time"] == unix_seconds(table["time"])).all()
    assert fitted.encoder_names()[-len(fitted.decoder_names()) :] == fitted.decoder_names()
    assert np.isfinite(fitted.inputs().encoder_of(store.arrays["values"])).all()


def test_an_encoding_is_read_back_exactly() -> None:
    table = regular_table(tiny_table(), schema())
    fitted = encoding(table, calendar=Calendar(timezone="Europe/Berlin", hour_of_day=2, special_days=("2024-01-06",)))

    again = Encoding.from_json(json.loads(json.dumps(fitted.to_json())))

    assert again == fitted
    for name, array in fitted.encode(table).arrays.items():
        np.testing.assert_array_equal(array, again.encode(table).arrays[name])


def test_an_unknown_series_is_named() -> None:
    table = regular_table(tiny_table(), schema())
    fitted = encoding(table[table["shop"] == "east"])

    with pytest.raises(DataError, match=r"columns shop.*east.*found west"):
        fitted.encode(table)


def test_several_keys_name_a_series_whatever_type_they_have() -> None:
    two = Schema.model_validate(
        {
            "time": {"column": "t", "frequency": "1d"},
            "keys": ["store", "item"],
            "columns": {
                "store": {"type": "integer"},
                "item": {"type": "text"},
                "t": {"type": "time"},
                "y": {"type": "float"},
            },
        }
    )
    frame = pd.DataFrame({"store": [1.0, 1.0, 2.0], "item": ["a", "b", "a"], "t": ["2024-01-01"] * 3, "y": [1.0, 2, 3]})

    assert series_names(frame, two).tolist() == ["1/a", "1/b", "2/a"]
    assert series_names(frame.astype({"store": int}), two).tolist() == ["1/a", "1/b", "2/a"]


@pytest.mark.parametrize(
    ("moment", "hour", "weekday"),
    [
        ("2013-03-10T06:59:00Z", 1 + 59 / 60, 6),  # a minute before New York's clocks go forward
        ("2013-03-10T07:00:00Z", 3, 6),
        ("2013-11-03T05:30:00Z", 1.5, 6),  # the hour that comes twice
        ("2013-11-03T06:30:00Z", 1.5, 6),
    ],
)
def test_the_calendar_follows_local_clocks(moment: str, hour: float, weekday: int) -> None:
    calendar = Calendar(timezone="America/New_York", hour_of_day=1, day_of_week=1, special_days=("2013-11-03",))
    values = dict(zip(calendar.names(), calendar.features(pd.Series([pd.Timestamp(moment)]))[0], strict=True))

    assert values["hour_of_day_sin1"] == pytest.approx(np.sin(2 * np.pi * hour / 24), abs=1e-6)
    assert values["hour_of_day_cos1"] == pytest.approx(np.cos(2 * np.pi * hour / 24), abs=1e-6)
    assert values["day_of_week_sin1"] == pytest.approx(np.sin(2 * np.pi * weekday / 7), abs=1e-6)
    assert values["special_day"] == (moment > "2013-11")


@pytest.mark.parametrize("timezone", ["UTC", "America/St_Johns", "Australia/Lord_Howe"])
def test_the_calendar_says_what_pandas_says_of_any_moment(timezone: str, rng: np.random.Generator) -> None:
    seconds = rng.integers(-(10**9), 2 * 10**9, 1000)  # 1938 to 2033
    times = pd.Series(pd.to_datetime(seconds, unit="s", utc=True))
    local = times.dt.tz_convert(timezone)
    special = (local.iloc[0].date(), local.iloc[1].date())
    calendar = Calendar(
        timezone=timezone,
        hour_of_day=2,
        day_of_week=1,
        day_of_month=1,
        day_of_year=2,
        weekend=True,
        special_days=special,
    )

    values = dict(zip(calendar.names(), calendar.features(times).T, strict=True))

    of_day = (local.dt.hour * 3600 + local.dt.minute * 60 + local.dt.second) / 86_400
    circle = {
        "hour_of_day_sin2": np.sin(4 * np.pi * of_day),
        "day_of_week_cos1": np.cos(2 * np.pi * local.dt.day_of_week / 7),
        "day_of_month_sin1": np.sin(2 * np.pi * (local.dt.day - 1) / 31),
        "day_of_year_cos2": np.cos(4 * np.pi * (local.dt.day_of_year - 1) / 365.25),
    }
    for name, expected in circle.items():
        np.testing.assert_allclose(values[name], expected, atol=1e-6, err_msg=name)
    assert (values["weekend"] == local.dt.day_name().isin(["Saturday", "Sunday"])).all()
    assert (values["special_day"] == local.dt.date.isin(special)).all()
