"""Folds: every group is tested once, stays together, and stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.data.folds import Folds, shares
from gateline.errors import DataError


def folds(fold: int, **changes: object) -> Folds:
    return Folds.model_validate({"rule": "folds", "folds": 5, "fold": fold, "validation": 0.2, **changes})


def test_every_row_is_tested_in_exactly_one_fold(rng: np.random.Generator) -> None:
    groups = [f"p{number}" for number in rng.integers(0, 300, 1000)]
    tested = np.zeros(1000, dtype=int)

    for fold in range(5):
        parts = folds(fold).parts(groups)
        tested[parts["test"]] += 1
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1000))

    assert (tested == 1).all()


def test_groups_stay_together(rng: np.random.Generator) -> None:
    groups = np.array([f"p{number}" for number in rng.integers(0, 300, 1000)])

    parts = folds(2).parts(groups.tolist())

    names = {part: set(groups[rows]) for part, rows in parts.items()}
    assert not names["train"] & names["test"]
    assert not names["train"] & names["validation"]
    assert not names["validation"] & names["test"]


def test_a_group_stays_where_it_is_when_others_come() -> None:
    few, many = range(500), range(-500, 1500)

    first, second = folds(1).parts(few), folds(1).parts(many)

    for part, rows in first.items():
        assert {few[row] for row in rows} <= {many[row] for row in second[part]}


def test_parts_are_about_as_large_as_asked() -> None:
    parts = folds(0).parts(range(20_000))

    assert len(parts["test"]) == pytest.approx(4000, rel=0.05)
    assert len(parts["validation"]) == pytest.approx(3200, rel=0.05)
    assert folds(0).parts(range(20_000))["test"].tolist() == parts["test"].tolist()
    assert folds(0, salt="other").parts(range(20_000))["test"].tolist() != parts["test"].tolist()


def test_places_are_spread_evenly() -> None:
    places = shares(range(10_000), "")

    assert np.histogram(places, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 1000), rel=0.15)


def test_a_part_without_a_group_is_refused() -> None:
    with pytest.raises(DataError, match=r"preprocess\.split"):
        folds(0).parts(["one"] * 10)


def test_a_fold_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 4"):
        folds(5)
