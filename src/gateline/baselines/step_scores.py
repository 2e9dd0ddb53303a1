"""Baselines of labelling that need no learning but how often a yes is right: every so many steps, and where most changes.

n steps of a part, C = 2: no and yes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gateline.data.frame_inputs import MOTION_ARRAY
from gateline.data.store import VALUES, SequenceStore

ROUNDS = 50
"""Of Newton's method, for two numbers; a handful would do."""
PENALTY = 1e-3
"""On the slope, so that labels that motion tells apart perfectly have one, too."""


class Problem(Protocol):
    """What these methods look at, see `gateline.baselines.labelling.LabellingProblem`."""

    @property
    def store(self) -> SequenceStore:
        """Encoded sequences."""

    def steps(self, part: str) -> np.ndarray:
        """List the steps of a part, one sequence after the other: int64 (n,)."""

    def labels_of(self, part: str) -> np.ndarray:
        """Labels of the steps of a part: float64 (n,)."""


def uniform(problem: Problem, part: str) -> np.ndarray:
    """Say yes at every k-th step of a sequence, as often as the training part does: float64 (n, 2).

    How sure it is follows from how often such steps of the training part are a yes, and how often the others are.
    """
    labels = problem.labels_of("train")
    known = np.isfinite(labels)
    every = max(1, round(1 / max(float(labels[known].mean()), 1e-6)))
    called = _every(problem, "train", every)[known]
    right = [_share(labels[known][called == one]) for one in (False, True)]
    return _both(np.where(_every(problem, part, every), right[1], right[0]))


def motion_energy(problem: Problem, part: str) -> np.ndarray:
    """Say yes where most has changed since the step before: float64 (n, 2).

    What has changed is what the store calls motion, else the mean change of all features; how sure it makes is a logistic
    function of its logarithm, fitted on the training part.
    """
    labels = problem.labels_of("train")
    known = np.isfinite(labels)
    energy = _energy(problem.store)
    read = energy[problem.steps("train")][known]
    mean, deviation = float(read.mean()), max(float(read.std()), 1e-9)
    level, slope = _logistic((read - mean) / deviation, labels[known])
    asked = (energy[problem.steps(part)] - mean) / deviation
    return _both(1 / (1 + np.exp(-(level + slope * asked))))


def _every(problem: Problem, part: str, every: int) -> np.ndarray:
    """Mark every k-th step of each sequence, from the middle of the first stretch on: bool (n,)."""
    steps, offsets = problem.steps(part), problem.store.offsets
    place = steps - offsets[problem.store.series_of(steps)]
    return place % every == every // 2


def _share(labels: np.ndarray) -> float:
    return float((labels.sum() + 1) / (len(labels) + 2))


def _energy(store: SequenceStore) -> np.ndarray:
    """Logarithm of how much has changed since the step before: float64 (N,)."""
    if MOTION_ARRAY in store.arrays:
        changed = np.asarray(store.arrays[MOTION_ARRAY], dtype=np.float64)
    else:
        values = np.nan_to_num(np.asarray(store.arrays[VALUES], dtype=np.float64))
        changed = np.abs(np.diff(values, axis=0, prepend=values[:1])).mean(axis=1)
        changed[store.offsets[:-1]] = 0
    return np.log(changed + 1e-3)


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit level and slope of a logistic function by Newton's method."""
    design, weights = np.column_stack([np.ones_like(x), x]), np.zeros(2)
    for _ in range(ROUNDS):
        prob = 1 / (1 + np.exp(-(design @ weights)))
        penalty = np.array([0.0, PENALTY * len(x)])
        gradient = design.T @ (prob - y) + penalty * weights
        curvature = (design * (prob * (1 - prob))[:, None]).T @ design + np.diag(penalty + 1e-9)
        weights = weights - np.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1])


def _both(yes: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - yes, yes])
