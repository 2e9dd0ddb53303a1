"""Parts of a table of examples: nothing is in two of them, and what a column or a digest says is what is done."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.data.examples import (
    ColumnSplit,
    HashSplit,
    as_key,
    groups_of,
    slice_masks,
    slice_names,
    split_examples,
)
from gateline.data.folds import Folds
from gateline.errors import DataError


def test_a_column_says_the_parts() -> None:
    split = ColumnSplit.model_validate({"column": "part", "train": ["a", "b"], "validation": 3, "test": "c"})
    parts = split_examples({"part": np.array(["a", "3", "c", "b", "a"], dtype=object)}, split)
    assert {name: rows.tolist() for name, rows in parts.items()} == {"train": [0, 3, 4], "validation": [1], "test": [2]}


def test_a_value_without_a_part_is_named() -> None:
    split = ColumnSplit.model_validate({"column": "part", "train": "a", "validation": "b", "test": "c"})
    with pytest.raises(DataError, match="found x besides"):
        split_examples({"part": np.array(["a", "b", "c", "x"], dtype=object)}, split)


def test_a_value_in_two_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="got a twice"):
        ColumnSplit.model_validate({"column": "part", "train": ["a"], "validation": "b", "test": "a"})


def test_equal_rows_stay_together_wherever_they_stand(rng: np.random.Generator) -> None:
    texts = np.array([f"text {number}" for number in rng.integers(0, 300, 2000)], dtype=object)
    split = HashSplit(by=("text",), validation=0.2, test=0.1)
    parts = split_examples({"text": texts}, split)
    seen = {name: {texts[row] for row in rows} for name, rows in parts.items()}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(2000))
    order = rng.permutation(2000)
    again = split_examples({"text": texts[order]}, split)
    assert {texts[order][row] for row in again["test"]} == seen["test"]


def test_shares_are_about_what_was_asked_and_a_salt_draws_others() -> None:
    texts = {"text": np.array([str(number) for number in range(20_000)], dtype=object)}
    parts = split_examples(texts, HashSplit(by=("text",), validation=0.2, test=0.1))
    assert len(parts["validation"]) == pytest.approx(4000, abs=250)
    assert len(parts["test"]) == pytest.approx(2000, abs=200)
    others = split_examples(texts, HashSplit(by=("text",), validation=0.2, test=0.1, salt="b"))
    assert len(set(parts["test"]) & set(others["test"])) == pytest.approx(200, abs=80)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="none in train, validation of 1"):
        split_examples({"text": np.array(["6"], dtype=object)}, HashSplit(by=("text",), validation=0.01, test=0.98))


def test_slices_are_named_by_their_values() -> None:
    columns = {"stars": np.array([1.0, 2.0, 1.0, 3.0]), "who": np.array(["x", "y", "y", "z"], dtype=object)}
    rows = np.array([0, 1, 2])
    names = slice_names(columns, ["stars", "who"], rows)
    assert names == ["stars=1", "stars=2", "who=x", "who=y"]
    assert slice_masks(columns, names, rows)["stars=1"].tolist() == [True, False, True]


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (True, "1"), (np.int64(4), "4"), ("a b", "a b"), (1.5, "1.5")])
def test_a_cell_as_a_key(value: object, text: str) -> None:
    assert as_key(value) == text


def test_examples_are_grouped_by_what_the_split_keeps_together() -> None:
    table = {"ward": np.array(["b", "b", "a", "b"]), "bed": np.array([1.0, 2.0, 1.0, 1.0]), "night": np.arange(4)}
    folds = Folds(rule="folds")
    columns = ColumnSplit.model_validate({"column": "ward", "train": "a", "validation": "b", "test": "c"})

    assert groups_of(table, HashSplit(by=("ward",))).tolist() == [0, 0, 1, 0]
    assert groups_of(table, HashSplit(by=("ward", "bed"))).tolist() == [0, 1, 2, 0]
    assert groups_of(table, folds, keys=("night",)).tolist() == [0, 1, 2, 3]
    assert groups_of(table, HashSplit(by=("ward",)), ("ward",), first=np.array([2, 3])).tolist() == [0, 1]
    assert groups_of(table, columns).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "split",
    [
        ColumnSplit.model_validate({"column": "part", "train": "a", "validation": "b", "test": "c"}),
        HashSplit(by=("part",)),
        Folds(rule="folds", by=("part",)),
    ],
)
def test_an_example_is_not_parted(split: ColumnSplit | HashSplit | Folds) -> None:
    """A machine whose later rows are of the test part would be trained on with all of them."""
    table = {
        "machine": np.array(["x", "x", "y", "y", "z"], dtype=object),
        "part": np.array(["a", "c", "b", None, "c"], dtype=object),
    }
    with pytest.raises(DataError, match=r"column part: .* rows with the same machine; found several for x\."):
        split_examples(table, split, ("machine",), first=np.array([0, 2, 4]))
    with pytest.raises(DataError, match="found several for"):
        groups_of(table, HashSplit(by=("part",)), ("machine",), first=np.array([0, 2, 4]))
