"""Arrays, windows and fitted state of a folder `prepared`, as forecasting writes it."""

from __future__ import annotations

import numpy as np

from gateline.data.runs import Runs
from gateline.data.splits import PARTS, by_time
from gateline.data.store import SequenceStore
from gateline.manifest import Artifact

STATE = "state.json"
"""What was fitted on the training part, and the settings that it was fitted by; every task has it."""
WINDOWS = "windows"


def open_store(prepared: Artifact) -> SequenceStore:
    """Map the arrays of a prepared folder."""
    return SequenceStore.load(prepared.path)


def open_windows(prepared: Artifact, part: str) -> Runs:
    """Open the rows of the first steps of one part's windows, ordered by series, then by time."""
    if part not in PARTS:
        raise ValueError(f"a part is one of {PARTS}, got {part!r}")
    return Runs.load(prepared.path / WINDOWS / f"{part}.npy")


def read_windows(prepared: Artifact, part: str) -> np.ndarray:
    """List the rows of the first steps of one part's windows, ordered by time, then by series: int64 (W,)."""
    return by_time(open_windows(prepared, part).rows(), open_store(prepared).arrays["time"])
