"""Write the report of validate as one page for people: no script, and nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gateline.column_statistics import FREQUENT_VALUES, shown
from gateline.validation import Report
from gateline.workload.schema import Column, Schema
from gateline.workload.section import format_span

Json = Any
BARS_WIDTH, BARS_HEIGHT = 176, 34  # pixels
NAMES = {
    "rows": "Number of rows",
    "absent": "Missing columns",
    "extra": "Extra columns",
    "type": "Type",
    "missing": "Missing values",
    "range": "Range",
    "values": "Allowed texts",
    "constant": "Constant column",
    "duplicate": "Duplicate rows",
    "order": "Order of time",
    "gaps": "Absent time stamps",
    "grid": "Time grid",
    "local_time": "Local time",
    "length": "Length",
    "pattern": "Characters",
    "newest": "Freshness",
    "age": "Freshness",
}


def render(report: Report, statistics: Mapping[str, Mapping[str, Json]], schema: Schema) -> str:
    """Write the page.

    Args:
        report: the checks and the verdict.
        statistics: what `gateline.validation.statistics` says of the same table.
        schema: what the table must look like.
    """
    environment = Environment(
        loader=PackageLoader("gateline.adapters"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": _short, "share": _share}
    failed = report.failed
    return environment.get_template("validation.html.jinja").render(
        report=report,
        failed=failed,
        warnings=[check for check in failed if check.severity == "warning"],
        taken=[check for check in report.checks if check.taken_as_missing],
        names=NAMES,
        columns=[_row(name, column, statistics.get(name)) for name, column in schema.columns.items()],
        schema=schema,
        frequency=format_span(schema.time.frequency) if schema.time and schema.time.frequency else None,
        bad_columns={check.column for check in failed},
    )


def _row(name: str, column: Column, described: Mapping[str, Json] | None) -> dict[str, Json]:
    if column.values is not None:
        allowed = ", ".join(column.values[:5]) + (" …" if len(column.values) > 5 else "")
    elif column.min_length is not None or column.max_length is not None:
        ends = ("any" if bound is None else f"{bound:,}" for bound in (column.min_length, column.max_length))
        allowed = " to ".join(ends) + " characters"
    elif column.min is None and column.max is None:
        allowed = ""
    else:
        allowed = " to ".join("any" if bound is None else _short(bound) for bound in (column.min, column.max))
    row: dict[str, Json] = {
        "name": name,
        "column": column,
        "allowed": allowed,
        "found": "",
        "more": "",
        "missing": None,
        "bars": [],
        "labels": (),
    }
    if described is None:
        return row | {"found": "not in the table"}
    rows = described["count"] + described["missing"]
    row["missing"] = described["missing"] / rows if rows else None
    if column.type in ("float", "integer") and described["count"]:
        edges = described["histogram"]["edges"]
        row |= {
            "found": f"{_short(described['min'])} to {_short(described['max'])}",
            "more": f"mean {_short(described['mean'])}, standard deviation {_short(described['std'])}",
            "bars": _bars(described["histogram"]["counts"]),
            "labels": (_short(edges[0]), _short(edges[-1])),
        }
    elif column.type == "time" and described["count"]:
        row["found"] = f"{described['min']} to {described['max']}"
    elif column.type in ("text", "boolean") and described["count"]:
        top = described["values"][:12]
        row |= {
            "found": f"{described['distinct']:,} different",
            "more": ", ".join(f"{shown(entry['value'], column.type)} ({entry['count']:,})" for entry in top[:3]),
            "bars": _bars([entry["count"] for entry in top], slots=max(len(top), 6)),
        }
        if column.type == "text" and described["distinct"] > FREQUENT_VALUES:  # sentences, not names: how long they are
            lengths, edges = described["lengths"], described["lengths"]["histogram"]["edges"]
            row |= {
                "more": f"{_short(lengths['min'])} to {_short(lengths['max'])} characters, mean {_short(lengths['mean'])}",
                "bars": _bars(lengths["histogram"]["counts"]),
                "labels": (_short(edges[0]), _short(edges[-1])),
            }
    elif column.type == "bytes":
        row["found"] = f"{described['count']:,} files"
    return row


def _bars(counts: Sequence[int], slots: int | None = None) -> list[dict[str, float]]:
    """Lay out one bar per count, in pixels; a count above zero is at least one pixel high."""
    width = BARS_WIDTH / (slots or len(counts))
    highest = max(counts)
    return [
        {
            "x": round(position * width, 2),
            "width": round(max(width - 1.5, 1), 2),
            "height": round(max(count / highest * BARS_HEIGHT, 1.0 if count else 0.0), 2) if highest else 0.0,
            "count": count,
        }
        for position, count in enumerate(counts)
    ]


def _short(value: float) -> str:
    """Write a number with five significant digits, whole ones with all of theirs."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e12 else f"{value:,.5g}"


def _share(value: float | None) -> str:
    """Write a share in per cent, and never as none what is a little."""
    if not value:
        return "0 %" if value == 0 else "–"
    return "< 0.01 %" if value < 1e-4 else f"{value * 100:.3g} %"
