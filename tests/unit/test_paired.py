"""How far the difference of two models may lie from the truth: each term of the bound, and what is asked of slices."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gateline.comparison import ExampleErrors, SliceErrors
from gateline.judgement import Check, Verdict
from gateline.ledger import AWAITING, NOT_PROMOTED, PROMOTED, Entry, Ledger
from gateline.paired import Resamples, SliceOutcome, block_of, judge_slices, resample
from gateline.promotion import Decision, confidence_of, decide
from gateline.workload.gates import Champion, Gates

PASSED = Verdict((Check("min_examples", True, ""),))
NORMAL = np.array([NormalDist().inv_cdf((place + 0.5) / 4000) for place in range(4000)])
"""Draws that are as normal as can be."""


def drawn(
    difference: float, spread: float, *, theirs: float = 10.0, halved: float = 1.0, num_blocks: int = 100_000
) -> Resamples:
    """Resamples of a champion that is known exactly, and of a challenger that is known up to `spread`."""
    noise = spread * NORMAL
    champion = np.full(len(NORMAL), theirs)
    shorter = np.stack([champion + difference + np.sqrt(halved) * noise, champion])
    return Resamples(champion + difference + noise, champion, (theirs + difference, theirs), shorter, num_blocks)


@pytest.mark.parametrize(
    ("halved", "num_blocks", "factor"),
    [
        (1.0, 100_000, 1.0),
        (1.5, 100_000, 1.0),
        (0.5, 100_000, np.sqrt(1.5)),
        # Student's t at 95 % with 3, 4 and 9 degrees of freedom, from its tables, over z
        (1.0, 8, np.sqrt(8 / 7) * 2.3534 / 1.6449),
        (1.0, 10, np.sqrt(10 / 9) * 2.1318 / 1.6449),
        (0.5, 20, np.sqrt(1.5 * 20 / 19) * 1.8331 / 1.6449),
    ],
)
def test_a_bound_is_widened_by_what_blocks_miss_and_by_their_number(
    halved: float, num_blocks: int, factor: float
) -> None:
    assert drawn(-1.0, 0.5, halved=halved, num_blocks=num_blocks).stretch(0.95) == pytest.approx(factor, rel=1e-4)


def test_a_bound_is_widened_by_what_blocks_miss_of_the_difference_that_it_is_of() -> None:
    """Both models are the same but for a hundredth; what depends on each other beyond a block is the champion's error."""
    theirs, half = 10 + NORMAL, 10 + np.sqrt(0.5) * NORMAL
    known = 0.01 * NORMAL
    found = Resamples(theirs + known, theirs, (10.0, 10.0), np.stack([half + known, half]), 100_000)
    assert found.stretch(0.95) == pytest.approx(1, abs=1e-3)
    assert found.stretch(0.95, 0.1) == pytest.approx(np.sqrt(1.5), rel=0.1)
    assert found.bound(0.95, 0.1) == pytest.approx(-1 + found.stretch(0.95, 0.1) * 0.09 * 1.6449, rel=1e-2)


@pytest.mark.parametrize(("confidence", "z"), [(0.9, 1.2816), (0.975, 1.96), (0.9999, 3.719), (1 - 1e-6, 4.7534)])
def test_a_bound_grows_as_a_normal_s_beyond_what_resamples_resolve(confidence: float, z: float) -> None:
    assert drawn(-1.0, 0.5).bound(confidence) == pytest.approx(-1 + 0.5 * z, abs=0.02)


class Rotated:
    """Draws where blocks begin `by` positions further on than a generator of one seed does."""

    def __init__(self, by: int) -> None:
        self.by, self.generator = by, np.random.default_rng(0)

    def integers(self, low: int, high: int, size: tuple[int, ...]) -> np.ndarray:
        return (self.generator.integers(low, high, size) + self.by) % high


def failing_at_the_end(by: int) -> tuple[ExampleErrors, ExampleErrors]:
    """A challenger that is 3 % better than the champion on 2000 windows of 12 steps but for the last three, all moved on."""
    rng = np.random.default_rng(0)
    champion = np.abs(rng.normal(1, 0.3, 2000))
    challenger = 0.97 * champion + rng.normal(0, 0.02, 2000)
    challenger[-3:] *= 17
    one, other = (
        ExampleErrors("mae", np.roll(each, by), np.ones(2000), np.arange(2000), "the same", {}, dependence=12)
        for each in (challenger, champion)
    )
    return one, other


def test_a_bound_is_the_same_wherever_in_the_test_part_a_model_fails() -> None:
    """By blocks that end with the test part it lay at what was measured, or below: 3 windows at the end were nearly never drawn."""
    bounds = []
    for by in (0, 3, 1000):
        one, other = failing_at_the_end(by)
        whole, _ = resample(one, other, block_of(one)[1], 2000, Rotated(by))  # type: ignore[arg-type]
        bounds.append(whole.bound(0.975))
    assert bounds == pytest.approx([bounds[0]] * 3)
    assert bounds[0] > 0 > one.score() - other.score()


@pytest.mark.parametrize("by", [0, 2, 1000])
def test_a_model_that_fails_in_the_last_windows_is_not_promoted_for_it(by: int) -> None:
    assert not decide(PASSED, *failing_at_the_end(by), gates(), generator=np.random.default_rng(1)).promote


def judged(*slices: Resamples, margin: float = 0.1) -> list[SliceOutcome]:
    """Judge slices that all have the same 100 examples, of which each is a block."""
    names = [f"s{place}" for place in range(len(slices))]
    both = []
    for model in (0, 1):
        parts = {
            name: SliceErrors(np.full(100, each.measured[model]), np.ones(100))
            for name, each in zip(names, slices, strict=True)
        }
        both.append(ExampleErrors("mae", np.ones(100), np.ones(100), np.arange(100), "a", parts))
    found = judge_slices(
        both[0], both[1], dict(zip(names, slices, strict=True)), block=1, margin=margin, confidence=0.95
    )
    return [found[name] for name in names]


def test_a_slice_that_one_alone_could_tell_many_cannot() -> None:
    """Half the room is what a slice needs to tell alone, and 0.39 of it among ten: 1 / (1 + 2.58 / 1.64)."""
    worse_by_less = drawn(0.9, 0.45 / 1.6449)
    (alone,) = judged(worse_by_less)
    assert (alone.told, alone.passed) == (True, False)
    assert {(each.told, each.passed) for each in judged(*[worse_by_less] * 10)} == {(False, True)}
    told = judged(*[drawn(0.9, 0.38 / 1.6449)] * 10)
    assert {(each.told, each.passed) for each in told} == {(True, False)}


def test_a_slice_is_compared_with_the_margin_of_each_resample() -> None:
    """Worse by 5 % whatever the champion's error is, which is known badly: the difference alone would not show it."""
    theirs = 10 * np.exp(NORMAL)
    slice_ = Resamples(1.05 * theirs, theirs, (10.5, 10.0), np.stack([1.05 * theirs, theirs]), 100_000)
    (found,) = judged(slice_)
    assert slice_.bound(0.95) > found.allowed
    assert (found.told, found.passed) == (True, True)
    assert found.bound is not None
    assert found.bound < found.allowed, "the bound that is said is the one that decides"


def test_of_many_slices_too_small_to_tell_one_is_measured_worse_by_chance() -> None:
    by_chance, surely = drawn(1.2, 0.6), drawn(1.2, 0.3)  # 0 lies 2, and 4, standard deviations away
    assert [each.passed for each in judged(by_chance, margin=0.05)] == [False]
    assert {each.passed for each in judged(*[by_chance] * 10, margin=0.05)} == {True}
    assert [each.passed for each in judged(surely, *[by_chance] * 9, margin=0.05)] == [False, *[True] * 9]
    assert [each.passed for each in judged(drawn(1.2, 1.2), margin=0.1)] == [True], "it is chance for one alone, too"


def test_a_slice_that_collapses_is_refused_however_many_there_are() -> None:
    """Of 251, each may be wrong once in 5,000 times, and 4,000 resamples say nothing of that: their tail goes on as a normal's."""
    collapsed, usual = drawn(40.0, 8.0), drawn(0.0, 5.0)
    assert [each.passed for each in judged(collapsed, *[usual] * 250)] == [False, *[True] * 250]


def pair(gain: float, num: int = 2000) -> tuple[ExampleErrors, ExampleErrors]:
    generator = np.random.default_rng(4)
    hard = generator.gamma(4.0, 1.0, size=num)
    both = []
    for factor in (1 - gain, 1.0):
        total = factor * hard * generator.gamma(25.0, 0.04, size=num)
        part = SliceErrors(total * (np.arange(num) % 2), (np.arange(num) % 2).astype(float))
        both.append(ExampleErrors("mae", total, np.ones(num), np.arange(num), "a", {"odd": part}))
    return both[0], both[1]


def gates(**champion: Any) -> Gates:
    return Gates.model_validate({"baselines": {"none": {}}, "champion": champion})


def decision(both: tuple[ExampleErrors, ExampleErrors], rule: Gates, attempts: int = 1) -> Decision:
    return decide(PASSED, *both, rule, generator=np.random.default_rng(3), attempts=attempts)


@pytest.mark.parametrize(("confidence", "attempts"), [(0.95, 1), (0.95, 2), (0.99, 1), (0.8, 3)])
def test_the_bound_has_the_confidence_that_gates_and_attempts_ask_for(confidence: float, attempts: int) -> None:
    both = pair(0.02)
    made = decision(both, gates(confidence=confidence), attempts)
    whole, _ = resample(*both, block_of(both[0])[1], 2000, np.random.default_rng(3))
    level = 1 - (1 - confidence) / (attempts * (attempts + 1))
    assert made.comparison["upper_bound"] == pytest.approx(whole.bound(level))
    (said,) = [check.reason for check in made.checks if check.name == "champion"]
    assert f"at {100 * level:.5g}% confidence (challenger {attempts} on these rows)" in said


def test_a_slice_is_widened_by_the_blocks_that_it_lies_in() -> None:
    """Of 2,000 positions the slice has 300 in a row; another has every tenth, and blocks of 10."""
    num, block = 2000, 10
    generator, places = np.random.default_rng(4), np.arange(num)
    count, total = np.ones(num), generator.random((2, num))
    masks = {"winter": places < 300, "dawn": places % 10 == 0}
    models = [
        ExampleErrors("mae", each, count, places, "a" * 64, {name: SliceErrors(each * mask, count * mask) for name, mask in masks.items()})
        for each in total
    ]  # fmt: skip
    whole, slices = resample(models[0], models[1], block, 200, np.random.default_rng(1))
    assert whole.num_blocks == 200
    assert slices["winter"].num_blocks == 30
    assert slices["dawn"].num_blocks == 20


def test_all_challengers_of_a_champion_on_one_test_part_share_its_error() -> None:
    assert sum(1 - confidence_of(0.95, attempts) for attempts in range(1, 10_000)) == pytest.approx(0.05, rel=1e-3)
    wins = [decision(pair(0.018), gates(), attempts).promote for attempts in (1, 3, 30, 300)]
    assert wins == sorted(wins, reverse=True), "what wins late would have won early"
    assert wins[0]
    assert not wins[-1]


def test_challengers_are_counted_by_champion_and_rows() -> None:
    def entry(number: int, kind: str, version: int, expected: int, rows: str | None) -> Entry:
        at = "2026-01-01T00:00:00+00:00"
        return Entry(str(number), kind, version, expected, "me", at, "", rows=rows, number=number)

    ledger = Ledger(
        (
            entry(1, NOT_PROMOTED, 2, 1, "a"),
            entry(2, NOT_PROMOTED, 2, 1, "a"),  # again
            entry(3, AWAITING, 3, 1, "a"),
            entry(4, NOT_PROMOTED, 4, 1, "b"),
            entry(5, PROMOTED, 5, 9, "a"),
            entry(6, NOT_PROMOTED, 6, 1, None),
        )
    )
    assert ledger.attempts([7], 1, "a") == 3
    assert ledger.attempts([3], 1, "a") == 2, "it is no other challenger than itself"
    assert ledger.attempts([7, 2], 1, "a") == 2, "nor than a version of the same weights"
    assert ledger.attempts([7], 1, "b") == 2
    assert ledger.attempts([7], 9, "a") == 2
    assert Entry.from_text(ledger.entries[0].as_text(), 1, settled=False).rows == "a"


def test_other_counts_of_the_champion_are_no_comparison() -> None:
    both = pair(0.2)
    assert decision(both, gates()).promote
    other = dataclasses.replace(both[1], count=np.full(2000, 2.0))
    assert (
        "other rows, or by a metric of other quantiles, than the champion"
        in decision((both[0], other), gates()).reasons[0]
    )
    part = both[1].parts["odd"]
    other = dataclasses.replace(both[1], parts={"odd": SliceErrors(part.total, 2 * part.count)})
    assert "scored on other slices" in decision((both[0], other), gates()).reasons[0]


def test_a_bound_that_resamples_cannot_resolve_is_refused() -> None:
    assert Champion(confidence=0.999, resamples=10_000).resamples == 10_000
    with pytest.raises(ValidationError, match="`resamples` of at least 10000"):
        Champion(confidence=0.999, resamples=9_999)
    with pytest.raises(ValidationError, match="`resamples` of at least 200"):
        Champion(resamples=199)


def test_a_decision_says_how_many_slices_could_not_be_told() -> None:
    generator = np.random.default_rng(1)
    total = generator.gamma(4.0, 1.0, size=2000)
    both = []
    for factor in (0.5, 1.0):
        parts = {
            name: SliceErrors(np.where(where, factor * total, 0), where.astype(float))
            for name, where in (("many", np.arange(2000) >= 10), ("few", np.arange(2000) < 10))
        }
        noise = generator.gamma(25.0, 0.04, size=2000)
        both.append(ExampleErrors("mae", factor * total * noise, np.ones(2000), np.arange(2000), "a", parts))
    made = decision((both[0], both[1]), gates())
    assert made.promote
    (said,) = [check.reason for check in made.checks if check.name == "champion"]
    assert said.endswith(", and 1 of 2 slices could not be told")
