"""Judge a table against its schema: which rules follow from a schema, what was found, and the verdict.

The rules are run by an adapter (Great Expectations), which hands back one `Finding` per rule: how many rows break it and
which. Everything that decides stands here and is pure: which rules there are, what a finding means, the verdict. Nothing here knows who ran the rules, and no success flag of theirs is believed.

Rows are counted from 0. Time stamps are in UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from gateline.column_statistics import instant_text, plain
from gateline.errors import MAX_EXAMPLES, examples
from gateline.readout import Readout
from gateline.workload.schema import Column, ColumnType, Schema, Time
from gateline.workload.section import format_span

Json = Any
Severity = Literal["critical", "warning"]
Kind = Literal[
    "rows", "absent", "extra", "type", "missing", "range", "values", "length", "pattern", "constant",
    "duplicate", "order", "gaps", "grid", "local_time", "newest", "age",
]  # fmt: skip

NAMED_ROWS = 100  # rows that the report names one by one where a schema lets a violation pass as a missing value
TYPES_IN_WORDS: Mapping[ColumnType, str] = {
    "float": "finite numbers",
    "integer": "whole numbers",
    "boolean": "true and false",
    "text": "texts",
    "time": "ISO 8601 time stamps",
    "bytes": "files",
}


@dataclass(frozen=True)
class Rule:
    """One thing that the schema demands.

    Args:
        kind: what is looked at.
        column: the column that is looked at; None for the table as a whole.
        expected: in words.
        do: what to do when it is broken.
        severity: a broken critical rule refuses the data, a broken warning is only shown.
        allowed: how many rows may break it.
        low, high: bounds of the value looked at; a number, or an instant for `newest` and `age`.
        values: the values allowed.
        taken_as_missing: rows that break it become missing values instead, up to `allowed`.
    """

    kind: Kind
    column: str | None
    expected: str
    do: str
    severity: Severity = "critical"
    allowed: int = 0
    low: float | datetime | None = None
    high: float | datetime | None = None
    values: tuple[str, ...] | None = None
    taken_as_missing: bool = False

    @property
    def key(self) -> str:
        """Name the rule: no two rules of a schema have the same."""
        return self.kind if self.column is None else f"{self.kind}:{self.column}"


@dataclass(frozen=True)
class Finding:
    """What running one rule brought to light.

    Args:
        source: who ran it and how.
        count: how many rows (columns, time stamps) break it; None when that could not be found out.
        rows: row numbers of the first of them, ascending.
        names: the columns that are absent or extra.
        observed: the one number or instant that was compared, for rules about the table as a whole.
        failure: why it could not be run.
    """

    source: str
    count: int | None = None
    rows: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    observed: float | datetime | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Example:
    """One row that breaks a rule; its number counted from 0, its time stamp and keys where they can be read."""

    row: int
    time: str | None
    key: Mapping[str, str]
    value: Json

    def __str__(self) -> str:
        """Say the value and where it stands."""
        place = ", ".join(
            [f"row {self.row}", *([self.time] if self.time else []), *(f"{k}={v}" for k, v in self.key.items())]
        )
        return f"{self.value} ({place})"


@dataclass(frozen=True)
class Check:
    """One rule, judged.

    Args:
        kind, column, expected, severity, do: of the rule.
        found: in words.
        passed: whether the rule holds, allowances included.
        count: how many rows (columns, time stamps) break it; None when that could not be found out.
        allowed: how many may.
        examples: the first five of the rows that break it.
        taken_as_missing: the rows that pass because cleaning makes the value missing, at most `NAMED_ROWS` of them.
        source: who ran it and how.
    """

    kind: Kind
    column: str | None
    expected: str
    found: str
    passed: bool
    severity: Severity
    count: int | None
    allowed: int
    examples: tuple[Example, ...]
    taken_as_missing: tuple[Example, ...]
    source: str
    do: str

    @property
    def reason(self) -> str:
        """Say in one line what is wrong."""
        where = f"column {self.column}: " if self.column is not None else ""
        total = None if self.kind == "gaps" else self.count  # a gap counts time stamps, and its examples are rows
        shown = f": {examples(self.examples, total)}" if self.examples else ""
        return f"{where}expected {self.expected}; found {self.found}{shown}. {self.do}."


@dataclass(frozen=True)
class Verdict:
    """Yes, or no with reasons."""

    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that validate has to say about one table."""

    workload: str
    rows: int
    columns: int
    checks: tuple[Check, ...]
    verdict: Verdict

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass, those that refuse the data first."""
        return sorted(
            (check for check in self.checks if not check.passed), key=lambda check: check.severity != "critical"
        )

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON: every check, and apart from them the values that cleaning takes as missing."""
        return {
            "workload": self.workload,
            "rows": self.rows,
            "columns": self.columns,
            "verdict": {"passed": self.verdict.passed, "reasons": list(self.verdict.reasons)},
            "checks": [{k: v for k, v in asdict(check).items() if k != "taken_as_missing"} for check in self.checks],
            "taken_as_missing": [
                {
                    "column": check.column,
                    "count": check.count,
                    "rows": [asdict(example) for example in check.taken_as_missing],
                }
                for check in self.checks
                if check.taken_as_missing
            ],
        }

    def summary(self) -> str:
        """Say the verdict, and the first reason, in one line."""
        shape = f"{self.rows:,} rows, {self.columns} columns, {len(self.checks)} checks"
        if not self.verdict.passed:
            reasons = self.verdict.reasons
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            return f"data rejected ({shape}): {reasons[0]}{more}"
        warnings = [check.reason for check in self.failed]
        taken = sum(check.count or 0 for check in self.checks if check.taken_as_missing)
        notes = [f"values taken as missing: {taken:,}"] if taken else []
        notes += [f"warnings: {len(warnings)}, first: {warnings[0]}"] if warnings else []
        return "; ".join([f"data accepted ({shape})", *notes]).removesuffix(".") + "."


def rules(readout: Readout, schema: Schema, as_of: datetime) -> list[Rule]:
    """List what a schema demands of a table, the coarsest first.

    Rules about an absent column are left out, and so are all but the coarsest for a table without rows: a rule that holds
    for want of anything to look at says nothing.

    Args:
        readout: the table.
        schema: what it must look like.
        as_of: the moment that the age of the newest row is measured against.
    """
    high = schema.rows.max
    made = [
        Rule(
            "rows",
            None,
            f"at least {schema.rows.min:,} rows" if high is None else f"{schema.rows.min:,} to {high:,} rows",
            "Look at the source and its query, or change `schema.rows`",
            low=schema.rows.min,
            high=high,
        ),
        Rule("absent", None, "every column of the schema", "Correct the query, or take them out of the schema"),
        Rule("extra", None, "only columns of the schema", "Drop them in the query, or add them to `schema.columns`"),
    ]
    rows = len(readout.arrived)
    if rows == 0:
        return made
    located = schema.place_columns
    for name, column in schema.columns.items():
        if name in readout.typed.columns:
            made += _column_rules(name, column, rows, located=name in located)
    if schema.time is None and schema.keys and all(name in readout.typed.columns for name in schema.keys):
        made.append(
            Rule(
                "duplicate",
                schema.keys[-1],
                f"each {' and '.join(schema.keys)} once",
                "Keep one of the rows, or number the examples in the query",
            )
        )
    return made + (_series_rules(schema, schema.time, as_of) if schema.time and readout.steps is not None else [])


def conclude(rule: Rule, finding: Finding, readout: Readout, schema: Schema) -> Check:
    """Judge one rule from what was found; a rule that could not be run is broken."""
    rows, count = finding.rows, finding.count
    if rule.kind == "gaps" and readout.steps is not None:
        rows = tuple(np.flatnonzero(readout.steps["missing_before"] > 0)[:MAX_EXAMPLES].tolist())
    if finding.failure is not None:
        passed, found = False, f"no answer, {finding.failure}"
    elif rule.low is not None and rule.kind in ("rows", "newest", "age"):
        passed, found = _within(finding.observed, rule), _observed_in_words(finding.observed, rule)
    elif count is None:
        passed, found = False, "no answer"
    else:
        passed, found = count <= rule.allowed, _count_in_words(count, rule, finding)
    shown = [_example(row, rule, readout, schema) for row in rows] if count else []
    return Check(
        kind=rule.kind,
        column=rule.column,
        expected=rule.expected,
        found=found,
        passed=passed,
        severity=rule.severity,
        count=count,
        allowed=rule.allowed,
        examples=tuple(shown[:MAX_EXAMPLES]),
        taken_as_missing=tuple(shown[:NAMED_ROWS]) if passed and rule.taken_as_missing else (),
        source=finding.source,
        do=rule.do,
    )


def judge(checks: Sequence[Check]) -> Verdict:
    """Give the verdict: no, if a critical check failed or if there is none at all.

    Warnings never make it a no.
    """
    if not checks:
        return Verdict(False, ("expected at least one check; found none. Look at the schema.",))
    reasons = tuple(check.reason for check in checks if check.severity == "critical" and not check.passed)
    return Verdict(not reasons, reasons)


def _column_rules(name: str, column: Column, rows: int, located: bool) -> list[Rule]:
    """Rules of one column; `located` marks the time column and the keys, which say where a row belongs."""
    share = 0.0 if located else column.missing_share
    what = (
        "a time stamp in every row"
        if located and column.type == "time"
        else "a key in every row"
        if located
        else "a value in every row"
    )
    made = [
        Rule("type", name, TYPES_IN_WORDS[column.type], "Correct the values, cast them in the query, or change `type`"),
        Rule(
            "missing",
            name,
            what if share == 0 else f"no value in at most {_number(share * 100)} % of the rows",
            "Fill or drop the rows in the query" if located else "Look at the source, or raise `missing_share`",
            allowed=math.floor(share * rows + 1e-9),
        ),
    ]
    as_missing = column.violation == "missing"
    do = (
        "Look at the source, or raise `max_violations`"
        if as_missing
        else "Correct the rows, or say `violation: missing`"
    )
    if column.min is not None or column.max is not None:
        low, high = ("any" if bound is None else _number(bound) for bound in (column.min, column.max))
        made.append(
            Rule(
                "range",
                name,
                f"values from {low} to {high} {column.unit}".strip(),
                do,
                allowed=column.max_violations,
                low=column.min,
                high=column.max,
                taken_as_missing=as_missing,
            )
        )
    if column.values is not None:
        made.append(
            Rule(
                "values",
                name,
                f"one of {examples(column.values)}",
                do,
                allowed=column.max_violations,
                values=column.values,
                taken_as_missing=as_missing,
            )
        )
    if column.min_length is not None or column.max_length is not None:
        least, most = (column.min_length or 0), column.max_length
        made.append(
            Rule(
                "length",
                name,
                f"texts of at least {least:,} characters"
                if most is None
                else f"texts of {least:,} to {most:,} characters",
                do,
                allowed=column.max_violations,
                low=column.min_length,
                high=most,
                taken_as_missing=as_missing,
            )
        )
    if column.pattern is not None:
        made.append(
            Rule(
                "pattern",
                name,
                f"texts that match {column.pattern}",
                do,
                allowed=column.max_violations,
                values=(column.pattern,),
                taken_as_missing=as_missing,
            )
        )
    if rows > 1 and not located and column.type != "bytes":
        made.append(Rule("constant", name, "more than one value", "Drop it if it never varies", severity="warning"))
    return made


def _series_rules(schema: Schema, time: Time, as_of: datetime) -> list[Rule]:
    freshness = schema.freshness
    of_series = f"each series ({', '.join(schema.keys)})" if schema.keys else "the series"
    made = [
        Rule(
            "local_time",
            time.column,
            f"times that exist once in {time.timezone}",
            "Give the time stamps an offset, or correct `time.timezone`",
        ),
        Rule(
            "duplicate",
            time.column,
            f"each time stamp once in {of_series}",
            "Keep one of the rows, or aggregate in the query",
        ),
        Rule("order", time.column, f"rows in order of time within {of_series}", "Order the rows in the query"),
    ]
    if time.frequency is not None:
        made += [
            Rule(
                "grid",
                time.column,
                f"one row every {format_span(time.frequency)} in {of_series}",
                "Round the times in the query, or change `frequency`",
            ),
            Rule(
                "gaps",
                time.column,
                f"{f'at most {time.max_missing:,}' if time.max_missing else 'no'} absent time stamps between the first and the last of {of_series}",
                "Add rows without values for them in the query, or raise `time.max_missing`",
                allowed=time.max_missing,
            ),
        ]
    if freshness.newest_at_least is not None:
        text = instant_text(freshness.newest_at_least)
        made.append(
            Rule(
                "newest",
                time.column,
                f"a newest row of {text} or later, in every series",
                "Fetch newer data, or change `freshness`",
                low=freshness.newest_at_least,
            )
        )
    if freshness.max_age is not None:
        made.append(
            Rule(
                "age",
                time.column,
                f"a newest row at most {format_span(freshness.max_age)} old when validated, in every series",
                "Fetch newer data, or change `freshness`",
                low=as_of - freshness.max_age,
            )
        )
    return made


def _within(observed: float | datetime | None, rule: Rule) -> bool:
    if observed is None or pd.isna(observed):
        return False
    above = rule.low is None or observed >= rule.low  # type: ignore[operator]  # both numbers, or both instants
    return bool(above and (rule.high is None or observed <= rule.high))  # type: ignore[operator]


def _observed_in_words(observed: float | datetime | None, rule: Rule) -> str:
    if observed is None or pd.isna(observed):
        return "none"
    if isinstance(observed, datetime):
        return f"{instant_text(observed)} as the newest of a series"
    return f"{observed:,.0f}" if rule.kind == "rows" else _number(observed)


def _count_in_words(count: int, rule: Rule, finding: Finding) -> str:
    if rule.kind in ("absent", "extra"):
        return (
            examples(finding.names) + (" missing" if rule.kind == "absent" else " besides")
            if finding.names
            else "just these"
        )
    if rule.kind == "constant":
        return "one value in all rows" if count else "several"
    noun = {
        "type": ("value of another type", "values of another type"),
        "missing": ("row without", "rows without"),
        "range": ("value outside", "values outside"),
        "values": ("other value", "other values"),
        "length": ("text of another length", "texts of another length"),
        "pattern": ("text that does not match", "texts that do not match"),
        "duplicate": ("row that is there twice", "rows that are there twice"),
        "order": ("row older than the one before it", "rows older than the one before them"),
        "grid": ("row off the grid", "rows off the grid"),
        "gaps": ("absent", "absent"),
        "local_time": ("that does not, or exists twice", "that do not, or exist twice"),
    }.get(rule.kind, ("row", "rows"))
    words = f"{count:,} {noun[count != 1]}" if count else "none"
    if rule.kind in ("range", "values", "length", "pattern") and rule.taken_as_missing and count:
        words += (
            ", taken as missing"
            if count <= rule.allowed
            else f", more than the {rule.allowed:,} that may be taken as missing"
        )
    return words


def _example(row: int, rule: Rule, readout: Readout, schema: Schema) -> Example:
    timed = schema.time is not None and schema.time.column in readout.typed.columns
    time = readout.typed[schema.time.column].iloc[row] if schema.time is not None and timed else pd.NaT
    key = {name: str(readout.arrived[name].iloc[row]) for name in schema.keys if name in readout.arrived.columns}
    value: Json = None
    if rule.column is not None:
        value = plain(readout.arrived[rule.column].iloc[row])
    if rule.kind in ("order", "gaps", "grid") and readout.steps is not None:
        step = readout.steps.iloc[row]
        value = {
            "order": lambda: f"{format_span(timedelta(seconds=-step['step_seconds']))} earlier than the row before it",
            "gaps": lambda: f"{step['missing_before']:,.0f} absent before this row",
            "grid": lambda: (
                f"{format_span(timedelta(seconds=abs(step['off_grid_seconds'])))} {'late' if step['off_grid_seconds'] > 0 else 'early'}"
            ),
        }[rule.kind]()
    return Example(row, None if pd.isna(time) else instant_text(time), key, value)


def _number(value: float) -> str:
    return f"{value:.12g}"
