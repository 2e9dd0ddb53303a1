"""Made-up reviews with labels: what is praised and blamed, so that a small model can learn it and a table can be made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.preprocessing import preprocess
from gateline.table import TABLE, write_table
from gateline.workload import Workload

GOOD, BAD = ("lovely", "superb", "moving", "bright", "tender"), ("dull", "clumsy", "awful", "tired", "hollow")
NOUNS = ("film", "plot", "cast", "score", "ending", "script", "camera", "hero")


def reviews(num: int = 400, seed: int = 0) -> pd.DataFrame:
    """Reviews that are told apart by one word each, except that `not` turns it round."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(num):
        praised, turned = bool(generator.integers(2)), generator.random() < 0.25
        word = str(generator.choice(GOOD if praised != turned else BAD))
        nouns = generator.choice(NOUNS, 2, replace=False)
        text = f"the {nouns[0]} was {'not ' if turned else ''}{word} and the {nouns[1]} went on for {number} minutes"
        rows.append(
            {"number": number, "review": text, "verdict": "good" if praised else "bad", "critic": f"c{number % 3}"}
        )
    return pd.DataFrame(rows)


def reviews_workload(**changes: Any) -> dict[str, Any]:
    """A small workload over them; `changes` by dotted key."""
    content: dict[str, Any] = {
        "name": "reviews",
        "task": "classification",
        "description": "Praise or blame.",
        "source": {"licence": "none", "files": [{"name": "reviews", "path": "reviews.csv", "sha256": "0" * 64}]},
        "schema": {
            "keys": ["number"],
            "columns": {
                "number": {"type": "integer", "min": 0},
                "review": {"type": "text", "min_length": 5, "max_length": 200},
                "verdict": {"type": "text", "values": ["good", "bad"]},
                "critic": {"type": "text"},
            },
        },
        "preprocess": {
            "inputs": {
                "kind": "text",
                "column": "review",
                "tokenizer": {"kind": "word", "min_count": 2, "max_length": 20},
            },
            "label": "verdict",
            "split": {"rule": "hash", "by": ["review"], "validation": 0.2, "test": 0.2},
        },
        "model": {"hidden_size": 12, "embedding_size": 8, "bidirectional": True, "pooling": "attention"},
        "training": {"loss": "cross_entropy", "learning_rate": 0.02, "batch_size": 16, "epochs": 4},
        "evaluation": {"slices": ["critic"]},
        "gates": {"metric": "error_rate", "min_examples": 20, "baselines": {"majority": {"rule": "superior"}}},
    }
    for key, value in changes.items():
        *path, last = key.split(".")
        section = content
        for name in path:
            section = section[name]
        section[last] = value
    return content


def prepare_reviews(folder: Path, frame: pd.DataFrame | None = None, **changes: Any) -> tuple[Workload, Artifact]:
    """Write `raw`, an accepting `report` and `prepared`, without the steps before."""
    workload = Workload.read(json.dumps(reviews_workload(**changes)))
    folder.mkdir(parents=True, exist_ok=True)
    with write_artifact(folder / "raw", "raw") as draft:
        write_table(reviews() if frame is None else frame, draft.path / TABLE)
    raw = open_artifact(folder / "raw", "raw")
    with write_artifact(folder / "report", "report", {"raw": raw}) as draft:
        draft.facts["verdict"] = {"passed": True, "reasons": []}
    return workload, preprocess(workload, raw, open_artifact(folder / "report", "report"), folder / "prepared")
