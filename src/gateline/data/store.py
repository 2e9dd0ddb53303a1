"""One store for all sequences: flat arrays with one row per time step, and the offsets at which each series begins.

Arrays are NumPy files that are mapped, not read: memory follows what is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateline.errors import ArtifactError

ARRAYS = "arrays"
OFFSETS = "offsets"


def save_array(path: Path, array: np.ndarray) -> None:
    """Write one .npy file; a full disk shows as one, which `np.save` to a path would not say."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")


@dataclass(frozen=True)
class SequenceStore:
    """Sequences laid end to end.

    Args:
        arrays: (N, ...) each, one row per time step of every series, by name.
        offsets: int64 (S + 1,), series s stands in rows offsets[s]:offsets[s + 1].
    """

    arrays: Mapping[str, np.ndarray]
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if any(len(array) != self.offsets[-1] for array in self.arrays.values()):
            lengths = {name: len(array) for name, array in self.arrays.items()}
            raise ValueError(f"every array needs {self.offsets[-1]} rows, got {lengths}")

    @property
    def num_series(self) -> int:
        """Number of series S."""
        return len(self.offsets) - 1

    def series_of(self, rows: np.ndarray) -> np.ndarray:
        """Say which series each row belongs to: int64 (W,) for int64 (W,)."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def save(self, folder: Path) -> None:
        """Write one .npy file per array into ``folder/arrays``."""
        (folder / ARRAYS).mkdir()
        for name, array in {**self.arrays, OFFSETS: self.offsets}.items():
            save_array(folder / ARRAYS / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> SequenceStore:
        """Map the arrays of a folder that `save` wrote.

        Raises:
            ArtifactError: a file is no NumPy array.
        """
        arrays = {}
        for path in sorted((folder / ARRAYS).glob("*.npy")):
            try:
                arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise ArtifactError(
                    path, expected="a NumPy array", found=str(error), do="Run preprocess again"
                ) from error
        if OFFSETS not in arrays:
            raise ArtifactError(folder / ARRAYS, expected=f"{OFFSETS}.npy", found="none", do="Run preprocess again")
        return cls(arrays, np.asarray(arrays.pop(OFFSETS)))
