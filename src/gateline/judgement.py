"""The verdict of evaluate: is a model good enough? Baselines, absolute limits, enough examples. No registry, no champion.

A number that is not finite, an empty test part or, where a baseline must be shown to be beaten, other rows are a no, never an exception.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

from gateline.errors import WorkloadError, did_you_mean
from gateline.paired_errors import PairedErrors
from gateline.workload.gates import Baseline, Gates, Limit

HIGHER_IS_BETTER = re.compile(
    r"accuracy|auroc|auroc_last|auprc|f1_macro|f_score|precision|recall|bleu|chrf|ssim|psnr|service_level|fill_rate"
)
LOWER_IS_BETTER = re.compile(
    r"(mae|mse|rmse)(_.+)?|median_ae|wape|smape|mase|owa|pinball|newsvendor_cost|(.+_)?error|(.+_)?error_rate|log_loss|brier|"
    r"perplexity|(bits|nats)_per_character|translation_edit_rate"
)
NEITHER = re.compile(r"bias|(coverage|width)_.*|length_ratio")
"""Metrics that have a right value, or say nothing alone: they can be bounded, and not compared."""
AGREE = 1e-5
"""Relative; a metric and its errors by example may be summed in other orders."""


def more_is_better(metric: str, where: str = "gates") -> bool:
    """Say of which models by a metric are better: True for more, False for less.

    Args:
        metric: its name; of a slice, ``KEY=VALUE/METRIC``.
        where: what asks, for the error.

    Raises:
        WorkloadError: neither is better, or nothing here says which.
    """
    name = metric.rpartition("/")[2]
    if HIGHER_IS_BETTER.fullmatch(name):
        return True
    if NEITHER.fullmatch(name) is None and LOWER_IS_BETTER.fullmatch(name):
        return False
    raise WorkloadError(
        where, expected="a metric of which more, or less, is better", found=repr(metric), do="Bound it in gates.limits"
    )


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what.
        passed: whether it holds.
        reason: the numbers in a sentence.
        figures: what was measured and compared, by name; no bound, which is known as well as the bootstrap of the time knew it.
    """

    name: str
    passed: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


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
        """What a manifest and a passport say of it; `checks` are what it is compared by, whatever the sentences are."""
        checks = [{"name": check.name, "passed": check.passed, "figures": dict(check.figures)} for check in self.checks]
        return {"passed": self.passed, "reasons": self.reasons, "checks": checks}


def first_other_outcome(verdict: Verdict, said: Sequence[Mapping[str, Any]]) -> str | None:
    """Name the first check that came out otherwise than in `Verdict.as_json`; None if none did, whatever its sentence is."""
    for check, before in zip_longest(verdict.checks, said):
        if check is None:
            return f"{before['name']} is asked no more"
        figures = {} if before is None else before["figures"]
        same = (
            before is not None
            and (check.name, check.passed) == (before["name"], before["passed"])
            and check.figures.keys() == figures.keys()
            and all(math.isclose(check.figures[name], figures[name], rel_tol=AGREE) for name in figures)
        )
        if not same:
            return check.reason
    return None


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
    errors: PairedErrors | None = None,
) -> Verdict:
    """Say whether a model passes the baselines and the absolute limits.

    A baseline whose rule names a confidence must be *shown* to be beaten, by the bound of a paired moving-block bootstrap as the
    champion is, see `gateline.promotion.decide`; that says something of metrics that are ratios of sums over examples. Any other
    metric is compared as measured, and so is each without a confidence; the reason says so.

    Args:
        metrics: metrics of the model on the test part, in raw units.
        baselines: the same metrics of each baseline on the same examples.
        num_examples: test examples that were scored.
        gates: what must hold.
        errors: of the model and of each baseline, example by example; None where none are at hand.

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
            more_is_better(metric, where)
    for name in gates.limits:
        _known(f"gates.limits.{name}", name, metrics, "metric")
    checks = [
        Check(
            "min_examples",
            num_examples >= gates.min_examples,
            f"{num_examples} test examples, at least {gates.min_examples} are needed to judge",
            {"examples": num_examples, "needed": gates.min_examples},
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
        checks += _against_baselines(metrics, baselines, gates, errors)
        checks += [_within(name, _number(metrics[name]), limit) for name, limit in gates.limits.items()]
    return Verdict(tuple(checks))


@dataclass(frozen=True)
class _Chance:
    """How sure the difference to a baseline is.

    Args:
        bound: one-sided bound of model - baseline, the upper one, or of a metric of which more is better the lower; NaN where
            there is none.
        allowed: what it must be less than, or more.
        words: the difference with its bound, or why there is none.
    """

    bound: float
    allowed: float
    words: str


def _against_baselines(
    metrics: Mapping[str, float | None],
    baselines: Mapping[str, Mapping[str, float | None]],
    gates: Gates,
    errors: PairedErrors | None,
) -> list[Check]:
    """Compare with each baseline by each metric that a gate names.

    All of them must hold, so none of their levels is corrected for their number: a model that is not better than one of the
    baselines passes with a probability of 1 - confidence at most, however many others it beats.

    Source:
        Berger (1982), Technometrics 24(4): intersection-union tests.
    """
    found = []
    for name, rule in gates.baselines.items():
        for metric in (gates.metric, *rule.metrics):
            mine, theirs = _number(metrics[metric]), _number(baselines[name][metric])
            chance = None
            if errors is not None and (errors.has(metric) or metric == gates.metric):
                chance = _chance(errors, name, metric, (mine, theirs), rule, gates)
            elif rule.confidence is not None and metric == gates.metric:
                chance = _Chance(math.nan, 0.0, "no errors by example are at hand")
            told = errors is not None
            found.append(_against_baseline(metric, mine, name, theirs, rule, chance, told=told))
    return found


def _chance(
    errors: PairedErrors, name: str, metric: str, measured: tuple[float, float], rule: Baseline, gates: Gates
) -> _Chance:
    """Say how sure the difference to a baseline is, of which `measured` has the metric of both."""
    confidence = gates.champion.confidence if rule.confidence is None else rule.confidence
    paired = errors.pair(name, metric, gates.champion.resamples)
    if isinstance(paired, str):
        return _Chance(math.nan, 0.0, paired)
    mine, theirs = paired.measured
    if not all(map(partial(math.isclose, rel_tol=AGREE), paired.measured, measured)):
        return _Chance(math.nan, 0.0, "its errors by example do not add up to what was measured")
    more = more_is_better(metric)
    share = rule.margin if (rule.rule == "superior") is more else -rule.margin
    allowed = share * theirs + 0.0  # no -0
    # Of the difference beyond the margin of the baseline's own metric, which is as uncertain; shown as one of the difference.
    bound = (paired.lower_bound if more else paired.bound)(confidence, share) + allowed
    if not math.isfinite(bound):
        return _Chance(math.nan, allowed, "some resamples hold nothing to measure")
    most = "at least" if more else "at most"
    words = f"the difference {mine - theirs:+.3g} is {most} {bound:+.3g} at {100 * confidence:.5g}% confidence"
    return _Chance(bound, allowed, words)


def _against_baseline(
    metric: str, mine: float, name: str, theirs: float, rule: Baseline, chance: _Chance | None, *, told: bool
) -> Check:
    """Compare as measured; with a confidence, and errors by example, the bound must show it, too."""
    share = f"{(mine - theirs) / abs(theirs):+.1%}" if theirs else f"{mine - theirs:+.3g}"
    said = f"{metric} {mine:.4g} against {theirs:.4g} of {name} ({share})"
    figures = {"model": mine, "baseline": theirs}
    more = more_is_better(metric)
    better, worse = ("higher", "lower") if more else ("lower", "higher")
    gain, room = (mine - theirs if more else theirs - mine), rule.margin * abs(theirs)
    if rule.rule == "superior":
        holds, asked = gain > room, f"{better} by more than {rule.margin:.1%}" if rule.margin else better
        demand, shown = f"must be {asked}", f"must be shown to be {asked}"
    else:
        holds, asked = gain >= -room, f"{worse} by more than {rule.margin:.1%}"
        demand, shown = f"must not be {asked}", f"must be shown not to be {asked}"
    if rule.confidence is None or chance is None:
        how = "" if not told else f", as measured ({chance.words})" if chance is not None else ", as measured"
        return Check(f"baseline {name}", holds, f"{said}; {demand}{how}", figures)
    if math.isnan(chance.bound):
        return Check(f"baseline {name}", False, f"{said}; {shown}, and cannot be: {chance.words}", figures)
    sense = "more" if more else "less"
    asked = f"{sense} than {chance.allowed:+.3g} is asked" if chance.allowed else f"{sense} than 0 is asked"
    beyond = chance.bound > chance.allowed if more else chance.bound < chance.allowed
    return Check(
        f"baseline {name}",
        beyond and holds,
        f"{said}; {shown}: {chance.words}, {asked}",
        figures,
    )


def _within(name: str, value: float, limit: Limit) -> Check:
    low, high = limit.min, limit.max
    passed = (low is None or value >= low) and (high is None or value <= high)
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
    )
    return Check(f"limit {name}", passed, f"{name} {value:.4g}; must be {bounds}", {"value": value})


def _known(where: str, name: str, known: Any, what: str) -> None:
    if name not in known:
        raise WorkloadError(where, expected=f"a known {what}", found=repr(name), do=did_you_mean(name, known))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
