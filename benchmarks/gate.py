"""How often the gate promotes a model that is no better, and one that is: ``python -m benchmarks.gate``.

Each comparison is simulated with what makes real ones awkward: errors of overlapping windows (every target counts in as many
windows as it has steps ahead), series that share their hard hours, heavy tails, and two models that err on the same hours. The
decision itself is `gateline.promotion.decide`, as register calls it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.signal import lfilter

from benchmarks import command
from benchmarks.machine import where
from benchmarks.tables import markdown, write_result
from gateline.comparison import ExampleErrors, slice_errors
from gateline.judgement import Check, Verdict
from gateline.paired import block_of, resample
from gateline.promotion import Decision, confidence_of, decide
from gateline.workload.gates import Gates

COMPARISONS, POSITIONS, HORIZON, SERIES = 1000, 2000, 12, 3
FEWEST = 25  # of which one has slices, and takes the longest
MEMORIES = (0.8, 0.9, 0.95, 0.97)
RESAMPLES, FEWER = 2000, 500
"""Of a decision, as workloads have it; and where only the length of a block or slices are looked at."""
GROUPS = 300
SLICE_MARGIN = 0.2
EFFECTS = (0.0, 0.02, 0.05, 0.075, 0.1)
STATED = {
    "windows of 3 series, normal": 0.075,
    "windows of 3 series, heavy tails": 0.075,
    "patients of 1 to 60 examples": 0.1,
}
"""The gain that has to be found at least 8 times in 10, by kind."""
ENOUGH = 0.8
CHALLENGERS = 20
PASSED = Verdict((Check("min_examples", True, ""),))


def white(generator: np.random.Generator, size: tuple[int, ...], heavy: bool) -> np.ndarray:
    """Draw steps: normal, or with the tails of Student's t with 3 degrees of freedom; of variance 1."""
    return generator.standard_t(3, size) / math.sqrt(3) if heavy else generator.normal(size=size)


def autoregressive(steps: np.ndarray, phi: float) -> np.ndarray:
    """Let each step remember the one before: (N, S), of the same variance."""
    first = steps[:1] / math.sqrt(1 - phi**2)
    scaled = np.concatenate([first, steps[1:]]) * math.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], scaled, axis=0))


def windows(
    generator: np.random.Generator, effect: float, *, heavy: bool, phi: float = 0.8, slices: int = 0, worse: float = 0.0
) -> tuple[ExampleErrors, ExampleErrors]:
    """Simulate forecasts of SERIES series over windows of HORIZON steps that begin at every hour.

    Args:
        generator: of everything.
        effect: by what share the challenger's errors are less, on average.
        heavy: shocks have heavy tails.
        phi: how far one hour's error remembers the hour before.
        slices: how many series are slices; 0: no slices.
        worse: by what share the challenger's errors are greater in the first slice.
    """
    return _windows(generator, (effect, 0.0), heavy=heavy, phi=phi, slices=slices, worse=worse)[0]


def _windows(
    generator: np.random.Generator,
    gains: tuple[float, ...],
    *,
    heavy: bool = False,
    phi: float = 0.8,
    slices: int = 0,
    worse: float = 0.0,
) -> list[tuple[ExampleErrors, ExampleErrors]]:
    """Simulate several models on the same windows; each but the last is a challenger of the last."""
    series = max(SERIES, slices)
    hours = POSITIONS + HORIZON - 1
    common = autoregressive(white(generator, (hours, 1), heavy), 0.9)  # an hour that is hard for all series
    shared = autoregressive(white(generator, (hours, series), heavy), phi)  # and for both models
    totals = []
    for place, gain in enumerate(gains):
        own = autoregressive(white(generator, (hours, series), heavy), phi)
        error = np.abs(0.6 * common + 0.7 * shared + 0.4 * own)  # (hours, S)
        factor = np.full(series, 1 - gain)
        if place == 0 and worse:
            factor[0] = 1 + worse
        ends = np.concatenate([np.zeros((1, series)), np.cumsum(error * factor, axis=0)])
        totals.append((ends[HORIZON:] - ends[:-HORIZON]).ravel())  # (W,): sum over the steps of a window
    position, which = np.repeat(np.arange(POSITIONS), series), np.tile(np.arange(series), POSITIONS)
    count = np.full(len(position), float(HORIZON))
    masks = {f"series={n}": which == n for n in range(slices)}
    return [_pair([total, totals[-1]], count, position, masks, HORIZON) for total in totals[:-1]]


def patients(generator: np.random.Generator, effect: float) -> tuple[ExampleErrors, ExampleErrors]:
    """Simulate groups of 1 to 60 examples, of which some are hard for every model: patients, speakers."""
    sizes = generator.integers(1, 61, size=GROUPS)
    group = np.repeat(np.arange(GROUPS), sizes)
    hard = generator.gamma(2.0, 0.5, size=GROUPS)[group]
    both = []
    for gain in (effect, 0.0):
        own = generator.gamma(25.0, 0.04, size=GROUPS)[group]  # each model has patients that it fails on
        both.append((1 - gain) * hard * own * generator.gamma(3.0, 1 / 3, size=len(group)))
    return _pair(both, np.ones(len(group)), group, {}, 1)


def _pair(
    both: list[np.ndarray],
    count: np.ndarray,
    position: np.ndarray,
    masks: Mapping[str, np.ndarray],
    dependence: int,
) -> tuple[ExampleErrors, ExampleErrors]:
    one, other = (
        ExampleErrors(
            "mae",
            total,
            count,
            position,
            "the same",
            slice_errors(
                {name: (np.where(mask, total, 0.0), np.where(mask, count, 0.0)) for name, mask in masks.items()}
            ),
            dependence=dependence,
        )
        for total in both
    )
    return one, other


def gates(**champion: Any) -> Gates:
    return Gates.model_validate({"baselines": {"none": {}}, "champion": {"resamples": RESAMPLES, **champion}})


def decided(pair: tuple[ExampleErrors, ExampleErrors], rule: Gates, seed: int) -> Decision:
    return decide(PASSED, *pair, rule, generator=np.random.default_rng(seed))


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927)."""
    z, rate = 1.959964, hits / of
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))
    return middle - half, middle + half


def rate(hits: int, of: int) -> dict[str, Any]:
    low, high = wilson(hits, of)
    return {"hits": int(hits), "of": of, "rate": int(hits) / of, "low": low, "high": high}


def shown(found: Mapping[str, Any]) -> str:
    return f"{found['rate']:.1%} ({found['low']:.1%} – {found['high']:.1%})"


KINDS: Mapping[str, Any] = {
    "windows of 3 series, normal": lambda generator, effect: windows(generator, effect, heavy=False),
    "windows of 3 series, heavy tails": lambda generator, effect: windows(generator, effect, heavy=True),
    "patients of 1 to 60 examples": patients,
}


def by_effect(comparisons: int) -> dict[str, Any]:
    """Say how often a challenger is promoted whose errors are less by a share: 0 is a model as good as the champion."""
    return {
        kind: {
            f"{effect:g}": rate(
                sum(
                    decided(draw(np.random.default_rng([seed, place]), effect), gates(), seed).promote
                    for seed in range(comparisons if effect == 0 else comparisons // 5)
                ),
                comparisons if effect == 0 else comparisons // 5,
            )
            for effect in EFFECTS
        }
        for place, (kind, draw) in enumerate(KINDS.items())
    }


def margins(comparisons: int) -> dict[str, Any]:
    """Say how often a challenger exactly at the margin is promoted: the rate that the confidence states."""
    rules = {
        "superior by 2 %, is better by 2 %": ({"rule": "superior", "margin": 0.02}, 0.02),
        "non-inferior by 5 %, is worse by 5 %": ({"rule": "non_inferior", "margin": 0.05}, -0.05),
    }
    return {
        name: rate(
            sum(
                decided(windows(np.random.default_rng([seed, 7]), effect, heavy=False), gates(**rule), seed).promote
                for seed in range(comparisons)
            ),
            comparisons,
        )
        for name, (rule, effect) in rules.items()
    }


def families(number: int) -> dict[str, Any]:
    """Say how often at least one of many challengers, all as good as the champion, wins on one test part.

    Each is tested as if it were the first and only one, and as its number among them asks for.
    """
    any_of = {"each at 95 %": 0, "the k-th at 1 - 5 % / (k (k + 1))": 0}
    for seed in range(number):
        pairs = _windows(np.random.default_rng([seed, 5]), (0.0,) * (CHALLENGERS + 1))
        won = np.zeros((2, CHALLENGERS), dtype=bool)
        for place, pair in enumerate(pairs):
            block = block_of(pair[0])[1]
            whole, _ = resample(*pair, block, RESAMPLES, np.random.default_rng(seed))
            won[:, place] = [whole.bound(level) < 0 for level in (0.95, confidence_of(0.95, place + 1))]
        for name, row in zip(any_of, won, strict=True):
            any_of[name] += bool(row.any())
    return {name: rate(hits, number) for name, hits in any_of.items()}


def by_block(comparisons: int) -> dict[str, Any]:
    """Say what the length of a block does to the rate at which a model as good as the champion is promoted."""
    lengths = {"1 (single hours)": 1, "6": 6, "12 (the horizon)": 12, "24 (the rule: twice)": 24, "48": 48}
    hits, plain = dict.fromkeys(lengths, 0), dict.fromkeys(lengths, 0)
    for seed in range(comparisons):
        pair = windows(np.random.default_rng([seed, 3]), 0.0, heavy=False)
        for name, block in lengths.items():
            whole, _ = resample(*pair, block, FEWER, np.random.default_rng(seed))
            plain[name] += np.quantile(whole.mine - whole.theirs, 0.95) < 0
            hits[name] += whole.bound(0.95) < 0
    return {
        name: {"plain": rate(plain[name], comparisons), "stretched": rate(hits[name], comparisons)} for name in lengths
    }


def by_memory(comparisons: int) -> dict[str, Any]:
    """Say how often a model as good as the champion is promoted at 95 %, by how far an hour's error remembers the hour before.

    A block is as long as windows share targets, and does not look at the errors: what they remember beyond it is missed.
    """
    found = {}
    for phi in MEMORIES:
        hits = 0
        for seed in range(comparisons):
            pair = windows(np.random.default_rng([seed, 11]), 0.0, heavy=False, phi=phi)
            whole, _ = resample(*pair, block_of(pair[0])[1], FEWER, np.random.default_rng(seed))
            hits += whole.bound(0.95) < 0
        found[f"{phi:g}"] = rate(hits, comparisons)
    return found


def by_slices(comparisons: int) -> dict[str, Any]:
    """Say how often slices stop a challenger that is better in all, and how often they let one through that collapses in one."""
    found = {}
    rule = gates(resamples=FEWER).model_copy(update={"slice_margin": SLICE_MARGIN})
    for slices in (3, 12, 24):
        cases = {
            "better by 3 % in all: stopped": (0.03, 0.0),
            "equal in all: stopped": (0.0, 0.0),
            "worse by 30 % in one: not stopped by it": (0.1, 0.3),
        }
        for case, (effect, worse) in cases.items():
            hits = told = 0
            for seed in range(comparisons):
                pair = windows(np.random.default_rng([seed, slices]), effect, heavy=False, slices=slices, worse=worse)
                checks = [check for check in decided(pair, rule, seed).checks if check.name.startswith("slice ")]
                told += sum("too small to tell" not in check.reason for check in checks)
                bad = [check for check in checks if not check.passed]
                hits += not any(check.name == "slice series=0" for check in bad) if worse else bool(bad)
            found[f"{slices}, {case}"] = {**rate(hits, comparisons), "told": told / (slices * comparisons)}
    return found


def main() -> None:
    """Simulate, print, write."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    flags.add_argument(
        "--comparisons", type=command.whole(FEWEST), default=COMPARISONS, help=f"of each kind (default: {COMPARISONS})"
    )
    given = flags.parse_args()
    comparisons = given.comparisons
    began = time.process_time()
    effects, at_margin = by_effect(comparisons), margins(comparisons // 5)
    many = families(max(1, comparisons // 20))
    blocks, slices = by_block(comparisons // 5), by_slices(comparisons // FEWEST)
    memories = by_memory(comparisons // 5)
    seconds = time.process_time() - began
    stated = {kind: effects[kind][f"{gain:g}"] for kind, gain in STATED.items()}
    found_or_not = [
        f"{STATED[kind]:.1%} in {kind}: {shown(found)}, {'reached' if found['rate'] >= ENOUGH else 'missed'}"
        for kind, found in stated.items()
    ]
    block = block_of(windows(np.random.default_rng(0), 0.0, heavy=False)[0])
    result = {
        "where": where(),
        "comparisons": comparisons,
        "positions": POSITIONS,
        "horizon": HORIZON,
        "resamples": RESAMPLES,
        "confidence": 0.95,
        "stated_gain": STATED,
        "cpu_seconds": round(seconds, 1),
        "by_effect": effects,
        "at_the_margin": at_margin,
        "families": many,
        "challengers_of_a_family": CHALLENGERS,
        "stated_gain_found": {kind: found["rate"] >= ENOUGH for kind, found in stated.items()},
        "by_block": blocks,
        "by_memory": memories,
        "by_slices": slices,
        "slice_margin": SLICE_MARGIN,
    }
    text = "\n\n".join(
        [
            f"Promoted by the rule `superior` at 95 % confidence, of {comparisons} comparisons of equal models and {comparisons // 5} "
            f"of others: {POSITIONS:,} hours of windows of {HORIZON} steps in blocks of {block[1]}, or {GROUPS} patients:",
            markdown(
                ["errors of the challenger are less by", *(f"{effect:.1%}" for effect in EFFECTS)],
                [[kind, *(shown(each) for each in found.values())] for kind, found in effects.items()],
            ),
            "In brackets the 95 % interval of the rate. The first column is a model as good as the champion: the first challenger of a "
            "champion on a test part is tested at 2.5 %, for 5 % is for it and all that follow. The gain that is to be found "
            f"{ENOUGH:.0%} of the time is {'; '.join(found_or_not)}. With a margin, for a challenger exactly at it:",
            markdown(
                ["rule, and the challenger", "promoted"], [[name, shown(each)] for name, each in at_margin.items()]
            ),
            f"{CHALLENGERS} challengers as good as the champion on one test part: how often at least one of them is promoted:",
            markdown(["tested", "families with a promotion"], [[name, shown(each)] for name, each in many.items()]),
            "What the length of a block does to the rate at 95 %, of windows and models that are equally good: as the blocks are drawn, and stretched by what blocks of "
            "half the length miss (`gateline.paired.Resamples.stretch`), as the gate does:",
            markdown(
                ["block, hours", "as drawn", "stretched"],
                [[name, shown(each["plain"]), shown(each["stretched"])] for name, each in blocks.items()],
            ),
            "The same rate as the gate has it, by how much of an hour's error is left in that of the hour after:",
            markdown(["left", "promoted"], [[name, shown(each)] for name, each in memories.items()]),
            f"Slices, each a series of its own, with `slice_margin: {SLICE_MARGIN:g}`, of {comparisons // FEWEST} comparisons each: how often any of "
            "them stops a challenger that is worse in none, and how often one in which it is worse does not stop it:",
            markdown(
                ["slices", "in error", "slices that can tell"],
                [[name, shown(each), f"{each['told']:.0%}"] for name, each in slices.items()],
            ),
            f"(Seeds 0 to {comparisons - 1}; {seconds:.0f} s of one core.)",
        ]
    )
    write_result("gate", result, text, command.sizes_to_record(flags, given, "comparisons"))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
