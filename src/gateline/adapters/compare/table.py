"""A comparison as a table: mean and spread over seeds, median of the seconds, the best on the validation part first."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateline.adapters.document import markdown

MOST_METRICS = 5  # of the test part, beside each other


def rows_of(monitor: str, metric: str, runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Lay out a comparison.

    Args:
        monitor: what is watched on the validation part; lower is better.
        metric: of the gates, which stands first among those of the test part.
        runs: records of single runs, see `Comparing`.

    Returns:
        Names of the columns, and the rows.
    """
    by_variant: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_variant.setdefault(str(run["variant"]), []).append(run)
    names = list(dict.fromkeys([metric, *(name for run in runs for name in run["test"])]))[:MOST_METRICS]
    ordered = sorted(by_variant.items(), key=lambda item: _mean(run["validation"].get(monitor) for run in item[1]))
    rows = [
        [
            name,
            f"{of_variant[0]['parameters']:,}",
            with_spread(run["validation"].get(monitor) for run in of_variant),
            *(with_spread(run["test"].get(measure) for run in of_variant) for measure in names),
            f"{statistics.median(run['train_seconds'] for run in of_variant):.0f} s",  # one may have shared its core
        ]
        for name, of_variant in ordered
    ]
    return ["variant", "weights", f"validation {monitor}", *(f"test {name}" for name in names), "trained in"], rows


def as_markdown(command: str, monitor: str, metric: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Write a comparison as Markdown, with a line that says how it was made."""
    head, rows = rows_of(monitor, metric, runs)
    seeds = sorted({int(run["seed"]) for run in runs})
    said = (
        f"`{command}` prints this: mean ± standard deviation over the seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))} (of the time, the median), the best on the validation part first."
    )
    return f"{said}\n\n{markdown(head, rows)}"


def with_spread(values: Iterable[float | None]) -> str:
    """Mean ± standard deviation; a dash where a value is missing."""
    found = list(values)
    numbers = [value for value in found if value is not None]
    if not numbers or len(numbers) < len(found):
        return "–"
    spread = f" ± {statistics.stdev(numbers):.2g}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.4g}{spread}"


def _mean(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else float("inf")
