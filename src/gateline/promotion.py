"""The gates: is a model good enough, and is it better than the champion? Pure functions of numbers, no registry.

`judge` writes the verdict of evaluate: baselines, absolute limits, enough examples. `decide` compares with the champion on
the same test examples (windows, sentences, recordings). A number that is not finite, an empty test part or different rows are a no, never an exception.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.comparison import ExampleErrors
from gateline.errors import WorkloadError, did_you_mean
from gateline.paired import MIN_BLOCKS, Resamples, SliceOutcome, block_of, judge_slices, resample
from gateline.workload.gates import Baseline, Gates, Limit

HIGHER_IS_BETTER = re.compile(r"accuracy|auroc|auprc|f1_macro|f_score|bleu|chrf|ssim|psnr|service_level|fill_rate")
"""Metrics of which more is better; of all others that can be compared, less is."""
NEITHER = re.compile(r"bias|(coverage|width)_.*|length_ratio")
"""Metrics that have a right value, or say nothing alone: they can be bounded, and not compared."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what, whether it holds, and the numbers in a sentence."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Yes or no, with every check that it rests on."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """All checks hold, and there is at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """What speaks against it; where nothing does, what speaks for it."""
        return [check.reason for check in self.checks if self.passed or not check.passed]

    def as_json(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"passed": self.passed, "reasons": self.reasons}


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger, with every check that it rests on.

    Args:
        promote: it becomes champion.
        checks: in the order in which they were made.
        comparison: metric of both, difference and bound, as they stand in `decision.json`; empty without a champion.
        rows: digest of the test rows that were scored.
    """

    promote: bool
    checks: tuple[Check, ...]
    comparison: Mapping[str, float]
    rows: str | None = None

    @property
    def reasons(self) -> list[str]:
        """What speaks against it; where nothing does, what speaks for it."""
        return [check.reason for check in self.checks if self.promote or not check.passed]


def with_slices(
    metrics: Mapping[str, Any], slices: Mapping[str, Mapping[str, Any]], names: Collection[str]
) -> dict[str, Any]:
    """Lay the metrics of slices that gates name, ``KEY=VALUE/METRIC``, beside those of the whole.

    Args:
        metrics: of the whole test part.
        slices: metrics by name of the slice.
        names: those that gates name, see `Gates.named_metrics`.
    """
    flat = {f"{place}/{name}": value for place, values in slices.items() for name, value in values.items()}
    return {**metrics, **{name: value for name, value in flat.items() if name in names}}


def judge(
    metrics: Mapping[str, float | None],
    baselines: Mapping[str, Mapping[str, float | None]],
    num_examples: int,
    gates: Gates,
) -> Verdict:
    """Say whether a model passes the baselines and the absolute limits.

    Args:
        metrics: metrics of the model on the test part, in raw units.
        baselines: the same metrics of each baseline on the same examples.
        num_examples: test examples that were scored.
        gates: what must hold.

    Raises:
        WorkloadError: `gates` names a metric or a baseline that evaluate did not compute.
    """
    if not metrics:
        return Verdict((Check("metrics", False, "nothing was measured on the test part"),))
    _known("gates.metric", gates.metric, metrics, "metric")
    for name in gates.baselines:
        _known(f"gates.baselines.{name}", name, baselines, "baseline")
        for metric in (gates.metric, *gates.baselines[name].metrics):
            where = "gates.metric" if metric == gates.metric else f"gates.baselines.{name}.metrics"
            _known(where, metric, metrics, "metric")
            _known(where, metric, baselines[name], f"metric of the baseline {name}")
            if NEITHER.fullmatch(metric.rpartition("/")[2]):
                raise WorkloadError(
                    where,
                    expected="a metric of which more, or less, is better",
                    found=repr(metric),
                    do="Bound it in gates.limits",
                )
    for name in gates.limits:
        _known(f"gates.limits.{name}", name, metrics, "metric")
    checks = [
        Check(
            "min_examples",
            num_examples >= gates.min_examples,
            f"{num_examples} test examples, at least {gates.min_examples} are needed to judge",
        )
    ]
    checks += [
        Check("finite", False, f"{name} is {value}, no finite number")
        for name, value in {
            **metrics,
            **{f"{b}/{m}": v for b, values in baselines.items() for m, v in values.items()},
        }.items()
        if not _finite(value)
    ]
    if all(check.name != "finite" for check in checks):
        checks += [
            _against_baseline(metric, _number(metrics[metric]), name, _number(baselines[name][metric]), rule)
            for name, rule in gates.baselines.items()
            for metric in (gates.metric, *rule.metrics)
        ]
        checks += [_within(name, _number(metrics[name]), limit) for name, limit in gates.limits.items()]
    return Verdict(tuple(checks))


def decide(
    verdict: Verdict,
    challenger: ExampleErrors,
    champion: ExampleErrors | None,
    gates: Gates,
    *,
    dependence: int,
    generator: np.random.Generator,
    against: Sequence[Check] = (),
    attempts: int = 1,
) -> Decision:
    """Say whether a challenger becomes champion.

    Without a champion the verdict is enough. With one, the difference of the metric on the same examples gets a one-sided
    bound from a paired moving-block bootstrap over time, since errors of overlapping windows are not independent; and so does
    each slice, see `gateline.paired.judge_slices`.

    Args:
        verdict: what `judge` says of the challenger.
        challenger: its errors on the test examples.
        champion: the champion's errors on the same examples; None if there is no champion.
        gates: the rule, its margin, and the margin of the slices.
        dependence: positions over which neighbouring examples share targets, e.g. the steps that a window forecasts; 1 for
            independent examples. A block is at least twice as long.
        generator: draws the blocks.
        against: what is known of both models beside their errors, see `unfair`.
        attempts: the how manieth challenger of this champion on these rows it is: the more are tried, the likelier one of
            them wins by chance. So the k-th gets the share 1 / (k (k + 1)) of the error that the gates allow, which is no more than
            all of it however many come.

    Source:
        Künsch (1989), The Annals of Statistics 17(3), section 2: moving blocks.
    """
    checks = [*verdict.checks, *against]
    if champion is None:
        checks.append(Check("champion", True, "there is no champion yet: the baselines and limits decide"))
        return Decision(all(check.passed for check in checks) and verdict.passed, tuple(checks), {}, challenger.rows)
    checks += _comparable(challenger, champion)
    if not all(check.passed for check in checks[len(verdict.checks) :]):
        return Decision(False, tuple(checks), {}, challenger.rows)
    mine, theirs = challenger.score(), champion.score()
    comparison = {"challenger": mine, "champion": theirs, "difference": mine - theirs}
    if np.array_equal(challenger.total, champion.total):
        checks.append(
            Check("tie", False, "it makes the same errors as the champion on every example; a tie promotes nobody")
        )
        return Decision(False, tuple(checks), comparison, challenger.rows)
    positions, block = block_of(challenger, dependence)
    if positions < MIN_BLOCKS * block:
        reason = (
            f"{positions} points of time in the test part, {MIN_BLOCKS * block} are needed to tell the challenger from "
            f"the champion ({MIN_BLOCKS} blocks of {block})"
        )
        return Decision(False, (*checks, Check("champion", False, reason)), comparison, challenger.rows)
    whole, slices = resample(challenger, champion, block, gates.champion.resamples, generator)
    difference, bound = _check_difference(challenger, champion, gates, whole, attempts)
    comparison |= {"upper_bound": bound, "attempts": attempts}
    outcomes = judge_slices(
        challenger, champion, slices, block=block, margin=gates.slice_margin, confidence=gates.champion.confidence
    )
    untold = sum(not each.told for each in outcomes.values())
    if untold:
        many = f", and {untold} of {len(outcomes)} slices could not be told"
        difference = Check(difference.name, difference.passed, difference.reason + many)
    checks += [difference, *(_check_slice(challenger.metric, name, each, gates) for name, each in outcomes.items())]
    return Decision(all(check.passed for check in checks), tuple(checks), comparison, challenger.rows)


def confidence_of(confidence: float, attempts: int) -> float:
    """Say with which confidence the k-th challenger of a champion on the same rows is tested: 1 - a / (k (k + 1)).

    The sum over all k is a = 1 - confidence: a bound of Bonferroni's kind for challengers that have no end.

    Source:
        Foster and Stine (2008), Journal of the Royal Statistical Society B 70(2): alpha-spending in a sequence of tests.
    """
    return 1 - (1 - confidence) / (attempts * (attempts + 1))


def unfair(*, same_model: bool, seen: str | None, untold: str | None = None) -> list[Check]:
    """Say why a comparison would say nothing, whatever the errors are, and what of that could not be looked at.

    Args:
        same_model: challenger and champion have the same weights.
        seen: what of the test part the champion was trained or chosen on, in words; None for nothing.
        untold: why that cannot be told, in words; None if it can. Passes, and is seen.
    """
    found = []
    if same_model:
        found.append(
            Check("self", False, "it has the very weights of the champion: a model is not compared with itself")
        )
    if seen is not None:
        found.append(Check("unseen", False, f"the champion has seen the test part: {seen}"))
    elif untold is not None:
        said = f"whether the champion has seen the test part cannot be told, because {untold}"
        found.append(Check("unseen", True, said))
    return found


def _comparable(challenger: ExampleErrors, champion: ExampleErrors) -> list[Check]:
    """See that both were measured on the same examples, that there are some, and that all errors are numbers."""
    same_rows = (
        champion.metric == challenger.metric
        and champion.rows == challenger.rows
        and np.array_equal(champion.position, challenger.position)
        and np.array_equal(champion.count, challenger.count)
    )
    checks = [
        Check(
            "same_rows", same_rows, f"scored on {'the same rows as' if same_rows else 'other rows than'} the champion"
        )
    ]
    if len(challenger.total) == 0:
        checks.append(Check("examples", False, "the test part is empty"))
    both = (challenger, champion)
    sums = [errors.total for errors in both] + [part.total for errors in both for part in errors.parts.values()]
    if not all(bool(np.isfinite(each).all()) for each in sums) or not all(math.isfinite(each.score()) for each in both):
        checks.append(Check("finite", False, "an error of the challenger or of the champion is no finite number"))
    same_slices = challenger.parts.keys() == champion.parts.keys() and all(
        np.array_equal(part.count, champion.parts[name].count) for name, part in challenger.parts.items()
    )
    if not same_slices:
        checks.append(Check("slices", False, "the champion was scored on other slices"))
    return checks


def _check_difference(
    challenger: ExampleErrors, champion: ExampleErrors, gates: Gates, whole: Resamples, attempts: int
) -> tuple[Check, float]:
    rule, metric = gates.champion, challenger.metric
    mine, theirs = challenger.score(), champion.score()
    share = rule.margin if rule.rule == "non_inferior" else -rule.margin
    allowed = share * theirs + 0.0  # no -0
    # Of the difference beyond the margin of the champion's own metric, which is as uncertain; shown as one of the difference.
    confidence = confidence_of(rule.confidence, attempts)
    bound = whole.bound(confidence, share) + allowed
    passed = bound < allowed and (rule.rule == "non_inferior" or mine < theirs)
    reason = (
        f"{metric} {mine:.4g} against the champion's {theirs:.4g}: the difference {mine - theirs:+.3g} is at most "
        f"{bound:+.3g} at {100 * confidence:.5g}% confidence (challenger {attempts} on these rows), and "
        f"{rule.rule.replace('_', '-')} asks for less than {allowed:+.3g}"
    )
    return Check("champion", passed, reason), bound


def _check_slice(metric: str, name: str, found: SliceOutcome, gates: Gates) -> Check:
    said = f"{metric} of {name} {found.mine:.4g} against the champion's {found.theirs:.4g}"
    allowed = f"{found.allowed:+.3g} is allowed"
    if found.told and found.bound is not None:
        shown = "it is shown" if found.passed else "it is not shown"
        reason = f"{said}: the difference is at most {found.bound:+.3g}, {shown} to be less than {found.allowed:+.3g}"
        return Check(f"slice {name}", found.passed, reason)
    known = "too few blocks for an interval" if found.bound is None else f"known up to {found.bound:+.3g} only"
    seen = "not seen to be worse" if found.passed else "measured worse by more than that"
    passed = found.passed and gates.small_slices == "report"
    reason = f"{said}: too small to tell ({known}, {allowed}), {seen}"
    return Check(f"slice {name}", passed, reason)


def _against_baseline(metric: str, mine: float, name: str, theirs: float, baseline: Baseline) -> Check:
    share = f"{(mine - theirs) / abs(theirs):+.1%}" if theirs else f"{mine - theirs:+.3g}"
    said = f"{metric} {mine:.4g} against {theirs:.4g} of {name} ({share})"
    more_is_better = HIGHER_IS_BETTER.fullmatch(metric.rpartition("/")[2]) is not None
    better, worse = ("higher", "lower") if more_is_better else ("lower", "higher")
    gain, room = (mine - theirs if more_is_better else theirs - mine), baseline.margin * abs(theirs)
    if baseline.rule == "superior":
        needed = f"{better} by more than {baseline.margin:.1%}" if baseline.margin else better
        return Check(f"baseline {name}", gain > room, f"{said}; must be {needed}")
    return Check(f"baseline {name}", gain >= -room, f"{said}; must not be {worse} by more than {baseline.margin:.1%}")


def _within(name: str, value: float, limit: Limit) -> Check:
    low, high = limit.min, limit.max
    passed = (low is None or value >= low) and (high is None or value <= high)
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
    )
    return Check(f"limit {name}", passed, f"{name} {value:.4g}; must be {bounds}")


def _known(where: str, name: str, known: Any, what: str) -> None:
    if name not in known:
        raise WorkloadError(where, expected=f"a known {what}", found=repr(name), do=did_you_mean(name, known))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
