"""Texts of a table as sequences of tokens, fitted on the training part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gateline.data.tokenizers import (
    UNKNOWN,
    Encoded,
    FittedTokenizer,
    Tokenizer,
    tokenizer_from_json,
    vocabulary_report,
)
from gateline.errors import WorkloadError, did_you_mean
from gateline.workload.schema import Schema
from gateline.workload.section import Section


class TextInputs(Section):
    """One text per row of the table."""

    kind: Literal["text"] = "text"
    column: str
    tokenizer: Tokenizer

    def check(self, schema: Schema) -> None:
        """Refuse a column that is not there, or holds no texts.

        Raises:
            WorkloadError: it is not in the schema or of another type, or rows are not texts but steps of series.
        """
        where = "preprocess.inputs.column"
        if self.column not in schema.columns:
            do = did_you_mean(self.column, list(schema.columns))
            raise WorkloadError(where, expected="a column of the schema", found=repr(self.column), do=do)
        if (found := schema.columns[self.column].type) != "text":
            raise WorkloadError(
                where, expected="a column of texts", found=f"{self.column} ({found})", do="Name another"
            )
        if schema.time is not None:
            raise WorkloadError(
                "schema.time",
                expected="no `time`: one row per text",
                found=f"`{schema.time.column}`",
                do="Leave it out; a column of type `time` may stay",
            )

    def columns_read(self) -> tuple[str, ...]:
        """Name the columns of the table that are read."""
        return (self.column,)

    def explain(self, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say in words what is read; `facts` are those of the prepared folder, empty if it is not made."""
        size = facts["vocabulary"]["size"] if facts else self.tokenizer.size
        words = f"cut `{self.column}` into {self.tokenizer.kind} tokens" + (
            f", a vocabulary of {size:,}" if size else ""
        )
        if facts:
            words += (
                f"; {facts['vocabulary']['parts']['test']['unknown_rate']:.1%} of the test part's tokens are unknown"
            )
        yield words
        if self.tokenizer.max_length:
            cut = f", which cuts {facts['vocabulary']['parts']['train']['texts_cut']:,} in training" if facts else ""
            yield f"keep the first {self.tokenizer.max_length} tokens of a text{cut}"


@dataclass(frozen=True)
class TextEncoding:
    """How a column of texts becomes tokens.

    Args:
        column: which one.
        tokenizer: fitted.
        max_length: tokens of a text that are read; None: all.
    """

    column: str
    tokenizer: FittedTokenizer
    max_length: int | None

    @classmethod
    def fit(cls, texts: Sequence[str], settings: Tokenizer, column: str) -> TextEncoding:
        """Make the vocabulary of the training texts.

        Raises:
            DataError: they hold nothing.
        """
        return cls(column, settings.fit(texts), settings.max_length)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turn texts into tokens; a text without any is one unknown token, so that every sequence has a step."""
        encoded = self.tokenizer.encode(texts).cut(self.max_length)
        if len(encoded) and not encoded.lengths.all():
            rows = [row if len(row) else np.array([UNKNOWN], dtype=np.int32) for row in encoded.rows()]
            filled = Encoded.of(rows)
            encoded = Encoded(filled.tokens, filled.offsets, encoded.lost)
        return encoded

    def report(self, encoded: Encoded, parts: Mapping[str, np.ndarray], texts: Sequence[str]) -> dict[str, Any]:
        """Say what the vocabulary holds and how well it covers each part, see `vocabulary_report`.

        Args:
            encoded: all texts, as `encode` made them.
            parts: int64 numbers of each part's texts.
            texts: all of them; those of a part that stand in the training part, too, are counted.
        """
        seen = {texts[row] for row in parts["train"]}
        report = vocabulary_report(self.tokenizer, {part: encoded.take(some) for part, some in parts.items()})
        for part, some in parts.items():
            if part != "train":
                report["parts"][part]["also_in_training"] = int(sum(texts[row] in seen for row in some))
        return report

    def to_json(self) -> dict[str, Any]:
        """Write as JSON values."""
        return {"column": self.column, "tokenizer": self.tokenizer.to_json(), "max_length": self.max_length}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> TextEncoding:
        """Read what `to_json` wrote.

        Raises:
            ArtifactError: it is no tokenizer.
        """
        return cls(state["column"], tokenizer_from_json(state["tokenizer"]), state["max_length"])
