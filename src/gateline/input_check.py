"""Flags on answers: what in a request was answered, and yet is not what the model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gateline.column_statistics import all_rounded, spelt
from gateline.errors import DataError, examples
from gateline.predictors import FLAGS
from gateline.table import Asked, extremes, num_rows, range_in_words, shortened, violations, within
from gateline.workload.schema import Column, Schema

__all__ = ["FLAGS", "InputCheck"]

UNKNOWN_SHARE = 0.2
"""Of the tokens of a text, from which on it is said."""


class InputCheck:
    """Looks at requests with the eyes of the training part.

    Args:
        statistics: see `gateline.training_statistics`.
        columns: of a request.
        tokenizers: of columns of texts, by name.
        asked: columns of which a request may hold what the table did not, by name: the beginning of a text, say.
        most_tokens: of a text that are read, by name of its column; none for all.
    """

    def __init__(
        self,
        statistics: Mapping[str, Any],
        columns: Sequence[str],
        tokenizers: Mapping[str, Any],
        asked: Mapping[str, Column] | None = None,
        most_tokens: Mapping[str, int] | None = None,
    ) -> None:
        schema = Schema.model_validate(statistics["schema"])
        of_request = {**schema.columns, **(asked or {})}
        self._columns = {name: of_request[name] for name in columns if name in of_request}
        # Of keys there is nothing unusual to say: the next patient has another number.
        self._seen = {
            name: statistics["columns"][name]
            for name in self._columns
            if name in statistics["columns"] and name not in schema.keys
        }
        self._texts = {
            name: {each["value"] for each in seen["values"]}
            for name, seen in self._seen.items()
            if seen["type"] == "text" and not seen["other"] and name not in tokenizers
        }
        self._ordinary = {
            name: _ordinary(column, self._seen.get(name, {}))
            for name, column in self._columns.items()
            if column.type in ("float", "integer")
        }
        self._tokenizers = tokenizers
        self._most_tokens = most_tokens or {}

    def flags(self, asked: Asked, answer: Mapping[str, Any], place: Sequence[str]) -> np.ndarray:
        """Say of each row of an answer what was unusual in what it was made of: what is seen here, and what the predictor saw.

        An answer that names its series is made of the rows of that series; one with as many rows as the request, of the row
        in the same place; else of the whole request.

        Args:
            asked: the request.
            answer: by column, (N,) each; under `FLAGS` what the predictor saw itself, if it did.
            place: columns that say where a row of the answer belongs.

        Returns:
            object (N,) of texts.
        """
        found = self._of_values(asked, answer, place)
        if FLAGS not in answer:
            return found
        both = zip(found, answer[FLAGS], strict=True)
        return np.array(["; ".join(filter(None, words)) for words in both], dtype=object)

    def _of_values(self, asked: Asked, answer: Mapping[str, Any], place: Sequence[str]) -> np.ndarray:
        """Say of each row of an answer which values of the request are unusual, see `flags`: object (N,)."""
        count = len(next(iter(answer.values())))
        found = [
            (marked, words)
            for name in self._columns
            if name in asked
            for marked, words in self._unusual(asked, name)
            if marked.any()
        ]
        if not found:
            return np.full(count, "", dtype=object)
        keys = [name for name in place if name in asked and self._is_key(name)]
        if keys:
            of_asked, of_answer = (
                pd.MultiIndex.from_arrays([pd.Index(columns[name]).astype(str) for name in keys])
                for columns in (asked, answer)
            )
            series = of_answer.unique()
            place_of_row, place_of_answer = series.get_indexer(of_asked), series.get_indexer(of_answer)
            touched = np.unique(place_of_row[np.logical_or.reduce([marked for marked, _ in found])])
            words_of = {each: _said(found, place_of_row == each) for each in touched.tolist()}
            return np.array([words_of.get(each, "") for each in place_of_answer.tolist()], dtype=object)
        if num_rows(asked) == count:
            rows = np.arange(count)
            touched = np.logical_or.reduce([marked for marked, _ in found])
            return np.array([_said(found, rows == row) if touched[row] else "" for row in rows], dtype=object)
        return np.full(count, _said(found, np.ones(num_rows(asked), dtype=bool)), dtype=object)

    def refused_rows(self, asked: pd.DataFrame) -> DataError | None:
        """Say which rows of a refused request hold a value that the schema rules out, by the client's own numbers of rows."""
        for name, column in self._columns.items():
            if name not in asked or column.violation != "refuse" or column.type not in ("float", "integer", "text"):
                continue
            texts = column.type == "text"
            values = asked[name].to_numpy(dtype=object) if texts else _as_numbers(asked[name])
            wrong = violations(values, column)
            if wrong.any():
                return DataError(
                    f"request, row {examples(asked.index[wrong].tolist())}, column {name}",
                    expected=f"values {range_in_words(column)}",
                    found=examples(sorted({shortened(value) for value in values[wrong]})),
                    do="Correct them, or leave them empty where they are not known",
                )
        return None

    def _is_key(self, name: str) -> bool:
        return name not in self._columns or self._columns[name].type in ("text", "integer", "boolean")

    def _unusual(self, asked: Asked, name: str) -> Iterator[tuple[np.ndarray, Any]]:
        """Mark rows whose value of a column is unusual, and give what says so of some of them."""
        column = self._columns[name]
        if name in self._ordinary:
            numbers = _as_numbers(asked[name])
            if not within(extremes(numbers), *self._ordinary[name]):
                yield from self._unusual_numbers(numbers, name, column)
        elif column.type == "text":
            texts = asked[name].to_numpy(dtype=object)
            if name in self._texts and not set(texts.tolist()) <= self._texts[name]:
                strange = ~pd.isna(texts)
                strange[strange] = ~spelt(pd.Series(texts[strange]), "text").isin(self._texts[name]).to_numpy()
                yield strange, lambda some: f"{name}: {_most(texts[some])} not seen in training{_in_rows(some)}"
            if column.violation == "missing":
                wrong = violations(texts, column)
                yield wrong, lambda some: f"{name}: not as the schema says, taken as missing{_in_rows(some)}"
            if name in self._tokenizers:
                yield from self._unusual_tokens(texts, name)

    def _unusual_numbers(self, numbers: np.ndarray, name: str, column: Column) -> Iterator[tuple[np.ndarray, Any]]:
        wrong = violations(numbers, column)
        unit = f" {column.unit}" if column.unit else ""
        for below, bound in ((True, column.min), (False, column.max)):
            if bound is not None and wrong.any():
                beyond = numbers < bound if below else numbers > bound
                yield beyond, _beyond(name, numbers, below, f"{bound:g}{unit}, taken as missing")
        seen = self._seen.get(name, {})
        for below, bound in ((True, seen.get("min")), (False, seen.get("max"))):
            if bound is not None:
                beyond = (numbers < bound if below else numbers > bound) & ~wrong
                beyond[beyond] = all_rounded(numbers[beyond]) != bound  # which is rounded
                yield beyond, _beyond(name, numbers, below, f"the {bound:g}{unit} of training")

    def _unusual_tokens(self, texts: np.ndarray, name: str) -> Iterator[tuple[np.ndarray, Any]]:
        from gateline.data.tokenizers import UNKNOWN

        encoded = self._tokenizers[name].encode(["" if pd.isna(text) else str(text) for text in texts])
        unknown = np.add.reduceat(np.append(encoded.tokens == UNKNOWN, False), encoded.offsets[:-1])
        lengths = np.diff(encoded.offsets)
        unknown = np.where(lengths > 0, unknown, 0)
        share = unknown / np.maximum(lengths, 1)
        yield (
            share >= UNKNOWN_SHARE,
            lambda some: f"{name}: {share[some].max():.0%} of the tokens unknown{_in_rows(some)}",
        )
        if most := self._most_tokens.get(name):
            yield (
                lengths > most,
                lambda some: f"{name}: {lengths[some].max():,} tokens, the first {most:,} are read{_in_rows(some)}",
            )


def _ordinary(column: Column, seen: Mapping[str, Any]) -> tuple[float, float]:
    """Bound the numbers of which nothing is said: what the schema rules out is not among them, nor what training did not see."""
    lower = [bound for bound in (column.min, seen.get("min")) if bound is not None]
    upper = [bound for bound in (column.max, seen.get("max")) if bound is not None]
    return max(lower, default=-np.inf), min(upper, default=np.inf)


def _as_numbers(values: pd.Series) -> np.ndarray:
    typed = values if values.dtype == np.float64 else pd.to_numeric(values, errors="coerce")
    return typed.to_numpy(dtype=np.float64)


def _beyond(name: str, numbers: np.ndarray, below: bool, bound: str) -> Any:
    def words(some: np.ndarray) -> str:
        worst = numbers[some].min() if below else numbers[some].max()
        return f"{name}: {worst:g} {'below' if below else 'above'} {bound}{_in_rows(some)}"

    return words


def _said(found: Sequence[tuple[np.ndarray, Any]], rows: np.ndarray) -> str:
    return "; ".join(words(marked & rows) for marked, words in found if (marked & rows).any())


def _in_rows(some: np.ndarray) -> str:
    count = int(some.sum())
    return f" in {count} rows" if count > 1 else ""


def _most(texts: np.ndarray) -> str:
    named = sorted(set(map(str, texts)))
    return ", ".join(repr(text[:40]) for text in named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
