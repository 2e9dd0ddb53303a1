"""Drift is told from chance: few false alarms where nothing has changed, few missed where something has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gateline.adapters.drift_check import _chart
from gateline.drift import (
    LIMITS,
    SIGNIFICANCE,
    Finding,
    bins_of,
    compare,
    judged,
    ks_distance,
    ks_p_value,
    nearest_shares,
    psi_p_value,
    share_p_value,
    stability_index,
    worst,
)
from gateline.readout import read_out
from gateline.table import as_frame, clean
from gateline.training_statistics import effective_count, training_statistics
from gateline.workload.schema import Schema

SHARES = np.linspace(0, 1, 101)
TABLE = {
    "columns": {
        "size": {
            "type": "float",
            "min": -50,
            "max": 50,
            "missing_share": 1.0,
            "violation": "missing",
            "max_violations": 9,
        },
        "skewed": {"type": "float", "missing_share": 1.0},
        "count": {"type": "integer"},
        "colour": {"type": "text"},
    }
}
HOURLY = {
    "time": {"column": "time", "frequency": "1h"},
    "columns": {"time": {"type": "time"}, "level": {"type": "float"}},
}


def rows(random: np.random.Generator, count: int, shift: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": random.normal(shift, 1, count),
            "skewed": random.lognormal(0, 1, count),
            "count": random.poisson(3, count),
            "colour": pd.array(random.choice(["red", "green", "blue"], count, p=[0.6, 0.3, 0.1]), dtype="str"),
        }
    )


def described(frame: pd.DataFrame, schema: dict[str, Any] = TABLE) -> dict[str, Any]:
    return training_statistics(frame, Schema.model_validate(schema))


def by_kind(findings: list[Finding], column: str) -> dict[str, Finding]:
    return {each.kind: each for each in findings if each.column == column}


# --- numbers against other implementations


def test_the_distance_is_the_one_of_scipy_as_far_as_percentiles_tell(rng: np.random.Generator) -> None:
    for shift in (0.0, 0.3, -2.0):
        old, new = rng.normal(0, 1, 4000), rng.normal(shift, 1.3, 700)
        exact = stats.ks_2samp(old, new).statistic
        assert ks_distance(np.quantile(old, SHARES), new) == pytest.approx(exact, abs=0.011)
        assert ks_distance(np.quantile(old, SHARES), new) <= exact + 1e-9


def test_frequent_values_are_no_distance(rng: np.random.Generator) -> None:
    old = rng.poisson(2, 20_000).astype(float)
    assert ks_distance(np.quantile(old, SHARES), rng.poisson(2, 20_000).astype(float)) < 0.02
    assert ks_distance(np.quantile(old, SHARES), np.full(100, 2.0)) == pytest.approx(0.40, abs=0.03)


def test_the_chance_of_a_distance_is_that_of_scipy(rng: np.random.Generator) -> None:
    for first, second in ((300, 200), (5000, 90)):
        result = stats.ks_2samp(rng.normal(0, 1, first), rng.normal(0.2, 1, second), method="exact")
        assert ks_p_value(result.statistic, first, second) == pytest.approx(result.pvalue, rel=0.15, abs=1e-4)


def test_the_chance_of_an_index_is_that_of_a_chi_squared_test(rng: np.random.Generator) -> None:
    shares = np.full(10, 0.1)
    for _ in range(5):
        counts = np.array([rng.multinomial(size, shares) for size in (3000, 2000)])
        index = stability_index(counts[0] / 3000, counts[1] / 2000, 3000, 2000)
        assert psi_p_value(index, 10, 3000, 2000) == pytest.approx(stats.chi2_contingency(counts).pvalue, abs=0.02)


def test_the_index_is_the_sum_that_its_definition_says() -> None:
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    expected = sum((n - o) * np.log(n / o) for o, n in zip(old, new, strict=True))
    assert stability_index(old, new, 1e9, 1e9) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(stability_index(old, np.array([1.0, 0.0, 0.0]), 100, 100))


def test_the_chance_of_two_shares_is_that_of_a_test_of_proportions() -> None:
    table = np.array([[30, 970], [60, 940]])
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert share_p_value(0.03, 1000, 0.06, 1000) == pytest.approx(expected, rel=0.05)
    assert share_p_value(0.0, 1000, 0.0, 1000) == 1.0


def test_bins_share_out_the_training_part_also_where_a_value_is_frequent(rng: np.random.Generator) -> None:
    for values in (rng.normal(size=5000), rng.poisson(1, 5000).astype(float), np.repeat([0.0, 1.0], [4000, 1000])):
        edges, shares = bins_of(np.quantile(values, SHARES))
        counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(shares)) / len(values)
        assert shares.sum() == pytest.approx(1)
        np.testing.assert_allclose(shares, counts, atol=0.015)


def test_holm_takes_all_comparisons_for_one_question() -> None:
    findings = [Finding("a", "missing", 1.0, p, 100, 100, "") for p in (0.004, 0.03, 0.001, 0.2)]
    adjusted = [each.adjusted_p for each in judged(findings)]
    assert adjusted == pytest.approx([0.012, 0.06, 0.004, 0.2])
    assert [each.verdict for each in judged(findings)] == ["none", "none", "drift", "none"]


# --- alarms


def test_where_nothing_has_changed_there_are_no_more_alarms_than_stated(rng: np.random.Generator) -> None:
    repeats, significant, alarms = 400, 0, 0
    for _ in range(repeats):
        expected = described(
            rows(rng, 5000)
        )  # anew: all comparisons with one that chance made odd would be odd together
        findings = compare(expected, rows(rng, int(rng.integers(50, 2000))))
        significant += min(each.adjusted_p for each in findings) <= SIGNIFICANCE
        alarms += worst(findings) != "none"
    most = stats.binom.ppf(0.999, repeats, SIGNIFICANCE)
    assert alarms <= significant <= most


def test_shares_that_percentiles_leave_open_are_no_drift(rng: np.random.Generator) -> None:
    """Of 5,000 counts 96.65 % may be 6 or less, and the percentiles say 96: a bin of 3.35 % is not one of 4 %."""
    counts = np.repeat(np.arange(9), [249, 747, 1120, 1120, 840, 504, 252, 108, 60])
    quantiles = np.quantile(counts, SHARES)
    edges, told = bins_of(quantiles)
    true = np.bincount(np.searchsorted(edges, counts), minlength=len(told)) / len(counts)
    assert np.abs(told - true).max() > 0.004, "the control: what percentiles tell is not what was there"

    np.testing.assert_allclose(nearest_shares(quantiles, edges, true), true, atol=1e-9)

    numbers = rng.normal(size=5000)  # of numbers that are all different, percentiles tell the shares
    quantiles = np.quantile(numbers, SHARES)
    edges, told = bins_of(quantiles)
    np.testing.assert_allclose(nearest_shares(quantiles, edges, rng.dirichlet(np.ones(len(told)))), told, atol=1e-9)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_frequent_values_that_are_no_short_decimals_are_equal_to_themselves(
    kind: type[np.floating[Any]], rng: np.random.Generator
) -> None:
    """Statistics keep 12 digits of the quantile that a third makes, and it is a third all the same."""
    schema = {"columns": {"share": {"type": "float"}}}
    thirds = np.array([0, 1 / 3, 2 / 3, 1], kind)
    old = pd.DataFrame({"share": rng.choice(thirds, 2000, p=[0.2, 0.3, 0.3, 0.2]).astype(float)})
    expected = described(old, schema)

    same = by_kind(compare(expected, old), "share")
    assert (same["distribution"].size, same["population"].size) == (0, 0)

    new = pd.DataFrame({"share": rng.choice(thirds, 700, p=[0.1, 0.2, 0.3, 0.4]).astype(float)})
    found = by_kind(compare(expected, new), "share")
    exact = stats.ks_2samp(old["share"], new["share"]).statistic
    assert exact - 0.011 <= found["distribution"].size <= exact + 1e-9
    before, now = (each["share"].value_counts(normalize=True).sort_index().to_numpy() for each in (old, new))
    index = stability_index(before, now, len(old), len(new)) - 3 * (1 / len(old) + 1 / len(new))
    assert found["population"].size == pytest.approx(index, abs=0.03)


@pytest.mark.parametrize("arrives_as", [bool, float, object])
def test_booleans_are_spelt_as_in_training(arrives_as: type, rng: np.random.Generator) -> None:
    schema = Schema.model_validate({"columns": {"holiday": {"type": "boolean"}, "open": {"type": "boolean"}}})
    table = pd.DataFrame({"holiday": rng.random(2000) < 0.1, "open": True})
    expected = training_statistics(as_frame(clean(table, schema)), schema)  # as preprocess makes them

    def now(frame: pd.DataFrame) -> list[Finding]:
        return compare(expected, frame.astype(arrives_as))

    assert worst(now(table)) == "none"
    assert worst(compare(expected, read_out(table, schema).typed)) == "none", "as `gateline drift` reads them"
    assert by_kind(now(table), "holiday")["population"].size == 0
    found = now(table.assign(holiday=rng.random(2000) < 0.5, open=rng.random(2000) < 0.8))
    assert by_kind(found, "holiday")["population"].verdict == "drift"
    assert by_kind(found, "holiday")["population"].detail.split(":")[0] in ("false", "true")
    chart = _chart(expected["columns"]["holiday"], table["holiday"].astype(arrives_as))
    assert chart is not None
    assert [each["label"] for each in chart] == ["false", "true", "any other"]
    assert [each["now"] for each in chart] == [each["before"] for each in chart]
    unknown = by_kind(found, "open")["unknown_values"]
    assert (unknown.verdict, unknown.detail[:7]) == ("drift", "false: ")


@pytest.mark.parametrize("kind", ["integer", "text"])
def test_other_patients_are_no_drift_and_patients_without_a_number_are(kind: str, rng: np.random.Generator) -> None:
    schema = {
        "time": {"column": "time"},
        "keys": ["patient"],
        "columns": {
            "patient": {"type": kind, "missing_share": 1.0},
            "time": {"type": "time"},
            "pulse": {"type": "float"},
        },
    }

    def ward(first: int, stays: int) -> pd.DataFrame:
        hours = pd.date_range("2024-01-01", periods=20, freq="h", tz="UTC")
        number = np.repeat(first + np.arange(stays), len(hours))
        return pd.DataFrame(
            {
                "patient": number.astype(float) if kind == "integer" else pd.array(number.astype(str), dtype="str"),
                "time": np.tile(hours, stays),
                "pulse": rng.normal(80, 10, len(number)),
            }
        )

    expected, new = described(ward(100, 40), schema), ward(900, 40)
    found = compare(expected, new)
    assert {kind: each.verdict for kind, each in by_kind(found, "patient").items()} == {"missing": "none"}
    assert "distribution" in by_kind(found, "pulse")

    new["patient"] = new["patient"].where(np.arange(len(new)) % 4 > 0)
    assert by_kind(compare(expected, new), "patient")["missing"].verdict == "drift"


def test_long_categories_are_known_by_how_they_begin(rng: np.random.Generator) -> None:
    schema = {"columns": {"category": {"type": "text"}}}
    names = [f"{group} / {'and furnishing ' * 6}{each}" for group in ("Home", "Work") for each in "AB"]
    frame = pd.DataFrame({"category": pd.array(rng.choice(names, 2000, p=[0.4, 0.3, 0.2, 0.1]), dtype="str")})
    expected = described(frame, schema)
    values = expected["columns"]["category"]["values"]
    assert [len(each["value"]) for each in values] == [80, 80]
    assert expected["columns"]["category"]["distinct"] == 4
    counts = frame["category"].value_counts()
    registered_earlier = {
        **expected["columns"]["category"],
        "values": [{"value": f"{str(name)[:79]}…", "count": int(count)} for name, count in counts.items()],
    }  # each of them cut by itself

    for seen in (expected["columns"]["category"], registered_earlier):
        found = compare({**expected, "columns": {"category": seen}}, frame)
        assert {each.kind for each in found} == {"missing", "population"}
        assert by_kind(found, "category")["population"].size == 0

        chart = _chart(seen, frame["category"])
        assert chart is not None
        assert [each["now"] for each in chart] == [each["before"] for each in chart]

    new = frame.where(frame != names[2], "Garden" + names[2])
    unknown = by_kind(compare(expected, new), "category")["unknown_values"]
    assert unknown.size == pytest.approx((frame["category"] == names[2]).mean())


def test_a_stated_shift_is_found(rng: np.random.Generator) -> None:
    expected, repeats = described(rows(rng, 5000)), 100
    found = sum(
        by_kind(compare(expected, rows(rng, 500, shift=0.75)), "size")["distribution"].verdict == "drift"
        for _ in range(repeats)
    )
    assert found >= 0.95 * repeats
    assert worst(compare(expected, rows(rng, 500, shift=0.05))) == "none", "of no size"


def test_what_is_missing_out_of_range_or_unknown_is_named(rng: np.random.Generator) -> None:
    expected, new = described(rows(rng, 5000)), rows(rng, 1000)
    new.loc[:149, "skewed"] = np.nan
    new.loc[:79, "size"] = 60.0
    new.loc[:29, "colour"] = "violet"

    findings = compare(expected, new)

    assert by_kind(findings, "skewed")["missing"].verdict == "drift"
    assert by_kind(findings, "skewed")["missing"].size == pytest.approx(0.15)
    assert by_kind(findings, "size")["out_of_range"].verdict == "drift"
    unknown = by_kind(findings, "colour")["unknown_values"]
    assert unknown.verdict == "warn"
    assert unknown.size == pytest.approx(0.03)
    assert "violet" in unknown.detail
    assert {each.column for each in findings if each.verdict == "drift"} == {"skewed", "size"}


def test_rows_of_a_series_are_worth_less_than_they_count(rng: np.random.Generator) -> None:
    times = pd.Series(pd.date_range("2024-01-01", periods=4000, freq="h", tz="UTC"))
    independent = pd.Series(rng.normal(size=4000))
    assert effective_count(independent, times) > 1500
    assert effective_count(independent, None) == 4000
    for factor in (0.8, 0.95):
        worth = effective_count(pd.Series(autoregressive(rng, 4000, factor)), times)
        theory = 4000 * (1 - factor) / (1 + factor)
        assert theory / 2.5 < worth < theory * 2.5


def test_a_level_that_wanders_raises_no_alarm_and_one_that_left_does(rng: np.random.Generator) -> None:
    times = pd.date_range("2024-01-01", periods=9000, freq="h", tz="UTC")
    alarms, found, repeats = 0, 0, 40
    for _ in range(repeats):
        level = autoregressive(rng, 9000, 0.97)
        frame = pd.DataFrame({"time": times, "level": level})
        expected = described(frame[:7500], HOURLY)
        alarms += worst(compare(expected, frame[7500:])) != "none"
        moved = frame[7500:].assign(level=level[7500:] + 3 * level.std())
        found += worst(compare(expected, moved)) == "drift"
    assert alarms <= 4, "with every row for one, nearly all of them would"
    assert found >= 0.9 * repeats


@pytest.mark.parametrize("apart", [0.0, 10.0])
def test_series_of_different_levels_raise_no_alarm_that_one_series_would_not(
    apart: float, rng: np.random.Generator
) -> None:
    schema = {
        "time": {"column": "time", "frequency": "1h"},
        "keys": ["shop"],
        "columns": {"shop": {"type": "text"}, "time": {"type": "time"}, "level": {"type": "float"}},
    }
    hours, held_out, repeats = 24 * 240, 24 * 7, 40
    times = pd.date_range("2024-01-01", periods=hours + held_out, freq="h", tz="UTC")
    alarms = found = 0
    for _ in range(repeats):
        shops = [
            pd.DataFrame({"shop": name, "time": times, "level": place * apart + autoregressive(rng, len(times), 0.9)})
            for place, name in enumerate(("east", "west"))
        ]
        frame = pd.concat(shops, ignore_index=True)
        new = frame["time"] >= times[hours]
        expected = described(frame[~new], schema)
        alarms += worst(compare(expected, frame[new])) != "none"
        moved = frame[new].assign(level=frame["level"][new] + 2.5 * shops[0]["level"].std())
        found += worst(compare(expected, moved)) == "drift"
    assert alarms <= 4, "with the levels for a part of the noise, every second would"
    assert found >= 0.8 * repeats


def test_rows_of_short_series_that_follow_each_other_are_not_taken_for_independent(rng: np.random.Generator) -> None:
    schema = {
        "time": {"column": "time", "frequency": "1h"},
        "keys": ["stay"],
        "columns": {"stay": {"type": "text"}, "time": {"type": "time"}, "level": {"type": "float"}},
    }

    def stays(first: int, count: int) -> pd.DataFrame:
        begins = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(24 * (first + np.arange(count)), unit="h")
        level = np.repeat(rng.normal(0, 15, count), 24) + rng.normal(0, 5, 24 * count)
        times = np.concatenate([pd.date_range(begin, periods=24, freq="h").to_numpy() for begin in begins])
        name = np.repeat([f"s{first + number}" for number in range(count)], 24)
        return pd.DataFrame({"stay": name, "time": pd.DatetimeIndex(times, tz="UTC"), "level": level})

    expected = described(stays(0, 600), schema)
    assert expected["columns"]["level"]["effective_count"] < 2500
    found = [compare(expected, stays(600, 40)) for _ in range(20)]
    alarms = sum(each.verdict != "none" for findings in found for each in findings if each.column == "level")
    assert alarms <= 2


def test_unknown_tokens_are_compared_with_the_validation_part() -> None:
    schema = Schema.model_validate({"columns": {"text": {"type": "text"}}})
    report = {"parts": {"validation": {"tokens": 5000, "unknown": 50}}}
    texts = pd.DataFrame({"text": pd.array([f"text {number}" for number in range(200)], dtype="str")})
    expected = training_statistics(texts, schema, report)

    def verdict(unknown: int) -> str:
        return by_kind(compare(expected, texts, unknown_tokens={"text": (unknown, 2000)}), "text")[
            "unknown_tokens"
        ].verdict

    assert [verdict(unknown) for unknown in (20, 40, 100, 400)] == ["none", "none", "warn", "drift"]


def test_the_tokens_of_one_row_are_one_row() -> None:
    texts = pd.DataFrame({"text": ["a b c"]})
    expected = training_statistics(
        pd.concat([texts] * 50, ignore_index=True), Schema.model_validate({"columns": {"text": {"type": "text"}}})
    )
    expected["unknown_tokens"] = {"text": {"unknown": 10, "tokens": 10_000}}
    assert not [
        each for each in compare(expected, texts, unknown_tokens={"text": (8, 25)}) if each.kind == "unknown_tokens"
    ]


def test_too_few_rows_are_not_judged(rng: np.random.Generator) -> None:
    assert compare(described(rows(rng, 5000)), rows(rng, 10, shift=9)) == []


@pytest.mark.parametrize("unknown", [1.0, 0.5])
def test_rows_whose_time_cannot_be_read_miss_it_and_are_compared(rng: np.random.Generator, unknown: float) -> None:
    table = pd.DataFrame(
        {"time": pd.date_range("2024-01-01", periods=4000, freq="h", tz="UTC"), "level": rng.normal(size=4000)}
    )
    expected, new = described(table, HOURLY), table.tail(400).reset_index(drop=True)
    assert worst(compare(expected, new)) == "none"
    new.loc[: unknown * 400 - 1, "time"] = pd.NaT
    new.loc[: unknown * 400 - 1, "level"] += 3.0
    new.loc[unknown * 400 :, "level"] = np.nan  # there is a value nowhere where there is a time
    found = compare(expected, new)
    time, level = by_kind(found, "time"), by_kind(found, "level")
    assert list(time) == ["missing"]
    assert (time["missing"].size, time["missing"].verdict) == (unknown, "drift")
    assert (level["distribution"].verdict, level["distribution"].count) == ("drift", 400 * unknown)


def test_a_column_that_is_gone_is_missing_in_every_row(rng: np.random.Generator) -> None:
    expected, new = described(rows(rng, 5000)), rows(rng, 200)

    found = by_kind(compare(expected, new.drop(columns="size"), needed=["size", "count"]), "size")
    assert list(found) == ["missing"]
    assert found["missing"].verdict == "drift"
    assert found["missing"].size == 1.0
    assert "no such column" in found["missing"].detail
    assert worst(compare(expected, new.drop(columns="colour"))) == "drift", "all are needed unless others are named"
    assert worst(compare(expected, new.drop(columns="colour"), needed=["size"])) == "none"


def test_the_index_is_what_lies_beyond_its_noise(rng: np.random.Generator) -> None:
    expected = described(rows(rng, 5000))
    repeats = 200
    sizes, plain = [], []
    for _ in range(repeats):
        new = rows(rng, 100)
        sizes.append(by_kind(compare(expected, new), "skewed")["population"].size)
        edges, shares = bins_of(np.array(list(expected["columns"]["skewed"]["quantiles"].values())))
        counts = np.bincount(np.searchsorted(edges, new["skewed"], side="left"), minlength=len(shares))
        plain.append(stability_index(shares, counts / 100, 5000, 100))
    assert np.mean(plain) > 0.06, "with 100 rows in ten bins chance alone makes that much"
    assert np.mean(np.array(sizes) > 0) < 0.6
    assert np.mean(sizes) < 0.4 * np.mean(plain)


@pytest.mark.parametrize("kind", ["missing", "text", "unknown"])
def test_rows_of_a_series_count_less_also_where_they_are_no_numbers(rng: np.random.Generator, kind: str) -> None:
    schema = {
        "time": {"column": "time", "frequency": "1h"},
        "columns": {
            "time": {"type": "time"},
            "seen": {"type": "text"},
            "level": {"type": "float", "missing_share": 1.0},
        },
    }
    times = pd.date_range("2024-01-01", periods=4000, freq="h", tz="UTC")
    state = autoregressive(rng, 4000, 0.97) > 0
    frame = pd.DataFrame({"time": times, "level": 1.0, "seen": pd.array(np.where(state, "day", "night"), dtype="str")})
    if kind == "missing":
        frame.loc[state, "level"] = np.nan
    expected = described(frame, schema)
    new = frame[-1000:].reset_index(drop=True)
    if kind == "unknown":
        new["seen"] = new["seen"].where(~state[-1000:], "dusk")

    found = by_kind(compare(expected, new), "level" if kind == "missing" else "seen")

    finding = found[{"missing": "missing", "text": "population", "unknown": "unknown_values"}[kind]]
    assert finding.count < 250, "a spell of an hour's neighbours is one thing that happened"
    assert kind != "missing" or finding.expected_count < 1000


def test_limits_rise() -> None:
    assert all(0 < warn < drift < 1 for warn, drift in LIMITS.values())


def autoregressive(random: np.random.Generator, count: int, factor: float) -> np.ndarray:
    shocks, level = random.normal(0, 1, count), np.zeros(count)
    for step in range(1, count):
        level[step] = factor * level[step - 1] + shocks[step]
    return level
