"""Metrics of probabilities against scikit-learn, intervals against repeated measuring, temperatures against a grid."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from gateline.intervals import bootstrap_intervals
from gateline.probabilities import (
    Judgements,
    best_threshold,
    binary_metrics,
    fit_temperature,
    weights_of_resamples,
)


def judged(rng: np.random.Generator, n: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    probability = rng.uniform(size=n)
    outcome = (rng.uniform(size=n) < probability**2).astype(np.int64)
    return (probability.round(1) if ties else probability), outcome


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_scikit_learn(ties: bool, rng: np.random.Generator) -> None:
    probability, outcome = judged(rng, ties=ties)

    measured = binary_metrics(probability, outcome)

    assert measured["auroc"] == pytest.approx(roc_auc_score(outcome, probability))
    assert measured["auprc"] == pytest.approx(average_precision_score(outcome, probability))
    assert measured["brier"] == pytest.approx(brier_score_loss(outcome, probability))
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    assert measured["log_loss"] == pytest.approx(log_loss(outcome, inside))


def test_weights_count_like_repeated_rows(rng: np.random.Generator) -> None:
    probability, outcome = judged(rng, ties=True)
    times = rng.integers(0, 4, len(outcome))

    weighted = Judgements(probability, outcome).metrics(times.astype(float))

    repeated = binary_metrics(np.repeat(probability, times), np.repeat(outcome, times))
    for name in ("auroc", "auprc", "brier", "log_loss"):
        assert weighted[name] == pytest.approx(repeated[name])


def test_curves_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    probability, outcome = judged(rng, ties=True)
    judgements = Judgements(probability, outcome)

    false, true = judgements.roc()
    recall, precision = judgements.precision_recall()

    expected_false, expected_true, _ = roc_curve(outcome, probability, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)
    expected_precision, expected_recall, _ = precision_recall_curve(outcome, probability)
    np.testing.assert_allclose(recall, expected_recall[:-1][::-1])
    np.testing.assert_allclose(precision, expected_precision[:-1][::-1])


def test_calibrated_probabilities_have_a_small_calibration_error(rng: np.random.Generator) -> None:
    probability = rng.uniform(size=200_000)
    outcome = rng.uniform(size=len(probability)) < probability

    assert binary_metrics(probability, outcome)["calibration_error"] < 0.01
    assert binary_metrics(probability * 0.5, outcome)["calibration_error"] == pytest.approx(0.25, abs=0.01)
    curve = Judgements(probability, outcome).calibration_curve()
    assert sum(row["count"] for row in curve) == len(probability)
    assert all(abs(row["probability"] - row["happened"]) < 0.03 for row in curve)


def test_one_outcome_alone_cannot_be_ranked() -> None:
    measured = binary_metrics(np.array([0.2, 0.7]), np.array([1, 1]))

    assert np.isnan(measured["auroc"])
    assert measured["brier"] == pytest.approx((0.64 + 0.09) / 2)


def test_groups_are_drawn_whole(rng: np.random.Generator) -> None:
    group = np.repeat(np.arange(20), rng.integers(1, 9, 20))

    weights = weights_of_resamples(group, 50, rng)

    for number in range(20):
        assert (weights[:, group == number] == weights[:, group == number][:, :1]).all()
    firsts = np.unique(group, return_index=True)[1]
    assert (weights[:, firsts].sum(axis=1) == 20).all()


def test_intervals_hold_what_is_measured_and_widen_with_dependence(rng: np.random.Generator) -> None:
    probability, outcome = judged(rng, 100)
    copies = 10
    judgements = Judgements(np.repeat(probability, copies), np.repeat(outcome, copies))

    def measure(rows: np.ndarray) -> dict[str, float]:
        return binary_metrics(np.repeat(probability, copies)[rows], np.repeat(outcome, copies)[rows])

    together = bootstrap_intervals(measure, np.repeat(np.arange(100), copies), resamples=200)
    apart = bootstrap_intervals(measure, rng.permutation(100 * copies), resamples=200)

    value = judgements.metrics()["auroc"]
    assert together["auroc"][0] < value < together["auroc"][1]
    assert together["auroc"][1] - together["auroc"][0] > 2 * (apart["auroc"][1] - apart["auroc"][0])


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(factor: float, rng: np.random.Generator) -> None:
    true = rng.normal(0, 2, 20_000)
    outcome = rng.uniform(size=len(true)) < 1 / (1 + np.exp(-true))

    temperature = fit_temperature(true * factor, outcome)

    grid = np.exp(np.linspace(-2, 2, 801))
    losses = [(np.logaddexp(0, true * factor / t) - true * factor / t * outcome).mean() for t in grid]
    assert temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)
    two_classes = np.stack([np.zeros_like(true), true * factor], axis=1)
    assert fit_temperature(two_classes, outcome.astype(int)) == pytest.approx(temperature, rel=1e-4)


@pytest.mark.parametrize("ties", [False, True])
def test_no_other_threshold_has_a_better_f_score(ties: bool, rng: np.random.Generator) -> None:
    probability, outcome = judged(rng, ties=ties)

    threshold = best_threshold(probability, outcome)

    best = max(f1_score(outcome, probability >= each) for each in np.unique(probability))
    assert f1_score(outcome, probability >= threshold) == pytest.approx(best)
    assert best_threshold(probability, np.zeros_like(outcome)) == 0.5


def test_ties_are_calibrated_alike_in_any_order(rng: np.random.Generator) -> None:
    probability, outcome = np.full(1000, 0.14), (np.arange(1000) < 140).astype(float)
    shuffled = rng.permutation(outcome)
    errors = [binary_metrics(probability, each)["calibration_error"] for each in (outcome, outcome[::-1], shuffled)]
    assert errors == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    some = np.repeat([0.2, 0.5, 0.9], [400, 350, 250])
    order = rng.permutation(1000)
    plain, moved = (
        binary_metrics(p, o)["calibration_error"] for p, o in ((some, outcome), (some[order], outcome[order]))
    )
    assert plain == pytest.approx(moved)
