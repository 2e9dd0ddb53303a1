"""Baselines of labelling that need no learning but how often a yes is right: every so many steps, and where most changes.

What happens in a step may be marked in its neighbours, too. So both say yes either at single steps or at those beside them as
well, whichever is better on the validation part. n steps of a part, C = 2: no and yes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import numpy as np

from gateline.data.frame_inputs import MOTION_ARRAY
from gateline.data.store import VALUES, SequenceStore

Method = Callable[[str], np.ndarray]
"""Fitted: a part in, the probability of each label at each of its steps out, float64 (n, C)."""

REACHES = (0, 1)
"""Steps to each side that are marked with one, as many as are tried."""
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


def uniform(problem: Problem) -> Method:
    """Say yes at every k-th step of a sequence and those beside it, in all as often as the training part does.

    How sure it is follows from how often such steps of the training part are a yes, and how often the others are.
    """
    return _better(problem, [_uniform(problem, reach) for reach in REACHES])


def motion_energy(problem: Problem) -> Method:
    """Say yes where most has changed since the step before, there or beside it.

    What has changed is what the store calls motion, else the mean change of all features; how sure it makes is a logistic
    function of its logarithm, fitted on the training part.
    """
    return _better(problem, [_motion_energy(problem, reach) for reach in REACHES])


def _better(problem: Problem, methods: list[Method]) -> Method:
    """Choose by the mean log loss on the validation part; the first where it has no labels."""
    labels = problem.labels_of("validation")
    known = np.isfinite(labels)
    if not known.any():
        return methods[0]
    right = labels[known].astype(np.int64)

    def loss(method: Method) -> float:
        said = method("validation")[known][np.arange(len(right)), right]
        return float(-np.log(np.maximum(said, 1e-12)).mean())

    return min(methods, key=loss)


def _uniform(problem: Problem, reach: int) -> Method:
    labels = problem.labels_of("train")
    known = np.isfinite(labels)
    every = max(1, round((2 * reach + 1) / max(float(labels[known].mean()), 1e-6)))
    called = _every(problem, "train", every, reach)[known]
    right = [_share(labels[known][called == one]) for one in (False, True)]
    return lambda part: _both(np.where(_every(problem, part, every, reach), right[1], right[0]))


def _motion_energy(problem: Problem, reach: int) -> Method:
    labels = problem.labels_of("train")
    known = np.isfinite(labels)
    energy = _greatest(_energy(problem.store), problem.store.offsets, reach)
    read = energy[problem.steps("train")][known]
    mean, deviation = float(read.mean()), max(float(read.std()), 1e-9)
    level, slope = _logistic((read - mean) / deviation, labels[known])
    return lambda part: _both(1 / (1 + np.exp(-(level + slope * (energy[problem.steps(part)] - mean) / deviation))))


def _every(problem: Problem, part: str, every: int, reach: int) -> np.ndarray:
    """Mark every k-th step of each sequence, from the middle of the first stretch on, and its neighbours: bool (n,)."""
    steps, offsets = problem.steps(part), problem.store.offsets
    place = steps - offsets[problem.store.series_of(steps)]
    return np.abs(place % every - every // 2) <= reach


def _greatest(values: np.ndarray, offsets: np.ndarray, reach: int) -> np.ndarray:
    """Take the greatest of each value and its neighbours in the same sequence: float64 (N,)."""
    greatest = values.copy()
    for away in range(1, reach + 1):
        for first, end in pairwise(offsets.tolist()):
            own, mine = values[first:end], greatest[first:end]
            mine[away:] = np.maximum(mine[away:], own[:-away])
            mine[:-away] = np.maximum(mine[:-away], own[away:])
    return greatest


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
