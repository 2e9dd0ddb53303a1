"""The split of a table of examples that `gateline new` writes: drawn by a digest, and counted on the rows that are there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.data.examples import HashSplit, parts_of_rows, split_examples
from gateline.data.splits import PARTS

SHARES = (0.1, 0.15, 0.2)
"""Shares of the validation and of the test part; of few examples the larger ones."""
FEWEST_TESTED = 10
"""Test examples, or groups of them that stay together, that the share is chosen for."""
NEAR = 0.25
"""How far the size of a part may be from its share, as a share of that."""
MOST_DRAWS = 50


@dataclass(frozen=True)
class DrawnSplit:
    """A split, and how many rows it puts into each part.

    Args:
        rule: the split.
        part_of: object (N,), the part of each row.
        group_of: (N,), the value by which rows stay together.
    """

    rule: HashSplit
    part_of: np.ndarray
    group_of: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {part: int((self.part_of == part).sum()) for part in PARTS}

    @property
    def groups(self) -> dict[str, int]:
        """Groups of rows that stay together, speakers say, of each part."""
        return {part: len(set(self.group_of[self.part_of == part].tolist())) for part in PARTS}

    @property
    def min_examples(self) -> int:
        """Test examples to demand: half of those that there are, so that others of this kind of data are judged, too."""
        return max(1, self.counts["test"] // 2)

    def in_words(self) -> str:
        """Say how large the later parts are."""
        rule, counts = self.rule, self.counts
        return (
            f"{100 * rule.validation:g} % validation ({counts['validation']:,}), {100 * rule.test:g} % test "
            f"({counts['test']:,}), drawn by a digest of {' and '.join(rule.by)}"
        )

    def lines(self) -> Iterator[str]:
        """Write the shares, and the salt where there is one, as keys of YAML."""
        yield f"validation: {self.rule.validation:g} # {self.counts['validation']:,} of {len(self.part_of):,}"
        yield f"test: {self.rule.test:g} # {self.counts['test']:,}"
        if self.rule.salt:
            yield f'salt: "{self.rule.salt}" # without it a part would be far from its share, or lack a class'


def draw_split(columns: Mapping[str, Any], by: str, kinds: np.ndarray | None = None) -> DrawnSplit:
    """Draw a validation and a test part that are near their share and hold every kind; the same for the same rows.

    A digest puts each group of rows where it wants to, so the parts of a small table may come out far too small. Then another salt
    is taken. What a part says of others follows from how many groups it holds, speakers say, however many rows these have: their
    share is near, too.

    Args:
        columns: (N,) each, by column.
        by: the column that is digested.
        kinds: (N,), of which each should be in every part; None: there are none.

    Raises:
        DataError: some part is empty, whatever is drawn.
    """
    rows, group_of = len(columns[by]), np.asarray(columns[by], dtype=object)
    groups = len(set(group_of.tolist()))
    share = next((each for each in SHARES if each * groups >= FEWEST_TESTED), SHARES[-1])
    fewest = math.ceil(share * groups * (1 - NEAR))  # of a later part
    every = set() if kinds is None else set(kinds)
    best: tuple[int, int, float, DrawnSplit] | None = None
    for draw in range(MOST_DRAWS):
        rule = HashSplit(by=(by,), validation=share, test=share, salt=str(draw) if draw else "")
        drawn = DrawnSplit(rule, parts_of_rows(columns, rule), group_of)
        off = max(abs(drawn.counts[part] / (share * rows) - 1) for part in PARTS if part != "train")
        lacking = 0 if kinds is None else sum(len(every - set(kinds[drawn.part_of == part])) for part in PARTS)
        alike = sum(max(0, fewest - drawn.groups[part]) for part in PARTS if part != "train")
        if best is None or (lacking, alike, off) < best[:3]:
            best = (lacking, alike, off, drawn)
        if not lacking and not alike and off <= NEAR:
            break
    if best is None:
        raise RuntimeError("no split was drawn")
    split_examples(columns, best[3].rule)  # says where a part is empty
    return best[3]


def epochs_for(batches: float, usual: int, steps: int, most: int) -> int:
    """Say how many epochs take about so many steps of the optimiser.

    Args:
        batches: of an epoch.
        usual: epochs that are taken at least.
        steps: of the optimiser, below which a network has hardly begun to learn.
        most: epochs that are taken at most.

    Example:
        >>> epochs_for(batches=6, usual=25, steps=600, most=120)
        100
    """
    return min(most, max(usual, math.ceil(steps / max(1.0, batches))))
