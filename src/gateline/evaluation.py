"""Measure a model on the untouched test part, beside the baselines, and write the verdict and the report."""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gateline.comparison import ExampleErrors
from gateline.device import configure_process
from gateline.evaluation_report import Page, write_report
from gateline.intervals import Interval, ratio_intervals
from gateline.judgement import judge, with_slices
from gateline.manifest import Artifact, check_made_from, open_artifact, write_artifact
from gateline.paired_errors import ERRORS, PairedErrors
from gateline.table import write_table
from gateline.tasks import Predictor, task_named
from gateline.training_statistics import ANSWER_STATISTICS, answer_statistics
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
        errors: example by example, of metrics that are ratios of sums: their intervals follow from these.
        baseline_errors: the same of each baseline, on the same examples, at least of the task's `gate_metrics`.
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
    errors: Sequence[ExampleErrors] = ()
    baseline_errors: Mapping[str, Sequence[ExampleErrors]] = field(default_factory=dict)

    @property
    def slice_metrics(self) -> list[str]:
        """Names of all metrics of slices: those of the whole first; a slice need not have each of them."""
        named = dict.fromkeys(name for metrics in self.slices.values() for name in metrics)
        return [name for name in self.metrics if name in named] + [name for name in named if name not in self.metrics]

    @property
    def neighbours_share_targets(self) -> bool:
        """Whether examples are resampled in blocks for that reason."""
        return any(each.dependence > 1 for each in self.errors)

    def all_intervals(self) -> dict[str, Interval]:
        """Intervals by metric: those that the task gives, and those that follow from `errors`."""
        return {**ratio_intervals(self.errors), **self.intervals}

    def paired_errors(self) -> PairedErrors:
        """What the verdict compares with chance."""
        return PairedErrors.of(self.errors, self.baseline_errors)

    def named(self, names: Collection[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Lay the metrics of slices that are asked for, as ``KEY=VALUE/METRIC``, beside those of the whole.

        Returns:
            metrics of the model, and of each baseline.
        """
        return with_slices(self.metrics, self.slices, names), {
            name: with_slices(metrics, self.baseline_slices.get(name, {}), names)
            for name, metrics in self.baselines.items()
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
        ├── metrics.json            test, baselines, differences to them, slices, details of the task
        ├── errors.parquet          of model and baselines by position: what the differences are compared with chance by
        ├── predictions.parquet     one row per answer, e.g. window and step, or sentence
        ├── answer_statistics.json  the numbers among them described, for `gateline drift`
        ├── plots/*.png
        └── report.html             all of it on one page

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
    intervals = scores.all_intervals()
    errors = scores.paired_errors()
    verdict = judge(*scores.named(gates.named_metrics()), scores.num_examples, gates, errors)
    differences = errors.differences(gates.compared_metrics(), gates.champion.resamples)
    with write_artifact(folder, "evaluation", {"prepared": prepared, "model": model}) as draft:
        (draft.path / "plots").mkdir()
        figures = scoring.figures(scores, prepared, model, draft.path / "plots")
        write_table(scores.predictions, draft.path / "predictions.parquet")
        write_table(errors.as_table(), draft.path / ERRORS)
        draft.write_json(ANSWER_STATISTICS, _answers(scores.predictions, task.load_predictor(model.path)))
        measured = {
            "test": scores.metrics,
            "baselines": scores.baselines,
            "slices": scores.slices,
            "baseline_slices": scores.baseline_slices,
            "details": scores.details,
            "intervals": intervals,
            "differences": differences,
            "num_examples": scores.num_examples,
            "units": scores.units,
            "slice_units": scores.slice_units,
        }
        draft.write_json("metrics.json", without_nan(measured))
        examples_are = str(prepared.facts.get("examples_are", task.examples_are))  # a task may know several kinds
        page = Page(workload, scores, intervals, differences, gates, verdict, examples_are, prepared, model, figures)
        write_report(page, draft.path)
        draft.facts |= {
            "verdict": verdict.as_json(),
            "metric": gates.metric,
            "metrics": without_nan(dict(scores.metrics)),
            "description": workload.description,
            "sections": workload.recorded("evaluation", "gates"),
        }
    return open_artifact(folder, "evaluation")


def _answers(predictions: pd.DataFrame, predictor: Predictor) -> Any:
    """Describe the columns of numbers that the served model will answer with, as far as evaluation has them."""
    numbers = [
        name for name, kind in predictor.output_columns if kind == "float" and name not in predictor.place_columns
    ]
    columns = {}
    for name in numbers:
        evaluated = name if name in predictions else name.replace(numbers[0], "forecast", 1)
        if evaluated in predictions and evaluated not in columns:
            columns[evaluated] = name
    time = next((name for name, kind in predictor.output_columns if kind == "time"), None)
    keys = [name for name in predictor.place_columns if name != time]
    return answer_statistics(predictions, columns, time, keys) if columns else None


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
