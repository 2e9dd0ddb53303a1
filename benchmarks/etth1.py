"""The forecasting table of ETTh1, horizons 96 to 720, three seeds each: ``python -m benchmarks.etth1``.

Each entry is the workload `etth1` with `horizon` changed and the settings of `CHOSEN`, through this project's own
preprocess, train and evaluate. Settings and epochs were chosen on the validation part; the test part is read once per
entry. As many entries at once as there are cores. Finished ones stand in the result, and the same command goes on with
the rest; an entry whose settings have changed since is made again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from benchmarks import command
from benchmarks.etth1_workload import merged, prepare, scratch, workload
from benchmarks.machine import where
from benchmarks.tables import markdown, read_result, write_result
from gateline.evaluation import evaluate
from gateline.manifest import digest_of
from gateline.training import RunSettings, train
from gateline.workload import Workload

HORIZONS = (96, 192, 336, 720)
SEEDS = (0, 1, 2)
PRECISION = "bfloat16"
TEST_HOURS, CHANNELS = 2880, 7

RIDGE = {"lags": 336, "penalty": 10000.0}
CALENDAR = {"timezone": "UTC", "hour_of_day": 2, "day_of_week": 1}
CHOSEN: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    96: {},
    192: {
        "preprocess": {"calendar": CALENDAR},
        "model": {"segment": 48, "ridge_path": {"share": 0.5}},
        "training": {"epochs": 5},
    },
    336: {
        "preprocess": {"calendar": CALENDAR},
        "model": {"segment": 48, "ridge_path": {**RIDGE, "share": 0.7}},
        "training": {"epochs": 4},
    },
    720: {
        "preprocess": {"calendar": CALENDAR, "windows": {"lookback": 336}},
        "model": {"segment": 48, "ridge_path": {**RIDGE, "share": 0.8}},
        "training": {"epochs": 5},
    },
}
"""By horizon, what differs from the workload because validation asked for it: the further ahead, the more of the ridge
regression and the fewer epochs, with the clock as an input; at 720 a shorter lookback, which leaves more windows to train on."""

PUBLISHED = {
    "SegRNN, published": {96: (0.351, 0.392), 192: (0.392, 0.414), 336: (0.423, 0.433), 720: (0.466, 0.472)},
    "NLinear, published": {96: (0.374, 0.394), 192: (0.408, 0.415), 336: (0.429, 0.427), 720: (0.440, 0.453)},
    "ridge NLinear, closed form": {96: (0.370, 0.391), 192: (0.403, 0.411), 336: (0.425, 0.425), 720: (0.421, 0.443)},
    "plain GRU, published": {96: (1.135, 0.844), 192: (1.123, 0.814), 336: (1.080, 0.807), 720: (1.089, 0.822)},
}
"""MSE and MAE on the test part. Of SegRNN: Lin et al. (2023), arXiv 2308.11200; of NLinear: Zeng et al. (2023), arXiv
2205.13504; the closed form was computed on these very files, lookback 336."""
REACH = {96: 0.351, 192: 0.392, 336: 0.423, 720: 0.421}
"""MSE to reach (set before the work began): SegRNN's, and at 720 that of ridge NLinear."""


def workload_of(horizon: int) -> str:
    """The workload of one horizon, as JSON text."""
    changes: dict[str, Any] = {
        "preprocess": {"windows": {"horizon": horizon}},
        "gates": {
            "min_examples": CHANNELS * (TEST_HOURS - horizon + 1),
            "limits": {"mse_scaled": {"max": REACH[horizon]}},
        },
    }
    return workload(merged(changes, CHOSEN[horizon]))


def measure(horizon: int, seed: int) -> dict[str, Any]:
    """Preprocess, train and evaluate with one horizon and one seed."""
    folder, text, began = scratch(f"etth1-{horizon}-{seed}"), workload_of(horizon), time.monotonic()
    prepared = prepare(text, folder)
    run = RunSettings(seed, "cpu", PRECISION)
    model = train(Workload.read(text, "train"), prepared, folder / "model", run)
    trained = time.monotonic()
    evaluation = evaluate(Workload.read(text, "evaluate"), prepared, model, folder / "evaluation")
    metrics = evaluation.read_json("metrics.json")
    names = ("mse_scaled", "mae_scaled")
    best = model.read_json("history.json")[model.facts["best_epoch"] - 1]
    return {
        "settings": key_of(horizon),
        "where": where(),
        "best_epoch": model.facts["best_epoch"],
        "epochs": model.facts["epochs"],
        "parameters": model.facts["parameters"],
        "train_seconds": round(trained - began, 1),
        "evaluate_seconds": round(time.monotonic() - trained, 1),
        "validation": {"mse_scaled": best["validation_mse_scaled"]},
        "test": {name: metrics["test"][name] for name in names},
        "baselines": {
            baseline: {name: scores[name] for name in names} for baseline, scores in metrics["baselines"].items()
        },
    }


def key_of(horizon: int) -> str:
    """Digest of the settings that shape an entry."""
    sections = Workload.read(workload_of(horizon)).sections
    shaping = {name: sections[name] for name in ("source", "schema", "preprocess", "model", "training")}
    return digest_of({**shaping, "precision": PRECISION})


def table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the result as Markdown; horizons that are not finished stay out."""
    rows, finished = [], []
    for horizon in HORIZONS:
        runs = [entries[f"{horizon}/{seed}"] for seed in SEEDS if f"{horizon}/{seed}" in entries]
        if len(runs) < len(SEEDS):
            continue
        finished.append(horizon)
        mse, mae = ([run["test"][name] for run in runs] for name in ("mse_scaled", "mae_scaled"))
        mean, reach = statistics.mean(mse), REACH[horizon]
        row = [horizon, f"**{mean:.3f}** / {statistics.mean(mae):.3f}", ", ".join(f"{value:.4f}" for value in mse)]
        row += [f"{reach:.3f}", "yes" if mean <= reach else "no"]
        row += [f"{statistics.mean(run['validation']['mse_scaled'] for run in runs):.3f}"]
        row += [f"{statistics.mean(run['train_seconds'] for run in runs):.0f} s"]
        rows.append(row)
    head = ("horizon", "test MSE / MAE, mean", "MSE by seed", "to reach", "reached", "validation MSE", "trained in")
    measured = {
        f"{baseline}, same windows": {
            horizon: tuple(entries[f"{horizon}/{SEEDS[0]}"]["baselines"][baseline].values()) for horizon in finished
        }
        for baseline in (entries[f"{finished[0]}/{SEEDS[0]}"]["baselines"] if finished else ())
    }
    others = [
        (name, *(f"{scores[horizon][0]:.3f} / {scores[horizon][1]:.3f}" for horizon in finished))
        for name, scores in {**PUBLISHED, **measured}.items()
    ]
    return markdown(head, rows) + "\n\n" + markdown(("MSE / MAE", *map(str, finished)), others)


def main() -> None:
    """Measure what is missing; write after every entry."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.etth1", description=__doc__)
    flags.add_argument("--horizons", type=int, nargs="+", default=list(HORIZONS), choices=HORIZONS)
    flags.add_argument("--seeds", type=command.seed, nargs="+", default=list(SEEDS))
    given = flags.parse_args()
    entries: dict[str, Any] = read_result("etth1").get("entries", {})
    missing = [
        (horizon, seed)
        for horizon in sorted(given.horizons, reverse=True)  # the longest first: they take longest
        for seed in given.seeds
        if entries.get(f"{horizon}/{seed}", {}).get("settings") != key_of(horizon)
    ]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(measure, *entry): entry for entry in missing}
        for future in as_completed(running):
            horizon, seed = running[future]
            entries[f"{horizon}/{seed}"] = future.result()
            ordered = dict(sorted(entries.items(), key=lambda item: tuple(map(int, item[0].split("/")))))
            print(f"horizon {horizon}, seed {seed}: {entries[f'{horizon}/{seed}']}", flush=True)
            write_result("etth1", {"precision": PRECISION, "entries": ordered}, table(ordered))
    if not missing:
        write_result("etth1", {"precision": PRECISION, "entries": entries}, table(entries))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
