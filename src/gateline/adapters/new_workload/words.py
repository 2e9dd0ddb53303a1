"""What `gateline new` says on the terminal: what it found and what it decided, one line each."""

from __future__ import annotations

from collections.abc import Iterator

from gateline.adapters.new_workload import NewWorkload
from gateline.adapters.new_workload.column_names import in_both
from gateline.adapters.new_workload.settings import span_in_words
from gateline.errors import examples
from gateline.workload.section import format_span


def in_words(written: NewWorkload) -> Iterator[tuple[str, str]]:
    """Say what was found and decided: labels and words.

    Args:
        written: the new workload.
    """
    table, settings = written.table, written.settings
    time, target = table.of_role("time")[0], table.of_role("target")[0]
    keys = [in_both(column.in_file, column.name) for column in table.of_role("key")]
    yield "rows", f"{table.rows:,}, from {table.first} to {table.last}"
    yield (
        "time",
        f"{in_both(time.in_file, time.name)}, every {format_span(table.frequency)}"
        + (f" ({time.note})" if time.note else ""),
    )
    yield "series", f"{table.series:,}, told apart by {', '.join(keys)}" if keys else "one"
    if table.absent:
        yield "gaps", f"{table.absent:,} time stamps are absent ({table.absent / (table.absent + table.rows):.1%})"
    yield "target", f"{in_both(target.in_file, target.name)}: {target.note}"
    past = [in_both(column.in_file, column.name) for column in table.of_role("past")]
    yield "covariates", f"{len(past)}, all known up to now only ({examples(past)})" if past else "none"
    if table.calendar:
        yield "", f"{examples(list(table.calendar))} may be known ahead: see `known` in the file"
    missing = [f"{column.name} {column.missing_share:.1%}" for column in table.columns if column.missing_share > 0]
    if missing:
        yield "missing", examples(missing)
    for column in table.of_role("past"):
        if column.note:
            yield "note", f"{column.name}: {column.note}"
    for name, why in table.dropped.items():
        yield "left out", f"{name}: {why}"
    for note in table.notes:
        yield "note", note
    back, ahead = (span_in_words(steps, table.frequency) for steps in (settings.lookback, settings.horizon))
    yield "windows", f"{settings.lookback} past steps ({back}), {settings.horizon} to forecast ({ahead})"
    yield (
        "split",
        f"validate from {settings.validate_from}, test from {settings.test_from} (70, 15 and 15 % of the time)",
    )
