"""What a workload must know about a table, found in the table: time, frequency, keys, types, ranges, gaps, target.

Nothing is decided silently: each decision leaves a note that stands in the workload beside what it decided.
"""

# ruff: noqa: S608  (names of columns are quoted, and the data are the user's own)

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd

from gateline.adapters.new_workload.column_names import free_name, why_renamed
from gateline.adapters.new_workload.number_columns import ReadAs, read_as
from gateline.adapters.new_workload.time_columns import (
    TimeColumn,
    column_types,
    find_time,
)
from gateline.adapters.new_workload.time_formats import quoted
from gateline.data.series_encoding import SINGLE_SERIES, refuse_mostly_absent, unix_seconds
from gateline.errors import DataError, did_you_mean, examples
from gateline.predictors.forecasting import columns_of_answer
from gateline.tasks.forecasting import TASK as FORECASTING
from gateline.workload.schema import ColumnType
from gateline.workload.section import format_span

NAMES_OF_KEYS = (
    "id",
    "key",
    "series",
    "store",
    "shop",
    "item",
    "product",
    "sku",
    "station",
    "site",
    "sensor",
    "symbol",
    "ticker",
)
NAMES_OF_CALENDAR = (
    *("hour", "hr", "weekday", "dayofweek", "dow", "day", "week", "month", "mnth", "season", "quarter", "year", "yr"),
    *("holiday", "workingday", "workday", "weekend", "school", "promo", "promotion"),
)
USUAL_STEPS: Mapping[Literal["second", "minute", "hour", "day"], tuple[int, ...]] = {
    "second": (1, 5, 10, 15, 30),
    "minute": (1, 2, 5, 10, 15, 30),
    "hour": (1, 2, 3, 6, 12),
    "day": (1, 7),
}
MAX_KEY_SHARE = 0.1  # a key has at least ten rows of each value, or there is no series to learn from
MOSTLY, ALWAYS = 0.95, 0.99
MAX_TEXTS = 50
"""Different texts up to which a column is read as a category."""
FEW_REPEATED = 0.05
"""Share of rows up to which repeated ones are taken for a mistake in the rows, and not for a key that was not found."""
CLOCKS = ("Europe/London", "Europe/Berlin", "Europe/Athens", "America/New_York", "Australia/Sydney")
"""Time zones that set their clocks back at different hours or on different days: others do it as one of them does."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class FoundColumn:
    """One column of the table that the workload will describe.

    Args:
        name: what the table calls it.
        expression: DuckDB's SQL that makes it from the file.
        type: as the schema says it.
        role: what it is for.
        note: what was found or decided, for people.
        low: smallest value seen.
        high: largest value seen.
        missing_share: share of rows without a value, 0 to 1.
        values: the texts seen, for a key with few.
        in_file: what the file calls it; of a time stamp that is made of several columns, its name before it was renamed.
    """

    name: str
    expression: str
    type: ColumnType
    role: Literal["time", "key", "target", "past", "static"]
    note: str = ""
    low: float | None = None
    high: float | None = None
    missing_share: float = 0.0
    values: tuple[str, ...] = ()
    in_file: str = ""


@dataclass(frozen=True)
class FoundTable:
    """What `gateline new` found out about a file.

    Args:
        columns: those kept, in their order.
        dropped: why each of the others was left out, by name.
        notes: what else was decided.
        query: SQL that makes the table; None: the file is the table already.
        frequency: from one row of a series to the next.
        rows: of the table.
        series: number of different keys.
        first, last: time stamps.
        absent: time stamps missing from the grid between first and last, all series together.
        calendar: past columns that seem to be known ahead, and why.
        skewness: of the target.
        typical: median of the target's absolute values, in its unit.
        levels: how many times that of one series is that of another, at most; 1 for one series.
    """

    columns: tuple[FoundColumn, ...]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]
    query: str | None
    frequency: timedelta
    rows: int
    series: int
    first: datetime
    last: datetime
    absent: int
    calendar: Mapping[str, str]
    skewness: float
    typical: float
    levels: float

    def of_role(self, role: str) -> list[FoundColumn]:
        """List the columns with one role."""
        return [column for column in self.columns if column.role == role]

    @property
    def steps(self) -> int:
        """Number of time stamps of the grid, from the first to the last."""
        return round((self.last - self.first) / self.frequency) + 1


def find_out(
    database: duckdb.DuckDBPyConnection, view: str, *, time: str | None, target: str | None, keys: Sequence[str] | None
) -> FoundTable:
    """Find out what the table `raw` holds.

    Args:
        database: holds the table `raw`, as ingest would read the file.
        view: what the query shall call the file.
        time: column of time stamps, as the user named it.
        target: column to forecast, as the user named it.
        keys: columns that tell one series from another; None: look for them.

    Raises:
        DataError: something that a forecast needs is not there: time stamps on a grid, unique rows, numbers.
    """
    types = column_types(database)
    _check_asked(types, target, keys or ())
    stamp = find_time(database, time)
    reads = {name: read_as(database, name, kind) for name, kind in types.items() if name not in stamp.made_from}
    for key in keys or ():
        if key not in reads:
            raise DataError(
                f"--key {key}",
                expected="a column that tells one series from another",
                found="the time stamps, or a part of them",
                do="Name another column, or leave --key out",
            )
    if stamp.name in reads:  # a column of the file is already called so
        stamp = TimeColumn(f"{stamp.name}_stamp", stamp.expression, stamp.made_from, stamp.note)
    selected = [
        f"{stamp.expression} AS {quoted(stamp.name)}",
        *(f"{r.expression} AS {quoted(n)}" for n, r in reads.items()),
    ]
    frame = database.execute(f"SELECT {', '.join(selected)} FROM raw").df()
    notes: list[str] = []
    without_time = int(frame[stamp.name].isna().sum())
    if without_time:
        notes.append(f"{without_time} rows without a time stamp are left out by the query")
        frame = frame[frame[stamp.name].notna()].reset_index(drop=True)
    if len(frame) < 3:
        raise DataError("rows", expected="at least a few dozen rows", found=f"{len(frame)}", do="Give a longer file")
    keys = _find_keys(frame, stamp.name, reads) if keys is None else list(keys)
    for key in keys:
        if reads[key].type == "other" or frame[key].isna().any():
            raise DataError(
                f"key {key}",
                expected="a text or whole number in every row",
                found="rows without one",
                do="Fill or drop the rows",
            )
        frame[key] = frame[key].map(_as_text)
    _check_unique(frame, stamp.name, keys)
    frame = frame.sort_values([*keys, stamp.name], kind="stable", ignore_index=True)
    frequency, absent = _find_grid(frame, stamp.name, keys)
    dropped = {
        name: why
        for name in reads
        if name not in keys and name != target and (why := _useless(frame, name, reads, keys))
    }
    rest = [name for name in reads if name not in keys and name not in dropped]
    target, why_target = _choose_target(frame, rest, reads, target, stamp.name, keys)
    rest = [name for name in rest if name != target]
    columns = [
        FoundColumn(stamp.name, stamp.expression, "time", "time", stamp.note),
        *(_describe_key(frame, key) for key in keys),
        _describe_number(frame, target, reads[target], "target", why_target),
        *(_describe_covariate(frame, name, reads[name], keys) for name in rest),
    ]
    place = {name: number for number, name in enumerate(types)} | {stamp.name: list(types).index(stamp.made_from[0])}
    columns.sort(key=lambda column: place[column.name])
    columns = _renamed(columns, [*types, stamp.name])
    called = {column.in_file: column.name for column in columns}
    order = [called[name] for name in (*keys, stamp.name)]
    query = _query(view, columns, order, types, dropped=bool(dropped), without_time=bool(without_time))
    values = frame[target].dropna()
    calendar = _find_calendar(frame, [name for name in rest if reads[name].type != "text"], stamp.name)
    return FoundTable(
        columns=tuple(columns),
        dropped=dropped,
        notes=tuple(notes),
        query=query,
        frequency=frequency,
        rows=len(frame),
        series=len(frame[keys].drop_duplicates()) if keys else 1,
        first=pd.Timestamp(frame[stamp.name].min()).to_pydatetime(),
        last=pd.Timestamp(frame[stamp.name].max()).to_pydatetime(),
        absent=absent,
        calendar={called[name]: why for name, why in calendar.items()},
        skewness=float(np.asarray(values.astype("float64").skew())) if len(values) > 2 else 0.0,
        typical=float(values.astype("float64").abs().median()),
        levels=_levels(frame, target, keys),
    )


def _levels(frame: pd.DataFrame, target: str, keys: Sequence[str]) -> float:
    if not keys:
        return 1.0
    of_series = frame[target].astype("float64").abs().groupby([frame[key] for key in keys]).median()
    known = of_series[of_series > 0]
    return float(known.max() / known.min()) if len(known) else 1.0


def _check_asked(types: Mapping[str, str], target: str | None, keys: Sequence[str]) -> None:
    for flag, name in [*([("--target", target)] if target is not None else []), *(("--key", key) for key in keys)]:
        if name not in types:
            raise DataError(
                f"{flag} {name}", expected="a column of the file", found="none", do=did_you_mean(str(name), types)
            )


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _find_keys(frame: pd.DataFrame, time: str, reads: Mapping[str, ReadAs]) -> list[str]:
    """Find the fewest columns that make (keys, time) unique, texts before numbers."""
    if not frame[time].duplicated().any():
        return []
    _refuse_repeated_clock(frame, time, [])
    at_once = int(frame[time].value_counts().iloc[0])
    most = max(2, min(len(frame) * MAX_KEY_SHARE, 50 * at_once))

    def rank(name: str) -> tuple[int, int]:
        words = name.lower().replace("-", "_").split("_")
        named = any(word in NAMES_OF_KEYS for word in words) or name.lower().endswith("id")
        return (0 if reads[name].type == "text" else 1, 0 if named else 1)

    able = [
        name
        for name, read in reads.items()
        if read.type in ("text", "integer", "boolean")
        and not frame[name].isna().any()
        and 2 <= frame[name].nunique() <= most
    ]
    able = [name for name in able if not _follows_from_time(frame, name, time)]
    able.sort(key=rank)
    fewest, nearest = len(frame), []
    for number in (1, 2, 3):
        for names in itertools.combinations(able[:12], number):
            left = int(frame.duplicated([*names, time]).sum())
            if not left:
                return list(names)
            if left < fewest:
                fewest, nearest = left, list(names)
                if left <= FEW_REPEATED * len(frame):
                    # One more column, whose value happens to differ in that hour, is no key.
                    _refuse_repeated_clock(frame, time, names)
    if fewest <= FEW_REPEATED * len(frame):
        _check_unique(frame, time, nearest)  # which says what is repeated
    repeated = frame[time][frame[time].duplicated()]
    raise DataError(
        "key columns",
        expected="each time stamp once, or a column that tells one series from another",
        found=f"{len(repeated)} repeated time stamps, e.g. {repeated.iloc[0]}, and no column of few values that makes them differ",
        do="Name it with --key COLUMN (several times for several), or aggregate the rows to one per time stamp first",
    )


def _follows_from_time(frame: pd.DataFrame, name: str, time: str) -> bool:
    return bool((frame.groupby(time)[name].nunique() <= 1).all())


def _refuse_repeated_clock(frame: pd.DataFrame, time: str, keys: Sequence[str]) -> None:
    """Refuse local time in which the hour that clocks repeat stands twice: two rows that no aggregate may make one."""
    rows = frame[frame.duplicated([*keys, time], keep=False)]
    if rows.empty or (rows.groupby([*keys, time]).size() != 2).any():
        return
    zone = next(
        (name for name in CLOCKS if all(is_repeated(stamp, name) for stamp in rows[time].drop_duplicates())), None
    )
    if zone is not None:
        first = pd.Timestamp(rows[time].min())
        raise DataError(
            f"column {time}",
            expected="each moment by a time stamp of its own",
            found=f"{len(rows) // 2} repeated, e.g. {first}, all in the hour that clocks show twice when they are set back (as in {zone})",
            do="Write UTC into the file, or each time stamp with its offset; they are two hours, and not to be aggregated",
        )


def is_repeated(stamp: pd.Timestamp, zone: str) -> bool:
    """Say whether clocks of a zone show a time twice.

    Example:
        >>> [is_repeated(pd.Timestamp(f"2024-10-27 {hour}:30"), "Europe/Berlin") for hour in ("01", "02", "03")]
        [False, True, False]
    """
    clock = stamp.to_pydatetime().replace(tzinfo=ZoneInfo(zone))
    return clock.timestamp() < clock.replace(fold=1).timestamp()


def _check_unique(frame: pd.DataFrame, time: str, keys: Sequence[str]) -> None:
    _refuse_repeated_clock(frame, time, keys)
    repeated = frame.duplicated([*keys, time])
    if repeated.any():
        rows = [" ".join(map(str, row)) for row in frame.loc[repeated, [*keys, time]].head(5).itertuples(index=False)]
        raise DataError(
            "rows",
            expected=f"each ({', '.join([*keys, time])}) once",
            found=f"{int(repeated.sum())} repeated: {examples(rows, int(repeated.sum()))}",
            do="Remove or aggregate the repeated rows, or name one more --key COLUMN",
        )


def _find_grid(frame: pd.DataFrame, time: str, keys: Sequence[str]) -> tuple[timedelta, int]:
    """Find the step of the grid, and how many of its time stamps are absent."""
    grouped = frame.groupby(list(keys), sort=False)[time] if keys else None
    steps = (grouped.diff() if grouped is not None else frame[time].diff()).dropna()
    if steps.empty:
        raise DataError(
            "series",
            expected="several rows of each series",
            found="one row each",
            do="Name the right key with --key COLUMN",
        )
    counted = steps.value_counts(normalize=True)
    step = counted.index[0]
    if _is_monthly(frame[time], steps):
        raise DataError(
            "frequency",
            expected="steps of one length (seconds to weeks)",
            found="one row a month, quarter or year, which differ in length",
            do="Give daily or weekly rows, or number the periods as days in a query and say so in the description",
        )
    firsts = grouped.transform("min") if grouped is not None else frame[time].min()
    off = ((frame[time] - firsts) % step) != pd.Timedelta(0)
    if off.any():
        grid = _usual_step(pd.Timedelta(steps.median()))
        stamps = examples([str(stamp) for stamp in frame[time][off].head(5)], int(off.sum()))
        raise DataError(
            f"column {time}",
            expected=f"time stamps on a grid; the commonest step is {step} ({counted.iloc[0]:.0%} of them)",
            found=f"{int(off.sum()):,} of {len(frame):,} beside it: {stamps}",
            do=f"Aggregate to a grid first, e.g. in DuckDB: SELECT time_bucket(INTERVAL '{grid}', {quoted(time)}) AS time, "
            "avg(...) AS ... GROUP BY ALL",
        )
    if keys:
        spans = grouped.agg(["min", "max", "count"])  # type: ignore[union-attr]
        absent = ((spans["max"] - spans["min"]) // step + 1 - spans["count"]).sum()
        starts = frame.groupby(list(keys))[time].min()
        if (((starts - starts.min()) % step) != pd.Timedelta(0)).any():
            raise DataError(
                f"column {time}",
                expected=f"all series on one grid of {format_span(step.to_pytimedelta())}",
                found="series whose grids are shifted against each other",
                do="Aggregate them to a common grid first (time_bucket in DuckDB)",
            )
    else:
        absent = (frame[time].iloc[-1] - frame[time].iloc[0]) // step + 1 - len(frame)
    names = frame[keys[0]] if keys else pd.Series(SINGLE_SERIES, index=frame.index)
    for key in keys[1:]:
        names = names + "/" + frame[key]
    refuse_mostly_absent(names.to_numpy(dtype=object), unix_seconds(frame[time]), int(absent) + len(frame), time)
    return step.to_pytimedelta(), int(absent)


def _usual_step(step: pd.Timedelta) -> str:
    """Name the span in common use that is nearest to a step, as DuckDB writes it."""
    usual = {f"{n} {unit}": pd.Timedelta(n, unit) for unit, ns in USUAL_STEPS.items() for n in ns}
    return min(usual, key=lambda name: abs(math.log(usual[name] / step)))


def _is_monthly(times: pd.Series, steps: pd.Series) -> bool:
    in_days = steps.dt.total_seconds() / DAY.total_seconds()
    months = ((in_days - 1).div(30.4).round().clip(lower=1) * 30.4375 - in_days).abs() <= 2.5
    on_the_first = times.dt.is_month_start.mean() > 0.9 or times.dt.is_month_end.mean() > 0.9
    return bool(float(in_days.median()) >= 27.5 and months.mean() > 0.9 and (on_the_first or in_days.nunique() > 1))


def _useless(frame: pd.DataFrame, name: str, reads: Mapping[str, ReadAs], keys: Sequence[str]) -> str:
    """Say why a column is left out, or nothing."""
    read, values = reads[name], frame[name]
    if read.type == "other":
        return "neither a number nor a truth value"
    if values.isna().all():
        return "no value in any row"
    if values.nunique() <= 1:
        return f"constant ({values.dropna().iloc[0]})"
    if read.type == "text" and values.nunique() > MAX_TEXTS:
        return f"text ({values.nunique()} different, more than {MAX_TEXTS}); group them in the query to use it"
    if values.isna().mean() > MOSTLY:
        return f"missing in {values.isna().mean():.0%} of the rows"
    if read.type != "text" and values.nunique() >= MOSTLY * len(values) / max(
        1, len(frame[list(keys)].drop_duplicates()) if keys else 1
    ):
        numbers = values.astype("float64")
        for steps in (numbers.diff(), frame.groupby(list(keys))[name].diff() if keys else None):
            if steps is not None and (steps.dropna() == 1).mean() >= MOSTLY:
                return "counts the rows"
    return ""


def _choose_target(
    frame: pd.DataFrame,
    able: Sequence[str],
    reads: Mapping[str, ReadAs],
    asked: str | None,
    time: str,
    keys: Sequence[str],
) -> tuple[str, str]:
    if asked is not None:
        if asked in keys or asked == time or reads.get(asked) is None or reads[asked].type not in ("float", "integer"):
            numbers = [name for name in able if reads[name].type in ("float", "integer")]
            raise DataError(
                f"--target {asked}",
                expected="a column of numbers that is neither time nor key",
                found="something else",
                do=f"Choose one of {examples(numbers)}" if numbers else "Give a file with numbers",
            )
        if frame[asked].nunique() <= 1:
            raise DataError(
                f"--target {asked}",
                expected="numbers that change",
                found=f"{examples([repr(value) for value in frame[asked].dropna().unique().tolist()]) or 'no value'} in every row",
                do="Choose another --target",
            )
        return asked, "asked for with --target"
    numbers = [name for name in able if reads[name].type in ("float", "integer")]
    if not numbers:
        raise DataError(
            "target",
            expected="a column of numbers to forecast",
            found=f"none that changes among {examples(list(reads))}",
            do="Give a file with one, or name it with --target"
            + ("; for texts, give --text and --label" if any(each.type == "text" for each in reads.values()) else ""),
        )
    totals = [name for name in numbers if _never_falls(frame, name, keys) or _hints_calendar(name)]
    able_numbers = [name for name in numbers if name not in totals] or numbers
    chosen = able_numbers[-1]
    passed = numbers[numbers.index(chosen) + 1 :]
    beside = f" ({examples(passed)} passed over: a running total or a calendar)" if passed else ""
    return chosen, f"taken because it is the last column of numbers{beside}; say --target COLUMN for another"


def _never_falls(frame: pd.DataFrame, name: str, keys: Sequence[str]) -> bool:
    steps = frame.groupby(list(keys))[name].diff() if keys else frame[name].astype("float64").diff()
    return bool((steps.dropna() >= 0).mean() >= ALWAYS)


def _hints_calendar(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return any(part in NAMES_OF_CALENDAR for part in (plain, plain.replace("_", ""), *plain.split("_")))


def _renamed(columns: Sequence[FoundColumn], there: Sequence[str]) -> list[FoundColumn]:
    """Name columns differently from the file where predictions or answers have a column of that name."""
    (target,) = (column.name for column in columns if column.role == "target")
    answered = columns_of_answer(target.casefold())
    own = {"key": (*FORECASTING.own_columns, *answered), "time": answered, "target": answered}
    renamed = []
    for column in columns:
        role = "series" if column.role == "key" else column.role
        called = free_name(column.name, own.get(column.role, ()), there, role)
        note = "; ".join(filter(None, (column.note, why_renamed(column.name) if called != column.name else "")))
        renamed.append(replace(column, name=called, in_file=column.name, note=note))
    return renamed


def _describe_key(frame: pd.DataFrame, name: str) -> FoundColumn:
    values = tuple(sorted(frame[name].unique()))
    few = values if len(values) <= 30 else ()
    return FoundColumn(name, f"CAST({quoted(name)} AS VARCHAR)", "text", "key", f"{len(values)} different", values=few)


def _describe_covariate(frame: pd.DataFrame, name: str, read: ReadAs, keys: Sequence[str]) -> FoundColumn:
    """Describe a column that says something of a series, or of its rows."""
    of_series = bool(keys) and bool((frame.groupby(list(keys))[name].nunique() <= 1).all())
    if read.type != "text":
        return _describe_number(frame, name, read, "static" if of_series else "past")
    values = frame[name]
    note = f"{values.nunique()} different texts, each with an embedding of its own"
    role: Literal["static", "past"] = "static" if of_series else "past"
    return FoundColumn(name, read.expression, "text", role, note, missing_share=float(values.isna().mean()))


def _describe_number(
    frame: pd.DataFrame, name: str, read: ReadAs, role: Literal["target", "past", "static"], why: str = ""
) -> FoundColumn:
    values = frame[name].astype("float64")
    known = values.dropna()
    return FoundColumn(
        name,
        read.expression,
        "boolean" if read.type == "boolean" else "integer" if read.type == "integer" else "float",
        role,
        "; ".join(part for part in (why, read.note) if part),
        None if read.type == "boolean" or known.empty else float(known.min()),
        None if read.type == "boolean" or known.empty else float(known.max()),
        1 - len(known) / len(values),
    )


def widened(low: float, high: float) -> tuple[float, float]:
    """Widen what was seen by a tenth of its span, to two digits, without crossing zero.

    Example:
        >>> widened(1.0, 977.0)
        (0.0, 1080.0)
    """
    margin = 0.1 * (high - low) or 1.0
    unit = 10.0 ** (math.floor(math.log10(margin)))
    below, above = math.floor((low - margin) / unit) * unit, math.ceil((high + margin) / unit) * unit
    digits = max(0, 1 - math.floor(math.log10(margin)))  # so that 0.30000000000000004 becomes 0.3
    below = 0.0 if low >= 0 else below
    above = 0.0 if high <= 0 else above
    return round(below, digits), round(above, digits)


def _find_calendar(frame: pd.DataFrame, names: Sequence[str], time: str) -> dict[str, str]:
    """Name the columns that the calendar gives, and those that are the same all day and are called like a calendar."""
    stamps = frame[time]
    parts = {
        "the hour": stamps.dt.hour,
        "the day of the week": stamps.dt.day_of_week,
        "the month": stamps.dt.month,
        "the year": stamps.dt.year,
        "the year and month": stamps.dt.year * 12 + stamps.dt.month,
        "the day of the year": stamps.dt.day_of_year,
    }
    found = {}
    for name in names:
        values = frame[name]
        if values.nunique() > 400 or (values.dropna() % 1 != 0).any():
            continue
        for words, part in parts.items():
            if 1 < part.nunique() < len(frame) / 10 and bool((values.groupby(part).nunique() <= 1).all()):
                found[name] = f"follows from {words} of the time stamp"
                break
        else:
            if _hints_calendar(name):
                found[name] = "seems to be known ahead, by its name"
    return found


def _query(
    view: str,
    columns: Sequence[FoundColumn],
    order: Sequence[str],
    types: Mapping[str, str],
    *,
    dropped: bool,
    without_time: bool,
) -> str | None:
    """Write the SQL that makes the table, unless the file is the table already."""
    same = all(column.expression == quoted(column.name) or types.get(column.name) == "VARCHAR" for column in columns)
    same &= all(column.role == "key" or column.expression == quoted(column.name) for column in columns)
    in_order = [column.name for column in columns] == list(types)
    if same and in_order and not dropped and not without_time:
        return None
    lines = [
        f"  {quoted(column.name)}"
        if column.expression == quoted(column.name)
        else f"  {column.expression} AS {quoted(column.name)}"
        for column in columns
    ]
    stamps = next(column for column in columns if column.role == "time")
    where = f"\nWHERE {stamps.expression} IS NOT NULL" if without_time else ""
    return (
        "SELECT\n" + ",\n".join(lines) + f'\nFROM "{view}"{where}\nORDER BY {", ".join(quoted(name) for name in order)}'
    )
