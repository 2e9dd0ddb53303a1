"""Validate, with the real Great Expectations: every fault is caught and named, and a clean table passes."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from gateline.manifest import open_artifact, write_artifact
from gateline.readout import Readout, read_out
from gateline.table import TABLE, clean, write_table
from gateline.validation import Check, Report, rules
from gateline.workload.schema import Schema
from gateline.workload.section import read_section

ROOT = Path(__file__).resolve().parents[2]
AS_OF = datetime(2024, 2, 1, tzinfo=UTC)
HOURS = 100
Change = dict[str, Any]

SCHEMA: Change = {
    "time": {"column": "at", "frequency": "1h"},
    "keys": ["store"],
    "rows": {"min": 100, "max": 1000},
    "columns": {
        "store": {"type": "text", "values": ["north", "south"]},
        "at": {"type": "time"},
        "sales": {"type": "float", "unit": "EUR", "min": 0, "max": 500},
        "visitors": {"type": "integer", "min": 0, "missing_share": 0.1},
        "wind": {"type": "float", "unit": "mph", "max": 200, "violation": "missing", "max_violations": 3},
        "open": {"type": "boolean"},
        "weather": {"type": "text", "values": ["sun", "rain"], "missing_share": 0.05},
    },
}


def clean_table() -> pd.DataFrame:
    """Two stores, one row an hour each, in order."""
    rng = np.random.default_rng(1)
    at = pd.date_range("2024-01-01", periods=HOURS, freq="h", tz="UTC")
    parts = [
        pd.DataFrame(
            {
                "store": store,
                "at": at,
                "sales": rng.uniform(1, 400, HOURS).round(2),
                "visitors": rng.integers(0, 50, HOURS),
                "wind": rng.uniform(0, 60, HOURS).round(1),
                "open": rng.random(HOURS) > 0.3,
                "weather": rng.choice(["sun", "rain"], HOURS),
            }
        )
        for store in ("north", "south")
    ]
    return pd.concat(parts, ignore_index=True)


def schema_with(change: Change | None = None) -> Schema:
    """The schema with some of its keys changed, however deep."""

    def merge(base: Change, over: Change) -> Change:
        merged = dict(base)
        for key, value in over.items():
            merged[key] = merge(base[key], value) if isinstance(value, dict) and key in base else value
        return merged

    return read_section("schema", Schema, merge(copy.deepcopy(SCHEMA), change or {}))


@pytest.fixture(scope="module")
def adapter() -> ModuleType:
    """The adapter, whose import takes seconds."""
    from gateline.adapters import expectations

    return expectations


Judge = Callable[..., Report]


@pytest.fixture(scope="module")
def judge(adapter: ModuleType) -> Judge:
    """Judge a table in this process."""

    def judged(frame: pd.DataFrame, change: Change | None = None) -> Report:
        report, _ = adapter.judge_table(frame, schema_with(change), "shops", AS_OF)
        assert isinstance(report, Report)
        return report

    return judged


def only_failure(report: Report) -> Check:
    assert len(report.failed) == 1, [check.reason for check in report.failed]
    return report.failed[0]


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Fault:
    """What is done to the clean table, and what must be said about it."""

    name: str
    plant: Callable[[pd.DataFrame], pd.DataFrame]
    kind: str
    column: str | None
    count: int | None
    says: str
    rows: tuple[int, ...] = ()
    change: Change = field(default_factory=dict)
    alone: bool = False  # no other check may fail with it


def put(column: str, value: Any, *rows: int, dtype: str | None = None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Put one value into some rows of a column."""

    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.copy()
        if dtype is not None:
            changed[column] = changed[column].astype(cast(Any, dtype))
        changed.loc[list(rows), column] = value
        return changed

    return plant


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    order = list(frame.index)
    order[30], order[33] = order[33], order[30]
    return frame.loc[order].reset_index(drop=True)


def moved(minutes: int, *rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.copy()
        changed.loc[list(rows), "at"] += pd.Timedelta(minutes=minutes)
        return changed

    return plant


FAULTS = [
    Fault("no rows", lambda f: f.iloc[:0], "rows", None, None, "found 0"),
    Fault("one row", lambda f: f.iloc[:1], "rows", None, None, "found 1."),
    Fault("too few rows", lambda f: f.iloc[:99], "rows", None, None, "expected 100 to 1,000 rows; found 99", alone=True),
    Fault("too many rows", lambda f: f, "rows", None, None, "expected 100 to 150 rows; found 200", change={"rows": {"max": 150}}),
    Fault("a column missing", lambda f: f.drop(columns="wind"), "absent", None, 1, "found wind missing"),
    Fault("the time column missing", lambda f: f.drop(columns="at"), "absent", None, 1, "found at missing"),
    Fault("the key missing", lambda f: f.drop(columns="store"), "absent", None, 1, "found store missing"),
    Fault("an extra column", lambda f: f.assign(secret=1), "extra", None, 1, "found secret besides", alone=True),
    Fault("text among numbers", put("sales", "many", 7, 9, dtype="object"), "type", "sales", 2, "many (row 7, 2024-01-01T07:00:00Z, store=north)", (7, 9)),
    Fault("text among numbers that came as text", put("sales", "n/a", 150, dtype="str"), "type", "sales", 1, "n/a (row 150,", (150,)),
    Fault("infinity", put("sales", np.inf, 3), "type", "sales", 1, "inf (row 3,", (3,), alone=True),
    Fault("a fraction", put("visitors", 2.5, 4, dtype="float64"), "type", "visitors", 1, "2.5 (row 4,", (4,), alone=True),
    Fault("numbers for texts", lambda f: f.assign(weather=3.0), "type", "weather", 200, "3.0 (row 0,", (0, 1, 2, 3, 4)),
    Fault("text for a time", lambda f: put("at", "soon", 42)(f.assign(at=f["at"].astype("str"))), "type", "at", 1, "soon (row 42, store=north)", (42,)),
    Fault("a truth value that is none", lambda f: put("open", 2, 5)(f.assign(open=f["open"].astype("int64"))), "type", "open", 1, "2 (row 5,", (5,)),
    Fault("a value above the range", put("sales", 501.0, 11), "range", "sales", 1, "values from 0 to 500 EUR; found 1 value outside: 501.0 (row 11, 2024-01-01T11:00:00Z, store=north)", (11,), alone=True),
    Fault("values below the range", put("sales", -0.5, *range(20, 28)), "range", "sales", 8, "and 3 more", (20, 21, 22, 23, 24)),
    Fault("a text that is not allowed", put("weather", "frogs", 60), "values", "weather", 1, "frogs (row 60,", (60,)),
    Fault("more violations than may be taken as missing", put("wind", 1048.0, 1, 2, 3, 4), "range", "wind", 4, "more than the 3 that may be taken as missing", (1, 2, 3, 4)),
    Fault("too many missing values", put("visitors", None, *range(21), dtype="Int64"), "missing", "visitors", 21, "no value in at most 10 % of the rows; found 21 rows without", (0, 1, 2, 3, 4)),
    Fault("one missing value where none may be", put("sales", np.nan, 8), "missing", "sales", 1, "a value in every row; found 1 row without", (8,), alone=True),
    Fault("an empty time stamp", put("at", pd.NaT, 99), "missing", "at", 1, "a time stamp in every row", (99,)),
    Fault("an empty key", put("store", None, 99), "missing", "store", 1, "a key in every row", (99,)),
    Fault("a duplicate row", lambda f: pd.concat([f.iloc[:51], f.iloc[50:]], ignore_index=True), "duplicate", "at", 2, "2 rows that are there twice: 2024-01-03T02:00:00+00:00 (row 50,", (50, 51), alone=True),
    Fault("rows out of order", swapped, "order", "at", 2, "2 rows older than the one before them", (31, 33), alone=True),
    Fault("all rows shuffled", lambda f: f.sample(frac=1, random_state=2, ignore_index=True), "order", "at", None, "older than the one before"),
    Fault("a gap", lambda f: f.drop(index=[10, 11, 12]).reset_index(drop=True), "gaps", "at", 3, "found 3 absent: 3 absent before this row (row 10, 2024-01-01T13:00:00Z, store=north). Add", (10,), alone=True),
    Fault("more gaps than allowed", lambda f: f.drop(index=[10, 120, 130]).reset_index(drop=True), "gaps", "at", 3, "expected at most 2 absent", (10, 119, 128), change={"time": {"max_missing": 2}}),
    Fault("time stamps off the grid", moved(7, 5, 6), "grid", "at", 2, "7min late (row 5, 2024-01-01T05:07:00Z, store=north)", (5, 6), alone=True),
    Fault("a time that daylight saving skips", lambda f: f.assign(at=f["at"].dt.tz_localize(None) + pd.Timedelta(days=88)), "local_time", "at", 2, "(row 50, store=north)", (50, 150), change={"time": {"timezone": "Europe/Berlin"}}),
    Fault("one stale series", lambda f: f[(f["store"] != f["store"].iloc[0]) | (f["at"] < f["at"].min() + pd.Timedelta(hours=12))], "newest", "at", None, "in every series", change={"freshness": {"newest_at_least": "2024-01-05T03:00:00Z"}}),
    Fault("stale data", lambda f: f, "newest", "at", None, "expected a newest row of 2024-01-06T00:00:00Z or later, in every series; found 2024-01-05T03:00:00Z", change={"freshness": {"newest_at_least": "2024-01-06T00:00:00Z"}}, alone=True),
    Fault("data too old on the day", lambda f: f, "age", "at", None, "at most 2d old", change={"freshness": {"max_age": "2d"}}),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_refused_and_named(judge: Judge, fault: Fault) -> None:
    report = judge(fault.plant(clean_table()), fault.change)
    named = [check for check in report.failed if (check.kind, check.column) == (fault.kind, fault.column)]
    assert not report.verdict.passed
    assert len(named) == 1, [check.reason for check in report.failed]
    assert fault.says in named[0].reason
    assert named[0].reason in report.verdict.reasons
    if fault.count is not None:
        assert named[0].count == fault.count
    if fault.rows:
        assert tuple(example.row for example in named[0].examples) == fault.rows
    assert len(named[0].examples) <= 5
    assert named[0].source.startswith("great_expectations: expect_")
    if fault.alone:
        assert report.failed == named


# ── What passes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_clean_table_passes_every_check(judge: Judge) -> None:
    report = judge(clean_table())
    assert report.verdict.passed
    assert report.failed == []
    assert all(check.found for check in report.checks)


@pytest.mark.parametrize(
    ("what", "plant", "change"),
    [
        ("times without an offset", lambda f: f.assign(at=f["at"].dt.tz_localize(None)), {}),
        ("times as text", lambda f: f.assign(at=f["at"].dt.strftime("%Y-%m-%d %H:%M:%S")), {}),
        ("times in another zone", lambda f: f.assign(at=f["at"].dt.tz_convert("Asia/Tokyo")), {}),
        ("nullable whole numbers", put("visitors", None, 1, 2, dtype="Int64"), {}),
        ("whole numbers as floats", put("visitors", np.nan, 1, 2, dtype="float64"), {}),
        (
            "truth values with missing ones",
            put("open", None, 3, dtype="object"),
            {"columns": {"open": {"missing_share": 0.1}}},
        ),
        (
            "a column without any value",
            lambda f: f.assign(weather=None),
            {"columns": {"weather": {"missing_share": 1}}},
        ),
        ("categories", lambda f: f.assign(weather=f["weather"].astype("category")), {}),
        ("series one after the other or interleaved", lambda f: f.sort_values(["at", "store"], ignore_index=True), {}),
        ("columns in another order", lambda f: f[list(reversed(f.columns))], {}),
        ("fresh data", lambda f: f, {"freshness": {"newest_at_least": "2024-01-05T03:00:00Z", "max_age": "28d"}}),
        (
            "a gap within the allowance",
            lambda f: f.drop(index=[5]).reset_index(drop=True),
            {"time": {"max_missing": 1}},
        ),
        ("a row index of its own", lambda f: f.set_index(np.arange(len(f)) * 7 + 3), {}),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_the_next_step_can_use_passes(
    judge: Judge, what: str, plant: Callable[[pd.DataFrame], pd.DataFrame], change: Change
) -> None:
    frame = plant(clean_table())
    report = judge(frame, change)
    assert report.verdict.passed, report.verdict.reasons
    clean(frame, schema_with(change))


def test_a_single_series_needs_no_key(judge: Judge) -> None:
    frame = clean_table().iloc[:HOURS].drop(columns="store")
    change = {"keys": [], "columns": {name: column for name, column in SCHEMA["columns"].items() if name != "store"}}
    single = read_section("schema", Schema, SCHEMA | change)
    twice = pd.concat([frame.iloc[:9], frame.iloc[8:]], ignore_index=True)
    from gateline.adapters.expectations import judge_table

    assert judge_table(frame, single, "shops", AS_OF)[0].verdict.passed
    check = only_failure(judge_table(twice, single, "shops", AS_OF)[0])
    assert (check.kind, check.count, [example.row for example in check.examples]) == ("duplicate", 2, [8, 9])


def test_rows_without_a_time_stamp_are_not_called_duplicates_too(judge: Judge) -> None:
    report = judge(put("at", pd.NaT, 98, 99)(clean_table()))
    assert (only_failure(report).kind, only_failure(report).count) == ("missing", 2)


def test_a_few_wild_values_are_taken_as_missing_and_named(judge: Judge) -> None:
    report = judge(put("wind", 1048.36, 17, 118)(clean_table()))
    assert report.verdict.passed
    assert report.to_json()["taken_as_missing"] == [
        {
            "column": "wind",
            "count": 2,
            "rows": [
                {"row": 17, "time": "2024-01-01T17:00:00Z", "key": {"store": "north"}, "value": 1048.36},
                {"row": 118, "time": "2024-01-01T18:00:00Z", "key": {"store": "south"}, "value": 1048.36},
            ],
        }
    ]
    assert "values taken as missing: 2" in report.summary()


def test_a_constant_column_is_a_warning_and_no_refusal(judge: Judge) -> None:
    report = judge(clean_table().assign(sales=5.0))
    check = only_failure(report)
    assert (check.kind, check.column, check.severity) == ("constant", "sales", "warning")
    assert report.verdict.passed
    assert "warnings: 1" in report.summary()


# ── Not Great Expectations' flag ─────────────────────────────────────────────────────────────────────────────────────


def test_great_expectations_passes_an_empty_table_where_we_do_not(adapter: ModuleType, judge: Judge) -> None:
    import great_expectations as gx

    empty, schema = clean_table().iloc[:0], schema_with()
    demanded = [rule for rule in rules(read_out(clean_table(), schema), schema, AS_OF) if rule.kind == "range"]
    suite = gx.ExpectationSuite(name="ranges", expectations=[adapter.expectation(rule, schema) for rule in demanded])
    source = gx.get_context(mode="ephemeral").data_sources.add_pandas("p")
    batch = (
        source.add_dataframe_asset("a")
        .add_batch_definition_whole_dataframe("b")
        .get_batch({"dataframe": read_out(empty, schema).typed})
    )
    assert batch.validate(suite).success
    assert not judge(empty).verdict.passed


def test_a_rule_that_great_expectations_cannot_run_refuses_the_data(adapter: ModuleType) -> None:
    schema = schema_with()
    readout = read_out(clean_table(), schema)
    rule = next(rule for rule in rules(readout, schema, AS_OF) if rule.key == "range:sales")
    broken = Readout(readout.arrived, readout.typed.assign(sales="text"), readout.unreadable, readout.steps)
    finding = adapter.run_rules([rule], broken, schema)[rule.key]
    assert finding.failure is not None
    assert "raised" in finding.failure


# ── Random faults ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_random_fault_in_a_random_row_is_found_there(judge: Judge, rng: np.random.Generator) -> None:
    for _ in range(6):
        row = int(rng.integers(1, HOURS - 1)) + HOURS * int(rng.integers(2))
        kinds: dict[tuple[str, str], Callable[[pd.DataFrame], pd.DataFrame]] = {
            ("range", "sales"): put("sales", float(rng.choice([-1, 1]) * rng.uniform(501, 1e9)), row),
            ("type", "sales"): put("sales", f"bad {rng.integers(99)}", row, dtype="object"),
            ("values", "weather"): put("weather", "snow", row),
            ("missing", "sales"): put("sales", np.nan, row),
            ("missing", "at"): put("at", pd.NaT, row),
            ("grid", "at"): moved(int(rng.integers(1, 29)), row),
            ("gaps", "at"): lambda frame, row=row: frame.drop(index=row).reset_index(drop=True),  # type: ignore[misc]
            ("duplicate", "at"): lambda frame, row=row: pd.concat(
                [frame.iloc[: row + 1], frame.iloc[row:]], ignore_index=True
            ),  # type: ignore[misc]
        }
        expected = list(kinds)[int(rng.integers(len(kinds)))]
        report = judge(kinds[expected](clean_table()))
        found = {(str(check.kind), str(check.column)): check for check in report.failed}
        print("planted", expected, "in row", row, "found", list(found))
        assert not report.verdict.passed
        assert row in {example.row for example in found[expected].examples}


# ── The step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_raw(folder: Path, frame: pd.DataFrame) -> Path:
    with write_artifact(folder, "raw") as draft:
        write_table(frame, draft.path / TABLE)
    return folder


def workload_text(change: Change | None = None) -> str:
    schema = schema_with(change).model_dump(mode="json", exclude_unset=True)
    return json.dumps({"name": "shops", "task": "forecasting", "schema": schema})


def run_in_this_process(raw: Path, report: Path, *more: str, workload: str | None = None) -> int:
    from components.validate.__main__ import parser, step
    from gateline.adapters.door import run_step

    argv = ["--workload", workload or workload_text(), "--raw", str(raw), "--report", str(report), *more]
    return run_step(parser(), step, argv)


WITHOUT_NETWORK_AND_TORCH = """
import runpy, socket, sys
def refuse(*_):
    raise AssertionError("a connection")
socket.socket.connect = socket.getaddrinfo = refuse
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "kfp", "duckdb", "sklearn"):
            raise ImportError("not in the image of this step: " + name)
sys.meta_path.insert(0, Absent())
runpy.run_module("components.validate", run_name="__main__", alter_sys=True)
"""


def test_two_processes_write_the_same_bytes_without_network_and_torch(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", put("wind", 1048.0, 5)(clean_table()))
    workload = workload_text({"freshness": {"max_age": "30d"}})
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", WITHOUT_NETWORK_AND_TORCH, "--workload", workload, "--raw", str(raw)]
    done = subprocess.run(
        [*command, "--report", str(tmp_path / "one"), "--as-of", "2024-02-01"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "data accepted" in done.stdout
    assert done.stdout.count("\n") == 1, done.stdout
    assert done.stderr == ""
    assert run_in_this_process(raw, tmp_path / "two", "--as-of", "2024-02-01T10:00:00+01:00", workload=workload) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["manifest.json", "report.html", "report.json", "statistics.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    text = (tmp_path / "one" / "report.json").read_text()
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text), "an id of the run"
    assert str(tmp_path) not in text


def test_a_bad_table_still_gives_a_report_and_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_raw(tmp_path / "raw", put("sales", "many", 7, dtype="str")(clean_table()))
    assert run_in_this_process(raw, tmp_path / "report") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert "data rejected" in out
    assert "many (row 7, 2024-01-01T07:00:00Z, store=north)" in out
    report = open_artifact(tmp_path / "report", "report")
    assert report.facts["verdict"]["passed"] is False
    assert report.facts["verdict"] == report.read_json("report.json")["verdict"]
    assert report.inputs == {"raw": open_artifact(raw, "raw").digest}


def test_a_changed_raw_folder_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(tmp_path / "raw", clean_table())
    with (raw / TABLE).open("ab") as file:
        file.write(b"x")
    assert run_in_this_process(raw, tmp_path / "report") == 2
    _, err = capsys.readouterr()
    assert err.startswith("gateline: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "report.tmp").exists()


# ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def page(adapter: ModuleType) -> Callable[..., str]:
    """The page of a table."""
    from gateline.adapters.validation_page import render
    from gateline.column_statistics import statistics

    def rendered(frame: pd.DataFrame, change: Change | None = None) -> str:
        schema = schema_with(change)
        report, readout = adapter.judge_table(frame, schema, "shops", AS_OF)
        return render(report, statistics(readout.typed, schema), schema)

    return rendered


def test_the_page_fetches_nothing_and_runs_nothing(page: Callable[..., str]) -> None:
    text = page(clean_table())
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", text)
    assert "Data accepted" in text


def test_the_page_names_the_faults_and_cannot_be_broken_by_them(page: Callable[..., str]) -> None:
    text = page(put("weather", "<b>snow</b>", 3)(put("sales", 999.0, 11)(clean_table())))
    assert "Data rejected" in text
    assert "2 of" in text
    assert "999.0" in text
    assert "&lt;b&gt;snow" in text
    assert "<b>snow" not in text


@pytest.mark.parametrize(
    "frame", [clean_table().iloc[:0], clean_table().drop(columns=["at", "store"]), clean_table().iloc[:1]]
)
def test_the_page_exists_for_tables_with_little_in_them(page: Callable[..., str], frame: pd.DataFrame) -> None:
    assert "Data rejected" in page(frame)


def test_the_age_is_measured_against_the_moment_given(adapter: ModuleType) -> None:
    schema = schema_with({"freshness": {"max_age": "2d"}})
    newest = clean_table()["at"].max().to_pydatetime()
    for age, passed in ((timedelta(days=2), True), (timedelta(days=2, seconds=1), False)):
        assert adapter.judge_table(clean_table(), schema, "shops", newest + age)[0].verdict.passed is passed
