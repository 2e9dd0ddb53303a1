"""Features of frames: what must not change them, and what must."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.data.frame_features import (
    DIRECTIONS,
    FEATURES,
    MOTION,
    SIDE,
    best_match,
    edge_shares,
    frame_features,
    shrunk,
    spectrum_shares,
)


def a_film(rng: np.random.Generator, frames: int = 5, side: int = 64) -> np.ndarray:
    coarse = rng.integers(0, 100, (frames, side // 8, side // 8))
    return np.kron(coarse, np.ones((1, 8, 8), dtype=np.int64)).astype(np.uint8)


def test_every_feature_has_a_name(rng: np.random.Generator) -> None:
    found = frame_features(a_film(rng))

    assert found.shape == (5, len(FEATURES))
    assert found.dtype == np.float32
    assert len(set(FEATURES)) == len(FEATURES)


def test_brightness_and_contrast_of_a_film_change_nothing(rng: np.random.Generator) -> None:
    film = a_film(rng)
    np.testing.assert_allclose(frame_features(2 * film + 31), frame_features(film), atol=1e-5)


def test_frames_to_come_change_nothing(rng: np.random.Generator) -> None:
    film = a_film(rng, frames=9)
    film[4:] = film[4:] // 5  # darker and flatter
    np.testing.assert_allclose(frame_features(film[:4]), frame_features(film)[:4], atol=1e-6)


def test_size_changes_nothing(rng: np.random.Generator) -> None:
    film = a_film(rng)
    large = np.repeat(np.repeat(film, 3, axis=1), 2, axis=2)

    np.testing.assert_allclose(frame_features(large), frame_features(film), atol=1e-5)


def test_frames_are_shrunk_by_means(rng: np.random.Generator) -> None:
    film = rng.integers(0, 256, (2, 96, 64)).astype(np.uint8)
    expected = film.reshape(2, SIDE, 3, SIDE, 2).mean(axis=(2, 4))

    np.testing.assert_allclose(shrunk(film), expected)
    odd = rng.integers(0, 256, (1, 50, 41)).astype(np.uint8)  # pixels are shared between places, and none is lost
    np.testing.assert_allclose(shrunk(odd).mean(), odd.mean())


def test_a_picture_that_moves_keeps_its_spectrum_and_is_found_again(rng: np.random.Generator) -> None:
    picture = np.zeros((SIDE, SIDE))
    picture[4:14, 6:15] = rng.normal(size=(10, 9))
    pair = np.stack([picture, np.roll(picture, (7, 5), axis=(0, 1))])
    other = np.stack([picture, rng.normal(size=(SIDE, SIDE))])

    np.testing.assert_allclose(np.diff(spectrum_shares(pair), axis=0), 0, atol=1e-8)
    assert np.abs(np.diff(spectrum_shares(other), axis=0)).max() > 0.1
    even = (pair - pair.mean(axis=(1, 2), keepdims=True)) / pair.std(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(best_match(even), 1)


def test_a_ramp_has_one_direction() -> None:
    down = np.tile(np.arange(SIDE, dtype=float)[:, None], (1, SIDE))
    shares = edge_shares(np.stack([down, down.T]))

    assert shares.argmax(axis=1).tolist() == [DIRECTIONS // 4, 0]
    np.testing.assert_allclose(shares.max(axis=1), 1)


def test_a_film_that_stands_still_does_not_move(rng: np.random.Generator) -> None:
    film = np.repeat(a_film(rng, frames=1), 4, axis=0)
    moving = FEATURES.index("motion")

    assert moving == MOTION
    np.testing.assert_allclose(frame_features(film)[:, moving : moving + 5], 0, atol=1e-6)


def test_motion_is_the_mean_change_in_units_of_the_contrast() -> None:
    film = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
    film[:, : SIDE // 2] = 100  # half of it: a deviation of 50
    film[1, :, : SIDE // 4] = 50  # a quarter changes by 50

    assert frame_features(film)[1, MOTION] == pytest.approx(0.25 * 50 / np.median([50, film[1].std()]), rel=1e-6)


def test_a_black_frame_has_numbers() -> None:
    assert np.isfinite(frame_features(np.zeros((3, 20, 30), dtype=np.uint8))).all()
