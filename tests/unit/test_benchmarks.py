"""The benchmarks' own arithmetic; what they measure is measured by hand, and nowhere in the tests."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks
from benchmarks import cells, command, scoring_code, tables, vital_signs
from benchmarks.scoring_code import scoring_code as digest_of_scoring
from gateline.errors import WorkloadError
from gateline.tasks import task_names

MODULES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_can_be_started(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("throughput", "--rounds 0"),
        ("loading", "--rounds 0"),
        ("cells", "--turns 0"),
        ("memory", "--points 0"),
        ("memory", "--points -5"),
        ("memory", "--points 100"),
        ("time_to_quality", "--cap 0"),
        ("time_to_quality", "--cap -1"),
        ("etth1", "--seeds -1 --horizons 96"),
        ("workload", "flight_delays --seeds -1"),
        ("flight_delays", "--seeds x"),
        ("spoken_digits", "--seed -1"),
        ("vital_signs", "--folds 5"),
        ("latency", "--rounds 0"),
        ("gate", "--comparisons 24"),
        ("serving", "--seconds nan"),
        ("promotion_race", "--kills 0"),
        ("batches", "--series 0"),
    ],
)
def test_what_cannot_be_measured_with_is_refused_before_anything_is_measured(
    name: str, argv: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, *argv.split()])
    monkeypatch.setattr(tables, "write_json", lambda *_: pytest.fail("a result was written"))
    monkeypatch.setattr(tables, "write_table", lambda *_: pytest.fail("a table was written"))
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"benchmarks.{name}").main()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "expected" in said or "invalid choice" in said


@pytest.mark.parametrize("argv", [["nope"], ["flight_delays", "--budget", "nope"]])
def test_a_refusal_is_one_line(argv: list[str], root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.workload", *argv], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("gateline: ")
    assert "nope" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_tells_its_refusals_in_one_line(name: str, root: Path) -> None:
    text = (root / "benchmarks" / f"{name}.py").read_text()
    assert "def main(" not in text or text.endswith("    sys.exit(command.in_one_line(main))\n")


def test_the_exit_code_of_a_refusal_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise WorkloadError("here", expected="one", found="another", do="Correct it")

    assert command.in_one_line(lambda: None) == 0
    assert command.in_one_line(refused) == 2
    assert capsys.readouterr().err == "gateline: here: expected one; found another. Correct it.\n"


def test_figures_of_other_sizes_are_shown_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- cells -->\n\nas it was\n\n<!-- /cells -->\n")
    for name, place in (("ROOT", tmp_path), ("RESULTS", tmp_path), ("DOCUMENT", page)):
        monkeypatch.setattr(tables, name, place)
    monkeypatch.setattr(cells, "ratio", lambda *_: 1.0)

    monkeypatch.setattr(sys, "argv", ["cells", "--turns", "1"])
    cells.main()
    said = capsys.readouterr().out
    assert "| lstm | 1.00 |" in said
    assert said.endswith("not recorded: only with --turns 15\n")
    assert "as it was" in page.read_text()
    assert not (tmp_path / "cells.json").exists()

    monkeypatch.setattr(sys, "argv", ["cells", "--turns", "15"])
    cells.main()
    assert "| lstm | 1.00 |" in page.read_text()
    assert (tmp_path / "cells.json").is_file()


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
