"""Predictors: a trained model of a task with its preprocessing inside, as it is evaluated and served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FLAGS = "flags"
"""Column that an answer may have beside its `output_columns`: what is unusual in the rows that it was made of, empty for nothing."""

BESIDE_CLASSES = (FLAGS, "probability_*")
"""What columns of an answer that names classes are called beside those of the data; ``*`` stands for any text."""


def without_flags(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the columns of `output_columns`."""
    return {name: values for name, values in answer.items() if name != FLAGS}
