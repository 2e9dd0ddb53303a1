"""Bootstrap intervals beside closed forms: independent examples, dependent ones, ratios, and any other metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateline.comparison import ExampleErrors, example_errors
from gateline.intervals import between, block_length, bootstrap_intervals, ratio_intervals, resampled_sums

NORMAL = 1.959964  # of 95 %


def of(
    values: np.ndarray, position: np.ndarray | None = None, count: np.ndarray | None = None, dependence: int = 1
) -> ExampleErrors:
    count = np.ones(len(values)) if count is None else count
    return replace(example_errors("mae", values, count, rows="", position=position), dependence=dependence)


def test_of_independent_examples_it_is_that_of_the_mean(rng: np.random.Generator) -> None:
    values = rng.gamma(2.0, 3.0, size=4000)

    low, high = ratio_intervals([of(values)], resamples=4000)["mae"]

    half = NORMAL * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.3 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.3 * half)


def test_of_dependent_examples_it_is_as_wide_as_they_are_dependent(rng: np.random.Generator) -> None:
    """The mean of an autoregression has (1 + φ) / (1 - φ) times the variance of independent values."""
    phi, number = 0.7, 20_000
    shocks, values = rng.normal(size=number), np.zeros(number)
    for place in range(1, number):
        values[place] = phi * values[place - 1] + shocks[place]
    half = NORMAL * values.std() / np.sqrt(number) * np.sqrt((1 + phi) / (1 - phi))

    low, high = ratio_intervals([of(values, dependence=30)], resamples=4000)["mae"]
    naive = bootstrap_intervals(lambda rows: {"mae": values[rows].mean()}, rng.permutation(number), resamples=500)[
        "mae"
    ]

    assert (high - low) / 2 == pytest.approx(half, rel=0.3)
    assert (naive[1] - naive[0]) / 2 < 0.7 * half, "taken for independent, they would look far surer than they are"


def test_examples_at_one_position_are_drawn_together(rng: np.random.Generator) -> None:
    """Forty hours of each patient, all alike: there are as many independent values as there are patients."""
    by_patient = rng.normal(size=500)
    values, patient = np.repeat(by_patient, 40), np.repeat(np.arange(500), 40)
    shuffled = rng.permutation(len(values))

    low, high = ratio_intervals([of(values[shuffled], patient[shuffled])], resamples=4000)["mae"]

    assert (high - low) / 2 == pytest.approx(NORMAL * by_patient.std() / np.sqrt(500), rel=0.4)


def test_of_a_ratio_it_is_that_of_the_delta_method(rng: np.random.Generator) -> None:
    """Wrong words over words, for sentences of many lengths."""
    words = rng.integers(3, 30, size=5000).astype(float)
    wrong = rng.binomial(words.astype(int), rng.beta(2, 8, size=5000)).astype(float)
    ratio = wrong.sum() / words.sum()

    low, high = ratio_intervals([of(wrong, count=words)], resamples=4000)["mae"]

    half = NORMAL * (wrong - ratio * words).std() / words.mean() / np.sqrt(5000)
    assert (low, high) == pytest.approx((ratio - half, ratio + half), abs=0.3 * half)


def test_of_a_root_the_ends_are_the_roots_of_the_ends(rng: np.random.Generator) -> None:
    squares = rng.exponential(size=1000)
    plain = of(squares)
    rooted = ExampleErrors("rmse", plain.total, plain.count, plain.position, "", root=True)

    found = ratio_intervals([plain, rooted])

    assert found["rmse"] == pytest.approx(np.sqrt(found["mae"]), rel=1e-3)


def test_any_metric_is_resampled_as_its_sums_would_be(rng: np.random.Generator) -> None:
    values = rng.normal(10, 2, size=600)
    position = rng.permutation(600)

    by_examples = bootstrap_intervals(
        lambda rows: {"mean": values[rows].mean(), "none": float("nan")}, position, dependence=3, resamples=2000
    )
    by_sums = ratio_intervals([of(values, position, dependence=3)], resamples=2000)

    assert by_examples["mean"] == pytest.approx(by_sums["mae"], abs=0.03)
    assert "none" not in by_examples


def test_sums_of_resamples_are_those_of_their_blocks(rng: np.random.Generator) -> None:
    """Against a loop over the very same draws."""
    columns, position = rng.normal(size=(2, 50)), rng.integers(0, 20, size=50)
    number, block, resamples = len(np.unique(position)), 4, 300

    drawn = resampled_sums(columns, position, block, resamples, np.random.default_rng(5))

    generator, expected, left = np.random.default_rng(5), [], resamples
    places = np.unique(position)
    while left:
        size = min(256, left)
        for starts in generator.integers(0, number - block + 1, size=(size, -(-number // block))):
            rows = [np.flatnonzero(np.isin(position, places[start : start + block])) for start in starts]
            expected.append(columns[:, np.concatenate(rows)].sum(axis=1))
        left -= size
    np.testing.assert_allclose(drawn.T, expected, rtol=1e-9, atol=1e-9)


def test_too_few_examples_or_no_number_have_no_interval() -> None:
    assert ratio_intervals([of(np.ones(3))]) == {}
    assert ratio_intervals([of(np.ones(30), dependence=20)]) == {}
    assert bootstrap_intervals(lambda _: {"mean": 1.0}, np.arange(3)) == {}
    assert ratio_intervals([of(np.r_[np.ones(99), np.nan])]) == {}
    assert between(np.array([])) is None


@pytest.mark.parametrize(("number", "dependence", "block"), [(1000, 1, 10), (1000, 12, 24), (8, 1, 2), (1, 1, 2)])
def test_a_block_covers_what_depends(number: int, dependence: int, block: int) -> None:
    assert block_length(number, dependence) == block


def test_the_same_evaluation_has_the_same_interval(rng: np.random.Generator) -> None:
    errors = of(rng.normal(size=200))
    assert ratio_intervals([errors]) == ratio_intervals([errors])
