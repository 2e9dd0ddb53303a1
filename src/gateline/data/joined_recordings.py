"""Longer utterances from short ones: recordings of one speaker joined with pauses between them.

Every choice follows from a seed and from the names of the recordings, so the same table makes the same utterances, whatever the
order of its rows. Recordings are joined inside pools that have none in common, so that utterances of different pools are
independent of each other: pools are what a bootstrap resamples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from gateline.workload.section import Section

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]


class Strings(Section):
    """How recordings are joined to strings; each recording also stands alone."""

    by: str
    """Column; only recordings with the same value in it are joined, e.g. those of one speaker."""
    recordings: tuple[Count, Count]
    """Fewest and most of one string; as many as that are equally likely."""
    pause_seconds: tuple[Seconds, Seconds]
    """Shortest and longest silence between two; uniform in between."""
    per_recording: Mapping[str, Count]
    """In how many strings of its part a recording stands on average, by part: train, validation, test."""
    pool: Count = 10
    """Recordings of the validation and the test part that share strings. The training part is one pool for each value of `by`."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the choices."""

    @model_validator(mode="after")
    def _in_order(self) -> Strings:
        for name, (low, high) in (("recordings", self.recordings), ("pause_seconds", self.pause_seconds)):
            if low > high:
                raise ValueError(f"`{name}` as [least, most], got {[low, high]}")
        if self.pool < self.recordings[1]:
            raise ValueError(f"`pool` of at least the longest string, {self.recordings[1]} recordings, got {self.pool}")
        wrong = sorted(set(self.per_recording) - {"train", "validation", "test"})
        if wrong or not self.per_recording:
            raise ValueError(f"`per_recording` by train, validation and test, got {wrong or 'nothing'}")
        return self


@dataclass(frozen=True)
class Utterance:
    """Recordings one after the other.

    Args:
        rows: of the table, in the order in which they are heard.
        pauses: seconds of silence between them, one fewer than rows.
        pool: number of the pool that it is from.
    """

    rows: tuple[int, ...]
    pauses: tuple[float, ...]
    pool: int


def pools_of(
    rows: np.ndarray, groups: Sequence[str], names: Sequence[str], size: int | None, seed: int
) -> list[np.ndarray]:
    """Divide recordings into pools.

    Args:
        rows: int64 (R,) of the table.
        groups: what `by` says of each of these rows.
        names: of each of these rows, each once.
        size: about how many a pool has; None: all of a group.
        seed: of the choice.

    Returns:
        int64 rows of each pool; every row stands in one pool.
    """
    pools: list[np.ndarray] = []
    places = range(len(rows))
    for group in sorted(set(groups)):
        inside = sorted((place for place in places if groups[place] == group), key=lambda place: names[place])
        shuffled = generator(seed, "pools", group).permutation(inside)
        count = 1 if size is None else max(1, len(shuffled) // size)
        pools += [rows[part] for part in np.array_split(shuffled, count)]
    return pools


def join(pools: Sequence[np.ndarray], settings: Strings, part: str) -> list[Utterance]:
    """Choose the strings of one part; none of a pool smaller than the shortest string.

    A recording stands in a string at most once. Lengths, recordings and pauses are drawn independently.
    """
    fewest, most = settings.recordings
    joined = []
    for number, pool in enumerate(pools):
        longest = min(most, len(pool))
        if longest < fewest:
            continue
        draw = generator(settings.seed, part, str(number))
        count = round(len(pool) * settings.per_recording.get(part, 0) / ((fewest + longest) / 2))
        for _ in range(count):
            size = int(draw.integers(fewest, longest + 1))
            rows = draw.choice(pool, size=size, replace=False)
            pauses = draw.uniform(*settings.pause_seconds, size=size - 1)
            joined.append(Utterance(tuple(rows.tolist()), tuple(pauses.tolist()), number))
    return joined


def samples_of(utterance: Utterance, recordings: Mapping[int, np.ndarray], sampling_rate: int) -> np.ndarray:
    """Put the samples of an utterance one after the other, with digital silence in the pauses.

    Args:
        utterance: which recordings, and the pauses between them.
        recordings: samples (N,) of each row.
        sampling_rate: of all of them, Hz.

    Returns:
        The samples, of the type of the first.
    """
    pieces = [recordings[utterance.rows[0]]]
    for row, pause in zip(utterance.rows[1:], utterance.pauses, strict=True):
        pieces += [np.zeros(round(pause * sampling_rate), dtype=pieces[0].dtype), recordings[row]]
    return np.concatenate(pieces)


def generator(seed: int, *names: str) -> np.random.Generator:
    """Make random numbers that follow from a seed and from what they are for."""
    digest = hashlib.blake2b("/".join([str(seed), *names]).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
