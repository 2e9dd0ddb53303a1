"""Drift: whether new data, or new answers, still look like what a model was trained on.

Two questions are asked of each column, and an alarm needs yes to both. Is the difference more than chance makes (a p-value,
for the number of independent values there are, with Holm's correction over all that is asked)? Is it large enough to matter
(limits on the size, as practice has them)? With few rows only chance is visible, with many rows everything is significant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from gateline.column_statistics import all_rounded, frequent_values, shown, spelt
from gateline.table import violations
from gateline.training_statistics import effective_count, series_of
from gateline.workload.schema import Column, Schema

Verdict = Literal["none", "warn", "drift"]
Worth = Callable[[pd.Series], float]
"""Says how many independent values a column is worth, see `effective_count`."""
Kind = Literal["population", "distribution", "missing", "out_of_range", "unknown_values", "unknown_tokens"]

SIGNIFICANCE = 0.01
"""Chance of any alarm at all, over all columns together, where nothing has changed."""
LIMITS: Mapping[Kind, tuple[float, float]] = {
    "population": (0.10, 0.25),
    "distribution": (0.10, 0.20),
    "missing": (0.02, 0.10),
    "out_of_range": (0.01, 0.05),
    "unknown_values": (0.01, 0.05),
    "unknown_tokens": (0.02, 0.10),
}
"""Sizes from which on a significant difference is a warning, and drift. The first are those of credit scoring (Siddiqi)."""
SIZE_IS: Mapping[Kind, str] = {
    "population": "population stability index beyond its noise",
    "distribution": "Kolmogorov-Smirnov distance",
    "missing": "share of rows without a value, more or less than in training",
    "out_of_range": "share of rows outside the schema's range, more than in training",
    "unknown_values": "share of rows with a value that training has not seen",
    "unknown_tokens": "share of tokens that are not in the vocabulary, more than in validation",
}
RARE = 0.001
"""A share of unseen values that is no news: what a training part of a thousand rows may miss."""
BINS = 10
FEWEST = 20
"""Rows below which a column is not judged."""
MOST_OTHER = 0.5
"""Share of rows outside the most frequent values, from which on values are no categories but free text."""
ORDER: tuple[Verdict, ...] = ("none", "warn", "drift")


@dataclass(frozen=True)
class Finding:
    """What one comparison of one column found.

    Args:
        column: of the data, or of the answers.
        kind: what was compared.
        size: see `SIZE_IS`.
        p_value: chance of as much or more where nothing has changed, for this comparison alone.
        expected_count: independent values in training.
        count: independent values in what is new.
        adjusted_p: with Holm's correction over all comparisons.
        verdict: none, warn or drift.
        detail: both sides in words.
    """

    column: str
    kind: Kind
    size: float
    p_value: float
    expected_count: float
    count: float
    detail: str
    adjusted_p: float = 1.0
    verdict: Verdict = "none"


def compare(
    expected: Mapping[str, Any],
    frame: pd.DataFrame,
    *,
    unknown_tokens: Mapping[str, tuple[int, int]] | None = None,
    needed: Sequence[str] | None = None,
) -> list[Finding]:
    """Compare rows with the statistics of a training part.

    Of keys, which tell one series or example from another, only what is missing or out of range is compared: that other patients have
    other numbers is no drift.

    Args:
        expected: see `gateline.training_statistics`.
        frame: rows with the columns of the schema, typed, in raw units; values that the schema rules out may stand there.
        unknown_tokens: unknown tokens and all tokens of the frame, by column of texts.
        needed: columns without which the model cannot do: where one is absent, it is missing in every row. None for all
            that training had.

    Returns:
        One finding for each comparison, judged together.
    """
    schema = Schema.model_validate(expected["schema"])
    times = None if schema.time is None or schema.time.column not in frame else frame[schema.time.column]
    series = series_of(frame, schema)

    def worth(values: pd.Series) -> float:
        """Count the independent values among some of the rows."""
        rows = values.index
        return effective_count(
            values, None if times is None else times.loc[rows], None if series is None else series.loc[rows]
        )

    findings: list[Finding] = []
    for name, column in schema.columns.items():
        seen = expected["columns"].get(name)
        if seen is None or column.type == "bytes" or (column.type == "time" and name not in frame):
            continue
        if name in frame:
            findings += _compare_column(name, column, seen, frame[name], worth, identifies=name in schema.keys)
        elif needed is None or name in needed:
            findings += _absent_column(name, seen, len(frame))
    for name, (unknown, tokens) in (unknown_tokens or {}).items():
        held_out = expected["unknown_tokens"].get(name) or expected["unknown_tokens"].get("")
        if held_out is not None and tokens >= FEWEST <= len(frame):
            findings.append(_tokens(name, held_out["unknown"], held_out["tokens"], unknown, tokens))
    return judged(findings)


def judged(findings: Sequence[Finding]) -> list[Finding]:
    """Give each finding its adjusted p-value and its verdict: all of them are one question, whether anything has changed.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(findings)), key=lambda place: findings[place].p_value)
    adjusted, largest = [1.0] * len(findings), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(findings) - rank) * findings[place].p_value))
        adjusted[place] = largest
    return [
        replace(finding, adjusted_p=p, verdict=_verdict(finding, p))
        for finding, p in zip(findings, adjusted, strict=True)
    ]


def worst(findings: Sequence[Finding]) -> Verdict:
    """The verdict on the whole."""
    return max((finding.verdict for finding in findings), key=ORDER.index, default="none")


def _verdict(finding: Finding, adjusted: float) -> Verdict:
    warn, drift = LIMITS[finding.kind]
    if adjusted > SIGNIFICANCE or finding.size < warn:
        return "none"
    return "drift" if finding.size >= drift else "warn"


def _compare_column(
    name: str, column: Column, seen: Mapping[str, Any], values: pd.Series, worth: Worth, *, identifies: bool
) -> list[Finding]:
    rows, expected_rows = len(values), seen["count"] + seen["missing"]
    if rows < FEWEST or expected_rows < FEWEST:
        return []
    raw = values.to_numpy(dtype=np.float64 if column.type in ("float", "integer") else object)
    outside = violations(raw, column)
    kept = values[~outside & values.notna().to_numpy()]
    # A row of a series says less than a row of its own, also about what is missing.
    of_expected = seen["effective_rows"] / expected_rows
    absent = values.isna()
    findings = [
        _shares(
            name,
            "missing",
            (seen["missing"] - seen["taken_as_missing"], expected_rows),
            (int(absent.sum()), rows),
            of_expected,
            worth(absent.astype(float)) / rows,
            either_way=True,
        )
    ]
    if outside.any():
        findings.append(
            _shares(
                name,
                "out_of_range",
                (seen["taken_as_missing"], expected_rows),
                (int(outside.sum()), rows),
                of_expected,
                worth(pd.Series(outside.astype(float), index=values.index)) / rows,
            )
        )
    changes = column.type == "time" or identifies  # as it should: later is no drift, nor is another patient
    if not changes and len(kept) >= FEWEST and seen["count"] >= FEWEST:
        if column.type in ("float", "integer"):
            findings += _numbers(name, seen, kept.to_numpy(dtype=np.float64), worth(kept))
        else:
            findings += _texts(name, column, seen, kept, worth)
    return findings


def _absent_column(name: str, seen: Mapping[str, Any], rows: int) -> list[Finding]:
    expected_rows = seen["count"] + seen["missing"]
    if rows < FEWEST or expected_rows < FEWEST:
        return []
    before = seen["missing"] - seen["taken_as_missing"], expected_rows
    worth = seen["effective_rows"] / expected_rows
    found = _shares(name, "missing", before, (rows, rows), worth, 1.0, either_way=True)
    return [replace(found, detail=f"{found.detail}: there is no such column")]


def _numbers(name: str, seen: Mapping[str, Any], new: np.ndarray, effective: float) -> list[Finding]:
    new = all_rounded(new)
    quantiles = np.array(list(seen["quantiles"].values()))
    expected_count = float(seen["effective_count"])
    distance = ks_distance(quantiles, new)
    told = f"median {_number(quantiles[50])} in training, {_number(float(np.median(new)))} now"
    findings = [
        Finding(
            name,
            "distribution",
            distance,
            ks_p_value(distance, expected_count, effective),
            expected_count,
            effective,
            told,
        )
    ]
    edges, shares = bins_of(quantiles)
    if len(shares) > 1:
        now = np.bincount(np.searchsorted(edges, new, side="left"), minlength=len(shares)) / len(new)
        shares = nearest_shares(quantiles, edges, now)
        findings.append(_population(name, shares, now, expected_count, effective, told))
    return findings


def _texts(name: str, column: Column, seen: Mapping[str, Any], kept: pd.Series, worth: Worth) -> list[Finding]:
    if column.type == "text" and seen["other"] > MOST_OTHER * seen["count"]:  # free text: its length says something
        lengths = kept.astype(str).str.len().astype(float)
        return [
            replace(each, column=f"{name} (characters)")
            for each in _numbers(name, {**seen["lengths"], **_counts(seen)}, lengths.to_numpy(), worth(lengths))
        ]
    known = frequent_values(seen)
    values = spelt(kept, column.type)
    counts = values.value_counts()
    strange = counts[~counts.index.isin(list(known))]
    codes = values.map({value: place for place, value in enumerate(known)}).fillna(-1).astype(float)
    effective = min((worth((codes == place).astype(float)) for place in range(len(known))), default=0.0)
    expected_count = float(seen["effective_count"])
    shares = np.array([*known.values(), seen["other"]], dtype=float) / seen["count"]
    now = np.array([*(int(counts.get(value, 0)) for value in known), int(strange.sum())]) / len(kept)
    findings = []
    if len(known) > 1:
        change = int(np.argmax(np.abs(now - shares)))
        label = [*(shown(value, column.type) for value in known), "any other value"][change]
        told = f"{label}: {shares[change]:.1%} in training, {now[change]:.1%} now"
        both = shares + now > 0
        findings.append(_population(name, shares[both], now[both], expected_count, effective, told))
    if not seen["other"] and len(strange):
        share = float(strange.sum() / len(kept))
        named = ", ".join(shown(value, column.type)[:40] for value in strange.index[:3])
        count = worth((codes < 0).astype(float))
        p_value = binomial_tail(share * count, count, RARE)
        findings.append(
            Finding(name, "unknown_values", share, p_value, expected_count, count, f"{named}: {share:.1%} of the rows")
        )
    return findings


def _counts(seen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: seen[key] for key in ("count", "effective_count")}


def _population(
    name: str, expected: np.ndarray, new: np.ndarray, expected_count: float, count: float, told: str
) -> Finding:
    """Compare shares of bins (B,) by the population stability index."""
    index = stability_index(expected, new, expected_count, count)
    noise = (len(expected) - 1) * (1 / expected_count + 1 / count)
    p_value = psi_p_value(index, len(expected), expected_count, count)
    return Finding(name, "population", max(0.0, index - noise), p_value, expected_count, count, told)


def _shares(
    name: str,
    kind: Kind,
    expected: tuple[int, int],
    new: tuple[int, int],
    expected_worth: float,
    worth: float,
    *,
    either_way: bool = False,
) -> Finding:
    """Compare two shares, each a number of rows among others."""
    before, now = expected[0] / expected[1], new[0] / new[1]
    counts = expected[1] * expected_worth, new[1] * worth
    size = abs(now - before) if either_way else max(0.0, now - before)
    p_value = share_p_value(before, counts[0], now, counts[1])
    return Finding(name, kind, size, p_value, *counts, f"{before:.2%} in training, {now:.2%} now")


def _tokens(name: str, unknown: int, tokens: int, new_unknown: int, new_tokens: int) -> Finding:
    before, now = unknown / max(tokens, 1), new_unknown / new_tokens
    p_value = share_p_value(before, max(tokens, 1), now, new_tokens)
    told = f"{before:.2%} in validation, {now:.2%} now"
    return Finding(name, "unknown_tokens", max(0.0, now - before), p_value, float(tokens), float(new_tokens), told)


def bins_of(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make bins that hold about a tenth of the training part each; where a value is frequent, fewer.

    Args:
        quantiles: (101,), in steps of one per cent.

    Returns:
        Upper ends of all bins but the last, and the share of each.
    """
    edges = np.unique(quantiles[10:91:10])
    below = np.searchsorted(quantiles, edges, side="right") - 1
    shares = np.diff(np.concatenate(([0.0], np.clip(below / 100, 0, 1), [1.0])))
    if shares[-1] <= 0:
        edges, shares = edges[:-1], shares[:-1]
    return edges, shares


def nearest_shares(quantiles: np.ndarray, edges: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Say which shares of bins the training part may have had, the nearest to those of what is new.

    Where a value is frequent, several quantiles are equal, and how many rows lie at or below it is known to one per cent only. As
    `ks_distance`, the index is then at most the true one: what percentiles leave open is no drift.

    Args:
        quantiles: (101,), in steps of one per cent.
        edges: of the bins, see `bins_of`.
        now: shares (B,) of what is new.
    """
    last = np.searchsorted(quantiles, edges, side="right") - 1
    frequent = quantiles[np.maximum(last - 1, 0)] == edges
    function = np.clip(np.cumsum(now)[:-1], last / 100, (last + frequent) / 100)
    return np.diff(np.concatenate(([0.0], np.clip(function, 0, 1), [1.0])))


def stability_index(expected: np.ndarray, new: np.ndarray, expected_count: float, count: float) -> float:
    """Population stability index of shares (B,); half a value stands in an empty bin, so that it has a logarithm.

    Source: Siddiqi, Credit Risk Scorecards (2006), chapter 6; it is the symmetric divergence of Jeffreys (1946).
    """
    before = (expected * expected_count + 0.5) / (expected_count + 0.5 * len(expected))
    now = (new * count + 0.5) / (count + 0.5 * len(new))
    return float(((now - before) * np.log(now / before)).sum())


def psi_p_value(index: float, bins: int, expected_count: float, count: float) -> float:
    """Chance of an index as large where nothing has changed: index / (1/n + 1/m) is about chi-squared.

    Source: Yurdakul and Naranjo, Statistical properties of the population stability index (2020).
    """
    from scipy.special import chdtrc

    return float(chdtrc(bins - 1, index / (1 / expected_count + 1 / count)))


def ks_distance(quantiles: np.ndarray, new: np.ndarray) -> float:
    """Distance of distribution functions, as far as quantiles in steps of one per cent tell: at most the true one.

    Between two quantiles the training part's function is only known to lie between their shares.
    """
    values, counts = np.unique(new, return_counts=True)
    function = np.cumsum(counts) / len(new)
    steps = len(quantiles) - 1
    at_least = (np.searchsorted(quantiles, values, side="right") - 1) / steps
    at_most = np.searchsorted(quantiles, values, side="right") / steps
    above = function - np.clip(at_most, 0, 1)  # after the step of the new data
    before = np.concatenate(([0.0], function[:-1]))  # and just before it
    just_below = (np.searchsorted(quantiles, values, side="left") - 1) / steps
    below = np.clip(just_below, 0, 1) - before
    after = np.clip(at_least, 0, 1) - function
    return float(max(0.0, above.max(), below.max(), after.max()))


def ks_p_value(distance: float, expected_count: float, count: float) -> float:
    """Chance of a distance as large between two samples of one distribution, for large samples.

    Source: Kolmogorov's distribution with Stephens' correction (1970), as in Press et al., Numerical Recipes, 14.3.
    """
    from scipy.special import kolmogorov

    root = math.sqrt(expected_count * count / (expected_count + count))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


def share_p_value(before: float, expected_count: float, now: float, count: float) -> float:
    """Chance of two shares as different, each way, where both samples are of one source; half a row each keeps off zero."""
    from scipy.special import ndtr

    pooled = (before * expected_count + now * count + 0.5) / (expected_count + count + 1)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / expected_count + 1 / count))
    return float(2 * ndtr(-abs(now - before) / deviation))


def binomial_tail(successes: float, count: float, share: float) -> float:
    """Chance of so many or more where each has this chance."""
    from scipy.special import bdtrc

    return float(bdtrc(max(math.ceil(successes) - 1, 0), max(round(count), 1), share)) if successes > 0 else 1.0


def _number(value: float) -> str:
    return f"{value:.4g}"
