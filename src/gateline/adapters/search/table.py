"""The trials of a search as a table for the terminal, the best ones first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gateline.adapters.search.study import Problem
from gateline.adapters.search.trial import Result

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 20
ORDER = ("complete", "pruned", "failed")
STYLE = {"complete": "", "pruned": "yellow", "failed": "red"}


def print_search(
    problem: Problem, results: Sequence[Result], best: Result | None, present: Result | None, console: Console
) -> None:
    """Print the trials, and the best one against the present settings.

    Args:
        problem: what was searched.
        results: of all trials.
        best: the complete trial with the lowest value.
        present: trial 0, which has the settings as they stand in the file.
        console: where to.
    """
    ordered = sorted(results, key=lambda result: (ORDER.index(result.state), _value(result), result.number))
    table = Table(
        title=f"{problem.study_name}: best epoch's {problem.monitor} on the validation part",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("trial", justify="right")
    table.add_column(problem.monitor, justify="right")
    table.add_column("against\npresent", justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("state")
    for dimension in problem.dimensions:
        table.add_column(dimension.key.replace(".", ".\n"), justify="right")
    for result in ordered[:SHOWN]:
        style = "bold green" if result is best else STYLE[result.state]
        table.add_row(
            str(result.number),
            f"{result.value:.6g}" if result.value is not None else "-",
            _against(result, present),
            str(len(result.history)),
            result.state + (" (present settings)" if result.number == 0 else ""),
            *(_shown(result.settings.get(dimension.key)) for dimension in problem.dimensions),
            style=style,
        )
    console.print(table)
    if len(ordered) > SHOWN:
        console.print(f"and {len(ordered) - SHOWN} more, in MLflow under tune-{problem.study_name}")
    for result in results:
        if result.state == "failed":
            console.print(Text(f"trial {result.number} failed: {result.reason}", style="red"), soft_wrap=True)
    counts = ", ".join(f"{sum(each.state == state for each in results)} {state}" for state in ORDER)
    console.print(Text(f"\n{len(results)} trials: {counts}"))


def conclusion(best: Result | None, present: Result | None, written: Path | None) -> str:
    """Say in a sentence what the search came to."""
    if best is None:
        return "No trial was completed, so there is nothing to write back."
    if written is None:
        return "No trial is better than the present settings, so nothing is written."
    changes = [
        f"{key} {_shown(present.settings[key])} → {_shown(value)}"
        for key, value in best.settings.items()
        if present is not None and present.settings[key] != value
    ]
    return f"Best: trial {best.number}{f' ({how} against the present settings)' if (how := _against(best, present)) else ''}: {', '.join(changes)}."


def _against(result: Result, present: Result | None) -> str:
    if present is None or not present.value or result.value is None or result.state != "complete" or result is present:
        return ""
    return f"{result.value / present.value - 1:+.1%}"


def _value(result: Result) -> float:
    return float("inf") if result.value is None else result.value


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "null" if value is None else str(value)
