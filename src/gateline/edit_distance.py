"""How far a text is from the one that was meant: the fewest substitutions, deletions and insertions between two sequences.

Source: Levenshtein (1966); Wagner and Fischer (1974), J. ACM 21(1), the table of which the last row is kept here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

Pair = tuple[Hashable | None, Hashable | None]
"""What was meant beside what stands there; None on the left: inserted, on the right: left out."""


def edit_distance(meant: Sequence[Hashable], found: Sequence[Hashable]) -> int:
    """Count the fewest edits that turn one sequence into the other."""
    return int(_table(meant, found, last_only=True)[-1][-1])


def align(meant: Sequence[Hashable], found: Sequence[Hashable]) -> list[Pair]:
    """Lay two sequences side by side with the fewest edits.

    Of several ways with as many edits, the one that substitutes latest in the sequence is taken, which is always the same one.

    Returns:
        one pair for each place; those whose sides differ are the edits.
    """
    table = _table(meant, found)
    row, column, pairs = len(meant), len(found), list[Pair]()
    while row or column:
        here = table[row][column]
        if row and column and here == table[row - 1][column - 1] + (meant[row - 1] != found[column - 1]):
            row, column = row - 1, column - 1
            pairs.append((meant[row], found[column]))
        elif row and here == table[row - 1][column] + 1:
            row -= 1
            pairs.append((meant[row], None))
        else:
            column -= 1
            pairs.append((None, found[column]))
    return pairs[::-1]


def _table(meant: Sequence[Hashable], found: Sequence[Hashable], *, last_only: bool = False) -> list[np.ndarray]:
    """Compute the edits between all beginnings, a row (len(found) + 1,) for each beginning of `meant`."""
    codes: dict[Hashable, int] = {}
    right = np.array([codes.setdefault(item, len(codes)) for item in found], dtype=np.int64)
    steps = np.arange(len(found) + 1)
    rows = [steps]
    for place, item in enumerate(meant, start=1):
        before = rows[-1]
        row = np.empty_like(before)
        row[0] = place
        np.minimum(before[1:] + 1, before[:-1] + (right != codes.get(item, -1)), out=row[1:])
        # An insertion costs one for each place that it goes on, so what counts is the least of row - place so far.
        row = np.minimum.accumulate(row - steps) + steps
        rows = [row] if last_only else [*rows, row]
    return rows
