"""The tables that the queries of `weather`, `weather_europe`, `traffic` and `bike_demand` make, against pandas; and that they see no future."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gateline.adapters.ingestion import ingest
from gateline.table import TABLE, read_table
from gateline.workload import Workload
from gateline.workload.source import Source

WORKLOADS = Path(__file__).parents[2] / "workloads"
MIRROR = Path(os.environ["GATELINE_MIRROR"]) if os.environ.get("GATELINE_MIRROR") else None  # before fixtures clear it
SENSORS, STEPS, TRAIN, STEPS_OF_A_DAY = 9, 2016, 1324, 288


def table_of(name: str, folder: Path, file: Path | None = None) -> pd.DataFrame:
    """Run the query of a workload, on another file where one is given."""
    source = Workload.read(WORKLOADS / f"{name}.yaml").section("source", Source)
    if file is not None:
        there = {"path": str(file), "url": None, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        source = source.model_copy(update={"files": (source.files[0].model_copy(update=there),)})
    ingest(source, folder / "raw", mirror=MIRROR)
    return read_table(folder / "raw" / TABLE)


def speeds(rng: np.random.Generator) -> np.ndarray:
    """A week of a few sensors that share a daily pattern and a walk of their own."""
    clock = np.arange(STEPS)[:, None] % STEPS_OF_A_DAY
    walk = rng.normal(size=(STEPS, SENSORS)).cumsum(axis=0) * 0.3
    return np.clip(55 - 15 * np.sin(2 * np.pi * clock / STEPS_OF_A_DAY) + walk % 9, 1, 70).round(6)


def traffic_table(values: np.ndarray, folder: Path) -> pd.DataFrame:
    folder.mkdir()
    file = folder / "speeds.csv"
    pd.DataFrame(values, columns=[str(700_000 + n) for n in range(SENSORS)]).to_csv(file, index=False)
    return table_of("traffic", folder, file)


def test_the_table_of_traffic_is_what_its_comments_say(tmp_path: Path, rng: np.random.Generator) -> None:
    values = speeds(rng)

    table = traffic_table(values, tmp_path / "all")

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy().reshape(SENSORS, STEPS).T

    assert table["time"].iloc[0] == pd.Timestamp("2012-03-01T00:00")
    assert table["time"].iloc[STEPS - 1] == pd.Timestamp("2012-03-07T23:55")
    np.testing.assert_allclose(column("speed"), values)
    np.testing.assert_allclose(column("city_speed"), np.repeat(values.mean(axis=1, keepdims=True), SENSORS, axis=1))
    likeness = np.corrcoef(values[:TRAIN].T)
    for sensor in range(SENSORS):
        others = sorted((n for n in range(SENSORS) if n != sensor), key=lambda n: -likeness[sensor, n])[:6]
        np.testing.assert_allclose(column("near_1")[:, sensor], values[:, others[0]])
        np.testing.assert_allclose(column("near_2")[:, sensor], values[:, others[1]])
        np.testing.assert_allclose(column("near_speed")[:, sensor], values[:, others].mean(axis=1))
    for step in (100, 700, 1323, 1324, 2015):  # Thursday, Saturday, Monday (two), Wednesday
        day, weekend = step // STEPS_OF_A_DAY, step // STEPS_OF_A_DAY in (2, 3)
        days = []
        for other in range(7):
            if other == day or (other in (2, 3)) != weekend:
                continue
            apart = [abs(row % STEPS_OF_A_DAY - step % STEPS_OF_A_DAY) for row in range(TRAIN)]
            near = [
                row
                for row in range(TRAIN)
                if row // STEPS_OF_A_DAY == other and min(apart[row], STEPS_OF_A_DAY - apart[row]) <= 3
            ]
            if near:
                days.append(values[near].mean(axis=0))
        np.testing.assert_allclose(column("usual_speed")[step], np.mean(days, axis=0))


def test_what_traffic_takes_as_usual_and_alike_is_that_of_the_training_part(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    values = speeds(rng)
    changed = values.copy()
    changed[TRAIN:] = rng.uniform(1, 70, size=(STEPS - TRAIN, SENSORS)).round(6)

    before, after = traffic_table(values, tmp_path / "a"), traffic_table(changed, tmp_path / "b")

    pd.testing.assert_series_equal(before["usual_speed"], after["usual_speed"])
    training = np.tile(np.arange(STEPS) < TRAIN, SENSORS)
    pd.testing.assert_frame_equal(before[training], after[training])


def test_the_table_of_weather_lays_three_variables_beside_each_other(tmp_path: Path) -> None:
    table = table_of("weather", tmp_path)
    raw = pd.read_csv(tmp_path / "raw" / "files" / "weather" / "weather.csv")
    raw["hour"] = pd.to_datetime(raw["time_hour"], utc=True)

    wide = table.pivot_table(index=["airport", "hour"], columns="variable", values="value")
    seen = raw.set_index(["origin", "hour"])
    assert table.groupby(["airport", "variable"]).size().nunique() == 1
    for variable, name in (("temperature", "temp"), ("humidity", "humid"), ("pressure", "pressure")):
        there = seen[name].dropna()
        there = there[there.index.get_level_values(1) >= wide.index.get_level_values(1).min()]
        np.testing.assert_allclose(wide[variable].dropna().sort_index(), there.sort_index())
    strongest = raw[(raw["wind_speed"] > 40) & (raw["wind_speed"] < 120)].iloc[0]
    row = table[(table["airport"] == strongest["origin"]) & (table["hour"] == strongest["hour"])].iloc[0]
    assert np.hypot(row["wind_east"], row["wind_north"]) == pytest.approx(strongest["wind_speed"])
    assert np.degrees(np.arctan2(row["wind_east"], row["wind_north"])) % 360 == pytest.approx(strongest["wind_dir"])
    assert table["wind_east"].abs().max() < 120
    mean = raw[raw["hour"] == strongest["hour"]]["temp"].mean()
    assert row["city_temperature"] == pytest.approx(mean)


@pytest.mark.skipif(
    MIRROR is None, reason="the file is not in the repository, and GATELINE_MIRROR names no folder with it"
)
def test_the_table_of_weather_europe_is_in_the_units_of_a_meteorologist(tmp_path: Path) -> None:
    table = table_of("weather_europe", tmp_path)

    assert table["city"].nunique() == 18
    assert table.groupby("city").size().unique().tolist() == [3654]
    medians = table.groupby("city").median(numeric_only=True)
    assert medians["pressure"].dropna().between(1005, 1025).all()
    assert table["pressure"].min() > 950
    assert medians["humidity"].dropna().between(50, 95).all()
    assert table["precipitation"].max() > 100
    raw = pd.read_csv(tmp_path / "raw" / "files" / "cities" / "weather_prediction_dataset.csv")
    day = table[pd.to_datetime(table["day"]) == pd.Timestamp("2005-06-15")].set_index("city")
    there = raw[raw["DATE"] == 20050615].iloc[0]
    assert day.loc["BASEL", "temperature"] == there["BASEL_temp_mean"]
    assert day.loc["DE_BILT", "precipitation"] == pytest.approx(10 * there["DE_BILT_precipitation"])
    values = {city: table[table["city"] == city].set_index("day") for city in ("HEATHROW", "BASEL", "SONNBLICK")}
    assert values["HEATHROW"]["west_temperature"].isna().all()  # nobody lies to its west
    # Oslo lies to Malmo's north, a little to its west; Stockholm to its north-east. No other city lies further north.
    malmo, oslo, stockholm = (day.loc[city, "temperature"] for city in ("MALMO", "OSLO", "STOCKHOLM"))
    weights = []
    for latitude, longitude in ((59.91, 10.75), (59.33, 18.05)):
        north = (latitude - 55.60) * 111.2
        east = (longitude - 13.00) * 111.2 * np.cos(np.radians((latitude + 55.60) / 2))
        far = np.hypot(north, east)
        weights.append((north / far) ** 2 * np.exp(-far / 600))
    assert day.loc["MALMO", "north_temperature"] == pytest.approx(np.average([oslo, stockholm], weights=weights))
    assert malmo == there["MALMO_temp_mean"]
    basel = values["BASEL"]["temperature"]
    basel.index = pd.to_datetime(basel.index)
    usual = values["BASEL"]["usual_temperature"]
    usual.index = pd.to_datetime(usual.index)
    for asked in map(pd.Timestamp, ("2002-12-29", "2003-01-05", "2004-02-29", "2006-07-03", "2009-07-14")):
        assert usual[asked] == pytest.approx(usual_by_loops(basel, asked))


def usual_by_loops(temperature: pd.Series, asked: pd.Timestamp) -> float:
    """Look at one day of training after the other."""
    found = []
    for day, value in zip(pd.DatetimeIndex(temperature.index), temperature.to_numpy(), strict=True):
        apart = abs(day.day_of_year - asked.day_of_year)
        trains = day < pd.Timestamp("2006-07-01")
        if trains and min(apart, 366 - apart) <= 15 and abs((day - asked).days) > 15:
            found.append(value)
    return float(np.mean(found))


@pytest.mark.skipif(
    MIRROR is None, reason="the file is not in the repository, and GATELINE_MIRROR names no folder with it"
)
def test_what_is_usual_in_a_window_does_not_change_with_its_coming_weather(tmp_path: Path) -> None:
    """Around New Year, too: a planted heat wave is seen by no day within 15 of it, and by the same days of other years."""
    before = table_of("weather_europe", tmp_path / "a").set_index(["city", "day"])["usual_temperature"]["BASEL"]
    raw = pd.read_csv(tmp_path / "a" / "raw" / "files" / "cities" / "weather_prediction_dataset.csv", dtype=str)
    wave = [20030101, 20030102, 20030103]
    raw.loc[raw["DATE"].astype(int).isin(wave), "BASEL_temp_mean"] = "44.0"
    raw.to_csv(tmp_path / "planted.csv", index=False)

    after = table_of("weather_europe", tmp_path / "b", tmp_path / "planted.csv").set_index(["city", "day"])

    changed = (after["usual_temperature"]["BASEL"] - before).abs() > 1e-9
    days = pd.to_datetime(changed[changed].index)
    assert not days[(days >= "2002-12-19") & (days <= "2003-01-16")].size
    assert {"2001-12-31", "2003-12-31", "2004-01-05", "2009-12-30"} <= set(days.strftime("%Y-%m-%d"))


def test_nothing_known_ahead_tells_which_hours_of_bike_demand_have_no_row(tmp_path: Path) -> None:
    """Nobody knows ahead that an hour will be absent, so its calendar and weather stand in the table, and its rentals alone do not."""
    hours = pd.date_range("2012-08-30", periods=24 * 8, freq="h")  # the 31st is a Friday, Monday the 3rd is Labor Day
    holiday = hours.normalize() == pd.Timestamp("2012-09-03")
    rng = np.random.default_rng(2)
    file = pd.DataFrame(
        {
            "dteday": hours.strftime("%Y-%m-%d"),
            "hr": hours.hour,
            "holiday": holiday.astype(int),
            "workingday": ((hours.day_of_week < 5) & ~holiday).astype(int),
            "weathersit": rng.integers(1, 5, len(hours)),
            **{name: rng.random(len(hours)).round(4) for name in ("temp", "atemp", "hum", "windspeed")},
            "cnt": rng.integers(1, 900, len(hours)),
        }
    )
    place = np.arange(len(hours))
    absent = ((place >= 68) & (place < 99)) | (
        place == 148
    )  # from 20:00 on Saturday, over all of Sunday, to 3:00 on Labor Day
    file[~absent].to_csv(tmp_path / "hour.csv", index=False)

    table = table_of("bike_demand", tmp_path, tmp_path / "hour.csv")

    assert table["hour"].tolist() == hours.tolist()
    assert (table["rentals"].isna().to_numpy() == absent).all()
    np.testing.assert_array_equal(table["rentals"].to_numpy()[~absent], file["cnt"][~absent])
    assert not table.drop(columns="rentals").isna().any(axis=None)
    assert (table["holiday"].to_numpy() == holiday).all()
    assert (table["working_day"].to_numpy() == file["workingday"]).all()
    carried = file[~absent].reindex(file.index).ffill()
    np.testing.assert_allclose(table["temperature"], 47 * carried["temp"] - 8)
    np.testing.assert_allclose(table["felt_temperature"], 66 * carried["atemp"] - 16)
    np.testing.assert_allclose(table["humidity"], 100 * carried["hum"])
    np.testing.assert_allclose(table["wind_speed"], 67 * carried["windspeed"])
    assert table["sky"].tolist() == [
        ("clear", "mist", "rain", "storm")[int(kind) - 1] for kind in carried["weathersit"]
    ]
