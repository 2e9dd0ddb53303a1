"""Errors of a model and of its baselines on the same test examples: how sure each difference is. N positions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gateline.comparison import ExampleErrors
from gateline.intervals import COVERAGE, MIN_BLOCKS, SEED
from gateline.paired import (
    MIN_DIFFERENT,
    Resamples,
    are_finite,
    block_of,
    num_different,
    on_the_same_rows,
    resample,
)

ERRORS = "errors.parquet"


@dataclass(frozen=True)
class PairedErrors:
    """What the verdict compares with chance: sums by position, which is all that a resample by blocks of positions reads.

    Args:
        model: by metric.
        baselines: by name, and metric.
    """

    model: Mapping[str, ExampleErrors]
    baselines: Mapping[str, Mapping[str, ExampleErrors]]

    @classmethod
    def of(cls, model: Iterable[ExampleErrors], baselines: Mapping[str, Iterable[ExampleErrors]]) -> PairedErrors:
        """Add up the errors of each position, of the metrics that a baseline has, too."""
        theirs = {name: {each.metric: by_position(each) for each in errors} for name, errors in baselines.items()}
        shared = {metric for errors in theirs.values() for metric in errors}
        return cls({each.metric: by_position(each) for each in model if each.metric in shared}, theirs)

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> PairedErrors:
        """Read what `as_table` gave."""
        found: dict[str, dict[str, ExampleErrors]] = {}
        for (baseline, metric), rows in table.groupby(["baseline", "metric"], sort=False):
            found.setdefault(str(baseline), {})[str(metric)] = ExampleErrors(
                str(metric),
                rows["total"].to_numpy(dtype=np.float64),
                rows["count"].to_numpy(dtype=np.float64),
                rows["position"].to_numpy(),
                str(rows["rows"].iloc[0]),
                root=bool(rows["root"].iloc[0]),
                dependence=int(rows["dependence"].iloc[0]),
            )
        return cls(found.pop("", {}), found)

    def as_table(self) -> pd.DataFrame:
        """Give one row for each method, metric and position; `baseline` is empty for the model."""
        parts = [
            pd.DataFrame(
                {
                    "baseline": baseline,
                    "metric": metric,
                    "position": each.position,
                    "total": each.total,
                    "count": each.count,
                    "rows": each.rows,
                    "root": each.root,
                    "dependence": each.dependence,
                }
            )
            for baseline, errors in {"": self.model, **self.baselines}.items()
            for metric, each in errors.items()
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"baseline": [], "metric": []})

    def has(self, metric: str) -> bool:
        """Say whether a metric of the model is known example by example."""
        return metric in self.model

    def pair(self, baseline: str, metric: str, resamples: int) -> Resamples | str:
        """Resample model and baseline at the same positions, the same each time; or say why that would tell nothing."""
        mine, theirs = self.model.get(metric), self.baselines.get(baseline, {}).get(metric)
        if mine is None or theirs is None:
            return f"{metric} of {'the model' if mine is None else baseline} is not known example by example"
        if not on_the_same_rows(mine, theirs):
            return f"{baseline} was scored on other rows"
        if not are_finite(mine, theirs):
            return f"an error of the model or of {baseline} is no finite number"
        positions, block = block_of(mine)
        if positions < MIN_BLOCKS * block:
            return f"{positions} positions in the test part, {MIN_BLOCKS * block} are needed ({MIN_BLOCKS} blocks of {block})"
        if 0 < (different := num_different(mine, theirs)) < MIN_DIFFERENT:
            return f"too few to tell: it differs from {baseline} at {different} positions, {MIN_DIFFERENT} are needed"
        return resample(mine, theirs, block, resamples, np.random.default_rng(SEED))[0]

    def differences(self, metrics: Collection[str], resamples: int) -> dict[str, dict[str, dict[str, Any]]]:
        """Give model - baseline, with its 95 % interval, by baseline and metric; nothing where `pair` tells nothing."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for name in self.baselines:
            paired = {metric: self.pair(name, metric, resamples) for metric in metrics if self.has(metric)}
            told = {metric: each for metric, each in paired.items() if isinstance(each, Resamples)}
            intervals = {metric: each.interval(COVERAGE) for metric, each in told.items()}
            found[name] = {
                metric: {"difference": told[metric].measured[0] - told[metric].measured[1], "interval": ends}
                for metric, ends in intervals.items()
                if np.isfinite(ends).all()  # not where a resample holds nothing to measure
            }
        return found


def by_position(errors: ExampleErrors) -> ExampleErrors:
    """Add up the examples at each position, in the order of positions; slices are left out."""
    positions, index = np.unique(errors.position, return_inverse=True)
    total, count = (np.bincount(index, weights=each, minlength=len(positions)) for each in (errors.total, errors.count))
    return replace(errors, total=total, count=count, position=positions, parts={})


def difference_in_words(found: Mapping[str, Any]) -> str:
    """Write a difference of `PairedErrors.differences` and its interval, to three digits of the largest of them.

    Example:
        >>> difference_in_words({"difference": -0.1342, "interval": (-0.5058, 0.2884)})
        '−0.134 (−0.506 to +0.288)'
    """
    numbers = [found["difference"], *found["interval"]]
    largest = max(map(abs, numbers))
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest else 0
    said, low, high = (signed(number, decimals) for number in numbers)
    return f"{said} ({low} to {high})"


def signed(value: float, decimals: int) -> str:
    """Write a number with its sign; of a negative one, with the sign that is as wide as the other."""
    return f"{value:+,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
