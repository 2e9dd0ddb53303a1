"""A made-up ward: patients with observations at irregular times, most of them missing, and an outcome that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

WARD_SCHEMA: dict[str, Any] = {
    "time": {"column": "time"},
    "keys": ["patient"],
    "columns": {
        "patient": {"type": "integer"},
        "time": {"type": "time"},
        "pulse": {
            "type": "float",
            "min": 20,
            "max": 250,
            "missing_share": 1,
            "violation": "missing",
            "max_violations": 50,
        },
        "lactate": {"type": "float", "min": 0, "missing_share": 1},
        "age": {"type": "float", "missing_share": 1},
        "unit": {"type": "text", "values": ["medical", "surgical"]},
        "died": {"type": "integer", "min": 0, "max": 1},
    },
}


def ward_table(rng: np.random.Generator, patients: int = 60, hours: int = 12) -> pd.DataFrame:
    """Draw a table: each patient is admitted at a time of its own, and observed at random minutes from then on."""
    rows = []
    for patient in range(patients):
        admitted = pd.Timestamp("2024-01-01T00:00:00Z") + pd.Timedelta(minutes=int(rng.integers(0, 100_000)))
        minutes = np.unique(np.concatenate([[0], rng.integers(1, hours * 60 + 1, rng.integers(3, 25))]))
        died = int(rng.random() < 0.3)
        level = rng.normal(80 + 25 * died, 6)
        pulse = np.where(rng.random(len(minutes)) < 0.7, rng.normal(level, 5, len(minutes)), np.nan)
        lactate = np.where(rng.random(len(minutes)) < 0.2, rng.exponential(1 + 2 * died, len(minutes)), np.nan)
        rows.append(
            pd.DataFrame(
                {
                    "patient": patient + 100,
                    "time": admitted + pd.to_timedelta(minutes, unit="min"),
                    "pulse": pulse,
                    "lactate": lactate,
                    "age": np.nan if rng.random() < 0.1 else float(rng.integers(20, 90)),
                    "unit": rng.choice(["medical", "surgical"]),
                    "died": died,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
