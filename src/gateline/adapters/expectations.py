"""Run the rules of a schema with Great Expectations, and write the `report`.

    DIR/
    ├── report.json        verdict with reasons, every check, values taken as missing
    ├── report.html        the same for people, with a histogram of every column
    ├── statistics.json    every column described, for a comparison with later data
    └── manifest.json

Great Expectations only counts and finds rows. Its success flag is not read: it passes a table without rows, knows
nothing of what is taken as missing, and calls a warning a failure. Its run ids and times stay out of the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from gateline.adapters.validation_page import render
from gateline.column_statistics import statistics
from gateline.errors import MAX_EXAMPLES
from gateline.manifest import open_artifact, write_artifact
from gateline.readout import Readout, read_out
from gateline.table import TABLE, read_table
from gateline.validation import NAMED_ROWS, Finding, Report, Rule, conclude, judge, rules
from gateline.workload import Workload
from gateline.workload.schema import ColumnType, Schema

COLUMNS_PER_FRAME = 8
COLUMN_OF_STEPS = {
    "order": "step_seconds",
    "grid": "off_grid_seconds",
    "gaps": "missing_before",
    "local_time": "unclear",
}
TYPE_NAMES: dict[ColumnType, list[str]] = {
    "float": ["float64", "float"],
    "integer": ["float64", "float", "int"],
    "boolean": ["float64", "float"],
    "text": ["str", "string"],
    "time": ["Timestamp", "datetime64"],
    "bytes": ["bytes", "NoneType"],
}
"""What a column that was read without a fault is made of; a column with a fault is looked through value by value."""


def validate(workload: Workload, raw_folder: Path, report_folder: Path, as_of: datetime) -> Report:
    """Judge the table of `raw` against the workload's schema and write `report`, whatever the verdict is.

    Args:
        workload: its section `schema` is read.
        raw_folder: what ingest wrote.
        report_folder: the folder to write.
        as_of: the moment that the age of the newest row is measured against.

    Raises:
        ArtifactError: `raw` is missing, incomplete or changed.
        DataError: its table cannot be read at all.
    """
    schema = workload.section("schema", Schema)
    raw = open_artifact(raw_folder, "raw")
    report, readout = judge_table(read_table(raw.path / TABLE), schema, workload.name, as_of)
    described = statistics(readout.typed, schema)
    with write_artifact(report_folder, "report", {"raw": raw}) as draft:
        content = report.to_json()
        draft.write_json("report.json", content)
        draft.write_json("statistics.json", described)
        (draft.path / "report.html").write_text(render(report, described, schema), encoding="utf-8")
        draft.facts |= {"verdict": content["verdict"], "sections": workload.recorded("schema")}
    return report


def judge_table(frame: pd.DataFrame, schema: Schema, name: str, as_of: datetime) -> tuple[Report, Readout]:
    """Judge a table; reads and writes no file.

    Args:
        frame: the table as it arrived.
        schema: what it must look like.
        name: of the workload, for the report.
        as_of: the moment that the age of the newest row is measured against.
    """
    readout = read_out(frame, schema)
    demanded = rules(readout, schema, as_of)
    findings = run_rules(demanded, readout, schema)
    checks = tuple(conclude(rule, findings[rule.key], readout, schema) for rule in demanded)
    return Report(name, len(frame), len(frame.columns), checks, judge(checks)), readout


def run_rules(demanded: Sequence[Rule], readout: Readout, schema: Schema) -> dict[str, Finding]:
    """Make one suite per frame, run each, and bring home a finding for every rule, by its key."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    # One asset for all frames: the context writes itself down again with every asset it is given.
    asset = context.data_sources.add_pandas("gateline").add_dataframe_asset("table")
    whole = asset.add_batch_definition_whole_dataframe("whole")
    answers: dict[str, Any] = {}
    for name, frame, group in _frames(demanded, readout, schema):
        batch = whole.get_batch({"dataframe": frame})
        suite = gx.ExpectationSuite(name=name, expectations=[expectation(rule, schema) for rule in group])
        # The first rows that break a rule, with their row numbers, and no list of all of them.
        limit = NAMED_ROWS if any(rule.taken_as_missing for rule in group) else MAX_EXAMPLES
        shape = {"result_format": "BASIC", "include_unexpected_rows": True, "partial_unexpected_count": limit}
        for result in batch.validate(suite, result_format=shape).results:
            answers[result.expectation_config.meta["rule"]] = result
    return {rule.key: _finding(rule, answers.get(rule.key), readout, schema) for rule in demanded}


def expectation(rule: Rule, schema: Schema) -> gxe.Expectation:  # noqa: C901  (one case for each kind of rule)
    """Say one rule in the words of Great Expectations."""
    common = {"severity": rule.severity, "meta": {"rule": rule.key}}
    bounds = {"min_value": rule.low, "max_value": rule.high}
    column = COLUMN_OF_STEPS.get(rule.kind, rule.column)
    match rule.kind:
        case "rows":
            return gxe.ExpectTableRowCountToBeBetween(**bounds, **common)
        case "absent":
            return gxe.ExpectTableColumnsToMatchSet(column_set=list(schema.columns), exact_match=False, **common)
        case "extra":
            return gxe.ExpectTableColumnsToMatchSet(column_set=list(schema.columns), exact_match=True, **common)
        case "type":
            names = TYPE_NAMES[schema.columns[str(column)].type]
            return gxe.ExpectColumnValuesToBeInTypeList(column=column, type_list=names, **common)
        case "missing":
            return gxe.ExpectColumnValuesToNotBeNull(column=column, **common)
        case "range":
            return gxe.ExpectColumnValuesToBeBetween(column=column, **bounds, **common)
        case "values":
            return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(rule.values or ()), **common)
        case "length":
            return gxe.ExpectColumnValueLengthsToBeBetween(column=column, **bounds, **common)
        case "pattern":
            whole = rf"\A(?:{rule.values[0] if rule.values else ''})\Z"
            return gxe.ExpectColumnValuesToMatchRegex(column=column, regex=whole, **common)
        case "constant":
            return gxe.ExpectColumnUniqueValueCountToBeBetween(column=column, min_value=2, **common)
        case "duplicate":
            columns = list(schema.place_columns)
            if len(columns) > 1:
                return gxe.ExpectCompoundColumnsToBeUnique(
                    column_list=columns, ignore_row_if="any_value_is_missing", **common
                )
            return gxe.ExpectColumnValuesToBeUnique(column=column, **common)
        case "order":
            return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, **common)
        case "grid" | "local_time":
            return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=0, **common)
        case "gaps":
            return gxe.ExpectColumnSumToBeBetween(column=column, min_value=0, max_value=rule.allowed, **common)
        case "newest" | "age":
            return gxe.ExpectColumnMinToBeBetween(column=column, min_value=rule.low, **common)


def _frames(
    demanded: Sequence[Rule], readout: Readout, schema: Schema
) -> Iterator[tuple[str, pd.DataFrame, list[Rule]]]:
    """Put rules that look at the same frame together, and make the frame.

    Every condition copies the frame that it looks at, and every suite costs time of its own: so a frame has a few columns.
    """
    place = {name: position // COLUMNS_PER_FRAME for position, name in enumerate(readout.typed.columns)}
    groups: dict[str, list[Rule]] = {}
    for rule in demanded:
        groups.setdefault(_frame_of(rule, place), []).append(rule)
    for name, group in groups.items():
        columns = list(dict.fromkeys(rule.column for rule in group if rule.column is not None))
        if name == "arrived":
            frame = readout.arrived
        elif name == "steps" and readout.steps is not None:
            frame = readout.steps
        elif name == "series":
            frame = readout.typed[list(schema.place_columns)]
        elif (
            name == "newest" and schema.time is not None
        ):  # of each series: one that stopped long ago hides behind the others otherwise
            rows = readout.typed[list(schema.place_columns)]
            frame = rows.groupby(list(schema.keys), dropna=False).max() if schema.keys else rows.max().to_frame().T
            frame = frame.astype({schema.time.column: rows[schema.time.column].dtype}).reset_index(drop=True)
        elif name.startswith("read"):
            frame = pd.DataFrame({column: readout.as_read(column) for column in columns})
        else:
            frame = readout.typed[columns]
        yield name, frame, group


def _frame_of(rule: Rule, place: Mapping[str, int]) -> str:
    if rule.column is None:
        return "arrived"
    if rule.kind in COLUMN_OF_STEPS:
        return "steps"
    if rule.kind == "duplicate":
        return "series"
    if rule.kind in ("newest", "age"):
        return "newest"
    return f"{'read' if rule.kind in ('type', 'missing') else 'typed'} {place[rule.column]}"


def _finding(rule: Rule, answer: Any, readout: Readout, schema: Schema) -> Finding:
    if answer is None:
        return Finding("great_expectations", failure="Great Expectations gave no result")
    source = f"great_expectations: {answer.expectation_config.type}"
    result = answer.result or {}
    raised = _exception_of(answer.exception_info)
    if raised is not None:
        return Finding(source, failure=f"Great Expectations raised: {raised}")
    observed = result.get("observed_value")
    if rule.kind in ("absent", "extra"):
        mismatched = (result.get("details") or {}).get("mismatched", {})
        names = tuple(mismatched.get("missing" if rule.kind == "absent" else "unexpected", ()))
        return Finding(source, count=len(names), names=names)
    if rule.kind == "constant":
        return Finding(source, count=len(readout.typed) if observed is None or observed < 2 else 0)
    if rule.kind == "gaps":
        return Finding(source, count=0 if observed is None or pd.isna(observed) else int(observed))
    if rule.kind in ("rows", "newest", "age"):
        return Finding(source, observed=observed)
    if "unexpected_count" in result:
        rows = result.get("unexpected_rows")
        first = () if rows is None else tuple(int(number) for number in rows.index)
        return Finding(source, count=int(result["unexpected_count"]), rows=first)
    if rule.kind == "type":
        # A column of one type is judged by that type alone: what it is called is all there is.
        is_that = observed in TYPE_NAMES[schema.columns[str(rule.column)].type]
        return Finding(source, count=0 if is_that else len(readout.typed))
    return Finding(source, failure="Great Expectations gave no count")


def _exception_of(info: Any) -> str | None:
    """Find the message in what Great Expectations keeps of an exception: one, or one for each of its metrics."""
    for entry in (info, *info.values()) if info else ():
        if isinstance(entry, dict) and entry.get("raised_exception"):
            return " ".join(str(entry.get("exception_message")).split())[:200]
    return None
