"""Films of handwritten digits that drift across a black square and bounce off its sides, made when they are asked for.

Nothing is stored but the pictures of the digits: what a clip shows follows from the seed, the part and the number of the
clip alone, so a set of any size costs no memory, and two processes that ask for the same clip see the same pixels.

Source: Srivastava, Mansimov and Salakhutdinov (2015), Unsupervised learning of video representations using LSTMs,
arXiv 1502.04681, section 4.1; step length, walls and overlaps as in the code they published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateline.data.splits import PARTS

DRAWS_PER_DIGIT = 4
"""Which digit, where it starts (down and across), and in which direction it sets off."""
STILL = 1e-12
"""A digit that crosses the square more slowly than this per frame never reaches a wall."""


@dataclass(frozen=True)
class MovingDigits:
    """Clips by their number.

    Args:
        pictures: uint8 (N, h, w), the digits.
        digits: which pictures each part draws from: first and one past the last.
        seed: of everything that is drawn.
        num_frames: frames T of a clip.
        num_digits: digits D in a clip.
        size: height and width Y = X of a frame, at least those of a picture.
        step: what a digit moves per frame, as a share of the way from wall to wall.
    """

    pictures: np.ndarray
    digits: Mapping[str, tuple[int, int]]
    seed: int
    num_frames: int = 20
    num_digits: int = 2
    size: int = 64
    step: float = 0.1

    def clips(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Paint some clips: uint8 (B, T, Y, X) for int64 (B,). Where digits overlap, the brighter pixel shows."""
        drawn = self.draws(part, rows)
        chosen, corners = self.choice(part, drawn), self.corners(drawn)
        canvas = np.zeros((len(rows), self.num_frames, self.size, self.size), dtype=np.uint8)
        for digit in range(self.num_digits):
            paste(canvas, self.pictures[chosen[:, digit]][:, None], corners[:, :, digit])
        return canvas

    def draws(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Draw the numbers in [0, 1) that say all about some clips: float64 (B, D, 4)."""
        return uniform(self.seed, PARTS.index(part), rows, self.num_digits * DRAWS_PER_DIGIT).reshape(
            len(rows), self.num_digits, DRAWS_PER_DIGIT
        )

    def choice(self, part: str, drawn: np.ndarray) -> np.ndarray:
        """Say which picture each digit of each clip is: int64 (B, D)."""
        first, after = self.digits[part]
        return first + (drawn[:, :, 0] * (after - first)).astype(np.int64)

    def corners(self, drawn: np.ndarray) -> np.ndarray:
        """Say where the upper left corner of each digit is in each frame, in pixels: int64 (B, T, D, 2)."""
        angle = 2 * np.pi * drawn[:, None, :, 3]
        velocity = self.step * np.stack([np.sin(angle), np.cos(angle)], axis=-1)  # (B, 1, D, 2)
        steps = np.arange(1, self.num_frames + 1)[:, None, None]
        places = bounced(drawn[:, None, :, 1:3], velocity, steps)
        room = np.array([self.size - side for side in self.pictures.shape[1:]])
        return (room * places).astype(np.int64)


def bounced(start: np.ndarray, velocity: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Say where something is that moves between two walls at 0 and 1, and at a wall stops short and turns round.

    As published, a step that would lead past a wall ends at it. So the first wall is reached after whole steps, and from
    then on each crossing takes the same whole number of them, which gives the place after any number of steps at once.

    Args:
        start: in [0, 1].
        velocity: per step, of the same shape or one that broadcasts.
        steps: int, 0 or more, how many have been taken; broadcasts.

    Returns:
        Places in [0, 1], of the shape that the three make together.
    """
    speed = np.maximum(np.abs(velocity), STILL)
    ahead = velocity > 0
    to_wall = np.where(ahead, 1 - start, start)
    until_wall = np.maximum(np.ceil(to_wall / speed), 1)  # a step that starts at the wall it leads to is taken there
    per_crossing = np.ceil(1 / speed)
    after = np.maximum(steps - until_wall, 0)
    crossing, within = np.divmod(after, per_crossing)
    way = np.minimum(within * speed, 1)  # from the wall that was touched last
    from_above = ahead == (crossing % 2 == 0)
    before = start + velocity * steps
    return np.where(steps < until_wall, before, np.where(from_above, 1 - way, way))


def paste(canvas: np.ndarray, pictures: np.ndarray, corners: np.ndarray) -> None:
    """Paint one picture into each frame, where the brighter of old and new shows.

    Args:
        canvas: uint8 (B, T, Y, X), changed in place.
        pictures: uint8 (B, T, h, w), or (B, 1, h, w) for the same in all frames.
        corners: int64 (B, T, 2), rows and columns of the upper left corners.
    """
    height, width = pictures.shape[2:]
    views = np.lib.stride_tricks.sliding_window_view(canvas, (height, width), axis=(2, 3), writeable=True)
    clip, frame = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    place = (clip, frame, corners[..., 0], corners[..., 1])
    views[place] = np.maximum(views[place], pictures)


def uniform(seed: int, stream: int, rows: np.ndarray, count: int) -> np.ndarray:
    """Draw numbers in [0, 1) that depend on the seed, the stream and the row, and on nothing before: float64 (B, count).

    The raw words of a counter-based generator, which NumPy promises not to change, become numbers here.
    """
    key = np.array([seed, stream], dtype=np.uint64)
    words = np.stack(
        [
            np.random.Philox(key=key, counter=np.array([0, 0, 0, row], dtype=np.uint64)).random_raw(count)
            for row in rows.tolist()
        ]
    )
    return (words >> np.uint64(11)) * 2.0**-53
