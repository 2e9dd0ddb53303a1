"""Texts of a request."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gateline.errors import DataError, examples
from gateline.table import clean
from gateline.workload.schema import Schema


def read_texts(frame: pd.DataFrame, schema: Schema, name: str) -> np.ndarray:
    """Take the texts of a request, as a schema says they must be: object (N,).

    Args:
        frame: rows of the request.
        schema: of the column alone.
        name: of the column.

    Raises:
        DataError: there is no such column, or a row has no text; or a text is not as the schema says.
    """
    missing = np.flatnonzero(frame[name].isna()).tolist() if name in frame else []
    if missing:
        raise DataError(
            f"request, column {name}",
            expected="a text in every row",
            found=f"none in row {examples(missing)}",
            do="Add it",
        )
    texts: np.ndarray = clean(frame, schema)[name]
    return texts
