"""The model card: what a registered model is, made from evidence only. Each number has its metric's key and its data's digest.

Nothing on it is written by hand but the workload's description; what was not measured is not said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateline.adapters.mlflow_server import Connection
from gateline.adapters.registry.links import short
from gateline.adapters.registry.serving_check import CHECK_TAG
from gateline.adapters.registry.versions import Papers
from gateline.adapters.tracking import metric_key
from gateline.manifest import Json
from gateline.paired_errors import difference_in_words

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LONGEST = 5000
"""Characters that MLflow keeps of a version's description."""
SLICES_SHOWN = (100, 20, 8, 3, 0)
"""How many slices the Markdown has, from which on it is tried to be short enough; the HTML has all."""
SPLIT = "split"


@dataclass(frozen=True)
class ModelCard:
    """The card, for the registry and for a browser."""

    markdown: str
    html: str


def make_model_card(
    papers: Papers, version: int, decided: Mapping[str, Any], decision: str | None, serving_check: str | None
) -> ModelCard:
    """Make the card of a registered version.

    Args:
        papers: passport, workload and folders.
        version: its number.
        decided: what register decided, `decision.json`.
        decision: digest of it, by which the ledger names it; None where a person made it champion without one.
        serving_check: tag of the version, `passed: {...}`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    content = _content(papers, version, decided, serving_check) | {"decision_digest": decision}

    def render(template: str, slices: int) -> str:
        environment = Environment(
            loader=PackageLoader("gateline.adapters"),
            autoescape=template.endswith(".html.jinja"),  # Markdown is no markup that a value could break out of
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"short": short, "number": _number, "cell": _cell, "in_words": difference_in_words}
        left_out = max(0, len(content["slices"]) - slices)
        shown = content | {"slices": content["slices"][:slices], "left_out": left_out}
        return environment.get_template(template).render(shown)

    tried = [render("model_card.md.jinja", slices) for slices in SLICES_SHOWN]
    markdown = next((text for text in tried if len(text) <= LONGEST), tried[-1][: LONGEST - 1] + "…")
    return ModelCard(markdown, render("model_card.html.jinja", len(content["slices"])))


def describe(
    to: Connection, version: ModelVersion, papers: Papers, decided: Mapping[str, Any], decision: str | None
) -> ModelCard:
    """Make the card of a version, and put it into the registry as its description; arguments as `make_model_card`."""
    now = to.client.get_model_version(version.name, version.version)
    card = make_model_card(papers, int(version.version), decided, decision, now.tags.get(CHECK_TAG))
    to.client.update_model_version(version.name, version.version, description=card.markdown)
    return card


def _content(papers: Papers, version: int, decided: Mapping[str, Any], serving_check: str | None) -> dict[str, Any]:
    passport, workload, inputs = papers.passport, papers.workload, papers.inputs
    metrics, facts = inputs.evaluation.read_json("metrics.json"), inputs.model.facts
    metric = workload["gates"].get("metric", inputs.evaluation.facts["metric"])
    split = workload["preprocess"].get(SPLIT, {}) or {}
    passed, _, measured = (serving_check or "").partition(": ")
    return {
        "name": workload["name"],
        "task": workload["task"],
        "description": workload["description"],
        "version": version,
        "decided": decided,
        "outcome": _outcome(decided),
        "metric": metric,
        "source": workload["source"],
        "raw": inputs.raw,
        "raw_files": passport["raw"]["files"],
        "period": _period(inputs.report.read_json("statistics.json")),
        "prepared": inputs.prepared,
        "examples": {part: inputs.prepared.facts["examples"][part] for part in ("train", "validation", "test")},
        "split": split,
        "units": metrics["units"],
        "num_examples": metrics["num_examples"],
        "methods": _methods(metrics, metric),
        "metrics": [
            {"name": name, "key": metric_key("test", name), "value": value, "interval": metrics["intervals"].get(name)}
            for name, value in metrics["test"].items()
        ],
        "slices": _slices(metrics, metric),
        "limits": _limits(metrics, metric),
        "checks": decided["checks"],
        "facts": facts,
        "training": {**facts["training"]},
        "network": {**facts["model"]},
        "passport": passport,
        "passport_digest": papers.digest,
        "evaluation": inputs.evaluation,
        "model": inputs.model,
        "serving": json.loads(measured) if passed == "passed" else None,
    }


def _outcome(decided: Mapping[str, Any]) -> str:
    """What register decided, once and for all; who is champion changes, and only the ledger says it."""
    if decided["awaiting_approval"]:
        return "wins and waits for approval"
    if decided["decided_at"] is None:
        return "decided nothing, a person made it champion"
    return "promoted" if decided["promoted"] else "not promoted"


def _period(statistics: Json) -> dict[str, str] | None:
    """First and last moment of the table's time column; None where it has none."""
    for name, column in statistics.items():
        if column.get("type") == "time" and column.get("min"):
            return {"column": name, "first": column["min"], "last": column["max"]}
    return None


def _methods(metrics: Json, metric: str) -> list[dict[str, Any]]:
    """The model and the baselines by the metric of the gates, best first, as the gates compare them."""
    mine = metrics["test"][metric]
    rows = [
        {
            "name": "this model",
            "key": metric_key("test", metric),
            "value": mine,
            "model": True,
            "against": None,
            "difference": None,
        }
    ]
    for name, values in metrics["baselines"].items():
        theirs = values.get(metric)
        against = mine / theirs - 1 if theirs and mine is not None else None
        rows.append(
            {
                "name": name,
                "key": metric_key("baseline", name, metric),
                "value": theirs,
                "model": False,
                "against": against,
                "difference": metrics.get("differences", {}).get(name, {}).get(metric),
            }
        )
    return sorted(rows, key=lambda row: math.inf if row["value"] is None else row["value"])


def _slices(metrics: Json, metric: str) -> list[dict[str, Any]]:
    """Slices by the metric of the gates, worst first."""
    rows = [
        {
            "name": name,
            "key": metric_key("slice", name, metric),
            "value": values[metric],
            "unit": metrics["slice_units"].get(name, metrics["units"].get(metric, "")),
            "against": values[metric] / metrics["test"][metric] - 1 if metrics["test"][metric] else None,
        }
        for name, values in metrics["slices"].items()
        if values.get(metric) is not None
    ]
    return sorted(rows, key=lambda row: -row["value"])


def _limits(metrics: Json, metric: str) -> list[str]:
    """What the numbers themselves say against the model: where it is worst, and where a simpler method is better."""
    said, whole = [], metrics["test"][metric]
    slices = _slices(metrics, metric)
    if slices and whole and len({row["unit"] for row in slices}) == 1 and slices[0]["value"] > whole:
        worst = slices[0]
        said.append(
            f"Worst on {worst['name']}: {metric} {_number(worst['value'])}, {worst['against']:+.0%} against the whole "
            f"({worst['key']})."
        )
    for name, values in metrics["baselines"].items():
        theirs = values.get(metric)
        if theirs is not None and whole is not None and theirs <= whole:
            said.append(f"{name} is not worse: {metric} {_number(theirs)} ({metric_key('baseline', name, metric)}).")
        for part, of_slice in metrics["baseline_slices"].get(name, {}).items():
            mine = metrics["slices"].get(part, {}).get(metric)
            if of_slice.get(metric) is not None and mine is not None and of_slice[metric] < mine:
                said.append(
                    f"On {part}, {name} is better: {metric} {_number(of_slice[metric])} against {_number(mine)} "
                    f"({metric_key('slice', part, metric)})."
                )
    interval = metrics["intervals"].get(metric)
    if interval is not None and None not in interval:
        said.append(
            f"{metric} is known to {_number(interval[0])} to {_number(interval[1])} only (95 %, by resampling the "
            f"{metrics['num_examples']:,} test examples)."
        )
    return said


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if math.isfinite(value) else "–"


def _cell(value: Any) -> str:
    """Write a value into a cell of a Markdown table, which a bar or a line would end."""
    return " ".join(str(value).split()).replace("|", "\\|")
