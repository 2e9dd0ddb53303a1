"""The gates say yes and no where they should, for every way in which a comparison can go wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateline.adapters.registry.decision import as_record
from gateline.adapters.registry.kept_decision import digest_of_decision
from gateline.comparison import ExampleErrors, reduce_windows, slice_errors
from gateline.errors import WorkloadError
from gateline.intervals import MIN_BLOCKS
from gateline.judgement import Verdict, judge, with_slices
from gateline.paired import holm, resample
from gateline.promotion import Decision, decide, unfair
from gateline.workload.gates import Gates

METRICS = {"mae": 8.0, "rmse": 15.0, "bias": -0.2}
BASELINES = {"last_value": {"mae": 12.0, "rmse": 20.0}, "ridge": {"mae": 8.1, "rmse": 15.5}}
HORIZON = 4


def gates(**changes: Any) -> Gates:
    settings: dict[str, Any] = {"baselines": {"last_value": {"rule": "superior"}}, "min_examples": 10, **changes}
    return Gates.model_validate(settings)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"baselines": {"last_value": {"margin": 0.3}}}, True),
        ({"baselines": {"last_value": {"margin": 0.34}}}, False),
        ({"baselines": {"ridge": {}}}, True),
        ({"baselines": {"ridge": {"margin": 0.02}}}, False),
        ({"baselines": {"ridge": {"rule": "non_inferior", "margin": 0.02}}}, True),
        ({"baselines": {"last_value": {}, "ridge": {"margin": 0.5}}}, False),
        ({"metric": "rmse", "baselines": {"ridge": {}}}, True),
        ({"limits": {"rmse": {"max": 15.0}}}, True),
        ({"limits": {"rmse": {"max": 14.9}}}, False),
        ({"limits": {"bias": {"min": -0.1, "max": 0.1}}}, False),
        ({"min_examples": 101}, False),
    ],
)
def test_baselines_limits_and_the_number_of_windows_decide(changes: dict[str, Any], passed: bool) -> None:
    verdict = judge(METRICS, BASELINES, 100, gates(**changes))
    assert verdict.passed is passed
    assert verdict.reasons


def test_the_same_as_a_baseline_is_not_superior_but_non_inferior() -> None:
    same = {"copy": {"mae": 8.0}}
    assert not judge(METRICS, same, 100, gates(baselines={"copy": {}})).passed
    assert judge(METRICS, same, 100, gates(baselines={"copy": {"rule": "non_inferior"}})).passed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_number_that_is_not_finite_is_a_no(value: float | None) -> None:
    assert not judge({**METRICS, "bias": value}, BASELINES, 100, gates()).passed
    assert not judge(METRICS, {**BASELINES, "ridge": {"mae": value}}, 100, gates()).passed


def test_nothing_measured_is_a_no() -> None:
    assert not judge({}, BASELINES, 0, gates()).passed
    assert not Verdict(()).passed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "maee"}, "Did you mean 'mae'?"),
        ({"baselines": {"last_valeu": {}}}, "Did you mean 'last_value'?"),
        ({"limits": {"rmes": {"max": 1.0}}}, "Did you mean 'rmse'?"),
        ({"metric": "bias", "baselines": {"ridge": {}}}, "Known are: mae, rmse"),
    ],
)
def test_a_name_that_was_not_computed_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkloadError, match="gates") as refusal:
        judge(METRICS, BASELINES, 100, gates(**changes))
    assert said in str(refusal.value)


def errors(offset: float = 0.0, *, num: int = 400, seed: int = 0, noise: float = 0.3, **changes: Any) -> ExampleErrors:
    """Absolute errors of windows of two series over `num` points of time; `offset` is added to the error of each step."""
    shared = np.random.default_rng(99).gamma(2.0, 2.0, size=2 * num)
    own = np.random.default_rng(seed).normal(0, noise, size=2 * num)
    settings: dict[str, Any] = {
        "metric": "mae",
        "total": HORIZON * np.abs(shared + own + offset),
        "count": np.full(2 * num, float(HORIZON)),
        "position": np.repeat(np.arange(num) * 3600, 2),
        "rows": "a" * 64,
        "dependence": HORIZON,
    }
    here = np.arange(2 * num) % 2 == 0
    both = {**settings, **changes}
    settings["parts"] = slice_errors(
        {
            name: (np.where(mask, both["total"], 0.0), np.where(mask, both["count"], 0.0))
            for name, mask in (("JFK", here), ("LGA", ~here))
        }
        if len(both["total"]) == 2 * num and len(both["count"]) == 2 * num
        else {}
    )
    return ExampleErrors(**(settings | changes))


PASSED = judge(METRICS, BASELINES, 100, gates())
FAILED = judge(METRICS, BASELINES, 5, gates())


def decision(
    challenger: ExampleErrors, current: ExampleErrors | None, verdict: Verdict = PASSED, **changes: Any
) -> Decision:
    return decide(verdict, challenger, current, gates(**changes), generator=np.random.default_rng(3))


def test_a_verdict_without_a_check_is_a_no_and_a_comparison_needs_none() -> None:
    better, draws = (errors(-0.5, seed=1), errors(seed=2)), np.random.default_rng(3)
    assert not decide(Verdict(()), *better, gates(), generator=draws).promote
    assert decide(None, *better, gates(), generator=draws).promote


NON_INFERIOR = {"rule": "non_inferior", "margin": 0.05}


@pytest.mark.parametrize(
    ("offset", "rule", "promote"),
    [
        (-0.5, {}, True),
        (0.5, {}, False),
        (0.0, {}, False),
        (-0.5, {"margin": 0.05}, True),
        (-0.5, {"margin": 0.3}, False),
        (0.05, NON_INFERIOR, True),
        (0.5, NON_INFERIOR, False),
    ],
)
def test_a_challenger_must_be_better_by_more_than_chance(offset: float, rule: dict[str, Any], promote: bool) -> None:
    made = decision(errors(offset, seed=1), errors(seed=2), champion=rule)
    assert made.promote is promote
    assert made.comparison["difference"] == pytest.approx(made.comparison["challenger"] - made.comparison["champion"])


def test_the_first_model_needs_only_the_verdict() -> None:
    assert decision(errors(), None).promote
    assert not decision(errors(), None, FAILED).promote


def test_a_bad_verdict_is_a_no_however_good_the_comparison() -> None:
    assert not decision(errors(-1.0, seed=1), errors(), FAILED).promote


@pytest.mark.parametrize("rule", [{}, NON_INFERIOR])
def test_a_tie_promotes_nobody(rule: dict[str, Any]) -> None:
    made = decision(errors(), errors(), champion=rule)
    assert not made.promote
    assert "tie" in made.reasons[0]


@pytest.mark.parametrize(
    "champion",
    [
        errors(rows="b" * 64),
        errors(num=399),
        errors(position=np.repeat(np.arange(400) * 1800, 2)),
        errors(metric="rmse"),
        errors(total=np.full(800, np.nan)),
        errors(parts={}),
    ],
    ids=["rows", "fewer", "times", "metric", "nan", "slices"],
)
def test_what_cannot_be_compared_is_a_no(champion: ExampleErrors) -> None:
    assert not decision(errors(-1.0, seed=1), champion).promote


def test_each_way_to_win_without_being_better_is_refused_with_its_reason() -> None:
    better, champion = errors(-0.5, seed=1), errors()
    assert decision(better, champion).promote
    empty = errors(num=0, total=np.zeros(0), count=np.zeros(0), position=np.zeros(0), parts={})
    broken = errors(-0.5, seed=1)
    broken.total[3] = np.nan
    nearly = replace(champion, total=champion.total * (1 - 1e-9))  # better everywhere, by what rounding does
    planted = {
        "the test part is empty": (empty, empty, []),
        "no finite number": (broken, champion, []),
        "a tie promotes nobody": (champion, champion, []),
        "the same errors as the champion on every example": (nearly, champion, []),
        "error of the challenger is no finite number": (broken, None, []),
        "not compared with itself": (better, champion, unfair(same_model=True, seen=None)),
        "has seen the test part: 12 of 40": (better, champion, unfair(same_model=False, seen="12 of 40 windows")),
    }
    for words, (challenger, present, against) in planted.items():
        made = decide(PASSED, challenger, present, gates(), generator=np.random.default_rng(3), against=against)
        assert not made.promote, words
        assert any(words in reason for reason in made.reasons), (words, made.reasons)


def sliced(change: Mapping[str, float], num: Mapping[str, int], seed: int = 5) -> tuple[ExampleErrors, ExampleErrors]:
    """Two models over slices of `num` positions each: the challenger is better by 5 % but for `change` of each slice."""
    generator = np.random.default_rng(seed)
    names = np.repeat(list(num), list(num.values()))
    shared = generator.gamma(4.0, 1.0, size=len(names))
    factor = np.array([1 + change.get(name, -0.05) for name in names])
    noise = generator.normal(1, 0.2, size=(2, len(names)))
    both = []
    for total in (shared * factor * noise[0], shared * noise[1]):
        parts = {name: (np.where(names == name, total, 0.0), (names == name).astype(float)) for name in num}
        both.append(ExampleErrors("mae", total, np.ones(len(names)), np.arange(len(names)), "a", slice_errors(parts)))
    return both[0], both[1]


@pytest.mark.parametrize(
    ("change", "num", "margin", "small", "promote", "said"),
    [
        ({}, {"a": 2000, "b": 2000}, 0.1, "report", True, ""),
        ({"b": 0.3}, {"a": 9000, "b": 2000}, 0.1, "report", False, "slice b"),
        ({"b": 0.1}, {"a": 9000, "b": 2000}, 0.5, "report", True, ""),
        ({"b": 1.0}, {"a": 9000, "b": 30}, 0.1, "report", False, "too few blocks"),
        ({"b": 0.0}, {"a": 9000, "b": 30}, 0.2, "report", True, ""),
        ({"b": 0.0}, {"a": 9000, "b": 30}, 0.2, "refuse", False, "too small to tell"),
        ({"b": 1.0}, {"a": 9000, "b": 420}, 0.02, "report", False, "measured worse"),
    ],
)
def test_a_slice_that_gets_worse_is_a_no(
    change: dict[str, float], num: dict[str, int], margin: float, small: str, promote: bool, said: str
) -> None:
    challenger, champion = sliced(change, num)
    made = decide(
        PASSED,
        challenger,
        champion,
        gates(slice_margin=margin, small_slices=small),
        generator=np.random.default_rng(0),
    )
    assert made.promote is promote, made.reasons
    assert promote or any(said in f"{check.name} {check.reason}" for check in made.checks if not check.passed)


def test_what_is_too_small_to_tell_is_named_where_it_passes() -> None:
    challenger, champion = sliced({"b": 0.0}, {"a": 9000, "b": 30})
    made = decide(PASSED, challenger, champion, gates(slice_margin=0.2), generator=np.random.default_rng(0))
    (said,) = [check.reason for check in made.checks if check.name == "slice b"]
    assert made.promote
    assert "too small to tell" in said


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("error", [0.0, 1.0], ids=["without an error", "with the same errors"])
@pytest.mark.parametrize("num", [30, 2000], ids=["small", "large"])
def test_a_slice_on_which_both_models_do_the_same_stops_nobody(margin: float, error: float, num: int) -> None:
    challenger, champion = sliced({}, {"a": 9000, "b": num})
    for each, rounding in ((challenger, 1e-9), (champion, 0.0)):
        each.total[9000:] = each.parts["b"].total[9000:] = error * (1 + rounding)
    made = decide(PASSED, challenger, champion, gates(slice_margin=margin), generator=np.random.default_rng(0))
    (said,) = [check.reason for check in made.checks if check.name == "slice b"]
    assert made.promote, made.reasons
    assert ("the same errors" if num == 2000 else "too small to tell") in said


def test_holm_agrees_with_its_definition() -> None:
    assert holm({}, 0.05) == set()
    assert holm({"a": 0.0125, "b": 0.0166, "c": 0.025, "d": 0.05}, 0.05) == {"a", "b", "c", "d"}
    assert holm({"a": 0.0126, "b": 0.0001, "c": 0.06, "d": 0.5}, 0.05) == {"b", "a"}
    assert holm({"a": 0.02, "b": 0.02}, 0.05) == {"a", "b"}
    assert holm({"a": 0.03, "b": 0.03}, 0.05) == set()


def test_the_bootstrap_agrees_with_the_closed_form_for_independent_examples() -> None:
    """Mean of n independent differences: the bound is their mean plus z times their standard error."""
    generator = np.random.default_rng(11)
    theirs = generator.gamma(3.0, 1.0, size=1000)
    difference = generator.normal(-0.02, 0.5, size=1000)
    one, other = (
        ExampleErrors("mae", total, np.ones(1000), np.arange(1000), "a") for total in (theirs + difference, theirs)
    )
    whole, _ = resample(one, other, 1, 20_000, generator)
    error = difference.std() / np.sqrt(1000)
    assert whole.bound(0.95) == pytest.approx(difference.mean() + 1.6449 * error, abs=0.05 * error)
    relative = (
        difference + 0.1 * theirs
    )  # non-inferior by 10 %: challenger - 1.1 champion, and superior the other way round
    bound = whole.bound(0.95, -0.1)
    assert bound == pytest.approx(relative.mean() + 1.6449 * relative.std() / np.sqrt(1000), abs=0.06 * error)


def test_blocks_are_those_of_a_loop_over_them() -> None:
    """The same draws, summed example by example."""
    generator = np.random.default_rng(3)
    position = np.repeat(np.arange(30), 2)
    mine, theirs = generator.gamma(2.0, size=(2, 60))
    count = generator.integers(1, 4, size=60).astype(float)
    one, other = (ExampleErrors("mae", total, count, position, "a") for total in (mine, theirs))
    whole, _ = resample(one, other, 7, 5, np.random.default_rng(8))
    draws = np.random.default_rng(8).integers(0, 30, size=(5, 5))
    for number, starts in enumerate(draws):
        held = [at % 30 for start in starts for at in range(start, start + 7)]
        places = np.concatenate([np.flatnonzero(position == at) for at in held])
        assert whole.mine[number] == pytest.approx(mine[places].sum() / count[places].sum())
        assert whole.theirs[number] == pytest.approx(theirs[places].sum() / count[places].sum())


def test_too_short_a_test_part_is_a_no() -> None:
    num = MIN_BLOCKS * 2 * HORIZON
    assert decision(errors(-1.0, seed=1, num=num), errors(num=num)).promote
    made = decision(errors(-1.0, seed=1, num=num - 1), errors(num=num - 1))
    assert not made.promote
    assert f"{num} are needed" in made.reasons[0]


def test_resamples_that_hold_nothing_to_measure_are_a_no_that_can_be_digested() -> None:
    """Targets were observed at 12 neighbouring positions of 400, which one resample in six misses."""
    observed = (np.arange(400) < 12).astype(float)
    common: dict[str, Any] = {"count": observed, "position": np.arange(400), "dependence": 12}
    models = [errors(total=observed * level, **common) for level in (1.0, 2.0)]
    found = decision(models[0], models[1])
    assert not found.promote
    assert "some resamples hold nothing to measure" in found.reasons[-1]
    assert found.comparison == {"challenger": 1.0, "champion": 2.0, "difference": -1.0, "attempts": 1}
    decided = as_record(found, gates(), None)
    assert json.loads(json.dumps(decided, allow_nan=False)) == decided
    assert digest_of_decision(decided)


@pytest.mark.parametrize(("different", "promote"), [(4, False), (9, False), (10, True)])
def test_two_models_that_hardly_differ_cannot_be_told_apart(different: int, promote: bool) -> None:
    """Words that are right or wrong: the challenger corrects so many of the champion's 50 errors and makes no new one."""
    num = 400
    wrong = (np.arange(num) % 8 == 0).astype(float)
    better = np.where(np.cumsum(wrong) <= different, 0.0, wrong)
    common: dict[str, Any] = {"count": np.ones(num), "position": np.arange(num), "dependence": 1}
    found = decision(errors(total=better, **common), errors(total=wrong, **common))
    assert found.promote is promote, found.reasons
    if not promote:
        assert f"too few to tell: challenger and champion differ at {different} positions" in found.reasons[-1]


def test_the_same_generator_gives_the_same_bound() -> None:
    bounds = {decision(errors(-0.1, seed=1), errors(seed=2)).comparison["upper_bound"] for _ in range(2)}
    assert len(bounds) == 1


def test_equally_good_models_with_correlated_errors_are_rarely_promoted() -> None:
    """With windows that overlap, resampling single windows would promote a fifth of them; the rule allows a twentieth."""
    promoted = {1: 0, 2 * HORIZON: 0}
    for seed in range(200):
        generator = np.random.default_rng(seed)
        steps = generator.normal(size=600 + HORIZON)
        difference = np.convolve(steps, np.ones(HORIZON), mode="valid")  # (601,): windows share HORIZON - 1 steps
        total = np.full(len(difference), 40.0)
        champion = errors(total=total, count=np.full(len(total), 4.0), position=np.arange(len(total)))
        challenger = errors(total=total + difference, count=champion.count, position=champion.position)
        for block in promoted:
            whole, _ = resample(challenger, champion, block, 200, generator)
            promoted[block] += whole.bound(0.95) < 0
    assert promoted[2 * HORIZON] <= 0.11 * 200 < promoted[1]


def test_errors_of_windows_count_only_what_was_observed() -> None:
    forecasts, targets = np.array([[1.0, 2.0], [3.0, np.nan]]), np.array([[2.0, np.nan], [5.0, np.nan]])
    masks = {"first": np.array([[True], [False]]), "empty": np.array([[False], [False]])}
    reduced = reduce_windows("mae", forecasts, targets, np.array([0, 1]), rows="a", slices=masks)
    assert reduced.score() == 1.5
    assert reduced.slices == {"first": 1.0}
    assert reduce_windows("rmse", forecasts, targets, np.array([0, 1]), rows="a").score() == pytest.approx(np.sqrt(2.5))
    with pytest.raises(WorkloadError, match="compared by"):
        reduce_windows("wape", forecasts, targets, np.array([0, 1]), rows="a")


@pytest.mark.parametrize(
    ("metric", "mine", "theirs", "passed"),
    [("auroc", 0.6, 0.85, False), ("auroc", 0.9, 0.85, True), ("mae", 8.0, 9.0, True), ("city=B/mae", 9.5, 9.0, False)],
)
def test_more_of_a_score_and_less_of_an_error_is_better(metric: str, mine: float, theirs: float, passed: bool) -> None:
    rule = {"rule": "superior", "metrics": [metric]}
    values, others = {"log_loss": 0.1, metric: mine}, {"log_loss": 0.2, metric: theirs}
    verdict = judge(values, {"b": others}, 50, gates(metric="log_loss", baselines={"b": rule}))
    assert verdict.passed is passed


def test_a_metric_with_a_right_value_is_bounded_and_not_compared() -> None:
    rule = {"rule": "superior", "metrics": ["coverage_80"]}
    metrics = {"mae": 1.0, "coverage_80": 0.8}
    with pytest.raises(WorkloadError, match=r"gates\.limits"):
        judge(metrics, {"b": metrics}, 50, gates(metric="mae", baselines={"b": rule}))


def test_metrics_of_slices_are_laid_beside_those_of_the_whole_where_gates_name_them() -> None:
    laid = with_slices({"mae": 1.0}, {"city=B": {"mae": 2.0, "rmse": 3.0}}, ["city=B/mae", "mae"])
    assert laid == {"mae": 1.0, "city=B/mae": 2.0}


def test_where_windows_of_all_series_begin_at_once_series_are_what_is_resampled() -> None:
    """414 series with one window each: no two share a target, however many steps a window forecasts."""
    settings: dict[str, Any] = {"position": np.arange(400), "parts": {}}
    promoted = {}
    for dependence in (1, 48):
        champion = errors(num=200, dependence=dependence, **settings)
        challenger = errors(num=200, dependence=dependence, seed=1, **settings)
        half = replace(challenger, total=challenger.total / 2)
        promoted[dependence] = decide(PASSED, half, champion, gates(), generator=np.random.default_rng(3)).promote
    assert promoted == {1: True, 48: False}, "400 windows that shared targets would be too few"
