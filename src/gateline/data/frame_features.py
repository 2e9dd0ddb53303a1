"""What a frame looks like in a few dozen numbers, and what has changed since the one before. N frames, Y rows, X columns.

None of them depends on the size of a frame or on its brightness and contrast as a whole, so that what was learned on small grey
squares can be asked of a film. Where things are, and how they are shaped wherever they are, are told apart: the spectrum of a
picture does not change when the picture moves, and changes when it becomes another.
"""

from __future__ import annotations

import numpy as np

GRID = 4
"""Rows and columns of cells."""
DIRECTIONS = 8
"""Of edges."""
RINGS, SECTORS = 4, 4
"""Of the spectrum: how fine, and in which direction."""
SIDE = 32
"""Every frame is brought to this many rows and columns first."""
NOTHING = 1e-6

FEATURES = (
    *(f"cell_{row}_{column}" for row in range(GRID) for column in range(GRID)),
    *(f"edges_{direction}" for direction in range(DIRECTIONS)),
    *(f"spectrum_{ring}_{sector}" for ring in range(RINGS) for sector in range(SECTORS)),
    "contrast",
    "motion",
    "cells_moved",
    "edges_moved",
    "spectrum_moved",
    "contrast_moved",
    "best_match",
)
MOTION = FEATURES.index("motion")
AT_A_TIME = 2**23
"""Pixels that are numbers of eight bytes at a time, so that a long film takes no more memory than a short one."""


def frame_features(frames: np.ndarray) -> np.ndarray:
    """Describe the frames of one film, in their order; what is said of one does not depend on those after it.

    Args:
        frames: uint8 (N, Y, X).

    Returns:
        float32 (N, F), see FEATURES. What has changed is 0 at the first frame.
    """
    small = shrunk(frames)
    spread = np.maximum(small.std(axis=(1, 2)), NOTHING)
    usual = np.cumsum(spread) / np.arange(
        1, len(spread) + 1
    )  # so far, so that frames can be judged while a film goes on
    even = (small - small.mean(axis=(1, 2), keepdims=True)) / spread[:, None, None]
    cells = even.reshape(len(even), GRID, SIDE // GRID, GRID, SIDE // GRID).mean(axis=(2, 4)).reshape(len(even), -1)
    edges, spectrum = edge_shares(even), spectrum_shares(even)
    contrast = np.log(spread / usual)[:, None]
    motion = np.abs(moved(small)).mean(axis=(1, 2)) / usual
    changes = [np.abs(moved(each)).mean(axis=1) for each in (cells, edges, spectrum, np.log(spread)[:, None])]
    scale = [1, DIRECTIONS, RINGS * SECTORS, 1]
    changes = [change * factor for change, factor in zip(changes, scale, strict=True)]
    columns = np.column_stack([motion, *changes, best_match(even)])
    return np.concatenate([cells, edges * DIRECTIONS, spectrum, contrast, columns], axis=1).astype(np.float32)


def shrunk(frames: np.ndarray) -> np.ndarray:
    """Bring frames to SIDE x SIDE by the mean of the pixels that fall into each: float64 (N, SIDE, SIDE)."""
    some = max(1, AT_A_TIME // (frames.shape[1] * frames.shape[2]))
    parts = [frames[first : first + some] for first in range(0, max(len(frames), 1), some)]
    return np.concatenate([_means(_means(part.astype(np.float64), 1), 2) for part in parts])


def edge_shares(pictures: np.ndarray) -> np.ndarray:
    """Say what share of a picture's edges runs in each direction: float64 (N, DIRECTIONS), 1 together where there are any."""
    down, across = np.gradient(pictures, axis=(1, 2))
    strength = np.hypot(down, across)
    # Rounded, so that level and upright edges, of which there are most, lie in the middle of a direction.
    direction = np.rint(np.arctan2(down, across) / (2 * np.pi) * DIRECTIONS).astype(np.int64) % DIRECTIONS
    flat = (np.arange(len(pictures))[:, None, None] * DIRECTIONS + direction).ravel()
    total = np.bincount(flat, weights=strength.ravel(), minlength=len(pictures) * DIRECTIONS)
    shares = total.reshape(len(pictures), DIRECTIONS)
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), NOTHING)


def spectrum_shares(pictures: np.ndarray) -> np.ndarray:
    """Say how strong the waves of each width and direction are: logarithms, float64 (N, RINGS x SECTORS).

    A picture that moves, and whose border is empty, keeps its spectrum.
    """
    power = np.square(np.abs(np.fft.rfft2(pictures))) / SIDE**2
    down, across = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    ring = np.clip(np.log2(np.maximum(np.hypot(down, across), NOTHING) * SIDE).astype(np.int64), 0, RINGS - 1)
    sector = ((np.arctan2(down, across) / np.pi + 0.5) * SECTORS).astype(np.int64) % SECTORS
    place = np.where(np.hypot(down, across) > 0, ring * SECTORS + sector, -1)
    bins = np.stack([(power * (place == one)).sum(axis=(1, 2)) for one in range(RINGS * SECTORS)], axis=1)
    return np.log(np.maximum(bins, NOTHING))


def best_match(pictures: np.ndarray) -> np.ndarray:
    """Say how like its predecessor each picture is, if that may be moved as a whole: float64 (N,), 1 for the same, moved."""
    waves = np.fft.rfft2(pictures)
    before = np.concatenate([waves[:1], waves[:-1]])
    match = np.fft.irfft2(waves * np.conj(before), s=(SIDE, SIDE)) / SIDE**2
    return match.max(axis=(1, 2))


def moved(values: np.ndarray) -> np.ndarray:
    """Subtract from each frame's values those of the frame before: the same shape, 0 at the first."""
    return np.diff(values, axis=0, prepend=values[:1])


def _means(frames: np.ndarray, axis: int) -> np.ndarray:
    """Average neighbours along an axis into SIDE places; each pixel counts by how much of it lies in a place."""
    size = frames.shape[axis]
    edges = np.arange(SIDE + 1) * size / SIDE
    low, high = np.minimum(edges[1:, None], np.arange(1, size + 1)), np.maximum(edges[:-1, None], np.arange(size))
    weight = np.maximum(low - high, 0.0)
    return np.moveaxis(np.tensordot(frames, weight / weight.sum(axis=1, keepdims=True), axes=(axis, 1)), -1, axis)
