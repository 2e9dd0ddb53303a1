"""Arrays, windows and fitted state of a folder `prepared`, as forecasting writes it."""

from __future__ import annotations

import numpy as np

from gateline.data.splits import PARTS
from gateline.data.store import SequenceStore
from gateline.manifest import Artifact

STATE = "state.json"
WINDOWS = "windows"


def open_store(prepared: Artifact) -> SequenceStore:
    """Map the arrays of a prepared folder."""
    return SequenceStore.load(prepared.path)


def read_windows(prepared: Artifact, part: str) -> np.ndarray:
    """Read the rows of the first steps of one part's windows: int64 (W,)."""
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, got {part!r}")
    return np.load(prepared.path / WINDOWS / f"{part}.npy", allow_pickle=False)
