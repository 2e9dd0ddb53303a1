"""Rows in runs: the first row, how many there are, and the step from one to the next."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from gateline.data.store import save_array


class Rows(Protocol):
    """Rows of a store that are looked up by their place: `Runs`, or an int64 array that lists them."""

    def __len__(self) -> int:
        """Count the rows."""

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Say which rows stand at some places: int64 (B,) for int64 (B,)."""


class Runs:
    """Rows that follow each other at equal steps, run by run: memory for the runs, not for the rows.

    Args:
        runs: int64 (R, 3): first row, number of rows (1 or more), step between them.
    """

    def __init__(self, runs: np.ndarray) -> None:
        self.runs = runs
        self._first, count, self._step = runs.T
        self._ends = np.cumsum(count)  # places
        self._begins = self._ends - count

    @classmethod
    def of(cls, runs: Iterable[tuple[int, int, int]]) -> Runs:
        """Make runs of (first row, number of rows, step)."""
        return cls(np.array(list(runs), dtype=np.int64).reshape(-1, 3))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        run = np.searchsorted(self._ends, places, side="right")
        return self._first[run] + (places - self._begins[run]) * self._step[run]

    def rows(self) -> np.ndarray:
        """List every row: int64 (W,)."""
        return self[np.arange(len(self))]

    def save(self, path: Path) -> None:
        """Write one .npy file."""
        save_array(path, self.runs)

    @classmethod
    def load(cls, path: Path) -> Runs:
        """Read what `save` wrote."""
        return cls(np.load(path, allow_pickle=False))
