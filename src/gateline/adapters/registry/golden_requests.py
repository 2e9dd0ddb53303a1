"""Golden requests: what a registered model is asked before anyone relies on it, and what the trained model answers.

They are cut from the prepared table through the predictor's own `example`, so every task has them: one sequence and many, the
shortest and the longest, a missing value, columns in another order, and values of a wrong type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gateline.adapters.registry.requests import as_request, as_rows
from gateline.errors import GatelineError

if TYPE_CHECKING:
    from gateline.tasks import Predictor

MANY = 8
"""Rows of the request with many, where each row is a sequence."""
LONGER = 10
"""A forecaster is given this many times the past that it reads."""
ONE = "one row"
WRONG_TYPE = "wrong type"
TEXT_FOR_A_NUMBER, NUMBER_FOR_A_TEXT, TEXT_FOR_A_FILE = "cheap", 7.5, "no file"


@dataclass(frozen=True)
class GoldenRequest:
    """One request and what is expected.

    Args:
        name: what is special about it.
        request: JSON as a client of `mlflow models serve` sends it.
        expected: the answer in the same form; None where the request must be refused.
        scale: how large the numbers are that this model answers, in their unit; how well two agree is measured by it.
    """

    name: str
    request: str
    expected: Mapping[str, Any] | None
    scale: float = 1.0


def golden_requests(predictor: Predictor, table: pd.DataFrame) -> list[GoldenRequest]:
    """Make the requests, and answer them with the model in this process.

    Args:
        predictor: the trained model.
        table: the cleaned table of the prepared data.
    """
    frames = _frames(predictor, table)
    requests = {name: as_request(rows) for name, rows in frames.items()}
    answers = {name: _answer(predictor, request) for name, request in requests.items()}
    scale = _scale(predictor, list(frames.values()), list(answers.values()))
    golden = [GoldenRequest(name, request, answers[name], scale) for name, request in requests.items()]
    return [*golden, _of_wrong_type(predictor, predictor.example(table))]


def _scale(predictor: Predictor, frames: Sequence[pd.DataFrame], answers: Sequence[Mapping[str, Any] | None]) -> float:
    """Find the largest of the numbers that are answered, and of what was asked in the same column, hence in the same unit.

    What is no column of a request is a probability or the logarithm of one, and its scale is 1. A forecast of nearly nothing is the
    difference of numbers as large as those of the past, and no better than these in float32.
    """
    numbers = [
        name for name, kind in predictor.output_columns if kind == "float" and name not in predictor.place_columns
    ]
    asked = {name for name, _, _ in predictor.input_columns}
    if not asked.intersection(numbers):
        return 1.0
    answered = [pd.DataFrame(each["data"], columns=each["columns"]) for each in answers if each is not None]
    found = [frame[name] for frame in (*frames, *answered) for name in numbers if name in frame]
    sizes = np.abs(np.concatenate([pd.to_numeric(values, errors="coerce").to_numpy(float) for values in found]))
    return float(sizes.max(where=np.isfinite(sizes), initial=0.0)) or 1.0


def _of_wrong_type(predictor: Predictor, example: pd.DataFrame) -> GoldenRequest:
    """Ask with a text in place of numbers or of files, which is refused; a number in place of a text, MLflow makes a text of."""
    column, kind = _value_column(predictor, example)
    if kind == "text":
        expected = _answer(predictor, as_request(example.assign(**{column: str(NUMBER_FOR_A_TEXT)})))
        return GoldenRequest(WRONG_TYPE, as_request(example.assign(**{column: NUMBER_FOR_A_TEXT})), expected)
    wrong = TEXT_FOR_A_FILE if kind == "bytes" else TEXT_FOR_A_NUMBER
    return GoldenRequest(WRONG_TYPE, as_request(example.assign(**{column: wrong})), None)


def _value_column(predictor: Predictor, example: pd.DataFrame) -> tuple[str, str]:
    """Name and kind of a column that says no place: one of numbers, where there is one."""
    kinds = {name: kind for name, kind, _ in predictor.input_columns}
    values = [name for name in example.columns if name not in predictor.place_columns]
    column = next((name for name in values if kinds[name] in ("float", "integer", "boolean")), values[0])
    return column, kinds[column]


def _answer(predictor: Predictor, request: str) -> Mapping[str, Any] | None:
    try:
        answer = predictor.predict(as_rows(request, predictor))
    except GatelineError:
        return None  # refused here, so it must be refused there
    split: Mapping[str, Any] = json.loads(as_request(answer))["dataframe_split"]
    return split


def _frames(predictor: Predictor, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    example = predictor.example(table)
    kinds = {name: kind for name, kind, _ in predictor.input_columns}
    spoilt, _ = _value_column(predictor, example)
    first = example.index[:1]
    return {
        **_by_number_and_length(predictor, table, example, kinds),
        "missing value": example.assign(
            **{spoilt: example[spoilt].astype(object).mask(example.index.isin(first), None)}
        ),
        "columns in another order": example[list(reversed(example.columns))],
    }


def _by_number_and_length(
    predictor: Predictor, table: pd.DataFrame, example: pd.DataFrame, kinds: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """Cut one and many sequences, the shortest and the longest; where no row has a place, each is a sequence."""
    place = predictor.place_columns
    if not place:
        column = next(name for name in example.columns if kinds[name] in ("bytes", "text"))
        lengths = table[column].dropna().map(len)
        return {
            ONE: example.head(1),
            "many rows": pd.concat([example] * math.ceil(MANY / len(example)), ignore_index=True),
            "shortest": predictor.example(table.loc[[lengths.idxmin()]]),
            "longest": predictor.example(table.loc[[lengths.idxmax()]]),
        }
    keys = [name for name in place if kinds[name] != "time"]
    if len(keys) > 1 and kinds[keys[-1]] == "integer":  # the number of a step
        keys.pop()
    one = _of_first(example, keys)
    if any(kinds[name] == "time" for name in place) and hasattr(predictor, "lookback"):
        time = next(name for name in place if kinds[name] == "time")
        earlier = table.loc[table[time] < one[time].min(), list(one.columns)]
        past = earlier.merge(one[keys].drop_duplicates(), on=keys) if keys else earlier
        # One window is all that it must be given, and a row less is refused.
        return {
            ONE: one,
            "many rows": example,
            "shortest": one,
            "too short": one[one[time] > one[time].min()],
            "longest": pd.concat([past.tail(LONGER * len(one)), one], ignore_index=True),
        }
    sizes = table.groupby(keys, sort=False, dropna=False).size() if keys else pd.Series(dtype=int)
    by_length: dict[str, Callable[[pd.Series], Any]] = {"shortest": pd.Series.idxmin, "longest": pd.Series.idxmax}
    return {ONE: one, "many rows": example} | {
        name: predictor.example(_matching(table, keys, chosen(sizes)))
        for name, chosen in by_length.items()
        if len(sizes)
    }


def _of_first(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return (
        _matching(frame, keys, tuple(frame[keys].iloc[0]) if len(keys) > 1 else frame[keys[0]].iloc[0])
        if keys
        else frame
    )


def _matching(frame: pd.DataFrame, keys: list[str], value: Any) -> pd.DataFrame:
    wanted = value if isinstance(value, tuple) else (value,)
    rows = pd.Series(True, index=frame.index)
    for name, one in zip(keys, wanted, strict=True):
        rows &= frame[name] == one
    return frame[rows].reset_index(drop=True)
