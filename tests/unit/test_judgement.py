"""A baseline is beaten as measured, or shown to be: what the verdict makes of errors example by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from gateline.comparison import ExampleErrors
from gateline.errors import WorkloadError
from gateline.intervals import MIN_BLOCKS
from gateline.judgement import Check, Verdict, judge, more_is_better
from gateline.paired_errors import PairedErrors, by_position
from gateline.table import read_table, write_table
from gateline.workload.gates import Baseline, Gates, Limit

NUM, DEPENDENCE = 400, 4


def errors(offset: float = 0.0, *, num: int = NUM, seed: int = 0, noise: float = 0.3, **changes: Any) -> ExampleErrors:
    """Errors of windows of two series over `num` points of time; `offset` is added to that of each step."""
    shared = np.random.default_rng(99).gamma(2.0, 2.0, size=2 * num) + 2
    own = np.random.default_rng(seed).normal(0, noise, size=2 * num)
    settings = {
        "metric": "mae",
        "total": DEPENDENCE * (shared + own + offset),
        "count": np.full(2 * num, float(DEPENDENCE)),
        "position": np.repeat(np.arange(num) * 3600, 2),
        "rows": "a" * 64,
        "dependence": DEPENDENCE,
    }
    return ExampleErrors(**{**settings, **changes})


def judged(model: ExampleErrors, baseline: ExampleErrors, **rule: Any) -> tuple[Verdict, Check]:
    """Judge a model against one baseline; the metrics are those of finite errors, as of a task that measured them."""
    paired = PairedErrors.of([model], {"naive": [baseline]})
    metrics = {each.metric: float(np.nansum(each.total) / each.count.sum()) for each in (model,)}
    theirs = {model.metric: float(np.nansum(baseline.total) / baseline.count.sum())}
    gates = Gates.model_validate({"metric": "mae", "min_examples": 1, "baselines": {"naive": rule}})
    verdict = judge(metrics, {"naive": theirs}, len(model.total), gates, paired)
    (check,) = [check for check in verdict.checks if check.name == "baseline naive"]
    return verdict, check


SURE: dict[str, Any] = {"confidence": 0.95}
AT_MOST = {"rule": "non_inferior", "margin": 0.05}


@pytest.mark.parametrize(
    ("offset", "rule", "as_measured", "shown"),
    [
        (-0.5, {}, True, True),  # beyond doubt
        (-0.02, {}, True, False),  # as measured only
        (0.5, {}, False, False),  # worse
        (-0.5, {"margin": 0.05}, True, True),
        (-0.5, {"margin": 0.08}, True, False),  # better by 8.4 %, which is not shown to be 8 %
        (-0.5, {"margin": 0.3}, False, False),
        (0.1, AT_MOST, True, True),
        (0.29, AT_MOST, True, False),  # worse by 4.8 %, which is not shown to be less than 5 %
        (0.5, AT_MOST, False, False),
    ],
)
def test_a_baseline_is_beaten_as_measured_or_beyond_chance(
    offset: float, rule: dict[str, Any], as_measured: bool, shown: bool
) -> None:
    both = errors(offset, seed=1, noise=1.5), errors(seed=2, noise=1.5)
    for settings, passed in ((rule, as_measured), (rule | SURE, shown)):
        verdict, check = judged(*both, **settings)
        assert verdict.passed is check.passed is passed, check.reason
        assert "the difference" in check.reason
        assert "at 95% confidence" in check.reason
        assert ("shown" in check.reason) is (settings is not rule)
        assert ("as measured" in check.reason) is (settings is rule)


def test_the_bound_is_that_of_the_closed_form_for_independent_examples() -> None:
    """Mean of n independent differences: the bound is their mean plus z times their standard error."""
    generator = np.random.default_rng(5)
    theirs, difference = generator.gamma(3.0, 1.0, size=4000), generator.normal(-0.02, 0.5, size=4000)
    own: dict[str, Any] = {"count": np.ones(4000), "position": np.arange(4000), "dependence": 1}
    for confidence, z in ((0.9, 1.2816), (0.99, 2.3263)):
        _, check = judged(errors(total=theirs + difference, **own), errors(total=theirs, **own), confidence=confidence)
        bound = float(check.reason.partition("is at most ")[2].split()[0])
        assert bound == pytest.approx(difference.mean() + z * difference.std() / np.sqrt(4000), abs=0.003)
        assert f"at {100 * confidence:g}% confidence" in check.reason


@pytest.mark.parametrize(
    ("gain", "rule", "passed"),
    [
        (0.06, {}, True),
        (-0.06, {}, False),
        (0.06, {"margin": 0.05}, True),  # better by 8.6 %
        (0.06, {"margin": 0.083}, False),  # which is not shown to be 8.3 %
        (-0.01, AT_MOST, True),
        (-0.034, AT_MOST, False),  # worse by 4.9 %, which is not shown to be less than 5 %
        (-0.2, AT_MOST, False),
        (0.06, AT_MOST, True),
    ],
)
def test_more_of_a_score_must_be_shown_as_less_of_an_error_is(gain: float, rule: dict[str, Any], passed: bool) -> None:
    """Seven of ten that the baseline gets right, and examples that model and baseline differ in by a little."""
    num = 2000
    generator = np.random.default_rng(3)
    theirs, noise = (generator.random(num) < 0.7).astype(float), generator.normal(0, 0.1, num)
    common: dict[str, Any] = {
        "metric": "service_level",
        "count": np.ones(num),
        "position": np.arange(num),
        "dependence": 1,
    }
    model = errors(total=theirs + gain + noise - noise.mean(), **common)
    paired = PairedErrors.of([model], {"naive": [errors(total=theirs, **common)]})
    metrics = [{"mae": 1.0, "service_level": each} for each in (model.score(), float(theirs.mean()))]
    both = {"metrics": ["service_level"], **rule, **SURE}
    found = judge(metrics[0] | {"mae": 0.5}, {"naive": metrics[1]}, num, Gates.model_validate({"metric": "mae", "min_examples": 1, "baselines": {"naive": both}}), paired)  # fmt: skip
    check = next(check for check in found.checks if check.reason.startswith("service_level"))
    assert check.passed is passed, check.reason
    assert "is at least" in check.reason


def broken() -> ExampleErrors:
    made = errors(-0.5, seed=1)
    made.total[3] = np.nan
    return made


FEW = MIN_BLOCKS * 2 * DEPENDENCE


@pytest.mark.parametrize(
    ("model", "baseline", "why"),
    [
        (broken(), errors(), "no finite number"),
        (errors(-0.5), broken(), "no finite number"),
        (errors(-0.5), errors(rows="b" * 64), "other rows"),
        (errors(-0.5), errors(position=np.repeat(np.arange(NUM) * 1800, 2)), "other rows"),
        (errors(-0.5), errors(count=np.arange(2.0 * NUM) + 1), "other rows"),
        (errors(-0.5, num=FEW - 1), errors(num=FEW - 1), f"{FEW - 1} positions in the test part, {FEW} are needed"),
        (errors(-0.5), errors(metric="rmse"), "not known example by example"),
    ],
    ids=["nan", "nan of the baseline", "rows", "times", "counts", "few", "metric"],
)
def test_what_cannot_be_shown_is_a_no_with_its_reason(model: ExampleErrors, baseline: ExampleErrors, why: str) -> None:
    refused, check = judged(model, baseline, **SURE)
    assert not refused.passed
    assert "must be shown to be lower, and cannot be: " in check.reason
    assert why in check.reason
    _, measured = judged(model, baseline)
    assert why in measured.reason, "as measured, the reason says why there is no bound"


def test_as_many_blocks_as_are_needed_are_enough() -> None:
    verdict, _ = judged(errors(-0.5, seed=1, num=FEW), errors(num=FEW), **SURE)
    assert verdict.passed


def test_without_errors_by_example_nothing_can_be_shown() -> None:
    gates = Gates.model_validate({"metric": "mae", "min_examples": 1, "baselines": {"naive": SURE}})
    verdict = judge({"mae": 1.0}, {"naive": {"mae": 9.0}}, 400, gates)
    assert not verdict.passed
    assert "no errors by example" in verdict.reasons[0]


def test_a_metric_that_is_no_sum_over_examples_is_compared_as_measured_and_says_so() -> None:
    settings = {"naive": {**SURE, "metrics": ["bleu", "rmse"]}}
    gates = Gates.model_validate({"metric": "mae", "min_examples": 1, "baselines": settings})
    root: dict[str, Any] = {"metric": "rmse", "root": True}
    paired = PairedErrors.of(
        [errors(-0.5, seed=1), errors(-0.5, seed=1, **root)], {"naive": [errors(), errors(**root)]}
    )
    mine, theirs = (
        {name: each.score() for name, each in of.items()} for of in (paired.model, paired.baselines["naive"])
    )

    verdict = judge({**mine, "bleu": 30.0}, {"naive": {**theirs, "bleu": 20.0}}, 400, gates, paired)

    assert verdict.passed
    mae, bleu, rmse = (check.reason for check in verdict.checks if check.name == "baseline naive")
    assert bleu.endswith("must be higher, as measured")
    assert all("must be shown to be lower: the difference" in reason for reason in (mae, rmse))


def test_all_of_several_baselines_must_be_beaten_each_at_its_own_confidence() -> None:
    paired = PairedErrors.of(
        [errors(-0.5, seed=1, noise=1.5)], {"naive": [errors()], "near": [errors(-0.49, seed=2, noise=1.5)]}
    )
    metrics = {"mae": paired.model["mae"].score()}
    of = {name: {"mae": each["mae"].score()} for name, each in paired.baselines.items()}

    def passed(near: dict[str, Any]) -> bool:
        settings = {"metric": "mae", "min_examples": 1, "baselines": {"naive": SURE, "near": near}}
        return judge(metrics, of, 400, Gates.model_validate(settings), paired).passed

    assert passed({})
    assert not passed(SURE)


def test_errors_are_the_same_after_they_were_written_and_read(tmp_path: Path) -> None:
    """Register and verify judge by the file: the same bits, so the same words."""
    paired = PairedErrors.of(
        [errors(-0.1, seed=1), errors(metric="rmse", root=True), errors(metric="bias")],
        {"naive": [errors(), errors(seed=2, metric="rmse", root=True)], "other": [errors(rows="b" * 64)]},
    )
    write_table(paired.as_table(), tmp_path / "errors.parquet")

    again = PairedErrors.from_table(read_table(tmp_path / "errors.parquet"))

    assert {each.dependence for each in again.model.values()} == {DEPENDENCE}
    assert again.model.keys() == {"mae", "rmse"}, "what no baseline has is not kept"
    assert again.differences(["mae", "rmse"], 500) == paired.differences(["mae", "rmse"], 500)
    assert again.pair("other", "mae", 500) == "other was scored on other rows"
    assert PairedErrors.from_table(PairedErrors({}, {}).as_table()).model == {}


def test_sums_by_position_give_the_bound_of_the_examples_themselves() -> None:
    """Blocks are of positions, so nothing is lost."""
    from gateline.paired import resample

    one, other = errors(-0.1, seed=1), errors(seed=2)
    whole, reduced = (
        resample(*pair, 8, 300, np.random.default_rng(0))[0]
        for pair in ((one, other), (by_position(one), by_position(other)))
    )
    np.testing.assert_array_equal(whole.mine, reduced.mine)
    np.testing.assert_array_equal(whole.theirs, reduced.theirs)


def test_an_interval_holds_the_difference_and_mirrors_when_the_models_change_places() -> None:
    one, other = errors(-0.1, seed=1), errors(seed=2)
    there, back = (
        PairedErrors.of([mine], {"b": [theirs]}).differences(["mae"], 2000)["b"]["mae"]
        for mine, theirs in ((one, other), (other, one))
    )
    low, high = there["interval"]
    assert low < there["difference"] < high
    assert there["difference"] == pytest.approx(one.score() - other.score())
    assert back["interval"] == pytest.approx((-high, -low))


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95])
def test_a_confidence_lies_between_a_half_and_one(confidence: float) -> None:
    with pytest.raises(ValidationError, match="confidence"):
        Baseline.model_validate({"confidence": confidence})


@pytest.mark.parametrize("metric", ["recall", "precision", "auroc_last", "city=BASEL/f_score"])
def test_of_what_is_found_more_is_better_and_of_errors_less(metric: str) -> None:
    gates = Gates.model_validate(
        {"metric": "log_loss", "baselines": {"naive": {"metrics": [metric]}}, "min_examples": 1}
    )
    good, bad = {"log_loss": 0.3, metric: 0.95}, {"log_loss": 0.5, metric: 0.3}

    assert judge(good, {"naive": bad}, 10, gates).passed
    assert not judge({**good, metric: 0.1}, {"naive": bad}, 10, gates).passed
    assert more_is_better("rmse_to_12") is more_is_better("variable=wind/mae_at_3") is False


def test_a_metric_of_which_nothing_says_whether_more_is_better_is_refused() -> None:
    gates = Gates.model_validate({"metric": "elegance", "baselines": {"naive": {}}, "min_examples": 1})
    with pytest.raises(WorkloadError, match="elegance"):
        judge({"elegance": 1.0}, {"naive": {"elegance": 2.0}}, 10, gates)


def test_errors_that_do_not_add_up_to_what_was_measured_show_nothing() -> None:
    model, baseline = errors(-0.5), errors(seed=1)
    paired = PairedErrors.of([model], {"naive": [baseline]})
    gates = Gates.model_validate({"metric": "mae", "min_examples": 1, "baselines": {"naive": SURE}})
    said = {"mae": model.score()}, {"naive": {"mae": baseline.score()}}

    assert judge(*said, NUM, gates, paired).passed
    found = judge({"mae": model.score() - 1}, said[1], NUM, gates, paired)
    assert not found.passed
    assert "do not add up" in found.reasons[0]


def test_limits_between_which_nothing_lies_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing lies between 2 and 1"):
        Limit(min=2.0, max=1.0)
    assert Limit(min=1.0, max=1.0).max == 1.0
