"""Baselines of labelling, on the same steps, the same inputs and the same split as the model.

`prevalence` says at every step how often each label stands in the training part. `logistic_regression` and `gradient_boosting` read
what a sequence has shown so far, summarised, and the steps beside each step: those before it, and those after it where the network
reads them, too. Their settings are chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gateline.baselines.sequence_aggregates import aggregates_so_far, best_of, lines, neighbours, of_all_classes, trees
from gateline.baselines.step_scores import Method, motion_energy, uniform
from gateline.data.store import SequenceStore

MAX_ROWS = 20_000
"""Steps of the training part that methods are fitted on; more are thinned evenly, since steps of one sequence say much the same."""
BESIDE = 3
"""Steps to a side whose values are read as they are."""
LEARNING_RATE = 0.1
"""Of trees: there are more steps than series, so that each of their few rounds may go further."""


@dataclass(frozen=True)
class LabellingProblem:
    """What a baseline may look at.

    Args:
        store: encoded sequences.
        labels: float64 (N,), NaN where there is none.
        sequences: numbers of the sequences of each part.
        num_classes: 2 for a yes or no.
        both_ways: the network reads what comes after a step, too, so that the methods beside it may.
    """

    store: SequenceStore
    labels: np.ndarray
    sequences: Mapping[str, np.ndarray]
    num_classes: int
    both_ways: bool = False

    def steps(self, part: str) -> np.ndarray:
        """List the steps of a part, one sequence after the other: int64 (n,)."""
        bounds = zip(self.store.offsets[:-1], self.store.offsets[1:], strict=True)
        every = [np.arange(first, end) for first, end in bounds]
        return np.concatenate([every[one] for one in self.sequences[part]])

    def labels_of(self, part: str) -> np.ndarray:
        """Labels of the steps of a part: float64 (n,)."""
        return np.asarray(self.labels)[self.steps(part)]

    @cached_property
    def fitting(self) -> tuple[np.ndarray, np.ndarray]:
        """What methods are fitted on, and its labels: (m, A) and int64 (m,)."""
        return self._known("train", MAX_ROWS)

    @cached_property
    def choosing(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of the validation part, on which their settings are chosen."""
        return self._known("validation", MAX_ROWS)

    def _known(self, part: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        labels = self.labels_of(part)
        rows = np.flatnonzero(np.isfinite(labels))
        if len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
        return self.read(part, rows), labels[rows].astype(np.int64)

    def read(self, part: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Write what methods read of the steps of a part: float32 (n, A); of some of them for int64 (n,)."""
        chosen = slice(None) if rows is None else rows
        so_far = aggregates_so_far(self.store, self.sequences[part])[chosen]
        after = BESIDE if self.both_ways else 0
        beside = neighbours(self.store, self.steps(part)[chosen], before=BESIDE, after=after)
        return np.concatenate([so_far, beside], axis=1)


def prevalence(problem: LabellingProblem) -> Method:
    """Say the frequency of each label in the training part."""
    labels = problem.labels_of("train")
    counts = np.bincount(labels[np.isfinite(labels)].astype(np.int64), minlength=problem.num_classes)
    return lambda part: np.tile(counts / counts.sum(), (len(problem.steps(part)), 1))


def logistic_regression(problem: LabellingProblem) -> Method:
    """Fit a line through what is read of a step."""
    return _fitted(problem, lines())


def gradient_boosting(problem: LabellingProblem) -> Method:
    """Fit trees on what is read of a step."""
    return _fitted(problem, trees(LEARNING_RATE))


def _fitted(problem: LabellingProblem, candidates: list[Any]) -> Method:
    best = best_of(candidates, problem.fitting, problem.choosing, problem.num_classes)

    def asked(part: str) -> np.ndarray:
        return of_all_classes(best, problem.read(part), problem.num_classes)

    return asked


BASELINES: Mapping[str, Callable[[LabellingProblem], Method]] = {
    "prevalence": prevalence,
    "logistic_regression": logistic_regression,
    "gradient_boosting": gradient_boosting,
    "uniform": uniform,
    "motion_energy": motion_energy,
}
"""Each is fitted once, and then asked of any part."""
