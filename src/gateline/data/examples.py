"""A table of examples, one row or one group of rows each: which of them belong to training, validation and test.

prepared/
└── examples/
    ├── {train,validation,test}.npy    int64, the numbers of a part's sequences in the store, in rising order
    └── test_groups.npy                int64, which patient or speaker each of the test part is of; without it, each its own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from gateline.data.folds import Folds, shares
from gateline.data.splits import PARTS
from gateline.data.store import save_array
from gateline.errors import ArtifactError, DataError, WorkloadError, did_you_mean, examples
from gateline.manifest import Artifact, Draft
from gateline.workload.schema import Schema
from gateline.workload.section import Section

EXAMPLES = "examples"
TEST_GROUPS = "test_groups"
Share = Annotated[float, Field(gt=0, lt=1)]


def _as_texts(value: Any) -> Any:
    """Take one value for a list of one, and numbers as the texts that they are compared as."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(as_key(each) if isinstance(each, bool | int | float) else each for each in values)


Values = Annotated[tuple[str, ...], BeforeValidator(_as_texts), Field(min_length=1)]


class ColumnSplit(Section):
    """The data set's own parts, as a column says them."""

    rule: Literal["column"] = "column"
    column: str
    train: Values
    validation: Values
    test: Values

    @model_validator(mode="after")
    def _each_value_once(self) -> ColumnSplit:
        named = [*self.train, *self.validation, *self.test]
        twice = sorted({value for value in named if named.count(value) > 1})
        if twice:
            raise ValueError(f"each value in one part, got {examples(twice)} twice")
        return self


class HashSplit(Section):
    """Parts drawn by a digest of some columns.

    Rows that agree in all of these stay together, and where a row goes does not depend on the others: an example that is
    seen again later goes where it was.
    """

    rule: Literal["hash"] = "hash"
    by: Annotated[tuple[str, ...], Field(min_length=1)]
    """Columns that are digested: a patient, a speaker, or the text itself, so that no copy of it is in two parts."""
    validation: Share = 0.1
    test: Share = 0.1
    salt: str = ""
    """Another text draws other parts."""

    @model_validator(mode="after")
    def _some_are_left(self) -> HashSplit:
        if self.validation + self.test >= 1:
            raise ValueError(f"`validation` + `test` below 1, got {self.validation + self.test:g}")
        return self


ExampleSplit = Annotated[ColumnSplit | HashSplit | Folds, Field(discriminator="rule")]
"""How a table of examples is divided."""


def check_split(split: ColumnSplit | HashSplit | Folds, schema: Schema) -> None:
    """Refuse a split by columns that are not there.

    Raises:
        WorkloadError: a column is not in the schema, or cannot say to which part a row belongs.
    """
    names = (split.column,) if isinstance(split, ColumnSplit) else split.by
    where = "preprocess.split." + ("column" if isinstance(split, ColumnSplit) else "by")
    for name in names:
        if name not in schema.columns:
            raise WorkloadError(
                where, expected="a column", found=repr(name), do=did_you_mean(name, list(schema.columns))
            )


def columns_of(split: ColumnSplit | HashSplit | Folds, keys: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the columns that a rule reads."""
    if isinstance(split, ColumnSplit):
        return (split.column,)
    return split.columns(keys) if isinstance(split, Folds) else split.by


def parts_of_rows(
    columns: Mapping[str, Any], split: ColumnSplit | HashSplit | Folds, keys: Sequence[str] = ()
) -> np.ndarray:
    """Say to which part a rule gives each row: object (N,); an empty text where it gives it to none.

    What a row's part is does not depend on the other rows, so the rule of one model can be asked about the rows of another.

    Args:
        columns: (N,) each, by column.
        split: the rule.
        keys: of the schema, which name a group where `folds` names no columns.

    Raises:
        KeyError: a column of the rule is not there.
    """
    if isinstance(split, ColumnSplit):
        part_of = {value: part for part in PARTS for value in getattr(split, part)}
        values = np.asarray(columns[split.column]).tolist()
        return np.array([part_of.get(as_key(value), "") for value in values], dtype=object)
    named = [np.asarray(columns[name]) for name in columns_of(split, keys)]
    groups = ["\0".join(map(as_key, row)) for row in zip(*named, strict=True)]
    if isinstance(split, Folds):
        return split.part_of(groups)
    place = shares(groups, split.salt)
    return np.where(
        place < split.test, "test", np.where(place < split.test + split.validation, "validation", "train")
    ).astype(object)


def split_examples(
    columns: Mapping[str, Any],
    split: ColumnSplit | HashSplit | Folds,
    keys: Sequence[str] = (),
    first: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Divide examples.

    Args:
        columns: (N,) each, the cleaned table by column.
        split: the rule.
        keys: of the schema, which name a group where `folds` names no columns.
        first: int64 (S,), the row that speaks for each example where it has several; None: each row is one.

    Returns:
        int64 numbers of the examples of each part, in rising order.

    Raises:
        DataError: a part is empty, a row belongs to none, or rows of one example to several.
    """
    chosen = _columns_of_examples(columns, split, keys, first)
    if isinstance(split, Folds):
        return dict(split.parts(_joined(chosen)))
    part = parts_of_rows(chosen, split, keys)
    if isinstance(split, ColumnSplit) and (part == "").any():
        stray = sorted({as_key(value) for value in np.asarray(chosen[split.column])[part == ""].tolist()})
        named = sorted(value for each in PARTS for value in getattr(split, each))
        raise DataError(
            f"column {split.column}",
            expected=f"one of {examples(named)}, which preprocess.split names",
            found=f"{examples(stray)} besides",
            do="Give these rows a part in preprocess.split, or leave them out in the query",
        )
    parts = {name: np.flatnonzero(part == name) for name in PARTS}
    empty = [name for name, rows in parts.items() if not len(rows)]
    if empty:
        raise DataError(
            "preprocess.split",
            expected="examples in every part",
            found=f"none in {examples(empty)} of {len(part)}",
            do="Bring more data, or choose other shares",
        )
    return parts


def groups_of(
    columns: Mapping[str, Any],
    split: ColumnSplit | HashSplit | Folds,
    keys: Sequence[str] = (),
    first: np.ndarray | None = None,
) -> np.ndarray:
    """Say which group each example is of that the split keeps together: a patient, a speaker, copies of one text.

    Examples of one group depend on each other, so metrics and comparisons are resampled by groups.

    Args:
        columns: (N,) each, the cleaned table by column.
        split: the rule.
        keys: of the schema, which name a group where `folds` names no columns.
        first: int64 (S,), the row that speaks for each example where it has several; None: each row is one.

    Returns:
        int64 (S,), numbered as they first come; each example its own where a column names the parts.
    """
    if isinstance(split, ColumnSplit):
        some = first if first is not None else next(iter(columns.values()))
        return np.arange(len(some))
    numbers: np.ndarray = pd.factorize(
        np.array(_joined(_columns_of_examples(columns, split, keys, first)), dtype=object)
    )[0]
    return numbers


def _columns_of_examples(
    columns: Mapping[str, Any],
    split: ColumnSplit | HashSplit | Folds,
    keys: Sequence[str],
    first: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Take what a split reads, one value of each example; else rows of the test part would be trained on with their example."""
    chosen = {name: np.asarray(columns[name]) for name in columns_of(split, keys)}
    if first is None:
        return chosen
    do = "Divide by a column that is the same for all of them, or make what is to be divided examples of their own by a key"
    for name, values in chosen.items():
        if len(first) < len(values):
            refuse_several(name, values, columns, keys, what="value, by which preprocess.split divides,", do=do)
    return {name: values[first] for name, values in chosen.items()}


def refuse_several(
    name: str, values: np.ndarray, columns: Mapping[str, Any], keys: Sequence[str], *, what: str, do: str
) -> None:
    """Refuse a column that rows of one example do not agree on; a missing value agrees with any.

    Args:
        name: of the column.
        values: (N,), its values.
        columns: (N,) each, the cleaned table by column.
        keys: of the schema; rows that agree in them are one example.
        what: is asked for one of, for the error.
        do: the next thing to try.

    Raises:
        DataError: names some examples with several.
    """
    example = [np.asarray(columns[key]) for key in keys] or np.zeros(len(values))  # without keys all rows are one
    several = pd.Series(values).groupby(example, sort=False).nunique() > 1
    if several.any():
        raise DataError(
            f"column {name}",
            expected=f"one {what} for all rows with the same {', '.join(keys)}",
            found=f"several for {examples(several.index[several].tolist())}",
            do=do,
        )


def _joined(chosen: Mapping[str, np.ndarray]) -> list[str]:
    """Write the values of each example as one text."""
    return ["\0".join(map(as_key, row)) for row in zip(*chosen.values(), strict=True)]


def as_key(value: Any) -> str:
    """Write a cell as the text that parts and classes are named by: 3.0 of an integer column is 3."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def save_examples(parts: Mapping[str, np.ndarray], draft: Draft, groups: np.ndarray | None = None) -> None:
    """Write the numbers of each part's examples, and say in the facts how many they are.

    Args:
        parts: int64 numbers of the examples, by part.
        draft: where to write.
        groups: int64 (E,) of all examples, see `groups_of`; None: another file says what is resampled together.
    """
    (draft.path / EXAMPLES).mkdir()
    for part, rows in parts.items():
        save_array(draft.path / EXAMPLES / f"{part}.npy", np.asarray(rows, dtype=np.int64))
    if groups is not None:
        save_array(draft.path / EXAMPLES / f"{TEST_GROUPS}.npy", pd.factorize(groups[parts["test"]])[0])
    draft.facts["examples"] = {part: len(rows) for part, rows in parts.items()}


def open_examples(prepared: Artifact, part: str) -> np.ndarray:
    """Read the numbers of a part's examples: int64 (W,).

    Raises:
        ArtifactError: the folder does not hold them.
    """
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, got {part!r}")
    return _load(prepared.path / EXAMPLES / f"{part}.npy")


def open_test_groups(prepared: Artifact) -> np.ndarray:
    """Read which group each example of the test part is of: int64 (W,), what is resampled together.

    Raises:
        ArtifactError: the folder does not hold its examples.
    """
    path = prepared.path / EXAMPLES / f"{TEST_GROUPS}.npy"
    return _load(path) if path.exists() else np.arange(len(open_examples(prepared, "test")))


def _load(path: Path) -> np.ndarray:
    try:
        numbers: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            path, expected="a NumPy array", found=str(error)[:120], do="Run preprocess again"
        ) from error
    return numbers


def slice_masks(columns: Mapping[str, Any], names: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Mark the examples of slices ``COLUMN=VALUE``: bool (W,) by name, for rows (W,) of a table by column."""
    masks = {}
    for name in names:
        column, _, value = name.partition("=")
        cells = np.asarray(columns[column])[rows]
        masks[name] = np.array([as_key(cell) == value for cell in cells.tolist()], dtype=bool)
    return masks


def slice_names(columns: Mapping[str, Any], slices: Sequence[str], rows: np.ndarray) -> list[str]:
    """Name the slices of some columns by their values: ``COLUMN=VALUE`` for each value that rows (W,) hold."""
    return [
        f"{column}={value}"
        for column in slices
        for value in sorted({as_key(cell) for cell in np.asarray(columns[column])[rows].tolist()})
    ]


def split_in_words(split: ColumnSplit | HashSplit | Folds, counts: Mapping[str, int], examples_are: str) -> str:
    """Say how examples are divided.

    Args:
        split: the rule.
        counts: examples of each part; empty where they are not counted yet.
        examples_are: what they are called.
    """
    counted = {part: f" ({counts[part]:,} {examples_are})" if part in counts else "" for part in PARTS}
    if isinstance(split, ColumnSplit):
        parts = (f"{part} on {examples(getattr(split, part))}{counted[part]}" for part in PARTS)
        return f"by `{split.column}`: {', '.join(parts)}"
    if isinstance(split, Folds):
        drawn = (
            f"fold {split.fold} of {split.folds} tests{counted['test']}, {split.validation:.0%} of the others validate"
        )
        by = f" by {examples(split.by)}" if split.by else ""
        return f"{drawn}{counted['validation']}, the rest trains{counted['train']}{by}"
    return (
        f"draw {split.validation:.0%} for validation{counted['validation']} and {split.test:.0%} for test{counted['test']} "
        f"by a digest of {examples(split.by)}; the rest trains{counted['train']}"
    )
