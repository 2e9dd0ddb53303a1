"""Which frames are shown, and what says yes without learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        """The first two sequences train, the last is asked."""
        first, second = (0, 2) if part == "train" else (2, 3)
        return np.arange(self.store.offsets[first], self.store.offsets[second])

    def labels_of(self, part: str) -> np.ndarray:
        return self.labels[self.steps(part)]


def a_problem(rng: np.random.Generator, motion: bool = True) -> Problem:
    labels = (np.arange(75) % 5 == 1).astype(float)
    labels[3] = np.nan
    values = rng.normal(size=(75, 2)).astype(np.float32)
    arrays = {VALUES: values}
    if motion:
        arrays[MOTION_ARRAY] = np.exp(labels.clip(0, 1) + rng.normal(size=75) * 0.7).astype(np.float32)
        arrays[MOTION_ARRAY][3] = 1
    return Problem(SequenceStore(arrays, np.array([0, 25, 50, 75])), labels)


def test_uniform_says_yes_every_so_many_steps(rng: np.random.Generator) -> None:
    prob = uniform(a_problem(rng), "test")[:, 1]

    assert np.flatnonzero(prob != prob[0]).tolist() == [2, 7, 12, 17, 22]  # a fifth is a yes, so every fifth
    assert prob[2] == pytest.approx(1 / 12)  # and none of the ten in training was one
    assert prob[0] == pytest.approx(11 / 41)


def test_motion_is_a_logistic_function_of_its_logarithm(rng: np.random.Generator) -> None:
    from sklearn.linear_model import LogisticRegression

    problem = a_problem(rng)
    energy = np.log(problem.store.arrays[MOTION_ARRAY].astype(float) + 1e-3)[:, None]
    known = np.isfinite(problem.labels[:50])
    fitted = LogisticRegression(C=1e6, tol=1e-10).fit(energy[:50][known], problem.labels[:50][known])
    found = motion_energy(problem, "test")

    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 1], fitted.predict_proba(energy[50:])[:, 1], atol=0.01)


def test_without_motion_the_change_of_all_features_is_taken(rng: np.random.Generator) -> None:
    problem = a_problem(rng, motion=False)
    values = problem.store.arrays[VALUES].astype(float)
    changed = np.abs(np.diff(values, axis=0, prepend=values[:1])).mean(axis=1)
    changed[[0, 25, 50]] = 0
    order = np.argsort(motion_energy(problem, "test")[:, 1])

    assert order.tolist() in (np.argsort(changed[50:]).tolist(), np.argsort(-changed[50:]).tolist())
