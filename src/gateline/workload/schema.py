"""Section `schema`: what the table must look like. The expectation suite, the cleaning and the documentation follow from it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from gateline.workload.section import Section, Span, TimeZone


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression, got one with a mistake ({error})") from error
    return value


def _whole_seconds(value: timedelta) -> timedelta:
    if value.total_seconds() % 1:
        raise ValueError(f"whole seconds, got {value.total_seconds()} s")
    return value


Instant = Annotated[datetime, AfterValidator(_in_utc)]
ColumnType = Literal["float", "integer", "boolean", "text", "time", "bytes"]
"""bytes: a file as it came, a recording, a picture, a clip. Other columns say what can be checked of it."""

RESERVED = "gateline_"
"""How columns begin that `gateline predict` and the log of predictions put beside those of the data: version, time, row."""


class Column(Section):
    """What one column holds, and what a violation means."""

    type: ColumnType
    description: str = ""
    unit: str = ""
    units: dict[str, dict[str, str]] = {}
    """The unit where it depends on which series a row is from: for one of `keys`, the unit of each of its values, e.g.
    ``{variable: {temperature: °F, pressure: hPa}}``. Metrics in raw units are then told per value and not over all."""
    min: float | None = None
    """Smallest value that can be true, in `unit`."""
    max: float | None = None
    """Largest value that can be true, in `unit`."""
    values: tuple[str, ...] | None = None
    """The only texts a text column may hold."""
    min_length: Annotated[int, Field(ge=0)] | None = None
    """Fewest characters of a text."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Most characters of a text."""
    pattern: Annotated[str, AfterValidator(_compiles)] | None = None
    """Regular expression that all of a text must match, e.g. the characters of its language."""
    missing_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of rows, 0 to 1, that may have no value."""
    violation: Literal["refuse", "missing"] = "refuse"
    """What a value outside `min`..`max`, `values`, the lengths or `pattern` means: refuse the data, or take the value as
    missing."""
    max_violations: Annotated[int, Field(ge=0)] = 0
    """With `violation: missing`, the largest number of rows for which that is acceptable."""

    @model_validator(mode="after")
    def _consistent(self) -> Column:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max, got {self.min} > {self.max}")
        if self.type not in ("float", "integer") and (self.min is not None or self.max is not None):
            raise ValueError(f"`min` and `max` only for float and integer columns, got them for a {self.type} column")
        for name in ("values", "min_length", "max_length", "pattern"):
            if self.type != "text" and getattr(self, name) is not None:
                raise ValueError(f"`{name}` only for text columns, got it for a {self.type} column")
        if self.max_violations and self.violation == "refuse":
            raise ValueError("`violation: missing` where `max_violations` allows some")
        return self


class Rows(Section):
    """How many rows there must be."""

    min: Annotated[int, Field(ge=1)] = 1
    max: int | None = None


class Time(Section):
    """The column that orders the rows, and its grid."""

    column: str
    frequency: Annotated[Span, AfterValidator(_whole_seconds)] | None = None
    """From one row of a series to the next, e.g. ``1h``; none where rows come when they come."""
    timezone: TimeZone = "UTC"
    """What time stamps without an offset mean (an IANA name)."""
    max_missing: Annotated[int, Field(ge=0)] = 0
    """Time stamps that may be absent between a series' first and last, all series together."""


class Freshness(Section):
    """How new the newest row of every series must be.

    `newest_at_least` is absolute; `max_age` is measured when validate runs, so it says whether the data were fresh when
    they came, not whether they still are.
    """

    newest_at_least: Instant | None = None
    max_age: Span | None = None


class Grid(NamedTuple):
    """Equal steps of time.

    Args:
        column: of the time stamps.
        frequency: from one row of a series to the next.
        timezone: what time stamps without an offset mean.
    """

    column: str
    frequency: timedelta
    timezone: str


class Schema(Section):
    """What the table must look like."""

    time: Time | None = None
    """None for a table of examples, one row each: sentences, recordings."""
    keys: tuple[str, ...] = ()
    """Columns that tell one series from another, none for a single series; without `time`, one example from another."""
    rows: Rows = Rows()
    freshness: Freshness = Freshness()
    columns: Annotated[dict[str, Column], Field(min_length=1)]
    """Every column of the table, in its order."""

    @model_validator(mode="after")
    def _dates_have_no_clock(self) -> Schema:
        if (
            self.time is not None
            and self.time.frequency is not None
            and self.time.frequency >= timedelta(days=1)
            and self.time.timezone != "UTC"
        ):
            # A day of local time has 23 or 25 hours twice a year, so midnights there are no regular grid.
            raise ValueError(
                f"`time.timezone: UTC` for steps of a day or more, got {self.time.timezone}; "
                "give the date, or midnight without an offset, in the query"
            )
        return self

    @model_validator(mode="after")
    def _columns_exist(self) -> Schema:
        times = [] if self.time is None else [("time.column", self.time.column)]
        for role, name in [*times, *(("keys", key) for key in self.keys)]:
            if name not in self.columns:
                raise ValueError(f"`{role}` to name one of the columns ({', '.join(self.columns)}), got {name!r}")
        if self.time is not None and self.columns[self.time.column].type != "time":
            found = self.columns[self.time.column].type
            raise ValueError(f"type `time` for the time column {self.time.column!r}, got `{found}`")
        return self

    @model_validator(mode="after")
    def _names_of_its_own(self) -> Schema:
        if taken := [name for name in self.columns if name.casefold().startswith(RESERVED)]:
            raise ValueError(
                f"names that do not begin with `{RESERVED}`, as columns do that are put beside requests and answers, got "
                f"{taken[0]!r}; rename it in source.query: SELECT {taken[0]} AS another_name"
            )
        return self

    @model_validator(mode="after")
    def _units_by_one_key(self) -> Schema:
        for name, column in self.columns.items():
            if column.units and (column.unit or len(column.units) > 1 or not set(column.units) <= set(self.keys)):
                raise ValueError(
                    f"`units` by one of the keys ({', '.join(self.keys) or 'there are none'}) and no `unit` beside it, "
                    f"got `unit: {column.unit}` and units by {', '.join(column.units)} for {name!r}"
                )
        return self

    @model_validator(mode="after")
    def _freshness_needs_time(self) -> Schema:
        if self.time is None and (self.freshness.newest_at_least or self.freshness.max_age):
            raise ValueError("`time` where there is `freshness`, got a table without times")
        return self

    @property
    def place_columns(self) -> tuple[str, ...]:
        """Columns that say where a row belongs: the keys, and then the time stamp."""
        return self.keys if self.time is None else (*self.keys, self.time.column)

    @property
    def may_lack_rows(self) -> bool:
        """Whether time stamps between a series' first and last may be absent."""
        return self.time is not None and self.time.max_missing > 0

    @property
    def grid(self) -> Grid:
        """The regular grid of a table of series; whoever needs one has seen to it that there is one.

        Raises:
            ValueError: the rows stand on no grid.
        """
        if self.time is None or self.time.frequency is None:
            raise ValueError("a table without `time.frequency` has no grid")
        return Grid(self.time.column, self.time.frequency, self.time.timezone)
