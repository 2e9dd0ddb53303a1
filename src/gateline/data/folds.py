"""Parts of a table by folds: groups (patients, speakers) stay together, and every group is tested in exactly one fold.

Which fold a group is in follows from its name alone. So it stays there when other groups come or go, and no order of the table
matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from gateline.data.splits import PARTS
from gateline.errors import DataError
from gateline.workload.section import Section

DIGITS = 2**64


class Folds(Section):
    """One fold tests, a share of the groups of the others validates, the rest trains."""

    rule: Literal["folds"]
    by: tuple[str, ...] = ()
    """Columns whose values name a group; none: the keys of the schema."""
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    """The one that tests, from 0."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the groups of the other folds."""
    salt: str = ""
    """Another text makes other folds."""

    @model_validator(mode="after")
    def _fold_exists(self) -> Folds:
        if self.fold >= self.folds:
            raise ValueError(f"`fold` from 0 to {self.folds - 1}, as there are {self.folds} `folds`, got {self.fold}")
        return self

    def columns(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Name the columns that make a group, for the keys of the schema."""
        return self.by or tuple(keys)

    def part_of(self, groups: Sequence[Any]) -> np.ndarray:
        """Say to which part each row belongs: object (E,), for the name of the group of each row (E,)."""
        fold = np.floor(shares(groups, f"{self.salt}/fold") * self.folds)
        validates = shares(groups, f"{self.salt}/validation") < self.validation
        return np.where(fold == self.fold, "test", np.where(validates, "validation", "train")).astype(object)

    def parts(self, groups: Sequence[Any]) -> Mapping[str, np.ndarray]:
        """Say which rows are in which part: int64 each, for the name of the group of each row (E,).

        Raises:
            DataError: a part has no row.
        """
        part_of = self.part_of(groups)
        rows = {part: np.flatnonzero(part_of == part) for part in PARTS}
        for part, numbers in rows.items():
            if not len(numbers):
                raise DataError(
                    f"preprocess.split: {part}",
                    expected="at least one group",
                    found=f"none of {len(set(map(str, groups)))}",
                    do="Bring more data, or ask for fewer `folds` or more `validation`",
                )
        return rows


def shares(groups: Sequence[Any], salt: str) -> np.ndarray:
    """Give each group a place in [0, 1) that follows from its name: float64 (E,); the same for the same name."""
    places: dict[str, float] = {}
    for group in map(str, groups):
        if group not in places:
            digest = hashlib.blake2b(f"{salt}/{group}".encode(), digest_size=8).digest()
            places[group] = int.from_bytes(digest) / DIGITS
    return np.array([places[str(group)] for group in groups])
