"""Rows of a table as a client of `mlflow models serve` sends them, and back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from gateline.tasks import Predictor

SERVED_TYPES: Mapping[str, str] = {
    "float": "double",
    "integer": "double",
    "boolean": "double",
    "text": "string",
    "time": "string",
    "bytes": "binary",
}
"""Numbers are double, the only type of MLflow's that has a missing value; time stamps are ISO 8601 text with their offset."""


def as_request(frame: pd.DataFrame) -> str:
    """Write rows as a client of `mlflow models serve` sends them: time stamps as text, files in base64, null for what is missing."""
    columns = {
        name: values.dt.strftime("%Y-%m-%dT%H:%M:%SZ") if pd.api.types.is_datetime64_any_dtype(values) else values
        for name, values in frame.items()
    }
    rows = pd.DataFrame(columns).astype(object)
    rows = rows.where(rows.notna(), None)
    return json.dumps(
        {
            "dataframe_split": {
                "columns": list(rows.columns),
                "data": [list(map(_in_json, row)) for row in rows.to_numpy()],
            }
        }
    )


def _in_json(value: Any) -> Any:
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def as_rows(request: str, predictor: Predictor) -> pd.DataFrame:
    """Read a request back as MLflow does: numbers as float64, also whole ones and those of an empty column; files as bytes."""
    content = json.loads(request)["dataframe_split"]
    frame = pd.DataFrame(content["data"], columns=content["columns"])
    for name, kind, _ in predictor.input_columns:
        if name not in frame:
            continue
        if kind == "bytes":
            frame[name] = frame[name].map(b64decode, na_action="ignore")
        elif SERVED_TYPES[kind] == "double":
            frame[name] = frame[name].astype("float64")
    return frame
