"""Classification: made-up reviews, praise or blame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from tests.reviews import reviews, reviews_workload
from tests.task_example import TaskExample

PARTS = np.array(["train", "train", "train", "validation", "test"])
CONTENT = reviews_workload(
    **{
        "preprocess.split": {
            "rule": "column",
            "column": "part",
            "train": ["train"],
            "validation": ["validation"],
            "test": ["test"],
        },
        "schema.columns.part": {"type": "text", "values": ["train", "validation", "test"]},
        "training.epochs": 2,
        "model.calibrate": True,  # so that something is fitted after training
        "evaluation": {"slices": ["critic"], "baselines": ["majority", "naive_bayes"], "positive": "good"},
    }
)
TURNED = {"good": "bad", "bad": "good"}


def altered(part: str | None) -> pd.DataFrame:
    table = reviews(300)
    table["part"] = PARTS[table["number"] % len(PARTS)]
    if part is not None:
        inside = table["part"] == part
        # A word that no other part has, often enough for the vocabulary, and labels the wrong way round.
        table["review"] = table["review"].where(~inside, table["review"] + " whereupon")
        table["verdict"] = table["verdict"].where(~inside, table["verdict"].map(TURNED))
    return table


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    good, probability = predictions["target"] == "good", predictions["probability_good"]
    return {
        "error_rate": float((predictions["answer"] != predictions["target"]).mean()),
        "log_loss": log_loss(good, probability),
        "auroc": roc_auc_score(good, probability),
        "f1_macro": f1_score(predictions["target"], predictions["answer"], average="macro"),
    }


def request(table: pd.DataFrame, predictions: pd.DataFrame, _: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = table[table["part"] == "test"].head(7).reset_index(drop=True)
    said = predictions.set_index("text").loc[asked["review"]]
    columns = ["probability_good", "probability_bad"]
    expected = said[columns].assign(review=asked["review"].to_numpy(), verdict=said["answer"]).reset_index(drop=True)
    return asked[["review"]], expected[["verdict", *columns]]


def with_review(value: Any) -> Any:
    return lambda frame: frame.assign(review=frame["review"].astype(object).where(frame.index != 3, value))


EXAMPLE = TaskExample(
    sections={name: section for name, section in CONTENT.items() if isinstance(section, dict)},
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "a row without a text": (with_review(None), "row 3"),
        "a text that is too short": (with_review("bad"), "5 to 200"),
    },
)
