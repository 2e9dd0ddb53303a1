"""The benchmarks' own arithmetic; what they measure is measured by hand, and nowhere in the tests."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest

import benchmarks
from benchmarks import scoring_code, vital_signs
from benchmarks.scoring_code import scoring_code as digest_of_scoring
from gateline.tasks import task_names

MODULES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_can_be_started(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def a_fold(fold: int, rng: np.random.Generator) -> dict[str, Any]:
    died = rng.random(400) < 0.15
    probability = np.clip(0.15 + 0.3 * (died - 0.15) + 0.1 * rng.normal(size=400), 0.01, 0.99)
    metrics = dict.fromkeys(vital_signs.METRICS, 0.5 + fold / 100)
    return {
        "fold": fold,
        "patients": 400,
        "test": metrics,
        "validation": metrics,
        "baselines": {"prevalence": metrics},
        "best_epoch": 3,
        "train_seconds": 1.0,
        "probability": probability.tolist(),
        "died": died.astype(int).tolist(),
        "where": {"cores": 2, "cpu": "a CPU", "torch": "2", "commit": "0" * 40},
    }


def test_folds_are_averaged_and_all_patients_have_an_interval(rng: np.random.Generator) -> None:
    runs = [a_fold(fold, rng) for fold in range(2)]
    found = vital_signs.over_all(runs)
    assert found["mean"]["auroc"] == pytest.approx(0.505)
    low, high = found["intervals"]["auroc"]
    assert low < found["pooled"]["auroc"] < high
    assert f"{found['pooled']['auroc']:.4f}" in vital_signs.table_of(runs, found, 7)


def test_a_record_is_told_from_one_of_another_scoring_but_not_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {task: digest_of_scoring(task) for task in task_names()}
    assert len(set(before.values())) == len(before)
    read = scoring_code._syntax

    def changed(module: str) -> str:
        return read(module) + ("changed" if module == "gateline.baselines.n_grams" else "")

    monkeypatch.setattr(scoring_code, "_syntax", changed)
    after = {task: digest_of_scoring(task) for task in task_names()}
    assert {task for task in before if after[task] != before[task]} == {"language_modelling"}
