"""Who will die in hospital, over five folds of patients: ``python -m benchmarks.vital_signs``.

Each patient is tested once, by a model that has not seen the patient. Published figures are means of five folds (GRU-D 0.842, Che et
al., 2018); which patients are in which fold is not published. Writes `benchmarks/results/vital_signs.json` and the table of
`docs/workloads/vital_signs.md`, after every fold; a fold that was measured with these very settings is not measured again. ``--set
model.hidden_size=128`` measures something else and writes nothing; settings are chosen on the validation parts, whose figures it prints.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import command
from benchmarks.machine import ROOT, shown_commits, where
from benchmarks.scoring_code import scoring_code
from benchmarks.tables import markdown, read_result, write_json, write_table
from benchmarks.workload import settings_key
from gateline.adapters.expectations import validate
from gateline.adapters.ingestion import ingest
from gateline.evaluation import evaluate
from gateline.intervals import bootstrap_intervals
from gateline.manifest import open_artifact
from gateline.preprocessing import preprocess
from gateline.probabilities import BIASED, Judgements
from gateline.table import read_table
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.overrides import with_settings
from gateline.workload.source import Source

WORKLOAD = ROOT / "workloads" / "vital_signs.yaml"
RESULT = "vital_signs"
PAGE = ROOT / "docs" / "workloads" / "vital_signs.md"
FOLDS = 5
METRICS = ("auroc", "auprc", "log_loss", "brier", "calibration_error")


def measure(workload: Workload, raw: Path, report: Path, folder: Path, fold: int, seed: int) -> dict[str, Any]:
    """Preprocess, train and evaluate with one fold left out."""
    of_fold = with_settings(workload, {"preprocess.split.fold": fold})
    prepared = preprocess(of_fold, open_artifact(raw, "raw"), open_artifact(report, "report"), folder / "prepared")
    began = time.monotonic()
    model = train(of_fold, prepared, folder / "model", RunSettings(seed))
    trained = time.monotonic()
    evaluation = evaluate(of_fold, prepared, model, folder / "evaluation")
    scores, said = evaluation.read_json("metrics.json"), read_table(evaluation.path / "predictions.parquet")
    return {
        "fold": fold,
        "patients": scores["num_examples"],
        "test": {name: scores["test"][name] for name in METRICS},
        "validation": {name: scores["details"]["validation"][name] for name in METRICS},
        "baselines": {name: {m: values[m] for m in METRICS} for name, values in scores["baselines"].items()},
        "best_epoch": model.facts["best_epoch"],
        "train_seconds": round(trained - began, 1),
        "passed": evaluation.facts["verdict"]["passed"],
        "probability": said["probability_1"].round(6).tolist(),
        "died": (said["target"] == "1").astype(int).tolist(),
        "where": where(),
    }


def over_all(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the folds, and the metrics of all patients together with 95 % intervals."""
    probability, died = (np.concatenate([run[name] for run in runs]) for name in ("probability", "died"))
    judged = Judgements(probability, died)
    around = bootstrap_intervals(
        lambda patients: Judgements(probability[patients], died[patients]).metrics(),
        np.arange(len(died)),
        biased=BIASED,
    )

    def mean(part: str) -> dict[str, float]:
        return {name: statistics.fmean(run[part][name] for run in runs) for name in METRICS}

    baselines = {
        name: {m: statistics.fmean(run["baselines"][name][m] for run in runs) for m in METRICS}
        for name in runs[0]["baselines"]
    }
    return {
        "mean": mean("test"),
        "spread": {m: statistics.stdev(run["test"][m] for run in runs) if len(runs) > 1 else None for m in METRICS},
        "validation": mean("validation"),
        "baselines": baselines,
        "pooled": judged.metrics(),
        "intervals": {name: list(ends) for name, ends in around.items()},
        "train_seconds": round(sum(run["train_seconds"] for run in runs), 1),
    }


def table_of(runs: Sequence[Mapping[str, Any]], result: Mapping[str, Any], seed: int) -> str:
    """Write it as Markdown."""
    rows: list[list[Any]] = [["**this model**", *(f"**{result['mean'][name]:.4f}**" for name in METRICS)]]
    rows += [
        [name.replace("_", " "), *(f"{values[m]:.4f}" for m in METRICS)]
        for name, values in sorted(result["baselines"].items(), key=lambda pair: -pair[1]["auroc"])
    ]
    rows.append(["GRU-D, published (Che et al., 2018)", "0.842", *["–"] * (len(METRICS) - 1)])
    by_fold = [
        [run["fold"], run["patients"], *(f"{run['test'][name]:.4f}" for name in METRICS), run["best_epoch"]]
        for run in runs
    ]
    low, high = result["intervals"]["auroc"]
    machine = runs[-1]["where"]
    said = (
        f"`python -m benchmarks.vital_signs` prints this: mean over {len(runs)} folds, seed {seed}, {result['train_seconds']:.0f} s of training in "
        f"all on {machine['cores']} cores of {machine['cpu']}, torch {machine['torch']}, {shown_commits(run['where'] for run in runs)}. All patients "
        f"together: AUROC {result['pooled']['auroc']:.4f} (95 % interval {low:.4f} to {high:.4f})."
    )
    head = [name.replace("_", " ") for name in METRICS]
    return "\n\n".join(
        [
            said,
            markdown([f"{len(runs)} folds of {FOLDS}", *head], rows),
            markdown(["fold", "patients", *head, "best epoch"], by_fold),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all folds, one after the other."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.vital_signs", description=__doc__)
    flags.add_argument("--seed", type=command.seed, default=7)
    flags.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)), choices=range(FOLDS))
    flags.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings; nothing is written")
    flags.add_argument("--raw", type=Path, help="folder of raw and report, made once and kept")
    given = flags.parse_args(argv)
    changes = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in given.set)}
    workload = with_settings(Workload.read(WORKLOAD), changes)
    key, code, before = (
        settings_key(workload, RunSettings(given.seed)),
        scoring_code(workload.task),
        read_result(RESULT),
    )
    runs: dict[int, dict[str, Any]] = {}
    if not given.set and tuple(map(before.get, ("settings", "scored_with", "seed"))) == (key, code, given.seed):
        runs = {run["fold"]: run for run in before["folds"]}
    missing = [fold for fold in given.folds if fold not in runs]
    with tempfile.TemporaryDirectory() as scratch:
        base = given.raw or Path(scratch)
        if missing and not (base / "report" / "manifest.json").is_file():
            mirror = os.environ.get("GATELINE_MIRROR")
            ingest(workload.section("source", Source), base / "raw", mirror=Path(mirror) if mirror else None)
            validate(workload, base / "raw", base / "report", as_of=datetime.now(UTC))
        for fold in missing:
            folder = Path(scratch) / f"fold-{fold}"
            folder.mkdir()
            run = runs[fold] = measure(workload, base / "raw", base / "report", folder, fold, given.seed)
            shown = {part: " ".join(f"{run[part][m]:.4f}" for m in METRICS) for part in ("validation", "test")}
            print(f"fold {fold}: {shown}, epoch {run['best_epoch']}, {run['train_seconds']} s", flush=True)
            if not given.set:
                so_far = [runs[one] for one in sorted(runs)]
                said = {"settings": key, "scored_with": code, "seed": given.seed}
                write_json(RESULT, {**said, **over_all(so_far), "folds": so_far})
    measured = [runs[fold] for fold in given.folds]
    result = over_all(measured)
    rounded = {part: {m: round(value, 4) for m, value in result[part].items()} for part in ("mean", "validation")}
    print(rounded, flush=True)
    if sizes := command.sizes_to_record(flags, given, "folds"):
        print(f"{PAGE.name} stays as it is: written only with {sizes}")
    elif not given.set and PAGE.is_file():
        write_table(PAGE, "five_folds", table_of(measured, result, given.seed))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
