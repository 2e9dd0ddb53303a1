"""What a sequence has shown so far, as one row of numbers per step: what methods read that know no sequences.

S sequences, N steps, V columns, F static features. Everything is made of the store that the network reads, and of steps up to and
including the one that the row stands for.
"""

from __future__ import annotations

import numpy as np

from gateline.data.irregular_encoding import ELAPSED, GAPS, OBSERVED
from gateline.data.store import STATIC, VALUES, SequenceStore


def aggregates_so_far(store: SequenceStore, sequences: np.ndarray) -> np.ndarray:
    """Summarise each step and all before it.

    Args:
        store: N steps.
        sequences: int64 (E,), which sequences.

    Returns:
        float32 (n, 5 V + more): of each column the last known value, mean, least and greatest value and number of observations
        so far; how old values are, where the store knows it; how long the sequence has lasted; and its static features. One
        sequence after the other; NaN where nothing was observed yet.
    """
    return np.concatenate([_of_one(store, int(one)) for one in sequences]) if len(sequences) else np.zeros((0, 0))


def _of_one(store: SequenceStore, sequence: int) -> np.ndarray:
    rows = slice(int(store.offsets[sequence]), int(store.offsets[sequence + 1]))
    values = np.asarray(store.arrays[VALUES][rows], np.float64)  # (T, V)
    seen = np.asarray(store.arrays[OBSERVED][rows], bool) if OBSERVED in store.arrays else np.isfinite(values)
    count = np.cumsum(seen, axis=0)
    nothing = count == 0
    mean = np.cumsum(np.where(seen, values, 0.0), axis=0) / np.maximum(count, 1)
    least = np.minimum.accumulate(np.where(seen, values, np.inf), axis=0)
    greatest = np.maximum.accumulate(np.where(seen, values, -np.inf), axis=0)
    numbers = [np.where(nothing, np.nan, each) for each in (values, mean, least, greatest)]
    others = [np.asarray(store.arrays[name][rows]) for name in (GAPS, ELAPSED) if name in store.arrays]
    if ELAPSED not in store.arrays:
        others.append(np.arange(len(values), dtype=np.float64)[:, None])
    if STATIC in store.statics:
        others.append(np.broadcast_to(store.statics[STATIC][sequence], (len(values), store.statics[STATIC].shape[1])))
    return np.concatenate([*numbers, np.log1p(count), *others], axis=1).astype(np.float32)
