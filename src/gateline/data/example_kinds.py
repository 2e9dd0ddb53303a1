"""What is classified: texts, or series of observations. What the task must know of each kind, in one place.

A kind lays the table out as S sequences, fits an encoding on the training part, and makes numbers of it. B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field

from gateline.data.irregular_encoding import IrregularEncoding, SeriesInputs
from gateline.data.irregular_steps import Steps
from gateline.data.sequence_inputs import features
from gateline.data.store import SequenceStore
from gateline.data.text_encoding import TextEncoding, TextInputs
from gateline.errors import DataError, examples
from gateline.table import Columns
from gateline.workload.schema import Schema

TOKENS = "tokens"
"""The store's array of tokens of texts."""


def _text_by_default(value: Any) -> Any:
    """Take inputs that do not say their kind for texts."""
    return {"kind": "text", **value} if isinstance(value, Mapping) else value


ExampleInputs = Annotated[TextInputs | SeriesInputs, Field(discriminator="kind"), BeforeValidator(_text_by_default)]
"""The key `preprocess.inputs`: ``kind: text``, one row each; or ``kind: series``, the rows with the same keys in order of time."""


class ExampleKind(Protocol):
    """Lays out, fits and encodes one kind of sequences."""

    examples_are: str
    """What is counted, in the plural."""

    def explain(self, inputs: Any, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say in words what is read; `facts` are those of the prepared folder, empty if it is not made."""

    def lay_out(self, inputs: Any, raw: pd.DataFrame, schema: Schema, columns: Columns) -> Any:
        """Lay out the rows of a table, as they came and cleaned by column.

        Raises:
            DataError: a row cannot be read.
        """

    def first_rows(self, layout: Any) -> np.ndarray:
        """Say which row of the table speaks for each sequence: int64 (S,)."""

    def rows_of(self, layout: Any, sequences: np.ndarray) -> np.ndarray:
        """Mark the rows of the table that belong to some sequences: bool (N,) for int64 numbers of them."""

    def fit(self, inputs: Any, layout: Any, train: np.ndarray, schema: Schema) -> Any:
        """Fit an encoding on some sequences, int64 numbers of them."""

    def encode(
        self, encoding: Any, layout: Any, parts: Mapping[str, np.ndarray]
    ) -> tuple[SequenceStore, dict[str, Any]]:
        """Make the numbers that are read of all sequences, and say what the manifest should hold of them.

        Args:
            encoding: fitted.
            layout: all sequences.
            parts: int64 numbers of each part's sequences.
        """

    def read(self, value: Mapping[str, Any]) -> Any:
        """Read an encoding from JSON values, as its `to_json` wrote them."""

    def values(self, store: SequenceStore) -> np.ndarray:
        """Take what a network reads at each step: (N, ...)."""

    def shapes(self, encoding: Any) -> dict[str, int]:
        """Say what a network must know of a step: how many tokens there are, or how many features."""


class Texts:
    """One text per row."""

    examples_are = "texts"

    def explain(self, inputs: TextInputs, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say what is read of the texts."""
        return inputs.explain(facts)

    def lay_out(self, inputs: TextInputs, raw: pd.DataFrame, schema: Schema, columns: Columns) -> list[str]:  # noqa: ARG002
        """Take the texts, one in every row."""
        return complete(columns, inputs.column)

    def first_rows(self, layout: Sequence[str]) -> np.ndarray:
        """Each row speaks for itself."""
        return np.arange(len(layout))

    def rows_of(self, layout: Sequence[str], sequences: np.ndarray) -> np.ndarray:
        """A text is a row."""
        return np.isin(np.arange(len(layout)), sequences)

    def fit(self, inputs: TextInputs, layout: Sequence[str], train: np.ndarray, schema: Schema) -> TextEncoding:  # noqa: ARG002
        """Make the vocabulary of the training texts."""
        return TextEncoding.fit([layout[row] for row in train], inputs.tokenizer, inputs.column)

    def encode(
        self, encoding: TextEncoding, layout: Sequence[str], parts: Mapping[str, np.ndarray]
    ) -> tuple[SequenceStore, dict[str, Any]]:
        """Turn texts into tokens, and describe the vocabulary and how well it covers each part."""
        encoded = encoding.encode(layout)
        store = SequenceStore({TOKENS: encoded.tokens}, encoded.offsets)
        return store, {"vocabulary": encoding.report(encoded, parts, layout)}

    def read(self, value: Mapping[str, Any]) -> TextEncoding:
        """Read what `TextEncoding.to_json` wrote."""
        return TextEncoding.from_json(value)

    def values(self, store: SequenceStore) -> np.ndarray:
        """Take the tokens."""
        return store.arrays[TOKENS]

    def shapes(self, encoding: TextEncoding) -> dict[str, int]:
        """Count the tokens of the vocabulary."""
        return {"num_tokens": len(encoding.to_json()["tokenizer"]["tokens"])}


class Series:
    """All rows with the same keys, in order of time."""

    examples_are = "series"

    def explain(self, inputs: SeriesInputs, facts: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG002
        """Say what is read of the series."""
        return inputs.explain()

    def lay_out(self, inputs: SeriesInputs, raw: pd.DataFrame, schema: Schema, columns: Columns) -> Steps:  # noqa: ARG002
        """Lay rows out as steps."""
        return inputs.lay_out(raw, schema)

    def first_rows(self, layout: Steps) -> np.ndarray:
        """The first row in time speaks for its series."""
        return layout.first_rows

    def rows_of(self, layout: Steps, sequences: np.ndarray) -> np.ndarray:
        """A series is all rows of its steps."""
        return layout.rows_of(sequences)

    def fit(self, inputs: SeriesInputs, layout: Steps, train: np.ndarray, schema: Schema) -> IrregularEncoding:
        """Fit scales and vocabularies on the training series."""
        return inputs.fit(layout, train, schema)

    def encode(
        self, encoding: IrregularEncoding, layout: Steps, parts: Mapping[str, np.ndarray]
    ) -> tuple[SequenceStore, dict[str, Any]]:
        """Turn steps into numbers, name the features, and count the steps of each part."""
        store = encoding.encode(layout)
        lengths = np.diff(store.offsets)
        return store, {
            "features": encoding.feature_names(),
            "steps": {part: int(lengths[rows].sum()) for part, rows in parts.items()},
        }

    def read(self, value: Mapping[str, Any]) -> IrregularEncoding:
        """Read what `IrregularEncoding.to_json` wrote."""
        return IrregularEncoding.from_json(value)

    def values(self, store: SequenceStore) -> np.ndarray:
        """Put together what is read at every step."""
        return features(store, np.arange(int(store.offsets[-1])))

    def shapes(self, encoding: IrregularEncoding) -> dict[str, int]:
        """Count the features of a step."""
        return {"num_features": len(encoding.feature_names())}


KINDS: Mapping[str, ExampleKind] = {"text": Texts(), "series": Series()}
"""By `preprocess.inputs.kind`."""


def complete(columns: Mapping[str, Any], name: str) -> list[Any]:
    """Take a column that must have a value in every row.

    Raises:
        DataError: a row has none.
    """
    missing = np.flatnonzero(pd.isna(columns[name]))
    if len(missing):
        raise DataError(
            f"column {name}",
            expected="a value in every row",
            found=f"none in row {examples(missing.tolist())}",
            do="Leave these rows out in the query, or say `missing_share: 0` so that validate refuses them",
        )
    return list(columns[name])
