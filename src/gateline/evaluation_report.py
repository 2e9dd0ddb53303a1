"""The report of an evaluation, for people on a phone, at a desk or with paper: one HTML page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gateline.intervals import Interval
from gateline.judgement import Verdict
from gateline.manifest import Artifact
from gateline.paired_errors import difference_in_words, signed
from gateline.workload import Workload
from gateline.workload.gates import Gates

if TYPE_CHECKING:
    from gateline.evaluation import Figure, Scores


@dataclass(frozen=True)
class Page:
    """What a report is about.

    Args:
        workload: its name and description.
        scores: what was measured.
        intervals: lower and upper end by metric.
        differences: to each baseline by metric, with their intervals, see `PairedErrors.differences`.
        gates: what was asked.
        verdict: what was answered.
        examples_are: what is counted, in the plural.
        prepared: where the examples come from.
        model: its settings and training.
        figures: their files stand in ``plots/``.
    """

    workload: Workload
    scores: Scores
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Mapping[str, Mapping[str, Any]]]
    gates: Gates
    verdict: Verdict
    examples_are: str
    prepared: Artifact
    model: Artifact
    figures: Sequence[Figure]


def write_report(page: Page, folder: Path) -> None:
    """Write ``report.html`` into a folder that holds ``plots/``."""
    metric = page.gates.metric
    ranking = _ranking(page, metric)
    content = {
        **{name: getattr(page, name) for name in page.__dataclass_fields__},
        "ranking": ranking,
        "ahead": _ahead(ranking, metric) if page.verdict.passed else [],
        "leading_first": sorted(page.scores.metrics.items(), key=lambda item: item[0] != metric),
        "slices": _slices(page.scores, metric),
        "worst": _worst(page.scores.worst),
        "plots": {figure.name: _as_data_url(folder / "plots" / f"{figure.name}.png") for figure in page.figures},
    }
    _render("evaluation.html.jinja", folder / "report.html", content)


def _ranking(page: Page, metric: str) -> list[dict[str, Any]]:
    """Model and baselines from best to worst, with the share of the worst error as the length of a bar."""
    scores, gated = page.scores, page.gates.baselines
    rows: list[dict[str, Any]] = [{"name": "this model", "model": True, "difference": None, **scores.metrics}]
    rows += [
        {"name": name.replace("_", " "), "model": False, "gated": name in gated, **metrics}
        | {"difference": page.differences.get(name, {}).get(metric)}
        for name, metrics in scores.baselines.items()
    ]
    worst = max((row[metric] for row in rows if math.isfinite(row[metric])), default=1.0) or 1.0
    mine = scores.metrics[metric]
    for row in rows:
        row["share"] = row[metric] / worst if math.isfinite(row[metric]) else 1.0
        row["against"] = None if row["model"] or not row[metric] else mine / row[metric] - 1
    return sorted(rows, key=lambda row: row[metric] if math.isfinite(row[metric]) else math.inf)


def _ahead(ranking: list[dict[str, Any]], metric: str) -> list[str]:
    """Baselines that a model which passed does not beat: its reader shall not find that out further down."""
    mine = next(row[metric] for row in ranking if row["model"])
    return [
        f"{row['name']} ({metric} {_short(row[metric])} against {_short(mine)})"
        for row in ranking
        if not row["model"] and row[metric] < mine
    ]


def _slices(scores: Scores, metric: str) -> list[dict[str, Any]]:
    """Slices by what they cut, from worst to best, with the share of the worst error as the length of a bar."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metrics in scores.slices.items():
        cut, _, value = name.partition("=")
        groups.setdefault(cut, []).append(
            {
                "slice": name,
                "name": value or name,
                "metrics": metrics,
                "value": metrics.get(metric),
                "unit": scores.slice_units.get(name, ""),
            }
        )
    for rows in groups.values():
        comparable = len({row["unit"] for row in rows}) == 1
        worst = max((abs(row["value"]) for row in rows if _is_finite(row["value"])), default=1.0) or 1.0
        for row in rows:
            row["share"] = abs(row["value"]) / worst if comparable and _is_finite(row["value"]) else 0.0
        rows.sort(key=lambda row: -row["value"] if _is_finite(row["value"]) else math.inf)
    return [{"cut": cut, "rows": rows} for cut, rows in groups.items()]


def _worst(frame: pd.DataFrame) -> dict[str, Any]:
    """The worst errors as columns and rows of text."""
    columns = [str(name).replace("_", " ") for name in frame.columns]
    numbers = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    rows = [[_shown(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return {"columns": columns, "numbers": numbers, "rows": rows}


def _shown(value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(map(_shown, value))
    return _short(value.item() if isinstance(value, np.generic) else value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _as_data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _render(template: str, path: Path, page: Mapping[str, Any]) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gateline"),
        autoescape=template.endswith(".html.jinja"),  # Markdown is no markup that a value could break out of
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": _short, "signed": signed, "in_words": difference_in_words}
    path.write_text(environment.get_template(template).render(page), encoding="utf-8")


def _short(value: Any) -> str:
    if value is None:  # a baseline without quantiles has no pinball loss
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return str(value)
