"""Which frames are shown, and what says yes without learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from gateline.baselines.step_scores import motion_energy, uniform
from gateline.data.frame_inputs import MOTION_ARRAY
from gateline.data.store import VALUES, SequenceStore
from gateline.scoring.key_frames import key_frames


def test_key_frames_are_the_highest_peaks_that_are_far_enough_apart() -> None:
    prob = np.array([0.1, 0.9, 0.8, 0.2, 0.7, 0.1, 0.1, 0.6, 0.65])

    assert key_frames(prob, count=3, apart=3).tolist() == [1, 4, 8]
    assert key_frames(prob, count=2, apart=1).tolist() == [1, 2]
    assert key_frames(prob, count=9, apart=5).tolist() == [1, 8]


@dataclass
class Problem:
    store: SequenceStore
    labels: np.ndarray

    def steps(self, part: str) -> np.ndarray:
        """The first two sequences train, the third validates, the last is asked."""
        first, second = {"train": (0, 2), "validation": (2, 3), "test": (3, 4)}[part]
        return np.arange(self.store.offsets[first], self.store.offsets[second])

    def labels_of(self, part: str) -> np.ndarray:
        return self.labels[self.steps(part)]


def a_problem(rng: np.random.Generator, motion: bool = True) -> Problem:
    labels = (np.arange(100) % 5 == 1).astype(float)
    labels[3] = np.nan
    values = rng.normal(size=(100, 2)).astype(np.float32)
    arrays = {VALUES: values}
    if motion:
        arrays[MOTION_ARRAY] = np.exp(labels.clip(0, 1) + rng.normal(size=100) * 0.5).astype(np.float32)
        arrays[MOTION_ARRAY][3] = 1
    return Problem(SequenceStore(arrays, np.array([0, 25, 50, 75, 100])), labels)


def with_neighbours(problem: Problem) -> Problem:
    """Mark what comes right before and after a yes, too, as long as it is in the same sequence."""
    marked = np.nan_to_num(problem.labels.copy()).reshape(4, 25)
    around = np.zeros((4, 27))
    for shift in range(3):
        around[:, shift : shift + 25] += marked
    return Problem(problem.store, (around[:, 1:-1] > 0).astype(float).ravel())


def test_uniform_says_yes_every_so_many_steps(rng: np.random.Generator) -> None:
    problem = a_problem(rng)
    problem.labels[50:75] = np.arange(25) % 5 != 2  # so that single steps, of which none was a yes, validate best
    prob = uniform(problem)("test")[:, 1]

    assert np.flatnonzero(prob != prob[0]).tolist() == [2, 7, 12, 17, 22]  # a fifth is a yes, so every fifth
    assert prob[2] == pytest.approx(1 / 12)  # and none of the ten in training was one
    assert prob[0] == pytest.approx(11 / 41)


def test_uniform_marks_neighbours_where_that_validates_better(rng: np.random.Generator) -> None:
    store = a_problem(rng).store
    of_clip = np.isin(np.arange(25), [3, 4, 5, 14, 15, 16, 22, 23, 24])  # 9 of 25; with neighbours, every eighth
    prob = uniform(Problem(store, np.tile(of_clip, 4).astype(float)))("test")[:, 1]

    assert np.flatnonzero(prob != prob[0]).tolist() == [3, 4, 5, 11, 12, 13, 19, 20, 21]
    assert prob[3] == pytest.approx((2 * 3 + 1) / (2 * 9 + 2))


def test_motion_is_a_logistic_function_of_its_logarithm(rng: np.random.Generator) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    single = a_problem(rng)
    for problem in (single, with_neighbours(single)):
        energy = pd.Series(np.log(problem.store.arrays[MOTION_ARRAY].astype(float) + 1e-3))
        known = np.flatnonzero(np.isfinite(problem.labels[:50]))
        expected = []
        for width in (1, 3):  # alone, or the greatest of three
            read = energy.groupby(np.arange(100) // 25).rolling(width, center=True, min_periods=1).max().to_numpy()
            read = ((read - read[known].mean()) / read[known].std())[:, None]
            fitted = LogisticRegression(C=1e3 / len(known), tol=1e-10).fit(read[known], problem.labels[known])
            said = fitted.predict_proba(read)[:, 1]
            expected.append((log_loss(problem.labels[50:75], said[50:75]), said[75:]))
        found = motion_energy(problem)("test")

        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_allclose(found[:, 1], min(expected, key=lambda one: one[0])[1], atol=1e-4)


def test_without_motion_the_change_of_all_features_is_taken(rng: np.random.Generator) -> None:
    problem = a_problem(rng, motion=False)
    problem.labels[50:75] = np.nan  # nothing to choose by: single steps
    values = problem.store.arrays[VALUES].astype(float)
    changed = np.abs(np.diff(values, axis=0, prepend=values[:1])).mean(axis=1)
    changed[[0, 25, 50, 75]] = 0
    order = np.argsort(motion_energy(problem)("test")[:, 1])

    assert order.tolist() in (np.argsort(changed[75:]).tolist(), np.argsort(-changed[75:]).tolist())
