"""`gateline compare`: variants over seeds, once each, with a table in a document and runs in MLflow."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from gateline.adapters.compare import asked_first, with_fewest_baselines
from gateline.adapters.compare.runs import log_comparison
from gateline.manifest import Artifact
from gateline.tasks import task_named
from gateline.workload import Workload
from gateline.workload.gates import Baseline, Gates, Limit
from tests.components.test_cli import assert_refused, clone, gateline, gateline_process, project

__all__ = ["clone", "project"]  # fixtures

SMALL = """\
  tiny: {training.epochs: 1, training.warm_up: 0.0, model.hidden_size: 12, evaluation.baselines: [last_value],
         gates.baselines: {last_value: {rule: superior}}, gates.limits: {}}
variants:
  narrow: {model.hidden_size: 8}
"""
PAGE = "# Load\n\nBefore.\n\n<!-- variants -->\n<!-- /variants -->\n\nAfter.\n"


@pytest.fixture
def comparable(clone: Path) -> Path:
    """The clone with a workload that has a small budget and a variant of its own."""
    assert gateline(clone, "new", "load", "--from", "load.csv").returncode == 0
    path = clone / "workloads" / "load.yaml"
    path.write_text(path.read_text() + SMALL)
    return clone


def test_compare_refuses_before_anything_is_computed(comparable: Path) -> None:
    for argv, words in (
        (["--variants", "gruu"], "Did you mean 'gru'?"),
        (["--budget", "tinny"], "Did you mean 'tiny'?"),
        (["--output", "nowhere.md"], "<!-- variants -->"),
    ):
        assert_refused(gateline(comparable, "compare", "load", *argv), words)
    (comparable / "page.md").write_text("# Load\n")
    assert_refused(gateline(comparable, "compare", "load", "--output", "page.md"), "Add them")
    path = comparable / "workloads" / "load.yaml"
    path.write_text(path.read_text().replace("narrow: {model.hidden_size: 8}", "narrow: {model.hiden_size: 8}"))
    assert_refused(gateline(comparable, "compare", "load", "--variants", "narrow"), "Did you mean 'hidden_size'?")
    path.write_text(path.read_text().replace("mode: direct", "mode: segment\n  segment: 12"))
    assert_refused(gateline(comparable, "compare", "load", "--variants", "bidirectional"), "apply")
    assert not (comparable / "artifacts").exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("stocks", ["last_value"]),
        ("m4_hourly", ["last_value", "seasonal_naive", "naive2", "nlinear"]),  # OWA is told beside naive2
        ("shakespeare", ["unigram"]),
    ],
)
def test_baselines_are_not_measured_again_with_every_variant(name: str, kept: list[str]) -> None:
    workload = Workload.read(Path(__file__).parents[2] / "workloads" / f"{name}.yaml")
    evaluation = with_fewest_baselines(workload, task_named(workload.task).Evaluation)
    assert list(evaluation.model_dump()["baselines"]) == kept


def test_what_the_gates_ask_for_stands_first() -> None:
    gates = Gates(baselines={"last_value": Baseline()}, limits={"k=a/bias": Limit(max=1), "rmse": Limit(max=3)})
    found = asked_first(gates, {"bias": 0.5, "mae": 1.0, "rmse": 2.0}, {"k=a": {"bias": 0.1, "mae": 1.1}})
    assert list(found.items()) == [("mae", 1.0), ("k=a/bias", 0.1), ("rmse", 2.0), ("bias", 0.5)]


def test_what_a_slice_is_asked_for_is_logged_under_a_name_that_mlflow_takes(tmp_path: Path) -> None:
    run = {"key": "k", "variant": "lstm", "seed": 7, "settings": {}, "validation": {"mae": 2.0}}
    run |= {"history": [{"epoch": 1}], "test": {"variable=temperature/mae": 1.5, "mae": 3.0}}
    for table in ("comparison.md", "comparison.json"):
        (tmp_path / table).write_text("")

    prepared = Artifact(tmp_path, "prepared", "0" * 64, inputs={"raw": "1" * 64}, facts={})
    log_comparison("tiny", prepared, "mae", [run], tmp_path)

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    (logged,) = client.search_runs(["1"], "tags.`gateline.variant` = 'k'")
    assert logged.data.metrics == {"best_mae": 2.0, "test/variable_temperature/mae": 1.5, "test/mae": 3.0}


@pytest.mark.slow  # trains six times
def test_each_variant_and_seed_is_trained_once_and_the_table_goes_where_it_is_asked_for(comparable: Path) -> None:
    (comparable / "page.md").write_text(PAGE)
    argv = ["compare", "load", "--budget", "tiny", "--seeds", "2", "--output", "page.md", "--variants"]

    first = gateline_process(comparable, *argv, "lstm", "narrow")
    assert first.returncode == 0, first.stderr
    assert len(re.findall(r"seed \d+ \.\.\.$", first.stderr, re.MULTILINE)) == 4
    folder = comparable / "artifacts" / "load_tiny" / "compare"
    runs = json.loads((folder / "comparison.json").read_text())["runs"]
    assert [(run["variant"], run["seed"]) for run in runs] == [("lstm", 7), ("lstm", 8), ("narrow", 7), ("narrow", 8)]
    assert len({run["test"]["mae"] for run in runs}) == 4
    assert len({run["parameters"] for run in runs}) == 2
    assert all(run["settings"]["training"]["epochs"] == 1 for run in runs)
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    page = (comparable / "page.md").read_text()
    assert page.startswith(
        "# Load\n\nBefore.\n\n<!-- variants -->\n`gateline compare load --budget tiny --variants lstm narrow"
    )
    assert page.endswith("<!-- /variants -->\n\nAfter.\n")
    narrow = next(line for line in page.splitlines() if line.startswith("| narrow |"))
    mean = sum(run["test"]["mae"] for run in runs[2:]) / 2
    assert f"{mean:.4g} ± " in narrow

    second = gateline_process(comparable, *argv, "lstm", "gru", "narrow")
    assert second.returncode == 0, second.stderr
    assert re.findall(r"^(\w+), seed (\d+) \.\.\.$", second.stderr, re.MULTILINE) == [("gru", "7"), ("gru", "8")]
    again = json.loads((folder / "comparison.json").read_text())["runs"]
    assert [run for run in again if run["variant"] != "gru"] == runs

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("load_tiny")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id], "tags.`gateline.variant` != ''")
    assert sorted(run.info.run_name for run in logged) == sorted(
        f"{v}-{s}" for v in ("lstm", "gru", "narrow") for s in (7, 8)
    )
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in logged}
    assert client.get_run(parent).info.run_name.startswith("compare-load_tiny-")
    values = {run.info.run_name: run.data.metrics["test/mae"] for run in logged}
    assert values == pytest.approx({f"{run['variant']}-{run['seed']}": run["test"]["mae"] for run in again})
    assert yaml.safe_load((comparable / "params.yaml").read_text())["workloads"] == ["other", "load"]
