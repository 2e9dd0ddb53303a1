"""Moving digits against a step-by-step walk and a painter that goes pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.data.clips import DigitClips
from gateline.data.moving_digits import MovingDigits, bounced, uniform

DIGITS = {"train": (0, 6), "validation": (6, 8), "test": (8, 10)}


def walked(start: float, velocity: float, steps: int) -> list[float]:
    """As in the published code: take a step, and at a wall stop and turn round."""
    place, places = start, [start]
    for _ in range(steps):
        place += velocity
        if place <= 0:
            place, velocity = 0.0, -velocity
        elif place >= 1:
            place, velocity = 1.0, -velocity
        places.append(place)
    return places


def some_digits(rng: np.random.Generator, **settings: int) -> MovingDigits:
    pictures = rng.integers(0, 256, (10, 5, 4)).astype(np.uint8)
    return MovingDigits(pictures, DIGITS, seed=3, **{"num_frames": 12, "size": 16, **settings})


def test_places_in_closed_form_are_those_of_a_walk(rng: np.random.Generator) -> None:
    for _ in range(200):
        start, velocity = rng.random(), rng.normal() * rng.choice([0.01, 0.1, 0.7])
        found = bounced(np.array(start), np.array(velocity), np.arange(61))
        np.testing.assert_allclose(found, walked(start, velocity, 60), atol=1e-9)


@pytest.mark.parametrize(("start", "velocity"), [(0.0, -0.3), (1.0, 0.3), (0.5, 0.0), (0.0, 0.25), (0.5, 0.5)])
def test_places_at_walls_and_without_motion(start: float, velocity: float) -> None:
    np.testing.assert_allclose(
        bounced(np.array(start), np.array(velocity), np.arange(9)), walked(start, velocity, 8), atol=1e-12
    )


def test_frames_are_those_of_a_painter_that_goes_pixel_by_pixel(rng: np.random.Generator) -> None:
    digits = some_digits(rng)
    rows = np.array([4, 0, 4_000_000_000])
    drawn = digits.draws("validation", rows)
    expected = np.zeros((3, 12, 16, 16), dtype=np.uint8)
    for clip in range(3):
        for digit in range(2):
            which, down, across, angle = drawn[clip, digit]
            picture = digits.pictures[6 + int(which * 2)]
            rows_of = walked(down, 0.1 * np.sin(2 * np.pi * angle), 12)[1:]
            columns_of = walked(across, 0.1 * np.cos(2 * np.pi * angle), 12)[1:]
            for frame in range(12):
                top, left = int(11 * rows_of[frame]), int(12 * columns_of[frame])
                for y in range(5):
                    for x in range(4):
                        pixel = expected[clip, frame, top + y, left + x]
                        expected[clip, frame, top + y, left + x] = max(pixel, picture[y, x])

    assert np.array_equal(digits.clips("validation", rows), expected)


def test_a_clip_depends_on_its_number_alone(rng: np.random.Generator) -> None:
    digits = some_digits(rng)
    alone = digits.clips("train", np.array([7]))

    assert np.array_equal(digits.clips("train", np.array([1, 7, 3]))[1], alone[0])
    assert not np.array_equal(digits.clips("train", np.array([8])), alone)
    assert not np.array_equal(digits.draws("test", np.array([7])), digits.draws("train", np.array([7])))


def test_each_part_shows_its_own_digits_only(rng: np.random.Generator) -> None:
    digits = some_digits(rng)
    for part, (first, after) in DIGITS.items():
        chosen = digits.choice(part, digits.draws(part, np.arange(300)))
        assert set(chosen.ravel().tolist()) == set(range(first, after))


def test_numbers_are_uniform_and_those_of_one_row_have_nothing_to_do_with_the_next() -> None:
    numbers = uniform(5, 1, np.arange(4000), 3)

    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(numbers.std(axis=0), 12**-0.5, atol=0.01)
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.06
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.06


def test_the_numbers_stay_what_they_are() -> None:
    """Recorded with NumPy 2.4: other numbers would silently be another data set."""
    assert uniform(0, 2, np.array([0, 12345]), 2).tolist() == RECORDED


RECORDED = [[0.8144335776159864, 0.4396808049627232], [0.8302066721808948, 0.6361288091940837]]


def test_a_picture_that_stands_in_two_parts_is_refused() -> None:
    part = {"pictures": [0, 5], "clips": 3}
    with pytest.raises(ValueError, match="one part only"):
        DigitClips.model_validate(
            {
                "kind": "moving_digits",
                "train": part,
                "validation": {**part, "pictures": [4, 6]},
                "test": {**part, "pictures": [6, 7]},
            }
        )
