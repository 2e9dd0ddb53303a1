"""Irregular series as steps and inputs; every number is computed again by plain pandas, row by row."""

from __future__ import annotations

import copy
import json
import tracemalloc
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.data import irregular_steps
from gateline.data.irregular_encoding import ELAPSED, GAPS, OBSERVED, IrregularEncoding, SeriesInputs
from gateline.data.irregular_steps import lay_out
from gateline.data.sequence_inputs import features
from gateline.data.store import STATIC, VALUES
from gateline.errors import DataError, WorkloadError
from gateline.workload.schema import Schema
from tests.wards import WARD_SCHEMA, ward_table

COLUMNS = ("pulse", "lactate")


def schema(**columns: Any) -> Schema:
    content = copy.deepcopy(WARD_SCHEMA)
    content["columns"] |= columns
    return Schema.model_validate(content)


def inputs(**changes: Any) -> SeriesInputs:
    settings: dict[str, Any] = {"columns": COLUMNS, "static": ("age", "unit"), "step": "2h"} | changes
    return SeriesInputs.model_validate(settings)


def by_pandas(table: pd.DataFrame, width: float) -> pd.DataFrame:
    """Lay a table out by looking at one patient, one step and one column at a time."""
    found = []
    for patient, rows in table.groupby("patient", sort=False):
        hours = (rows["time"] - rows["time"].min()).dt.total_seconds() / 3600
        for step in range(max(int(np.ceil(hours.max() / width)), 1)):
            end = (step + 1) * width
            inside = ((hours > step * width) | ((step == 0) & (hours == 0))) & (hours <= end)
            record = {"patient": patient, "end": end}
            for name in COLUMNS:
                before = rows[name][(hours <= end) & rows[name].notna()]
                record[name] = rows[name][inside].mean()
                if len(before):
                    latest = hours[before.index].max()
                    its_step = np.ceil(latest / width) if latest else 1
                    same = (np.ceil(hours / width).clip(lower=1) == its_step) & rows[name].notna()
                    record |= {f"{name}_known": rows[name][same].mean(), f"{name}_gap": end - latest}
                else:
                    record |= {f"{name}_known": np.nan, f"{name}_gap": end}
            found.append(record)
    return pd.DataFrame(found)


@pytest.mark.parametrize("hours", [1, 2, 5])
def test_steps_are_what_pandas_makes_of_them(hours: int, rng: np.random.Generator) -> None:
    table = ward_table(rng)

    steps = lay_out(table.sample(frac=1, random_state=1), schema(), columns=COLUMNS, width=timedelta(hours=hours))

    expected = by_pandas(table, hours).sort_values(["patient", "end"])
    keys = np.repeat(steps.keys["patient"], np.diff(steps.offsets))
    mine = np.lexsort((steps.end, keys))
    np.testing.assert_array_equal(keys[mine], expected["patient"])
    np.testing.assert_allclose(steps.end[mine], expected["end"])
    for found, suffix in ((steps.values, ""), (steps.last_known(), "_known"), (steps.gaps(), "_gap")):
        np.testing.assert_allclose(found[mine], expected[[name + suffix for name in COLUMNS]], rtol=1e-12, atol=1e-9)


def test_without_a_width_each_row_is_a_step(rng: np.random.Generator) -> None:
    table = ward_table(rng)

    steps = lay_out(table, schema(), columns=COLUMNS)

    np.testing.assert_array_equal(steps.values, table[list(COLUMNS)])
    np.testing.assert_array_equal(steps.last_known(), table.groupby("patient")[list(COLUMNS)].ffill())
    hours = (table["time"] - table.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600
    np.testing.assert_allclose(steps.end, hours)
    assert (steps.gaps()[np.isfinite(steps.values)] == 0).all()


def test_what_stands_at_the_very_end_of_a_step_belongs_to_it() -> None:
    minutes = [0, 60, 61, 120]
    table = pd.DataFrame(
        {
            "patient": 1,
            "time": pd.Timestamp("2024-01-01T00:00:00Z") + pd.to_timedelta(minutes, unit="min"),
            "pulse": [70.0, 80.0, 90.0, 100.0],
            "lactate": np.nan,
            "age": 50.0,
            "unit": "medical",
            "died": 0,
        }
    )

    steps = lay_out(table, schema(), columns=COLUMNS, width=timedelta(hours=1))

    assert steps.values[:, 0].tolist() == [75, 95]
    assert steps.gaps().tolist() == [[0, 1], [0, 2]]


def test_the_past_does_not_depend_on_the_future(rng: np.random.Generator) -> None:
    """What an encoded step holds stays the same when all later rows are cut off or changed."""
    table = ward_table(rng, patients=20)
    whole = inputs().lay_out(table, schema())
    encoding = IrregularEncoding.fit(whole, np.arange(20), schema(), inputs())
    hours = (table["time"] - table.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600
    changed = table.copy()
    changed.loc[hours > 4, "pulse"] = 199.0

    for other in (table[hours <= 4], changed):
        early = inputs().lay_out(other, schema())
        first = [whole.offsets[:-1] + step for step in (0, 1)]
        again = [early.offsets[:-1] + step for step in (0, 1)]
        for mine, theirs in zip(first, again, strict=True):
            there = theirs < early.offsets[1:]
            before = features(encoding.encode(whole), mine[there])
            np.testing.assert_array_equal(features(encoding.encode(early), theirs[there]), before)


def test_statistics_are_those_of_the_training_series_alone(rng: np.random.Generator) -> None:
    table = ward_table(rng)
    train = np.arange(0, 60, 2)
    steps = inputs().lay_out(table, schema())
    encoding = IrregularEncoding.fit(steps, train, schema(), inputs())

    planted = table.copy()
    others = ~planted["patient"].isin(100 + train)
    planted.loc[others, ["pulse", "lactate", "age"]] = [240.0, 1e6, 1e6]
    planted.loc[others, "unit"] = "surgical"
    again = IrregularEncoding.fit(inputs().lay_out(planted, schema()), train, schema(), inputs())

    assert again == encoding
    of_all = IrregularEncoding.fit(inputs().lay_out(planted, schema()), np.arange(60), schema(), inputs())
    assert of_all != encoding  # so the test would see a leak
    step_means = by_pandas(table[~others], 2)
    assert encoding.scalers["pulse"].mean[0] == pytest.approx(step_means["pulse"].mean())
    assert encoding.scalers["pulse"].deviation[0] == pytest.approx(step_means["pulse"].std(ddof=0))
    assert encoding.gap_scalers["lactate"].mean[0] == pytest.approx(np.log1p(step_means["lactate_gap"]).mean())


def test_inputs_are_scaled_values_masks_ages_and_statics(rng: np.random.Generator) -> None:
    table = ward_table(rng, patients=30)
    steps = inputs().lay_out(table, schema())
    encoding = IrregularEncoding.fit(steps, np.arange(30), schema(), inputs())

    store = encoding.encode(steps)

    expected = by_pandas(table, 2)
    scaler = encoding.scalers["pulse"]
    scaled = (expected["pulse_known"] - scaler.mean[0]) / scaler.deviation[0]
    np.testing.assert_allclose(store.arrays[VALUES][:, 0], scaled.fillna(0).clip(-6, 6), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(store.arrays[OBSERVED], expected[list(COLUMNS)].notna())
    age = encoding.gap_scalers["pulse"]
    np.testing.assert_allclose(
        store.arrays[GAPS][:, 0],
        (np.log1p(expected["pulse_gap"]) - age.mean[0]) / age.deviation[0],
        rtol=1e-5,
        atol=1e-6,
    )
    of_patient = table.groupby("patient")[["age", "unit"]].first()
    names = encoding.feature_names()
    read = pd.DataFrame(features(store, np.arange(len(steps.end))), columns=names)
    first = read.iloc[store.offsets[:-1]].reset_index(drop=True)
    np.testing.assert_array_equal(first["age_known"], of_patient["age"].notna())
    np.testing.assert_array_equal(first["unit=surgical"], of_patient["unit"] == "surgical")
    assert names[:4] == ["pulse", "lactate", "pulse_observed", "lactate_observed"]
    assert names[6] == ELAPSED
    assert store.statics[STATIC].shape == (30, 2 + 3)


def test_it_is_saved_and_read_back_exactly(rng: np.random.Generator) -> None:
    steps = inputs().lay_out(ward_table(rng), schema())
    encoding = IrregularEncoding.fit(steps, np.arange(40), schema(), inputs(transforms={"lactate": {"kind": "log1p"}}))

    again = IrregularEncoding.from_json(json.loads(json.dumps(encoding.to_json())))

    assert again == encoding
    mine, theirs = encoding.encode(steps), again.encode(steps)
    for name, array in mine.arrays.items():
        np.testing.assert_array_equal(theirs.arrays[name], array)


def test_an_impossible_value_is_taken_as_missing() -> None:
    table = ward_table(np.random.default_rng(0), patients=1)
    table["pulse"] = 300.0

    assert np.isnan(lay_out(table, schema(), columns=COLUMNS).values[:, 0]).all()


def test_the_same_time_twice_is_refused(rng: np.random.Generator) -> None:
    table = ward_table(rng, patients=2)

    with pytest.raises(DataError, match="each time stamp once"):
        lay_out(pd.concat([table, table.tail(1)]), schema(), columns=COLUMNS)


def test_a_request_that_would_take_too_much_memory_is_refused_before_it_is_laid_out(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ward_table(rng, patients=30, hours=12)
    encoding = IrregularEncoding.fit(inputs().lay_out(table, schema()), np.arange(30), schema(), inputs())
    assert encoding.longest == 6
    two = table[table["patient"] == 103].iloc[[0, -1]].copy()
    begin = two["time"].min()

    def asked(hours: int) -> Any:
        later = two.assign(time=[begin, begin + pd.Timedelta(hours=hours)])
        return inputs().lay_out(later, schema(), of_request=True, longest=encoding.longest)

    assert asked(120).offsets.tolist() == [0, 60]
    tracemalloc.start()
    with pytest.raises(DataError, match=r"series 103: expected at most 60 steps, 10 times .*; found 500,000 from 2024"):
        asked(1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6
    monkeypatch.setattr(irregular_steps, "MOST_VALUES", 2 * 100)
    with pytest.raises(DataError, match=r"request: expected at most 100 steps .* of these 6 of series"):
        inputs().lay_out(table, schema(), of_request=True, longest=encoding.longest)
    assert inputs(step=None).lay_out(table, schema(), of_request=True).num_series == 30, "a step is a row"


def test_a_series_longer_than_those_of_training_or_without_any_value_is_flagged(rng: np.random.Generator) -> None:
    table = ward_table(rng, patients=30, hours=12)
    encoding = IrregularEncoding.fit(inputs().lay_out(table, schema()), np.arange(30), schema(), inputs())
    asked = table[table["patient"].isin([103, 104, 105])].copy()
    longer = asked[asked["patient"] == 103].tail(1)
    asked = pd.concat([asked, longer.assign(time=longer["time"] + pd.Timedelta(hours=12))])
    asked.loc[asked["patient"] == 105, list(COLUMNS)] = np.nan

    steps = inputs().lay_out(asked, schema(), of_request=True, longest=encoding.longest)

    longest, shown = encoding.longest, np.diff(steps.offsets)[0]
    assert longest is not None
    assert shown > longest
    assert encoding.flags(steps).tolist() == [
        f"{shown} steps, above the {longest} of training",
        "",
        "no value of pulse, lactate",
    ]


def test_a_static_column_that_changes_is_refused(rng: np.random.Generator) -> None:
    table = ward_table(rng, patients=2)
    table.loc[0, "age"], table.loc[1, "age"] = 30.0, 31.0

    with pytest.raises(DataError, match="one value for each series"):
        lay_out(table, schema(), columns=COLUMNS, once=("age",))


def test_a_static_value_that_comes_after_the_first_step_is_refused(rng: np.random.Generator) -> None:
    """Read at every step, it would tell the first hours what was entered later."""
    table = ward_table(rng, patients=9)
    hours = (table["time"] - table.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600
    table["age"] = 50.0
    planted = table.copy()
    one = int(table["patient"][hours > 2].iloc[-1])
    planted.loc[(table["patient"] == one) & (hours <= 2), "age"] = np.nan

    with pytest.raises(
        DataError, match=rf"column age: expected a value in the first step .*; found later ones for {one}\."
    ):
        inputs().lay_out(planted, schema())

    never = table.assign(age=table["age"].where(table["patient"] != one))
    assert np.flatnonzero(np.isnan(inputs().lay_out(never, schema()).once["age"])).tolist() == [one - 100]
    late = table.copy()  # entered within the first step, so known at its end
    late.loc[hours == 0, "age"] = np.nan
    inside = table["patient"].isin(table["patient"][(hours > 0) & (hours <= 2)])
    assert inputs().lay_out(late[inside], schema()).once["age"].tolist() == [50.0] * table["patient"][inside].nunique()


def test_what_is_static_is_the_same_before_the_rest_is_known(rng: np.random.Generator) -> None:
    table = ward_table(rng, patients=20)
    hours = (table["time"] - table.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600

    whole, early = (inputs().lay_out(rows, schema()).once for rows in (table, table[hours <= 2]))

    for name in ("age", "unit"):
        np.testing.assert_array_equal(whole[name], early[name])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"columns": ("pulse", "lactat")}, "lactat"),
        ({"columns": ("pulse", "unit"), "static": ()}, r"unit \(text\)"),
        ({"transforms": {"unit": {"kind": "log1p"}}}, "unit"),
    ],
)
def test_columns_that_cannot_be_read_are_named(change: dict[str, Any], found: str) -> None:
    with pytest.raises(WorkloadError, match=found):
        inputs(**change).check(schema())


def test_values_between_steps_are_those_seen_last(rng: np.random.Generator) -> None:
    table = ward_table(rng)
    steps = lay_out(table, schema(), columns=COLUMNS, width=timedelta(hours=3))

    labels = steps.last_in_step(table["lactate"].to_numpy())

    hours = (table["time"] - table.groupby("patient")["time"].transform("min")).dt.total_seconds() / 3600
    step = np.maximum(np.ceil(hours / 3), 1)
    expected = table["lactate"].groupby([table["patient"], step]).last()
    keys = np.repeat(steps.keys["patient"], np.diff(steps.offsets))
    wanted = [expected.get((patient, end / 3), np.nan) for patient, end in zip(keys, steps.end, strict=True)]
    np.testing.assert_array_equal(labels, wanted)
