"""Texts of a column as numbers, fitted on the training part only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

UNKNOWN = 0
"""Code of a text that training has not seen, and of none. A schema that lists `values` refuses other texts before that."""


@dataclass(frozen=True)
class Vocabulary:
    """Numbers for the texts of a column.

    Args:
        texts: those of the training part, sorted; the first one's code is 1.
    """

    texts: tuple[str, ...]

    @classmethod
    def fit(cls, values: pd.Series) -> Vocabulary:
        """List the texts of training rows; a missing one is none."""
        return cls(tuple(sorted(set(values.dropna().astype(str)))))

    @property
    def num_codes(self) -> int:
        """How many codes there are, with UNKNOWN."""
        return len(self.texts) + 1

    def codes(self, values: Any) -> np.ndarray:
        """Look up texts: int32 (N,) for an array or a column (N,)."""
        return (pd.Index(self.texts, dtype=object).get_indexer(pd.Index(values, dtype=object)) + 1).astype(np.int32)
