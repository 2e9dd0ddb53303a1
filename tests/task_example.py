"""A small example of a task, through which it joins `tests/contracts/test_tasks.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from gateline.table import as_frame

Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class TaskExample:
    """What the contract suite must know of a task; `tests/contracts/task_examples/TASK.py` has one as `EXAMPLE`.

    Args:
        sections: of a workload that trains within seconds: `schema`, `preprocess`, `model`, `training`, `evaluation`, `gates`.
        altered: makes the raw table; with the name of a part (train, validation, test), with all that stands in that part's
            rows changed: inputs and targets, within the schema, without a change to any other part's.
        metrics: computes metrics of the test part from `predictions.parquet` by another implementation (NumPy's own lines,
            torchmetrics, sacrebleu, scikit-learn), by name; at least the gates' metric.
        request: takes the raw table, `predictions.parquet` and `metrics.json`; cuts a request in raw units out of the rows of the test part,
            and gives it with what was evaluated for it, a row for each row of the answer: columns of the answer by name.
        bad_rows: requests that cannot be answered, by what is wrong with them: takes the request above, and the words that
            the error must hold, the row or the column among them.
        answers: parameters of the request.
        tolerance: relative, of numbers of an answer beside what was evaluated.
    """

    sections: Mapping[str, Any]
    altered: Callable[[str | None], pd.DataFrame]
    metrics: Callable[[pd.DataFrame], Mapping[str, float]]
    request: Callable[[pd.DataFrame, pd.DataFrame, Mapping[str, Any]], tuple[pd.DataFrame, pd.DataFrame]]
    bad_rows: Mapping[str, tuple[Spoil, str]]
    answers: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4


def same_answer(answer: pd.DataFrame, expected: pd.DataFrame, tolerance: float) -> None:
    """Compare an answer with what is expected of it, for the columns that are."""
    assert len(answer) == len(expected)
    for name in expected:
        mine, theirs = answer[name].to_numpy(), expected[name].to_numpy()
        if pd.api.types.is_numeric_dtype(expected[name]):
            np.testing.assert_allclose(
                mine.astype(float), theirs.astype(float), rtol=tolerance, atol=1e-6, err_msg=name
            )
        else:
            assert [np.asarray(value).tolist() for value in mine] == [np.asarray(value).tolist() for value in theirs], (
                name
            )


def as_table(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make a frame as the library reads one."""
    return as_frame(dict(columns))
