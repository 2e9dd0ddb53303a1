"""Labelling: a made-up ward, who will die, hour by hour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from gateline.data.folds import Folds
from tests.task_example import TaskExample
from tests.wards import WARD_SCHEMA, ward_table

SPLIT = {"rule": "folds", "folds": 3, "fold": 1, "validation": 0.3}
SECTIONS: dict[str, Any] = {
    "schema": WARD_SCHEMA,
    "preprocess": {
        "inputs": {"kind": "series", "columns": ["pulse", "lactate"], "static": ["age", "unit"], "step": "1h"},
        "label": {"column": "died", "of": "sequence"},
        "split": SPLIT,
    },
    "model": {"cell": "gru", "hidden_size": 6, "calibrate": True},
    "training": {
        "loss": "binary_cross_entropy",
        "monitor": "log_loss",
        "epochs": 2,
        "learning_rate": 0.02,
        "batch_size": 8,
    },
    "evaluation": {"slices": ["unit"], "shown": ["pulse"]},
    "gates": {"metric": "log_loss", "min_examples": 10, "baselines": {"prevalence": {"rule": "superior"}}},
}


def altered(part: str | None) -> pd.DataFrame:
    table = ward_table(np.random.default_rng(3), patients=90)
    if part is not None:
        patients = table["patient"].unique()
        inside = table["patient"].isin(patients[Folds.model_validate(SPLIT).parts(list(map(str, patients)))[part]])
        table.loc[inside, "lactate"] = table.loc[inside, "lactate"] * 3 + 1
        table["pulse"] += 9 * inside
        table.loc[inside, "died"] = 1 - table.loc[inside, "died"]
    return table


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    label, prob = predictions["label"], predictions["prob"]
    return {
        "log_loss": log_loss(label, prob),
        "brier": brier_score_loss(label, prob),
        "auroc": roc_auc_score(label, prob),
        "auprc": average_precision_score(label, prob),
    }


def request(table: pd.DataFrame, predictions: pd.DataFrame, _: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    some = predictions["patient"].unique()[2:5]
    asked = table[table["patient"].isin(some)].drop(columns="died").reset_index(drop=True)
    said = predictions[predictions["patient"].isin(some)]
    return asked, pd.DataFrame({"patient": said["patient"], "probability_1": said["prob"]})


def with_value(column: str, value: Any) -> Any:
    return lambda frame: frame.assign(**{column: frame[column].astype(object).where(frame.index != 3, value)})


EXAMPLE = TaskExample(
    sections=SECTIONS,
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "a unit that the schema does not know": (with_value("unit", "attic"), "attic"),
        "a row of no patient": (with_value("patient", None), "patient"),
        "a row of no time": (with_value("time", None), "time"),
        "a pulse that is no number": (with_value("pulse", "fast"), "pulse"),
        "a lactate below nothing": (with_value("lactate", -1.0), "lactate"),
    },
)
