"""Section `budgets`: what a budget makes of a workload, and how a mistake in one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateline.adapters.explanation import check_sections
from gateline.errors import WorkloadError
from gateline.workload import Workload
from gateline.workload.budgets import read_budgets, with_budget
from tests.tiny import tiny_workload


def workload(budgets: Any, **changes: Any) -> Workload:
    return Workload.read(json.dumps(tiny_workload(**changes) | {"budgets": budgets}))


def test_a_budget_changes_its_settings_and_nothing_else() -> None:
    whole = workload(
        {"smoke": {"training.epochs": 1, "gates.limits": {}, "preprocess.windows.lookback": 12}, "large": {"a": 1}}
        | {"large": {"training.epochs": 90}}
    )
    small = with_budget(whole, "smoke")
    before, after = tiny_workload(), dict(small.sections)
    assert small.name == "tiny_smoke"
    assert after["training"] == {**before["training"], "epochs": 1}
    assert after["gates"] == {**before["gates"], "limits": {}}
    assert after["preprocess"]["windows"] == {**before["preprocess"]["windows"], "lookback": 12}
    for section in ("source", "schema", "model", "evaluation"):
        assert after[section] == before[section]
    assert not set(after) & {"budgets", "search", "variants"}  # which no step reads
    assert whole.sections["training"] == before["training"]
    assert with_budget(whole, "large").sections["training"]["epochs"] == 90
    check_sections(small)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"training.epoch": 1}, "budgets.smoke: training.epoch: .*unknown key 'epoch'. Did you mean 'epochs'"),
        ({"trainin.epochs": 1}, "budgets.smoke.trainin.epochs: .*Did you mean 'training'"),
        ({"name.x": 1}, "a key that begins with a section"),
        ({"search.settings": {}}, "a key that begins with a section"),
        ({"training": {"epochs": 1}}, "a whole section"),
        ({"training.epochs": 0}, "budgets.smoke: training.epochs: .*greater than or equal to 1"),
        ({"training.epochs.inner": 1}, "`training.epochs` written as keys and values; found 3"),
        ({"preprocess.windows.lokback": 3}, "Did you mean 'lookback'"),
        ({"gates.baselines": {"ridg": {}}}, "gates.baselines"),
        ({"model.cell": "lsmt"}, "Did you mean 'lstm'"),
        ({}, "settings by dotted key"),
        (3, "settings by dotted key"),
    ],
)
def test_a_mistake_is_named_with_its_budget(settings: Any, words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        check_sections(with_budget(workload({"smoke": settings}), "smoke"))


def test_a_budget_that_is_not_there_is_guessed() -> None:
    with pytest.raises(WorkloadError, match="Did you mean 'smoke'"):
        with_budget(workload({"smoke": {"training.epochs": 1}}), "smok")
    with pytest.raises(WorkloadError, match=r"found none. Add e.g. `budgets: {tiny: {training.epochs: 1}}`"):
        with_budget(Workload.read(json.dumps(tiny_workload())), "tiny")


@pytest.mark.parametrize("budgets", [[], "smoke", {"Smoke!": {"training.epochs": 1}}, {1: {"training.epochs": 1}}])
def test_a_section_that_is_none_is_refused(budgets: Any) -> None:
    with pytest.raises(WorkloadError, match="budgets"):
        read_budgets(Workload("tiny", "forecasting", "Sales.", "workload", {"budgets": budgets}))


def test_every_workload_has_a_smoke_budget_that_can_be_used(root: Path) -> None:
    """What it costs is measured by tests/e2e/test_smoke.py."""
    for path in sorted((root / "workloads").glob("*.yaml")):
        small = with_budget(Workload.read(path), "smoke")
        check_sections(small)
        assert small.name == f"{path.stem}_smoke"
        yaml.safe_dump(dict(small.sections))
