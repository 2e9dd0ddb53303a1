"""Measure a model on the untouched test part, beside the baselines, and write the verdict and the report."""

from __future__ import annotations

import base64
import importlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gateline.device import configure_process
from gateline.manifest import Artifact, check_made_from, open_artifact, write_artifact
from gateline.promotion import judge
from gateline.table import write_table
from gateline.tasks import task_named
from gateline.workload import Workload
from gateline.workload.gates import Gates


@dataclass(frozen=True)
class Scores:
    """What a task measured on the test part.

    Args:
        metrics: of the model, in raw units.
        baselines: the same metrics of each baseline on the same windows.
        slices: metrics of the model per slice.
        details: JSON values of the task's own, e.g. the error by step.
        num_examples: how many examples were scored.
        predictions: every answer beside what happened.
        units: unit of each metric that has one.
        intervals: lower and upper end of a 95 % bootstrap interval of each metric that has one.
        baseline_slices: metrics of each baseline per slice, where a task measures them.
        slice_units: unit of a slice's metrics, where slices have different ones.
        worst: the examples with the worst errors, for people; empty for none.
    """

    metrics: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    slices: Mapping[str, Mapping[str, float]]
    details: Mapping[str, Any]
    num_examples: int
    predictions: pd.DataFrame
    units: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    worst: pd.DataFrame = field(default_factory=pd.DataFrame)
    baseline_slices: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    slice_units: Mapping[str, str] = field(default_factory=dict)

    @property
    def slice_metrics(self) -> list[str]:
        """Names of all metrics of slices: those of the whole first; a slice need not have each of them."""
        named = dict.fromkeys(name for metrics in self.slices.values() for name in metrics)
        return [name for name in self.metrics if name in named] + [name for name in named if name not in self.metrics]

    def named(self, names: Collection[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Lay the metrics of slices that are asked for, as ``KEY=VALUE/METRIC``, beside those of the whole.

        Returns:
            metrics of the model, and of each baseline.
        """

        def with_slices(metrics: Mapping[str, float], slices: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
            flat = {f"{place}/{name}": value for place, values in slices.items() for name, value in values.items()}
            return {**metrics, **{name: value for name, value in flat.items() if name in names}}

        return with_slices(self.metrics, self.slices), {
            name: with_slices(metrics, self.baseline_slices.get(name, {})) for name, metrics in self.baselines.items()
        }


@dataclass(frozen=True)
class Figure:
    """One plot: ``plots/NAME.png``, a title and a sentence."""

    name: str
    title: str
    caption: str


def evaluate(workload: Workload, prepared: Artifact, model: Artifact, folder: Path) -> Artifact:
    """Write the artifact `evaluation`.

        evaluation/
        ├── metrics.json            test, baselines, slices, details of the task
        ├── predictions.parquet     one row per answer, e.g. window and step, or sentence
        ├── plots/*.png
        ├── report.html             all of it on one page
        └── model_card.md           what the model is, from evidence only

    Args:
        workload: its sections `evaluation` and `gates`.
        prepared: examples and arrays.
        model: made from `prepared`.
        folder: where to write.

    Raises:
        ArtifactError: the model was made from other data.
        WorkloadError: the gates name what is not measured.
    """
    check_made_from(model, prepared)
    task = task_named(workload.task)
    scoring = importlib.import_module(f"gateline.scoring.{workload.task}")
    settings = workload.section("evaluation", task.Evaluation)
    gates = workload.section("gates", Gates)
    task.check_scoring(prepared, settings, gates)
    configure_process("cpu", "float32")  # as the served model computes, and the same bytes on any number of cores
    scores: Scores = scoring.score(task, settings, prepared, model)
    verdict = judge(*scores.named(gates.named_metrics()), scores.num_examples, gates)
    with write_artifact(folder, "evaluation", {"prepared": prepared, "model": model}) as draft:
        (draft.path / "plots").mkdir()
        figures = scoring.figures(scores, prepared, model, draft.path / "plots")
        write_table(scores.predictions, draft.path / "predictions.parquet")
        measured = {
            "test": scores.metrics,
            "baselines": scores.baselines,
            "slices": scores.slices,
            "baseline_slices": scores.baseline_slices,
            "details": scores.details,
            "intervals": scores.intervals,
            "num_examples": scores.num_examples,
        }
        draft.write_json("metrics.json", without_nan(measured))
        page = {
            "workload": workload,
            "scores": scores,
            "gates": gates,
            "verdict": verdict,
            "prepared": prepared,
            "model": model,
            "ranking": _ranking(scores, gates.metric),
            "examples_are": prepared.facts.get("examples_are", task.examples_are),  # a task may know several kinds
        }
        plots = {figure.name: _as_data_url(draft.path / "plots" / f"{figure.name}.png") for figure in figures}
        _render("evaluation.html.jinja", draft.path / "report.html", page | {"figures": figures, "plots": plots})
        _render("model_card.md.jinja", draft.path / "model_card.md", page)
        draft.facts |= {
            "verdict": verdict.as_json(),
            "metric": gates.metric,
            "metrics": without_nan(dict(scores.metrics)),
        }
    return open_artifact(folder, "evaluation")


def summary(evaluation: Artifact) -> str:
    """Say in one sentence what came out: the metric beside the best baseline's, or what speaks against the model."""
    verdict = evaluation.facts["verdict"]
    if not verdict["passed"]:
        return f"Did not pass the gates: {'; '.join(verdict['reasons'])}."
    metric, scores = evaluation.facts["metric"], evaluation.read_json("metrics.json")
    name, theirs = min(
        ((name, values[metric]) for name, values in scores["baselines"].items()), key=lambda pair: pair[1]
    )
    behind = " (better than the model, and no gate asks for it)" if theirs < scores["test"][metric] else ""
    return f"Passed the gates: {metric} {scores['test'][metric]:.4g}, best baseline {name} {theirs:.4g}{behind}."


def without_nan(value: Any) -> Any:
    """Replace what JSON has no word for (NaN, infinity) by null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _ranking(scores: Scores, metric: str) -> list[dict[str, Any]]:
    """Model and baselines from best to worst, with the share of the worst error as the length of a bar."""
    rows: list[dict[str, Any]] = [{"name": "this model", "model": True, **scores.metrics}]
    rows += [{"name": name.replace("_", " "), "model": False, **metrics} for name, metrics in scores.baselines.items()]
    worst = max((row[metric] for row in rows if math.isfinite(row[metric])), default=1.0) or 1.0
    mine = scores.metrics[metric]
    for row in rows:
        row["share"] = row[metric] / worst if math.isfinite(row[metric]) else 1.0
        row["against"] = None if row["model"] or not row[metric] else mine / row[metric] - 1
    return sorted(rows, key=lambda row: row[metric] if math.isfinite(row[metric]) else math.inf)


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
    environment.filters["short"] = _short
    path.write_text(environment.get_template(template).render(page), encoding="utf-8")


def _short(value: Any) -> str:
    if value is None:  # a baseline without quantiles has no pinball loss
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return str(value)
