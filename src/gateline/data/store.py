"""One store for all sequences: flat arrays with one row per time step, and the offsets at which each series begins.

Arrays are NumPy files that are mapped, not read: memory follows what is touched. What is the same at every step of a
series stands once per series.

    FOLDER/
    ├── arrays/NAME.npy     one row per step, and offsets.npy
    └── statics/NAME.npy    one row per series
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gateline.errors import ArtifactError

ARRAYS = "arrays"
STATICS = "statics"
OFFSETS = "offsets"
VALUES = "values"
"""The array of everything that models read, one column each."""
SERIES = "series"
"""The static that says which of the series known to the model each is."""
STATIC = "static"
STATIC_CODES = "static_codes"
"""The statics of what else is known of a series: numbers, and texts as codes."""


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
        statics: (S, ...) each, one row per series, by name.
    """

    arrays: Mapping[str, np.ndarray]
    offsets: np.ndarray
    statics: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for named, rows in ((self.arrays, int(self.offsets[-1])), (self.statics, self.num_series)):
            if any(len(array) != rows for array in named.values()):
                lengths = {name: len(array) for name, array in named.items()}
                raise ValueError(f"every array needs {rows} rows, got {lengths}")

    @property
    def num_series(self) -> int:
        """Number of series S."""
        return len(self.offsets) - 1

    def series_of(self, rows: np.ndarray) -> np.ndarray:
        """Say which series each row belongs to: int64 (W,) for int64 (W,)."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def static(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Look up what is the same at every step of the series that each row belongs to: (W, ...) for int64 (W,)."""
        return self.statics[name][self.series_of(rows)]

    def save(self, folder: Path) -> None:
        """Write one .npy file per array into ``folder/arrays`` and ``folder/statics``."""
        for place, named in ((ARRAYS, {**self.arrays, OFFSETS: self.offsets}), (STATICS, self.statics)):
            (folder / place).mkdir()
            for name, array in named.items():
                save_array(folder / place / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> SequenceStore:
        """Map the arrays of a folder that `save` wrote.

        Raises:
            ArtifactError: a file is no NumPy array.
        """
        arrays, statics = _mapped(folder / ARRAYS), _mapped(folder / STATICS)
        if OFFSETS not in arrays:
            raise ArtifactError(folder / ARRAYS, expected=f"{OFFSETS}.npy", found="none", do="Run preprocess again")
        return cls(arrays, np.asarray(arrays.pop(OFFSETS)), statics)


def _mapped(folder: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ArtifactError(path, expected="a NumPy array", found=str(error), do="Run preprocess again") from error
    return arrays
