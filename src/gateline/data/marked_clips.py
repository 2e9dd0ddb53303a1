"""Clips in which something happens now and then, and it is known in which frames: films to learn from what is worth showing.

Digits drift across a grey square, as in `gateline.data.moving_digits`, each at a speed of its own. Two kinds of things happen.
What changes who is there is an event, and its frames are marked: a digit is *replaced* by another one where it is, a digit
*appears*, a digit *leaves*. What changes only how it looks is none: a *flash* makes two frames brighter or darker, in a *shake*
the camera slips for two frames, and in a *jump* a digit goes on from elsewhere. All of them move many pixels, a flash most, so
that the amount of motion alone does not tell events from the rest; one has to see what is there before and after.

Source: none; made for this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gateline.data.moving_digits import bounced, paste

EVENTS = ("replaced", "appears", "leaves")
DISTRACTIONS = ("flash", "shake", "jump")

STREAM = 101
"""Of the random numbers, so that no clip of moving digits is drawn from the same."""
HAPPENINGS = 5
"""In each clip, events and distractions together."""
MOST_EVENTS = 3
BEFORE = 1
"""Frames at the beginning in which nothing happens: what changes must have been there before."""
AROUND = 1
"""Frames before and after that of an event that are marked with it."""
CANDIDATES = 8
"""Pictures of which the one that differs most replaces a digit, so that it can be seen."""
LASTS = 2
"""Frames of a flash and of a shake. Nothing begins in the last so many: the frame after it must show that it is over."""
APART = 4
"""Least frames from one happening to the next: the marks of two events do not touch, and none hides another."""
MOST_SLIP = 4
"""Pixels by which the camera slips."""


@dataclass(frozen=True)
class _Digit:
    """A digit that moves from `start` since frame `since`."""

    picture: int
    start: np.ndarray
    velocity: np.ndarray
    since: int

    def corner(self, frame: int, room: np.ndarray) -> np.ndarray:
        """Say where its upper left corner is: int64 (2,)."""
        return (room * bounced(self.start, self.velocity, np.array(frame - self.since))).astype(np.int64)


@dataclass(frozen=True)
class MarkedClip:
    """One clip.

    Args:
        frames: uint8 (T, Y, X).
        marked: bool (T,), frames of an event.
        happened: what happened in each frame, one of EVENTS and DISTRACTIONS, None for nothing: T of them.
        pool: number of the pictures that it draws from.
    """

    frames: np.ndarray
    marked: np.ndarray
    happened: list[str | None]
    pool: int


def marked_clips(
    pictures: np.ndarray, *, num_clips: int, num_frames: int = 40, size: int = 64, num_pools: int = 10, seed: int = 0
) -> Iterator[MarkedClip]:
    """Make clips, one after the other.

    Args:
        pictures: uint8 (N, h, w), the digits, cut in order into pools of equal size.
        num_clips: how many.
        num_frames: T of each.
        size: Y = X of a frame, pixels.
        num_pools: clip k draws from pool k modulo this, so that parts made of whole pools share no digit.
        seed: of everything that is drawn.
    """
    width = len(pictures) // num_pools
    for number in range(num_clips):
        key, counter = np.array([seed, STREAM], dtype=np.uint64), np.array([0, 0, 0, number], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
        pool = number % num_pools
        yield _make(pictures[pool * width : (pool + 1) * width], num_frames, size, generator, pool)


def _make(pictures: np.ndarray, num_frames: int, size: int, generator: np.random.Generator, pool: int) -> MarkedClip:
    room = np.array([size - side for side in pictures.shape[1:]])
    plan = _plan(num_frames, generator)
    digits = [_new(pictures, 0, generator) for _ in range(2)]
    level, contrast = generator.uniform(0, 60), generator.uniform(0.5, 0.75)
    frames = np.empty((num_frames, size, size), dtype=np.uint8)
    happened: list[str | None] = [None] * num_frames
    gain, slip, until = 1.0, np.zeros(2, dtype=np.int64), 0
    for frame in range(num_frames):
        if frame >= until:
            gain, slip = 1.0, np.zeros(2, dtype=np.int64)
        if frame in plan:
            kind = plan[frame] if len(digits) > 1 or plan[frame] != "leaves" else "appears"
            happened[frame] = kind
            digits = _changed(kind, digits, pictures, frame, room, generator)
            if kind == "flash":
                gain, until = float(generator.choice([0.5, 0.7, 1.3])), frame + LASTS
            elif kind == "shake":
                slip, until = generator.integers(1, MOST_SLIP + 1, 2) * generator.choice([-1, 1], 2), frame + LASTS
        canvas = np.zeros((1, 1, size, size), dtype=np.uint8)
        for digit in digits:
            paste(canvas, pictures[digit.picture][None, None], digit.corner(frame, room)[None, None])
        shown = gain * (level + contrast * np.roll(canvas[0, 0], slip, axis=(0, 1)).astype(np.float64))
        frames[frame] = np.clip(shown, 0, 255)
    marked = np.zeros(num_frames, dtype=bool)
    for frame, seen in enumerate(happened):
        if seen in EVENTS:
            marked[max(0, frame - AROUND) : frame + AROUND + 1] = True
    return MarkedClip(frames, marked, happened, pool)


def _plan(num_frames: int, generator: np.random.Generator) -> dict[int, str]:
    """Say what happens, by frame."""
    events = int(generator.integers(1, MOST_EVENTS + 1))
    kinds = [*generator.choice(EVENTS, events), *generator.choice(DISTRACTIONS, HAPPENINGS - events)]
    moments, order = _moments(num_frames, generator), generator.permutation(HAPPENINGS)
    return {int(moment): str(kinds[place]) for moment, place in zip(moments, order, strict=True)}


def _moments(num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Draw when something happens: int64 (HAPPENINGS,), every frame that may be one as often as any other.

    They are drawn on a ring: on a line, moments that keep apart lie more often at its ends.
    """
    frames = num_frames - BEFORE - LASTS
    free = np.sort(generator.choice(frames - HAPPENINGS * (APART - 1), HAPPENINGS, replace=False))
    apart = free + (APART - 1) * np.arange(HAPPENINGS)
    return BEFORE + (apart + generator.integers(frames)) % frames


def _new(pictures: np.ndarray, frame: int, generator: np.random.Generator) -> _Digit:
    angle, speed = generator.uniform(0, 2 * np.pi), generator.uniform(0.02, 0.08)
    velocity = speed * np.array([np.sin(angle), np.cos(angle)])
    return _Digit(int(generator.integers(len(pictures))), generator.random(2), velocity, frame)


def _changed(
    kind: str,
    digits: list[_Digit],
    pictures: np.ndarray,
    frame: int,
    room: np.ndarray,
    generator: np.random.Generator,
) -> list[_Digit]:
    """Say which digits there are from this frame on."""
    which = int(generator.integers(len(digits)))
    others = [digit for place, digit in enumerate(digits) if place != which]
    if kind == "appears":
        return [*digits, _new(pictures, frame, generator)]
    if kind == "leaves":
        return others
    if kind == "replaced":
        old = pictures[digits[which].picture].astype(np.float64)
        candidates = generator.integers(len(pictures), size=CANDIDATES)
        difference = np.square(pictures[candidates] - old).sum(axis=(1, 2))
        return [*others, replace(digits[which], picture=int(candidates[np.argmax(difference)]))]
    if kind == "jump":
        far = digits[which].corner(frame, room) < room / 2  # to the other half, so that it is seen
        start: Any = np.where(far, generator.uniform(0.6, 1, 2), generator.uniform(0, 0.4, 2))
        return [*others, replace(digits[which], start=start, since=frame)]
    return digits
