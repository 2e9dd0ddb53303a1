"""The judging core of validate: what is read, derived and decided, without Great Expectations."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gateline.column_statistics import plain, statistics
from gateline.manifest import dump_json
from gateline.readout import read_out
from gateline.validation import Check, Finding, Report, Rule, conclude, judge, rules
from gateline.workload.schema import Schema
from gateline.workload.section import read_section

AS_OF = datetime(2024, 2, 1, tzinfo=UTC)


def schema(**changes: object) -> Schema:
    """Two series of hourly sales."""
    base: dict[str, object] = {
        "time": {"column": "at", "frequency": "1h"},
        "keys": ["store"],
        "columns": {"store": {"type": "text"}, "at": {"type": "time"}, "sales": {"type": "float", "min": 0}},
    }
    return read_section("schema", Schema, base | changes)


def table(hours: int = 48) -> pd.DataFrame:
    at = pd.date_range("2024-01-01", periods=hours, freq="h", tz="UTC")
    return pd.concat(
        [pd.DataFrame({"store": store, "at": at, "sales": np.arange(hours, dtype=float)}) for store in "ab"],
        ignore_index=True,
    )


def steps_of(frame: pd.DataFrame, **changes: object) -> pd.DataFrame:
    steps = read_out(frame, schema(**changes)).steps
    assert steps is not None
    return steps


def a_check(passed: bool = True, severity: str = "critical", kind: str = "range") -> Check:
    return Check(kind, "sales", "e", "f", passed, severity, 0 if passed else 1, 0, (), (), "by hand", "Do")  # type: ignore[arg-type]


class TestTheVerdict:
    def test_is_yes_when_every_check_passed(self) -> None:
        assert judge([a_check(), a_check()]).passed

    def test_is_no_when_one_critical_check_failed_and_says_why(self) -> None:
        verdict = judge([a_check(), a_check(passed=False)])
        assert not verdict.passed
        assert verdict.reasons == ("column sales: expected e; found f. Do.",)

    def test_is_yes_when_only_a_warning_failed(self) -> None:
        assert judge([a_check(), a_check(passed=False, severity="warning")]).passed

    def test_is_no_when_there_was_nothing_to_judge_by(self) -> None:
        assert not judge([]).passed


class TestARule:
    rule = Rule("range", "sales", "values from 0 to any", "Correct the rows")

    def judged(self, finding: Finding, **changes: object) -> Check:
        readout = read_out(table(), schema())
        return conclude(replace(self.rule, **changes), finding, readout, schema())  # type: ignore[arg-type]

    def test_that_could_not_be_run_is_broken(self) -> None:
        check = self.judged(Finding("x", failure="it raised"))
        assert not check.passed
        assert "it raised" in check.found

    def test_without_a_count_is_broken(self) -> None:
        assert not self.judged(Finding("x")).passed

    def test_holds_up_to_its_allowance_and_not_beyond(self) -> None:
        assert self.judged(Finding("x", count=3, rows=(1, 2, 3)), allowed=3).passed
        assert not self.judged(Finding("x", count=4, rows=(1, 2, 3, 4)), allowed=3).passed

    def test_names_five_rows_with_time_and_key_and_says_how_many_more(self) -> None:
        check = self.judged(Finding("x", count=9, rows=tuple(range(9))))
        assert len(check.examples) == 5
        assert check.examples[1].row == 1
        assert check.examples[1].time == "2024-01-01T01:00:00Z"
        assert check.examples[1].key == {"store": "a"}
        assert check.reason.endswith("4.0 (row 4, 2024-01-01T04:00:00Z, store=a) and 4 more. Correct the rows.")

    def test_names_all_rows_that_are_taken_as_missing_only_when_it_holds(self) -> None:
        finding = Finding("x", count=9, rows=tuple(range(9)))
        assert len(self.judged(finding, allowed=9, taken_as_missing=True).taken_as_missing) == 9
        assert self.judged(finding, allowed=8, taken_as_missing=True).taken_as_missing == ()

    def test_about_the_newest_row_is_broken_when_there_is_no_newest_row(self) -> None:
        rule = Rule("newest", "at", "e", "Do", low=AS_OF)
        assert not conclude(rule, Finding("x", observed=float("nan")), read_out(table(), schema()), schema()).passed
        assert not conclude(rule, Finding("x", observed=None), read_out(table(), schema()), schema()).passed


class TestTheRulesOfASchema:
    def test_for_an_empty_table_are_only_the_coarsest(self) -> None:
        made = rules(read_out(table().iloc[:0], schema()), schema(), AS_OF)
        assert [rule.kind for rule in made] == ["rows", "absent", "extra"]

    def test_leave_out_what_needs_an_absent_column(self) -> None:
        made = rules(read_out(table().drop(columns="at"), schema()), schema(), AS_OF)
        assert not {"order", "gaps", "grid", "duplicate"} & {rule.kind for rule in made}

    def test_never_allow_an_empty_key_or_time_stamp(self) -> None:
        columns = {"store": {"type": "text", "missing_share": 0.5}, "at": {"type": "time", "missing_share": 0.5}}
        made = rules(read_out(table(), schema(columns=columns)), schema(columns=columns), AS_OF)
        assert [rule.allowed for rule in made if rule.kind == "missing"] == [0, 0]

    @pytest.mark.parametrize(
        ("share", "rows", "allowed"), [(0.7, 10, 7), (0.3, 10, 3), (0.1, 30, 3), (0.29, 100, 29), (0.0, 5, 0)]
    )
    def test_allow_exactly_the_missing_share_in_spite_of_rounding(self, share: float, rows: int, allowed: int) -> None:
        columns = {"at": {"type": "time"}, "sales": {"type": "float", "missing_share": share}}
        made = schema(columns=columns, keys=[])
        frame = table(rows).iloc[:rows].drop(columns="store")
        found = [rule for rule in rules(read_out(frame, made), made, AS_OF) if rule.key == "missing:sales"]
        assert found[0].allowed == allowed

    def test_have_each_a_key_of_their_own(self) -> None:
        made = rules(read_out(table(), schema()), schema(), AS_OF)
        assert len({rule.key for rule in made}) == len(made)


class TestTimeSteps:
    def test_of_a_regular_table_are_one_frequency_with_nothing_between(self) -> None:
        steps = steps_of(table())
        assert set(steps["step_seconds"].dropna()) == {3600.0}
        assert steps["step_seconds"].isna().sum() == 2  # the first row of each series
        assert steps["missing_before"].sum() == 0
        assert steps["off_grid_seconds"].abs().sum() == 0

    def test_count_absent_time_stamps_before_the_row_that_follows_them(self) -> None:
        frame = table().drop(index=[10, 11, 12, 60]).reset_index(drop=True)
        missing = steps_of(frame)["missing_before"]
        assert missing[missing > 0].to_dict() == {10: 3.0, 57: 1.0}

    def test_do_not_call_rows_out_of_order_a_gap(self) -> None:
        frame = table().sample(frac=1, random_state=3).reset_index(drop=True)
        steps = steps_of(frame)
        assert steps["missing_before"].sum() == 0
        assert (steps["step_seconds"] < 0).sum() > 10

    def test_do_not_call_interleaved_series_out_of_order(self) -> None:
        frame = table().sort_values(["at", "store"], ignore_index=True)
        assert (steps_of(frame)["step_seconds"].dropna() > 0).all()

    def test_do_not_call_a_duplicate_a_gap_or_out_of_order(self) -> None:
        frame = pd.concat([table().iloc[:5], table().iloc[4:]], ignore_index=True)
        steps = steps_of(frame)
        assert steps["missing_before"].sum() == 0
        assert steps["step_seconds"].min() == 0

    def test_find_the_row_off_the_grid_even_when_it_is_the_first(self) -> None:
        frame = table()
        seconds = np.zeros(len(frame), dtype=np.int64)
        seconds[0], seconds[9] = 420, -1
        frame["at"] += pd.to_timedelta(seconds, unit="s")
        off = steps_of(frame)["off_grid_seconds"]
        assert off[off != 0].to_dict() == {0: 420.0, 9: -1.0}

    def test_count_the_gap_beside_a_row_off_the_grid(self) -> None:
        frame = table()
        seconds = np.zeros(len(frame), dtype=np.int64)
        seconds[9] = 1
        frame["at"] += pd.to_timedelta(seconds, unit="s")
        assert steps_of(frame.drop(index=10).reset_index(drop=True))["missing_before"].sum() == 1

    def test_give_each_series_a_grid_of_its_own(self) -> None:
        frame = table()
        frame.loc[frame["store"] == "b", "at"] += pd.Timedelta(minutes=20)
        assert steps_of(frame)["off_grid_seconds"].abs().sum() == 0

    def test_agree_with_a_loop_over_rows_on_random_tables(self, rng: np.random.Generator) -> None:
        for _ in range(20):
            frame = table(30)
            frame = frame[rng.random(len(frame)) > 0.3]
            frame = pd.concat([frame, frame[rng.random(len(frame)) > 0.9]]).sample(
                frac=1, random_state=int(rng.integers(10**9))
            )
            steps = steps_of(frame.reset_index(drop=True))
            absent, backwards = 0, 0
            for _, rows in frame.groupby("store"):
                stamps = list(rows["at"])
                backwards += sum(later < earlier for earlier, later in itertools.pairwise(stamps))
                absent += int((max(stamps) - min(stamps)) / pd.Timedelta("1h")) + 1 - len(set(stamps))
            assert steps["missing_before"].sum() == absent
            assert (steps["step_seconds"] < 0).sum() == backwards

    def test_of_a_million_rows_need_no_loop(self) -> None:
        at = np.tile(pd.date_range("2000-01-01", periods=10_000, freq="h", tz="UTC"), 100)
        frame = pd.DataFrame({"store": np.repeat([f"s{i}" for i in range(100)], 10_000), "at": at, "sales": 1.0})
        assert steps_of(frame)["missing_before"].sum() == 0


class TestReading:
    def unreadable(self, values: Any, kind: str) -> list[int]:
        values = pd.Series(values, name="x")
        frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=len(values), freq="h"), "x": values})
        columns = {"at": {"type": "time"}, "x": {"type": kind}}
        wrong = read_out(frame, schema(keys=[], columns=columns)).unreadable["x"]
        return list(wrong[wrong].index)

    def test_finds_the_text_in_a_column_of_numbers(self) -> None:
        assert self.unreadable(["1.5", "many", None, "", " 2e3 "], "float") == [1]

    def test_calls_infinity_no_number(self) -> None:
        assert self.unreadable([1.0, np.inf, -np.inf, np.nan], "float") == [1, 2]

    def test_finds_the_fraction_in_a_column_of_whole_numbers(self) -> None:
        assert self.unreadable([1.0, 2.5, np.nan], "integer") == [1]

    def test_accepts_whole_numbers_with_missing_values_in_any_dtype(self) -> None:
        assert self.unreadable(pd.array([1, None, 3], dtype="Int64"), "integer") == []
        assert self.unreadable(pd.Series([1, None, 3], dtype=object), "integer") == []

    def test_accepts_truth_values_with_missing_ones(self) -> None:
        assert self.unreadable(pd.Series([True, None, False], dtype=object), "boolean") == []
        assert self.unreadable([True, False], "boolean") == []
        assert self.unreadable([0, 1, 2], "boolean") == [2]

    def test_refuses_truth_values_and_times_as_numbers(self) -> None:
        assert self.unreadable([True, False], "float") == [0, 1]
        assert self.unreadable(pd.date_range("2024-01-01", periods=2), "float") == [0, 1]

    def test_refuses_numbers_as_texts_and_as_times(self) -> None:
        assert self.unreadable([1, 2], "text") == [0, 1]
        assert self.unreadable(pd.Series(["a", 2, None], dtype=object), "text") == [1]
        assert self.unreadable([1, 2], "time") == [0, 1]

    def test_finds_the_text_that_is_no_time(self) -> None:
        assert self.unreadable(["2024-01-01", "yesterday", None, "2024-01-01T05:00"], "time") == [1]

    def test_finds_the_time_whose_offset_is_another(self) -> None:
        hours = [f"2024-01-01T0{hour}:00" for hour in range(4)]
        assert self.unreadable([*hours, "2024-01-01T05:00+01:00", "soon"], "time") == [4, 5]
        assert self.unreadable([f"{hour}+02:00" for hour in hours] + ["2024-01-01T05:00+01:00"], "time") == [4]

    def test_takes_a_category_as_what_it_holds(self) -> None:
        assert self.unreadable(pd.Series(["a", "b"], dtype="category"), "text") == []

    def test_finds_local_times_that_do_not_exist(self) -> None:
        frame = table(4).assign(at=pd.to_datetime("2024-03-31 01:00") + pd.to_timedelta(list(range(4)) * 2, unit="h"))
        unclear = steps_of(frame, time={"column": "at", "frequency": "1h", "timezone": "Europe/Berlin"})["unclear"]
        assert list(np.flatnonzero(unclear)) == [1, 5]

    def test_calls_a_second_column_of_the_same_name_another(self) -> None:
        frame = table()
        frame.insert(3, "sales", 0.0, allow_duplicates=True)
        assert list(read_out(frame, schema()).arrived.columns) == ["store", "at", "sales", "sales (again)"]

    @pytest.mark.parametrize(
        "value", [np.float64("nan"), None, pd.NaT, np.int64(3), np.bool_(True), np.inf, "x" * 500, AS_OF]
    )
    def test_turns_every_cell_into_json(self, value: object) -> None:
        assert len(json.dumps(plain(value), allow_nan=False)) < 100


class TestStatistics:
    def described(self, values: Iterable[float | None], **column: object) -> dict[str, Any]:
        values = list(values)
        frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=len(values), freq="h", tz="UTC"), "x": values})
        made = schema(keys=[], columns={"at": {"type": "time"}, "x": {"type": "float"} | column})
        return statistics(read_out(frame, made).typed, made)["x"]

    def test_of_numbers_agree_with_numpy(self) -> None:
        numbers = np.random.default_rng(5).normal(size=1000)
        x = self.described(numbers)
        assert x["count"] == 1000
        assert x["mean"] == pytest.approx(numbers.mean())
        assert x["std"] == pytest.approx(numbers.std())
        assert x["quantiles"]["0.25"] == pytest.approx(np.quantile(numbers, 0.25))

    def test_count_every_value_in_the_histogram_once(self) -> None:
        numbers = np.r_[np.random.default_rng(5).normal(size=1000), 1e9, -1e9]
        histogram = self.described(numbers)["histogram"]
        assert sum(histogram["counts"]) == 1002
        assert len(histogram["counts"]) == len(histogram["edges"]) + 1
        assert max(histogram["counts"]) < 300  # the wild values squeeze nothing together

    def test_count_as_missing_what_the_schema_takes_as_missing(self) -> None:
        x = self.described([1, 2, 999, None], max=10, violation="missing", max_violations=1)
        assert (x["count"], x["missing"], x["taken_as_missing"], x["max"]) == (2, 2, 1, 2.0)

    @pytest.mark.parametrize("values", [[], [None, None], [3.0], [3.0, 3.0]])
    def test_exist_for_columns_with_little_in_them(self, values: list[float]) -> None:
        dump_json(self.described(values))

    def test_of_texts_do_not_depend_on_the_order_of_rows(self) -> None:
        columns = {"at": {"type": "time"}, "x": {"type": "text"}}
        made = schema(keys=[], columns=columns)
        frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=6, freq="h"), "x": list("abcabc")})
        forward = statistics(read_out(frame, made).typed, made)["x"]
        assert forward["values"][0] == {"value": "a", "count": 2}
        assert forward == statistics(read_out(frame[::-1], made).typed, made)["x"]

    def test_tell_the_truth_values_apart(self) -> None:
        x = self.described([True, True, False], type="boolean")
        assert x["values"] == [{"value": "1.0", "count": 2}, {"value": "0.0", "count": 1}]


class TestTheReport:
    def test_says_the_first_reason_in_one_line(self) -> None:
        checks = (a_check(passed=False), a_check(passed=False))
        line = Report("w", 3, 2, checks, judge(checks)).summary()
        assert (
            line == "data rejected (3 rows, 2 columns, 2 checks): column sales: expected e; found f. Do. (and 1 more)"
        )

    def test_puts_what_refuses_the_data_before_the_warnings(self) -> None:
        checks = (a_check(passed=False, severity="warning"), a_check(passed=False))
        assert [check.severity for check in Report("w", 3, 2, checks, judge(checks)).failed] == ["critical", "warning"]


def test_the_core_needs_neither_great_expectations_nor_torch() -> None:
    code = "import sys, gateline.validation; print(sorted({'great_expectations', 'torch', 'mlflow', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=True
    )
    assert done.stdout.strip() == "[]"
