"""`gateline new`: what is found in tables of many shapes, what is written, and what is refused with nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gateline.adapters.ingestion import ingest
from gateline.adapters.new_workload import NewWorkload, new_workload
from gateline.adapters.new_workload.inference import widened
from gateline.adapters.new_workload.text import flow, scalar
from gateline.adapters.new_workload.words import in_words
from gateline.adapters.project import Project
from gateline.errors import DataError, GatelineError, WorkloadError
from gateline.table import read_table
from gateline.tasks.forecasting import TASK as FORECASTING
from gateline.workload import SECTIONS, Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import format_span
from gateline.workload.source import Source
from gateline.workload.training import Training

PARAMS = """\
# Which workloads run.
workloads:
  - first # the first one

seed: 7 # of everything
"""
HOURS = pd.date_range("2020-01-01", periods=2000, freq="h")


def wave(times: pd.DatetimeIndex, period: int = 24) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 3, len(times))
    return np.asarray((50 + 20 * np.sin(2 * np.pi * np.arange(len(times)) / period) + noise).round(3))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS)
    return Project.find(tmp_path)


def write(project: Project, frame: pd.DataFrame, name: str = "data.csv", **settings: object) -> Path:
    path = project.root / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, **settings)  # type: ignore[call-overload]
    return path


def check_sections(written: NewWorkload) -> Workload:
    workload = Workload.read(written.path)
    assert tuple(workload.sections) == tuple(name for name in SECTIONS if name not in ("resources", "variants"))
    for name, kind in (("source", Source), ("schema", Schema), ("training", Training), ("gates", Gates)):
        workload.section(name, kind)
    return workload


# ── Where the time stamps are ────────────────────────────────────────────────────────────────────────────────────────

SHAPES: dict[str, Callable[[], pd.DataFrame]] = {
    "ISO 8601": lambda: pd.DataFrame({"when": HOURS, "y": wave(HOURS)}),
    "ISO 8601 with an offset": lambda: pd.DataFrame(
        {"when": HOURS.tz_localize("UTC").tz_convert("Europe/Berlin"), "y": wave(HOURS)}
    ),
    "day first with dots": lambda: pd.DataFrame({"Datum": HOURS.strftime("%d.%m.%Y %H:%M"), "y": wave(HOURS)}),
    "day first, two digits of year": lambda: pd.DataFrame(
        {"Datum": HOURS.strftime("%d.%m.%y %H:%M"), "y": wave(HOURS)}
    ),
    "month first with am and pm": lambda: pd.DataFrame({"time": HOURS.strftime("%m/%d/%Y %I:%M %p"), "y": wave(HOURS)}),
    "names of months": lambda: pd.DataFrame({"time": HOURS.strftime("%d %b %Y %H:%M"), "y": wave(HOURS)}),
    "seconds since 1970": lambda: pd.DataFrame({"timestamp": HOURS.as_unit("s").astype("int64"), "y": wave(HOURS)}),
    "milliseconds since 1970": lambda: pd.DataFrame({"unix_ms": HOURS.as_unit("ms").astype("int64"), "y": wave(HOURS)}),
    "a date and an hour": lambda: pd.DataFrame({"dteday": HOURS.date, "hr": HOURS.hour, "y": wave(HOURS)}),
    "a date and a clock": lambda: pd.DataFrame(
        {"Date": HOURS.strftime("%d/%m/%Y"), "Time": HOURS.strftime("%H.%M.%S"), "y": wave(HOURS)}
    ),
    "a date as a number and an hour": lambda: pd.DataFrame(
        {"DATE": HOURS.strftime("%Y%m%d").astype(int), "hour": HOURS.hour, "y": wave(HOURS)}
    ),
    "year, month, day and hour": lambda: pd.DataFrame(
        {"year": HOURS.year, "month": HOURS.month, "day": HOURS.day, "hour": HOURS.hour, "y": wave(HOURS)}
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_time_stamps_are_found_in_whatever_form_they_stand(project: Project, shape: str) -> None:
    written = new_workload(project, "rides", write(project, SHAPES[shape]()))
    check_sections(written)
    assert written.table.frequency == pd.Timedelta("1h")
    assert (written.table.first, written.table.last) == (HOURS[0], HOURS[-1])
    assert written.table.absent == 0
    assert [column.name for column in written.table.of_role("target")] == ["y"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_query_makes_the_table_that_the_schema_describes(
    project: Project, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = check_sections(new_workload(project, "rides", write(project, SHAPES[shape]())))
    monkeypatch.chdir(project.root)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    assert raw.facts["columns"] == list(workload.section("schema", Schema).columns)
    times = pd.to_datetime(read_table(raw.path / "table.parquet")[workload.section("schema", Schema).grid.column])
    assert (times.to_numpy() == HOURS.to_numpy()).all()


@pytest.mark.parametrize(
    ("step", "season", "lookback", "horizon"),
    [("15min", 96, 96, 12), ("h", 24, 48, 12), ("D", 7, 28, 7), ("7D", 52, 52, 4)],
)
def test_windows_follow_from_the_frequency(
    project: Project, step: str, season: int, lookback: int, horizon: int
) -> None:
    times = pd.date_range("2015-01-01", periods=1500, freq=step)
    written = new_workload(project, "rides", write(project, pd.DataFrame({"t": times, "y": wave(times, season)})))
    content = yaml.safe_load(written.path.read_text())
    assert content["preprocess"]["windows"] == {"lookback": lookback, "horizon": horizon, "stride": 1}
    assert content["evaluation"]["season"] == season
    assert content["preprocess"]["split"]["embargo"] == format_span(horizon * written.table.frequency)


@pytest.mark.parametrize(("steps", "confidence"), [(1500, None), (5000, 0.95)])
def test_a_baseline_must_be_shown_beaten_where_the_test_part_can_show_it(
    project: Project, steps: int, confidence: float | None
) -> None:
    """225 and 750 hours of test, of which 20 blocks of 24 are 480."""
    times = pd.date_range("2015-01-01", periods=steps, freq="h")
    written = new_workload(project, "rides", write(project, pd.DataFrame({"t": times, "y": wave(times)})))
    gates = check_sections(written).section("gates", Gates)
    assert {rule.confidence for rule in gates.baselines.values()} == {confidence}
    assert ("are too few to demand more" in written.path.read_text()) is (confidence is None)


def test_boundaries_of_an_hourly_table_are_midnights(project: Project) -> None:
    written = new_workload(project, "rides", write(project, pd.DataFrame({"t": HOURS, "y": wave(HOURS)})))
    assert {moment.hour for moment in (written.settings.validate_from, written.settings.test_from)} == {0}


# ── Series, types, ranges, gaps ──────────────────────────────────────────────────────────────────────────────────────


def test_two_keys_are_found_in_shuffled_rows(project: Project) -> None:
    days = pd.date_range("2021-01-01", periods=300)
    series = [
        pd.DataFrame({"store": store, "item": item, "date": days.date, "price": wave(days), "units": wave(days, 7)})
        for store in ("north", "south")
        for item in (1, 2, 3)
    ]
    written = new_workload(project, "sales", write(project, pd.concat(series).sample(frac=1, random_state=1)))
    schema = check_sections(written).section("schema", Schema)
    assert schema.keys == ("store", "item")
    assert schema.columns["item"].type == "text"
    assert schema.columns["store"].values == ("north", "south")
    assert written.table.series == 6
    content = yaml.safe_load(written.path.read_text())
    assert content["evaluation"]["slices"] == ["store", "item"]
    assert content["preprocess"]["scaling"] == "column"


def test_series_of_very_different_levels_are_scaled_each_by_itself(project: Project) -> None:
    series = [
        pd.DataFrame({"store": store, "time": HOURS, "units": level * wave(HOURS)})
        for store, level in (("north", 1.0), ("south", 40.0))
    ]
    written = new_workload(project, "sales", write(project, pd.concat(series)))
    check_sections(written)
    assert written.table.levels == pytest.approx(40, rel=0.01)
    assert yaml.safe_load(written.path.read_text())["preprocess"]["scaling"] == "series"


def test_gaps_and_missing_values_are_counted_and_allowed(project: Project) -> None:
    frame = pd.DataFrame({"t": HOURS, "y": wave(HOURS)})
    frame.loc[frame.index[::50], "y"] = np.nan
    written = new_workload(project, "rides", write(project, frame.drop(index=range(100, 130))))
    schema = check_sections(written).section("schema", Schema)
    assert written.table.absent == 30
    assert schema.time is not None
    assert schema.time.max_missing >= 30
    assert schema.columns["y"].missing_share >= 0.02


@pytest.mark.parametrize("keys", [[], ["shop"], ["shop", "till"]])
def test_a_mistyped_year_is_named_before_a_century_of_minutes_is_laid_out(keys: list[str], project: Project) -> None:
    minutes = pd.date_range("2024-03-01", periods=2000, freq="min")
    frame = pd.DataFrame({"t": minutes.strftime("%Y-%m-%d %H:%M"), "y": wave(minutes)})
    frame.loc[700, "t"] = frame["t"][700].replace("2024", "1924")
    shops = [frame.assign(shop="east", till="a"), frame.iloc[:600].assign(shop="west", till="b")] if keys else [frame]
    series = re.escape({0: "all", 1: "east", 2: "east/a"}[len(keys)])

    with pytest.raises(
        DataError,
        match=rf"column t: expected rows for at least 1% .*; found .* rows for 52,.* steps; in series {series}, "
        r"2024-03-01 00:00:00 comes next after 1924-03-01 11:40:00\. Correct the time stamp",
    ):
        new_workload(project, "rides", write(project, pd.concat(shops)), keys=keys or None)


def test_row_counters_constants_and_names_are_left_out_and_it_says_so(project: Project) -> None:
    names = [f"guest {number}" for number in range(2000)]
    frame = pd.DataFrame({"No": range(1, 2001), "t": HOURS, "site": "A", "rest": 1.0, "guest": names, "y": wave(HOURS)})
    written = new_workload(project, "rides", write(project, frame))
    assert set(written.table.dropped) == {"No", "site", "rest", "guest"}
    text = written.path.read_text()
    assert "#   No: counts the rows" in text
    assert "guest: text (2000 different, more than 50)" in text.replace("\n  # ", " ")
    assert list(yaml.safe_load(text)["schema"]["columns"]) == ["t", "y"]


def test_texts_become_categories_and_what_a_series_has_once_is_static(project: Project) -> None:
    shops = []
    for shop, town, area in (("east", "Aarau", 120), ("west", "Baden", 300)):
        weather = np.array(["dry", "rain"])[np.arange(2000) // 7 % 2]
        shops.append(
            pd.DataFrame({"shop": shop, "t": HOURS, "town": town, "area": area, "weather": weather, "y": wave(HOURS)})
        )
    written = new_workload(project, "rides", write(project, pd.concat(shops)))
    content = yaml.safe_load(written.path.read_text())
    schema = check_sections(written).section("schema", Schema)

    assert content["preprocess"]["past"] == ["weather"]
    assert content["preprocess"]["static"] == ["town", "area"]
    assert schema.columns["weather"].type == schema.columns["town"].type == "text"


def test_a_decimal_comma_and_stray_texts_become_numbers_and_it_says_so(project: Project) -> None:
    values = [f"{value:.2f}".replace(".", ",") for value in wave(HOURS)]
    values[3] = "n/a"
    frame = pd.DataFrame({"Datum": HOURS.strftime("%d.%m.%Y %H:%M"), "Verbrauch (kWh)": values})
    written = new_workload(project, "strom", write(project, frame, sep=";"))
    target = written.table.of_role("target")[0]
    assert target.low == pytest.approx(wave(HOURS).min(), abs=0.01)
    assert target.missing_share == pytest.approx(1 / 2000)
    assert "'n/a' in 1 rows read as missing" in target.note


def test_infinite_numbers_are_missing_in_the_table_that_the_query_makes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = wave(HOURS)
    values[[5, 9]] = [float("inf"), float("-inf")]
    written = new_workload(project, "endless", write(project, pd.DataFrame({"time": HOURS, "load": values})))
    target = written.table.of_role("target")[0]
    assert target.high == pytest.approx(np.delete(wave(HOURS), [5, 9]).max())
    assert target.missing_share == pytest.approx(2 / 2000)
    assert "2 infinite values read as missing" in target.note
    monkeypatch.chdir(project.root)
    ingest(Workload.read(written.path).section("source", Source), project.root / "raw")
    assert read_table(project.root / "raw" / "table.parquet")["load"].isna().sum() == 2


def test_running_totals_and_calendar_columns_are_no_target_unless_asked(project: Project) -> None:
    frame = pd.DataFrame({"t": HOURS, "y": wave(HOURS), "total": wave(HOURS).cumsum(), "weekday": HOURS.day_of_week})
    path = write(project, frame)
    assert new_workload(project, "one", path).table.of_role("target")[0].name == "y"
    assert new_workload(project, "two", path, target="total").table.of_role("target")[0].name == "total"


def test_nothing_is_known_ahead_without_asking_but_the_calendar_is_proposed(project: Project) -> None:
    frame = pd.DataFrame(
        {
            "t": HOURS,
            "holiday": (HOURS.day_of_year % 30 == 0).astype(int),
            "weekday": HOURS.day_of_week,
            "y": wave(HOURS),
        }
    )
    written = new_workload(project, "rides", write(project, frame))
    content = yaml.safe_load(written.path.read_text())
    assert content["preprocess"]["known"] == []
    assert content["preprocess"]["past"] == ["holiday", "weekday"]
    assert set(written.table.calendar) == {"holiday", "weekday"}
    assert "weekday follows from the day of the week" in written.path.read_text().replace("\n  # ", " ")


def test_a_file_that_is_the_table_already_gets_no_query(project: Project) -> None:
    written = new_workload(
        project, "rides", write(project, pd.DataFrame({"t": HOURS, "y": wave(HOURS)}), "data.parquet")
    )
    source = check_sections(written).section("source", Source)
    assert (source.query, source.files[0].format, source.files[0].path) == (None, "parquet", "data.parquet")


def test_no_value_is_read_by_yaml_as_a_time_stamp_since_dvc_cannot_keep_one(project: Project) -> None:
    written = new_workload(project, "rides", write(project, pd.DataFrame({"t": HOURS, "y": wave(HOURS)})))
    content = yaml.safe_load(written.path.read_text())
    assert isinstance(content["schema"]["freshness"]["newest_at_least"], str)
    assert isinstance(content["preprocess"]["split"]["test_from"], str)


def test_names_that_yaml_or_sql_could_misread_survive(project: Project) -> None:
    frame = pd.DataFrame(
        {"t": HOURS, 'say "hi"': wave(HOURS), "no": wave(HOURS)[::-1], "a, b: [c]": wave(HOURS), "Temp °C": wave(HOURS)}
    )
    written = new_workload(project, "odd", write(project, frame), target="Temp °C")
    assert list(check_sections(written).section("schema", Schema).columns) == list(frame.columns)
    assert yaml.safe_load(written.path.read_text())["preprocess"]["past"] == list(frame.columns[1:4])


@pytest.mark.parametrize("low", [-1234.5, 0.0, 1e-6, 3.0])
@pytest.mark.parametrize("span", [1e-6, 1.0, 977.0, 1e9])
def test_a_widened_range_holds_what_was_seen_and_does_not_cross_zero(low: float, span: float) -> None:
    below, above = widened(low, low + span)
    assert below <= low < low + span <= above
    assert (below >= 0) == (low >= 0)


@pytest.mark.parametrize(
    "value", ["no", "1e3", "2024-01-01", "a: b", "# c", "it's", "", 2.0, 0.25, 1e-7, 12, "x, y", "[z"]
)
def test_values_come_back_from_yaml_as_they_went_in(value: object) -> None:
    assert yaml.safe_load(f"key: {scalar(value)}") == {"key": value}
    assert yaml.safe_load(f"key: {flow([value, value])}") == {"key": [value, value]}


# ── Refusals: one line, nothing written ──────────────────────────────────────────────────────────────────────────────

REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no such file": (lambda _: None, {}, "no such file"),
    "an empty file": (lambda path: path.touch(), {}, "an empty file"),
    "only a header": (lambda path: path.write_text("t,y\n"), {}, "only a header"),
    "no table": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(4000)), {}, "expected a"),
    "one column": (lambda path: path.write_text("y\n" + "1\n2\n" * 500), {}, "two columns"),
    "one row": (lambda path: path.write_text("t,y\n2024-01-01,1\n"), {}, "dozen rows"),
    "too short": (lambda path: pd.DataFrame({"t": HOURS, "y": wave(HOURS)}).head(40).to_csv(path, index=False), {}, "time stamps for"),
    "too short for the asked": (
        lambda path: pd.DataFrame({"t": HOURS, "y": wave(HOURS)}).to_csv(path, index=False), {"horizon": 1000}, "shorter --lookback",
    ),
    "no time": (lambda path: pd.DataFrame({"a": wave(HOURS), "b": wave(HOURS)}).to_csv(path, index=False), {}, "time column"),
    "wide without time": (
        lambda path: pd.DataFrame(np.ones((50, 6)), columns=list("123456")).to_csv(path, index=False), {}, "UNPIVOT",
    ),
    "no number": (lambda path: pd.DataFrame({"t": HOURS, "y": "a"}).to_csv(path, index=False), {}, "none that changes"),
    "constant": (lambda path: pd.DataFrame({"t": HOURS, "y": 5.0}).to_csv(path, index=False), {}, "none that changes"),
    "constant asked": (lambda path: pd.DataFrame({"t": HOURS, "y": 5.0}).to_csv(path, index=False), {"target": "y"}, "5.0"),
    "a number as people write it": (lambda path: pd.DataFrame({"t": HOURS, "y": 5.0}).to_csv(path, index=False), {"target": "y"}, "found 5.0 in every row"),
    "texts": (
        lambda path: pd.DataFrame({"id": range(40), "review": [f"a fine film of {n} minutes" for n in range(40)]}).to_csv(path, index=False), {},
        "for texts, give --text and --label, e.g. --text review",
    ),
    "Latin-1": (lambda path: path.write_bytes("t,where\n2024-01-01,Köln\n".encode("latin-1") * 9), {}, "not UTF-8. Save it as UTF-8"),
    "UTF-16": (lambda path: pd.DataFrame({"t": HOURS, "y": wave(HOURS)}).to_csv(path, index=False, encoding="utf-16"), {}, "UTF-16, not UTF-8. Save it as UTF-8"),
    "UTF-16 without a mark": (
        lambda path: pd.DataFrame({"t": HOURS, "y": wave(HOURS)}).to_csv(path, index=False, encoding="utf-16-le"), {}, "UTF-16, not UTF-8. Save it as UTF-8",
    ),
    "some stamps that are none": (
        lambda path: pd.DataFrame({"t": ["soon", *HOURS.astype(str)[:-2], "31.2."], "y": wave(HOURS)}).to_csv(path, index=False), {},
        "column t: expected dates or time stamps of one format in every row; found 2 of 2,000 that cannot be read: 'soon', '31.2.'.",
    ),
    "some asked stamps that are none": (
        lambda path: pd.DataFrame({"t": [*HOURS.strftime("%d/%m/%Y %H:%M")[:-1], "?"], "y": wave(HOURS)}).to_csv(path, index=False), {"time": "t"},
        "--time t: expected dates or time stamps of one format in every row; found 1 of 2,000 that cannot be read: '?'.",
    ),
    "unknown target": (lambda path: pd.DataFrame({"t": HOURS, "load": wave(HOURS)}).to_csv(path, index=False), {"target": "laod"}, "Did you mean 'load'?"),
    "unknown key": (lambda path: pd.DataFrame({"t": HOURS, "load": wave(HOURS)}).to_csv(path, index=False), {"keys": ["site"]}, "--key site"),
    "time that is none": (lambda path: pd.DataFrame({"t": HOURS, "w": "soon", "y": wave(HOURS)}).to_csv(path, index=False), {"time": "w"}, "ISO 8601"),
    "repeated rows": (
        lambda path: pd.DataFrame({"t": HOURS.repeat(2), "y": wave(HOURS.repeat(2))}).to_csv(path, index=False), {}, "repeated time stamps",
    ),
    "no grid": (
        lambda path: pd.DataFrame({"t": HOURS + pd.to_timedelta(np.random.default_rng(0).integers(0, 99, 2000), "s"), "y": wave(HOURS)})
        .to_csv(path, index=False), {}, "time_bucket(INTERVAL '1 hour'",
    ),
    "months": (
        lambda path: pd.DataFrame({"t": pd.date_range("1990-01-01", periods=400, freq="MS"), "y": wave(HOURS[:400])}).to_csv(path, index=False),
        {}, "steps of one length",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_is_one_line_and_writes_nothing(project: Project, fault: str) -> None:
    make, options, words = REFUSED[fault]
    path = project.root / "data.csv"
    make(path)
    with pytest.raises(GatelineError, match=r"expected .*; found") as refusal:
        new_workload(project, "rides", path, **options)  # type: ignore[arg-type]
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list((project.root / "workloads").iterdir()) == []
    assert (project.root / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize("name", ["Rides", "1st", "a-b", "", "../x", "a b"])
def test_a_name_that_cannot_be_one_is_refused(project: Project, name: str) -> None:
    with pytest.raises(WorkloadError, match=r"Say e\.g\. "):
        new_workload(project, name, write(project, pd.DataFrame({"t": HOURS, "y": wave(HOURS)})))


def test_a_workload_is_replaced_only_when_asked(project: Project) -> None:
    path = write(project, pd.DataFrame({"t": HOURS, "y": wave(HOURS)}))
    first = new_workload(project, "rides", path)
    first.path.write_text("mine")
    with pytest.raises(WorkloadError, match="--force"):
        new_workload(project, "rides", path)
    assert first.path.read_text() == "mine"
    new_workload(project, "rides", path, force=True)
    assert first.path.read_text() != "mine"
    assert yaml.safe_load((project.root / "params.yaml").read_text())["workloads"] == ["first", "rides"]


# ── params.yaml ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PARAMS, PARAMS.replace("# the first one\n", "# the first one\n  - second\n")),
        ("workloads: [first] # some\nseed: 7\n", "workloads: [first, second] # some\nseed: 7\n"),
        ("workloads: []\n", "workloads: [second]\n"),
        (
            "workloads:\n- first\n- other\n# seed\nseed: 7\n",
            "workloads:\n- first\n- other\n- second\n# seed\nseed: 7\n",
        ),
        ("seed: 7\nworkloads:\n  # comment\n  - first", "seed: 7\nworkloads:\n  # comment\n  - first\n  - second"),
    ],
)
def test_a_name_is_added_to_params_and_nothing_else_changes(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "params.yaml").write_text(before)
    Project(tmp_path).add_workload("second", "name: second\n")
    assert (tmp_path / "params.yaml").read_text() == after


def test_params_that_cannot_be_extended_leave_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    before = "workloads: &names\n  ? [a]\nseed: 7\n"
    (tmp_path / "params.yaml").write_text(before)
    with pytest.raises(WorkloadError):
        Project(tmp_path).add_workload("second", "name: second\n")
    assert (tmp_path / "params.yaml").read_text() == before
    assert list((tmp_path / "workloads").iterdir()) == []


def test_what_check_would_refuse_is_refused_and_nothing_is_written(project: Project) -> None:
    before = (project.root / "params.yaml").read_text()
    tenths = pd.date_range("2024-01-01", periods=3000, freq="100ms")
    months = pd.date_range("2024-01-01", periods=900, freq="h").append(
        pd.date_range("2024-03-10", periods=100, freq="h")
    )
    cases = {
        "whole seconds": (pd.DataFrame({"t": tenths, "load": wave(tenths)}), {}),
        "on one line": (pd.DataFrame({"t": HOURS, "load\n[MW]": wave(HOURS)}), {}),
        "tells one series from another": (pd.DataFrame({"t": HOURS, "load": wave(HOURS)}), {"keys": ["t"]}),
        "preprocess.split": (pd.DataFrame({"t": months, "load": wave(pd.DatetimeIndex(months))}), {}),
    }
    for words, (frame, options) in cases.items():
        with pytest.raises(DataError) as refused:
            new_workload(project, "refused", write(project, frame), **options)  # type: ignore[arg-type]
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
        assert list((project.root / "workloads").iterdir()) == []
        assert (project.root / "params.yaml").read_text() == before


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London", "America/Chicago", "Pacific/Auckland"])
@pytest.mark.parametrize("keys", [[], ["shop"]])
def test_local_time_with_the_hour_that_clocks_repeat_is_not_to_be_aggregated(
    project: Project, zone: str, keys: list[str]
) -> None:
    """The advice was to aggregate two hours into one; a column that differed in that hour was taken for a key."""
    moments = pd.date_range("2024-02-01", "2024-12-01", freq="30min", tz="UTC")
    clock = moments.tz_convert(zone).tz_localize(None)
    frame = pd.concat(
        [pd.DataFrame({"t": clock, "shop": shop, "load": wave(moments), "odd": moments.hour % 2}) for shop in "ab"]
    )
    frame = frame if keys else frame[frame["shop"] == "a"]

    with pytest.raises(
        DataError, match=r"column t: .* repeated, e\.g\. 2024-.* clocks show twice .* Write UTC"
    ) as refused:
        new_workload(project, "load", write(project, frame))
    assert f"found {2 * max(1, 2 * len(keys))} repeated" in str(refused.value)
    first = frame[frame["t"] < "2024-02-15"]
    file = write(project, pd.concat([first, first.iloc[100:103]]))
    with pytest.raises(DataError, match="aggregate"):  # the same three in another hour are a mistake
        new_workload(project, "load", file, keys=keys or None)
    assert not list((project.root / "workloads").iterdir())


def test_a_few_repeated_rows_are_named_beside_the_key(project: Project) -> None:
    """771 repeated time stamps were found, and no column of few values that made them differ, where five rows stood twice."""
    hours = HOURS[:256]
    frame = pd.concat([pd.DataFrame({"t": hours, "shop": shop, "y": wave(hours)}) for shop in "abc"])
    frame = pd.concat([frame, frame.iloc[300:305]])
    with pytest.raises(DataError, match=r"each \(shop, t\) once; found 5 repeated: b .* Remove or aggregate"):
        new_workload(project, "sales", write(project, frame))


@pytest.mark.parametrize(
    "name", ["origin", "target", "step", "forecast", "baseline_x", "time", "flags", "y_q10", "gateline_version"]
)
def test_a_key_that_is_called_as_forecasts_call_a_column_is_renamed(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the `origin` of flights is: the series were lost in the predictions, and nobody said so."""
    frame = pd.concat([pd.DataFrame({"hour": HOURS, name: key, "y": wave(HOURS)}) for key in ("JFK", "LGA")])

    written = new_workload(project, "delays", write(project, frame), time="hour", keys=[name], target="y")

    workload = check_sections(written)
    schema = workload.section("schema", Schema)
    FORECASTING.check(schema, workload.section("preprocess", FORECASTING.Preprocess), None, None)
    assert schema.keys == (f"series_{name}",)
    monkeypatch.chdir(project.root)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    assert set(read_table(raw.path / "table.parquet")[f"series_{name}"]) == {"JFK", "LGA"}
    assert f"renamed by the query, since predictions have a column `{name}`" in " ".join(
        written.path.read_text().replace("#", "").split()
    )
    assert dict(in_words(written))["series"] == f"2, told apart by {name} (called series_{name})"


def test_names_are_compared_as_the_query_compares_them(project: Project) -> None:
    """DuckDB takes `Series_Origin` and `series_origin` for one column."""
    frame = pd.concat(
        [pd.DataFrame({"hour": HOURS, "Origin": key, "Series_origin": wave(HOURS), "y": wave(HOURS)}) for key in "ab"]
    )
    written = new_workload(project, "delays", write(project, frame), keys=["Origin"], target="y")
    assert [c.name for c in written.table.columns] == ["hour", "series_series_Origin", "Series_origin", "y"]


@pytest.mark.parametrize("name", ["flags", "reorder_point", "gateline_version"])
def test_a_target_that_is_called_as_answers_call_a_column_is_renamed(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer with a target `flags` had no forecast, and one beside a column `gateline_version` ended in a traceback."""
    frame = pd.DataFrame({"hour": HOURS, name: wave(HOURS), "gateline_row": wave(HOURS)})

    written = new_workload(project, "made", write(project, frame), time="hour", target=name)

    workload = check_sections(written)
    schema, preprocess = workload.section("schema", Schema), workload.section("preprocess", FORECASTING.Preprocess)
    FORECASTING.check(schema, preprocess, None, None)
    assert (preprocess.target, preprocess.past) == (f"target_{name}", ("past_gateline_row",))
    monkeypatch.chdir(project.root)
    raw = ingest(workload.section("source", Source), project.root / "raw")
    assert np.allclose(read_table(raw.path / "table.parquet")[f"target_{name}"], wave(HOURS))
    assert dict(in_words(written))["target"].startswith(f"{name} (called target_{name}): asked for")


def test_other_columns_and_keys_keep_their_names(project: Project) -> None:
    frame = pd.concat(
        [pd.DataFrame({"hour": HOURS, "shop": key, "step": wave(HOURS), "y": wave(HOURS)}) for key in "ab"]
    )
    written = new_workload(project, "sales", write(project, frame), keys=["shop"], target="step")
    assert [column.name for column in written.table.columns] == ["hour", "shop", "step", "y"]
