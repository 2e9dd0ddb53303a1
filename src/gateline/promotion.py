"""The gates: is a model good enough, and is it better than the champion? Pure functions of numbers, no registry.

`judge` writes the verdict of evaluate: baselines, absolute limits, enough examples. `decide` compares with the champion on
the same test examples (windows, sentences, recordings). A number that is not finite, an empty test part or different rows are a no, never an exception.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.comparison import ExampleErrors
from gateline.errors import WorkloadError, did_you_mean
from gateline.intervals import block_length, resampled_sums
from gateline.workload.gates import Baseline, Gates, Limit

HIGHER_IS_BETTER = re.compile(r"accuracy|auroc|auprc|f1_macro|f_score|bleu|chrf|ssim|psnr|service_level|fill_rate")
"""Metrics of which more is better; of all others that can be compared, less is."""
NEITHER = re.compile(r"bias|(coverage|width)_.*|length_ratio")
"""Metrics that have a right value, or say nothing alone: they can be bounded, and not compared."""
MIN_BLOCKS = 8
"""Blocks of test time below which a bootstrap interval would be far too narrow, so nothing is decided by it."""


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
    """

    promote: bool
    checks: tuple[Check, ...]
    comparison: Mapping[str, float]

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
) -> Decision:
    """Say whether a challenger becomes champion.

    Without a champion the verdict is enough. With one, the difference of the metric on the same examples gets a one-sided
    bound from a paired moving-block bootstrap over time, since errors of overlapping windows are not independent.

    Args:
        verdict: what `judge` says of the challenger.
        challenger: its errors on the test examples.
        champion: the champion's errors on the same examples; None if there is no champion.
        gates: the rule, its margin, and the margin of the slices.
        dependence: positions over which neighbouring examples share targets, e.g. the steps that a window forecasts; 1 for
            independent examples. A block is at least twice as long.
        generator: draws the blocks.

    Source:
        Künsch (1989), The Annals of Statistics 17(3), section 2: moving blocks.
    """
    checks = list(verdict.checks)
    if champion is None:
        checks.append(Check("champion", True, "there is no champion yet: the baselines and limits decide"))
        return Decision(verdict.passed, tuple(checks), {})
    same_rows = (
        champion.metric == challenger.metric
        and champion.rows == challenger.rows
        and np.array_equal(champion.position, challenger.position)
        and np.array_equal(champion.count, challenger.count)
    )
    checks.append(
        Check("same_rows", same_rows, f"scored on {'the same' if same_rows else 'other'} rows than the champion")
    )
    mine, theirs = challenger.score(), champion.score()
    numbers = (mine, theirs, *challenger.slices.values(), *champion.slices.values())
    finite = all(map(math.isfinite, numbers)) and all(
        bool(np.isfinite(errors.total).all()) for errors in (challenger, champion)
    )
    if not finite:
        checks.append(Check("finite", False, "an error of the challenger or of the champion is no finite number"))
    if not (same_rows and finite):
        return Decision(False, tuple(checks), {})
    comparison = {"challenger": mine, "champion": theirs, "difference": mine - theirs}
    if np.array_equal(challenger.total, champion.total):
        checks.append(
            Check("tie", False, "it makes the same errors as the champion on every example; a tie promotes nobody")
        )
        return Decision(False, tuple(checks), comparison)
    difference, bound = _check_difference(challenger, champion, gates, dependence, generator)
    checks.append(difference)
    if bound is not None:
        comparison["upper_bound"] = bound
    checks += _check_slices(challenger, champion, gates)
    return Decision(all(check.passed for check in checks), tuple(checks), comparison)


def _check_difference(
    challenger: ExampleErrors, champion: ExampleErrors, gates: Gates, dependence: int, generator: np.random.Generator
) -> tuple[Check, float | None]:
    rule, metric = gates.champion, challenger.metric
    positions = np.unique(challenger.position)
    block = block_length(len(positions), dependence)
    if len(positions) < MIN_BLOCKS * block:
        reason = (
            f"{len(positions)} points of time in the test part, {MIN_BLOCKS * block} are needed to tell the challenger from "
            f"the champion ({MIN_BLOCKS} blocks of {block})"
        )
        return Check("champion", False, reason), None
    mine, theirs = challenger.score(), champion.score()
    differences = bootstrap_differences(challenger, champion, block, rule.resamples, generator)
    bound = float(np.quantile(differences, rule.confidence))
    allowed = rule.margin * theirs * (1 if rule.rule == "non_inferior" else -1) + 0.0  # no -0
    passed = bound < allowed and (rule.rule == "non_inferior" or mine < theirs)
    reason = (
        f"{metric} {mine:.4g} against the champion's {theirs:.4g}: the difference {mine - theirs:+.3g} is at most "
        f"{bound:+.3g} at {rule.confidence:.0%} confidence, and {rule.rule.replace('_', '-')} asks for less than {allowed:+.3g}"
    )
    return Check("champion", passed, reason), bound


def bootstrap_differences(
    challenger: ExampleErrors, champion: ExampleErrors, block: int, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Resample the difference of the metric, challenger minus champion, by blocks of consecutive points of time.

    Windows of all series that begin at one time stay together, and both models are resampled at the same times.

    Returns:
        float64 (resamples,).
    """
    columns = np.stack([challenger.total, champion.total, challenger.count])  # (3, E)
    mine, theirs, count = resampled_sums(columns, challenger.position, block, resamples, generator)  # each (resamples,)
    return np.asarray(challenger.ratio(mine, count) - challenger.ratio(theirs, count))


def _check_slices(challenger: ExampleErrors, champion: ExampleErrors, gates: Gates) -> list[Check]:
    if set(challenger.slices) != set(champion.slices):
        return [Check("slices", False, "the champion was scored on other slices")]
    checks = []
    for name, theirs in champion.slices.items():
        mine = challenger.slices[name]
        worst = theirs + gates.slice_margin * abs(theirs)
        reason = f"{challenger.metric} of {name} {mine:.4g}, at most {worst:.4g} allowed (the champion's {theirs:.4g})"
        checks.append(Check(f"slice {name}", mine <= worst, reason))
    return checks


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
