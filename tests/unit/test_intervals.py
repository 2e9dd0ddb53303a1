"""Bootstrap intervals beside closed forms: independent examples, dependent ones, ratios, and any other metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from gateline.comparison import ExampleErrors, example_errors
from gateline.intervals import between, block_length, bootstrap_intervals, ratio_intervals, resampled_sums
from gateline.scoring.class_metrics import class_intervals, example_class_errors, measure

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


def test_of_few_independent_examples_it_is_that_of_students_t(rng: np.random.Generator) -> None:
    values = rng.normal(50, 3, size=12)

    low, high = ratio_intervals([of(values)], resamples=4000)["mae"]

    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))


def test_positions_at_the_ends_count_as_much_as_any_other() -> None:
    """Ends that are five times as hard as the middle: by blocks that do not wrap around, the metric lay outside its interval."""
    values = np.repeat([5.0, 1.0, 5.0], [24, 48, 24])
    drawn = resampled_sums(values[None], np.arange(96), 12, 4000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(values.sum(), rel=0.02)

    for low, high in (
        ratio_intervals([of(values, dependence=6)])["mae"],
        bootstrap_intervals(lambda rows: {"mae": values[rows].mean()}, np.arange(96), dependence=6)["mae"],
    ):
        assert low < 3.0 < high


def test_a_ratio_is_not_said_to_lie_beyond_what_examples_show() -> None:
    """Of nine answers out of ten that are right, more than all cannot be."""
    low, high = ratio_intervals([of(np.r_[np.ones(9), 0.0])])["mae"]
    assert 0 < low < 0.9 < high <= 1


def test_of_examples_that_depend_it_is_wider_than_the_resamples_are(rng: np.random.Generator) -> None:
    values = np.repeat(rng.normal(size=20), 30)  # alike for thirty positions, more than two dependences

    low, high = ratio_intervals([of(values, dependence=8)])["mae"]
    plain = bootstrap_intervals(lambda rows: {"mae": values[rows].mean()}, np.arange(600), dependence=8)["mae"]

    assert high - low > 1.15 * (plain[1] - plain[0])


def test_a_few_resamples_that_hold_nothing_to_measure_are_passed_over(rng: np.random.Generator) -> None:
    values = rng.normal(size=1000)
    assert between(np.r_[values, np.full(40, np.nan)]) == between(values)
    assert between(np.r_[values, np.full(80, np.nan)]) is None
    rare = np.arange(60) < 4  # none of them in 1 of 60 resamples
    found = bootstrap_intervals(lambda rows: {"share": 1.0 if rare[rows].any() else float("nan")}, np.arange(60))
    assert found == {"share": (1.0, 1.0)}


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
        for starts in generator.integers(0, number, size=(size, -(-number // block))):
            held = [places[np.arange(start, start + block) % number] for start in starts]
            rows = [np.flatnonzero(np.isin(position, each)) for each in held]
            expected.append(columns[:, np.concatenate(rows)].sum(axis=1))
        left -= size
    np.testing.assert_allclose(drawn.T, expected, rtol=1e-9, atol=1e-9)


def test_too_few_examples_or_no_number_have_no_interval() -> None:
    assert ratio_intervals([of(np.ones(3))]) == {}
    assert ratio_intervals([of(np.ones(30), dependence=20)]) == {}
    assert ratio_intervals([of(np.ones(7))]) == {}
    assert ratio_intervals([of(np.ones(100), dependence=7)]) == {}
    assert bootstrap_intervals(lambda _: {"mean": 1.0}, np.arange(7)) == {}
    assert bootstrap_intervals(lambda _: {"mean": 1.0}, np.arange(100), dependence=7) == {}
    assert ratio_intervals([of(np.r_[np.ones(99), np.nan])]) == {}
    assert between(np.array([])) is None


@pytest.mark.parametrize(("number", "dependence", "block"), [(1000, 1, 10), (1000, 12, 24), (8, 1, 2), (1, 1, 2)])
def test_a_block_covers_what_depends(number: int, dependence: int, block: int) -> None:
    assert block_length(number, dependence) == block


def test_the_same_evaluation_has_the_same_interval(rng: np.random.Generator) -> None:
    errors = of(rng.normal(size=200))
    assert ratio_intervals([errors]) == ratio_intervals([errors])


def test_the_interval_of_a_calibration_error_holds_it(rng: np.random.Generator) -> None:
    """Of probabilities that are true: its whole value is noise, of which a resample has twice as much."""
    first = rng.uniform(0.05, 0.95, size=400)
    probabilities, target = np.stack([1 - first, first], axis=1), (rng.uniform(size=400) < first).astype(np.int64)
    measured = measure(probabilities, target, 1)["calibration_error"]

    low, high = class_intervals(probabilities, target, 1, np.arange(400))["calibration_error"]

    assert 0 <= low < measured < high
    assert low < measured - 0.2 * (high - low)


def test_intervals_of_classes_are_those_of_closed_forms(rng: np.random.Generator) -> None:
    number = 2000
    score, target = rng.normal(size=number), rng.integers(0, 2, size=number)
    high_prob = 1 / (1 + np.exp(-(score + 1.5 * target - 0.75)))
    probabilities = np.stack([1 - high_prob, high_prob], axis=1)
    right = ((high_prob > 0.5) == (target == 1)).astype(float)
    # DeLong: the variance of the AUROC is that of the mean placements of either class.
    yes, no = high_prob[target == 1], high_prob[target == 0]
    above = (yes[:, None] > no).astype(float)
    variance = above.mean(axis=1).var() / len(yes) + above.mean(axis=0).var() / len(no)

    found = class_intervals(probabilities, target, 1, np.arange(number))

    for name, middle, half in (
        ("accuracy", right.mean(), NORMAL * right.std() / np.sqrt(number)),
        ("auroc", above.mean(), NORMAL * np.sqrt(variance)),
    ):
        assert found[name] == pytest.approx((middle - half, middle + half), abs=0.25 * half), name


def test_examples_of_one_patient_tell_no_more_than_the_patient(rng: np.random.Generator) -> None:
    """Each of 60 patients ten times over: intervals are those of the 60; of seven patients, there are none."""
    first, patient = rng.uniform(0.05, 0.95, size=60), np.repeat(np.arange(60), 10)
    probabilities, target = np.stack([1 - first, first], axis=1), (rng.uniform(size=60) < first).astype(np.int64)
    many = probabilities[patient], target[patient]

    once = class_intervals(probabilities, target, 1, np.arange(60))
    found = class_intervals(*many, 1, patient)
    errors = ratio_intervals(example_class_errors(["log_loss"], *many, rows="", groups=patient))

    for name in ("accuracy", "auroc", "auprc"):
        assert np.diff(found[name])[0] == pytest.approx(np.diff(once[name])[0], rel=0.2), name
    alone = ratio_intervals(example_class_errors(["log_loss"], probabilities, target, rows="", groups=np.arange(60)))
    assert errors["log_loss"] == pytest.approx(alone["log_loss"])
    assert class_intervals(*many, 1, patient % 7) == {}
