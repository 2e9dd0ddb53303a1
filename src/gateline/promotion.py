"""Who becomes champion: is a challenger that passed its gates better than the champion? Pure functions, no registry.

`decide` compares both on the same test examples (windows, sentences, recordings). A number that is not finite, an empty test part or
different rows are a no, never an exception. What the verdict rests on: `gateline.judgement`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateline.comparison import ExampleErrors
from gateline.intervals import MIN_BLOCKS
from gateline.judgement import Check, Verdict
from gateline.paired import (
    MIN_DIFFERENT,
    Resamples,
    SliceOutcome,
    are_finite,
    block_of,
    judge_slices,
    num_different,
    on_the_same_rows,
    resample,
)
from gateline.workload.gates import Gates


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


def decide(
    verdict: Verdict | None,
    challenger: ExampleErrors,
    champion: ExampleErrors | None,
    gates: Gates,
    *,
    generator: np.random.Generator,
    against: Sequence[Check] = (),
    attempts: int = 1,
    unscored: str | None = None,
) -> Decision:
    """Say whether a challenger becomes champion.

    Without a champion the verdict is enough. With one, the difference of the metric on the same examples gets a one-sided
    bound from a paired circular block bootstrap over time, since errors of overlapping windows are not independent; and so does
    each slice, see `gateline.paired.judge_slices`.

    Args:
        verdict: what `gateline.judgement.judge` says of the challenger; None where only the comparison is asked for. One without
            a check is a no.
        challenger: its errors on the test examples.
        champion: the champion's errors on the same examples; None if there is no champion.
        gates: the rule, its margin, and the margin of the slices.
        generator: draws the blocks.
        against: what is known of both models beside their errors, see `unfair`.
        attempts: the how manieth challenger of this champion on these rows it is: the more are tried, the likelier one of
            them wins by chance. So the k-th gets the share 1 / (k (k + 1)) of the error that the gates allow, which is no more than
            all of it however many come.
        unscored: why there is a champion and no errors of it: it cannot read these examples, e.g. a column that it was trained with
            is there no more. A no, which a person may overrule.

    Source:
        Politis and Romano (1992), A circular block-resampling procedure for stationary data, in LePage and Billard, Exploring
        the Limits of Bootstrap.
    """
    judged = () if verdict is None else verdict.checks
    checks, passed = [*judged, *against], verdict is None or verdict.passed
    if unscored is not None:
        reason = (
            f"the champion cannot be scored on this test part, so nobody can say which is better: {unscored}; a person may promote "
            "the challenger for a reason"
        )
        return Decision(False, (*checks, Check("comparable", False, reason)), {}, rows=None)  # it was compared on none
    if champion is None:
        checks += _measured(challenger)
        checks.append(Check("champion", True, "there is no champion yet: the baselines and limits decide"))
        return Decision(passed and all(check.passed for check in checks), tuple(checks), {}, challenger.rows)
    checks += _comparable(challenger, champion)
    if not all(check.passed for check in checks[len(judged) :]):
        return Decision(False, tuple(checks), {}, challenger.rows)
    mine, theirs = challenger.score(), champion.score()
    comparison = {"challenger": mine, "champion": theirs, "difference": mine - theirs}
    different = num_different(challenger, champion)
    if different == 0:
        checks.append(
            Check("tie", False, "it makes the same errors as the champion on every example; a tie promotes nobody")
        )
        return Decision(False, tuple(checks), comparison, challenger.rows)
    positions, block = block_of(challenger)
    if positions < MIN_BLOCKS * block:
        reason = (
            f"{positions} points of time in the test part, {MIN_BLOCKS * block} are needed to tell the challenger from "
            f"the champion ({MIN_BLOCKS} blocks of {block})"
        )
        return Decision(False, (*checks, Check("champion", False, reason)), comparison, challenger.rows)
    if different < MIN_DIFFERENT:
        reason = (
            f"too few to tell: challenger and champion differ at {different} positions of the test part, at least {MIN_DIFFERENT} are "
            "needed"
        )
        return Decision(False, (*checks, Check("champion", False, reason)), comparison, challenger.rows)
    whole, slices = resample(challenger, champion, block, gates.champion.resamples, generator)
    difference, bound = _check_difference(challenger, champion, gates, whole, attempts)
    comparison |= {"attempts": attempts} if bound is None else {"upper_bound": bound, "attempts": attempts}
    outcomes = judge_slices(
        challenger, champion, slices, block=block, margin=gates.slice_margin, confidence=gates.champion.confidence
    )
    untold = sum(not each.told for each in outcomes.values())
    if untold:
        many = f", and {untold} of {len(outcomes)} slices could not be told"
        difference = Check(difference.name, difference.passed, difference.reason + many)
    checks += [difference, *(_check_slice(challenger.metric, name, each, gates) for name, each in outcomes.items())]
    return Decision(passed and all(check.passed for check in checks), tuple(checks), comparison, challenger.rows)


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
    same_rows = on_the_same_rows(challenger, champion)
    checks = [
        Check(
            "same_rows",
            same_rows,
            f"scored on {'the same rows as' if same_rows else 'other rows, or by a metric of other quantiles, than'} the champion",
        )
    ]
    checks += _measured(challenger, champion)
    same_slices = challenger.parts.keys() == champion.parts.keys() and all(
        np.array_equal(part.count, champion.parts[name].count) for name, part in challenger.parts.items()
    )
    if not same_slices:
        checks.append(Check("slices", False, "the champion was scored on other slices"))
    return checks


def _measured(challenger: ExampleErrors, *champion: ExampleErrors) -> list[Check]:
    """See that there are examples, and that all errors are numbers."""
    if len(challenger.total) == 0:
        return [Check("examples", False, "the test part is empty")]
    if are_finite(challenger, *champion):
        return []
    whose = "the challenger or of the champion" if champion else "the challenger"
    return [Check("finite", False, f"an error of {whose} is no finite number")]


def _check_difference(
    challenger: ExampleErrors, champion: ExampleErrors, gates: Gates, whole: Resamples, attempts: int
) -> tuple[Check, float | None]:
    """Compare the whole; the bound is None where some resamples have none."""
    rule, metric = gates.champion, challenger.metric
    mine, theirs = challenger.score(), champion.score()
    share = rule.margin if rule.rule == "non_inferior" else -rule.margin
    allowed = share * theirs + 0.0  # no -0
    # Of the difference beyond the margin of the champion's own metric, which is as uncertain; shown as one of the difference.
    confidence = confidence_of(rule.confidence, attempts)
    bound = whole.bound(confidence, share) + allowed
    if not math.isfinite(bound):
        reason = (
            f"{metric} {mine:.4g} against the champion's {theirs:.4g}: how sure the difference {mine - theirs:+.3g} is cannot be told, "
            "some resamples hold nothing to measure"
        )
        return Check("champion", False, reason), None
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
    if found.told and found.bound is None:
        return Check(f"slice {name}", True, f"{said}: it makes the same errors as the champion on every example of it")
    if found.told:
        shown = "it is shown" if found.passed else "it is not shown"
        reason = f"{said}: the difference is at most {found.bound:+.3g}, {shown} to be less than {found.allowed:+.3g}"
        return Check(f"slice {name}", found.passed, reason)
    known = "too few blocks for an interval" if found.bound is None else f"known up to {found.bound:+.3g} only"
    seen = "not seen to be worse" if found.passed else "measured worse by more than that"
    passed = found.passed and gates.small_slices == "report"
    reason = f"{said}: too small to tell ({known}, {allowed}), {seen}"
    return Check(f"slice {name}", passed, reason)
