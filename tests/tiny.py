"""A small problem of known shape, for tests that run whole steps: two related series of hours, a second or two each."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.tasks.forecasting import TASK, ForecastingPreprocess
from gateline.training_statistics import TRAINING_STATISTICS, training_statistics
from gateline.workload.schema import Schema

HOURS = 24 * 70
BEGIN = pd.Timestamp("2024-01-01T00:00:00Z")


def tiny_table(seed: int = 0, hours: int = HOURS) -> pd.DataFrame:
    """Two shops whose sales follow the hour of day, a known price and their own past; some hours are missing."""
    random = np.random.default_rng(seed)
    time = pd.date_range(BEGIN, periods=hours, freq="h")
    pieces = []
    for place, shop in enumerate(("east", "west")):
        price = 10 + random.normal(0, 1, hours).cumsum() * 0.05
        noise = np.zeros(hours)
        shocks = random.normal(0, 1, hours)
        for hour in range(1, hours):
            noise[hour] = 0.8 * noise[hour - 1] + shocks[hour]
        sales = 50 + 10 * place + 15 * np.sin(2 * np.pi * time.hour.to_numpy() / 24) - 3 * (price - 10) + 2 * noise
        sales[random.random(hours) < 0.03] = np.nan
        pieces.append(
            pd.DataFrame(
                {
                    "shop": shop,
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "sales": sales.round(3),
                    "footfall": random.poisson(20, hours),
                    "price": price.round(3),
                }
            )
        )
    return pd.concat(pieces, ignore_index=True)


TINY: Mapping[str, Any] = {
    "name": "tiny",
    "task": "forecasting",
    "description": "Sales of two shops, 6 hours ahead.",
    "source": {"licence": "CC0-1.0", "files": [{"name": "sales", "path": "sales.csv", "sha256": "0" * 64}]},
    "schema": {
        "time": {"column": "time", "frequency": "1h"},
        "keys": ["shop"],
        "rows": {"min": 2000, "max": 10_000},
        "freshness": {"newest_at_least": "2024-03-01T00:00:00Z"},
        "columns": {
            "shop": {"type": "text", "values": ["east", "west"]},
            "time": {"type": "time"},
            "sales": {"type": "float", "min": -100, "max": 300, "missing_share": 0.1, "unit": "pieces"},
            "footfall": {"type": "integer", "min": 0, "max": 100},
            "price": {"type": "float", "min": 0, "max": 100},
        },
    },
    "preprocess": {
        "target": "sales",
        "past": ["footfall"],
        "known": ["price"],
        "calendar": {"hour_of_day": 1},
        "windows": {"lookback": 24, "horizon": 6, "stride": 2},
        "split": {"validate_from": "2024-02-15T00:00:00Z", "test_from": "2024-02-28T00:00:00Z", "embargo": "6h"},
    },
    "model": {"hidden_size": 12, "dropout": 0.1, "attention": "dot", "linear_path": True},
    "training": {
        "learning_rate": 0.02,
        "batch_size": 64,
        "epochs": 3,
        "patience": 3,
        "monitor": "mae",
        "weight_average": 0.9,
    },
    "evaluation": {
        "season": 24,
        "cycle": 24,
        "baselines": ["last_value", "seasonal_naive", "seasonal_median", "ridge"],
        "slices": ["shop"],
    },
    "gates": {"min_examples": 100, "baselines": {"last_value": {"rule": "superior"}}, "limits": {"mae": {"max": 50}}},
}


def tiny_workload(**changes: Any) -> dict[str, Any]:
    """Copy TINY and set dotted keys, written with two underscores for a dot: ``training__epochs=1``."""
    workload = copy.deepcopy(dict(TINY))
    for key, value in changes.items():
        *path, last = key.split("__")
        section = workload
        for part in path:
            section = section[part]
        section[last] = value
    return workload


def write_tiny(folder: Path, table: pd.DataFrame | None = None, **changes: Any) -> Path:
    """Write ``sales.csv`` and ``tiny.yaml`` into a folder, the digest pinned; return the workload's path."""
    data = folder / "sales.csv"
    (tiny_table() if table is None else table).to_csv(data, index=False)
    workload = tiny_workload(**changes)
    workload["source"]["files"][0] |= {"path": str(data), "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(workload, sort_keys=False), encoding="utf-8")
    return path


def prepare_tiny(folder: Path, **changes: Any) -> Artifact:
    """Write the folder `prepared` of the tiny problem without the steps before it."""
    content = tiny_workload(**changes)
    with write_artifact(folder, "prepared") as draft:
        schema = Schema.model_validate(content["schema"])
        rows = TASK.prepare(tiny_table(), schema, ForecastingPreprocess.model_validate(content["preprocess"]), draft)
        draft.write_json(TRAINING_STATISTICS, training_statistics(rows, schema))
    return open_artifact(folder, "prepared")
