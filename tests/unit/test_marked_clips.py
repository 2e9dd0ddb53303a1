"""Clips with marked events: what is marked, what is none, and that a clip depends on its number and pool alone."""

from __future__ import annotations

import numpy as np
import scipy.stats

from gateline.data.marked_clips import DISTRACTIONS, EVENTS, HAPPENINGS, MarkedClip, marked_clips


def rings(count: int = 40) -> np.ndarray:
    """Pictures with an empty border and a hundred lit pixels or so."""
    y, x = np.mgrid[-7:7, -7:7]
    radius = np.hypot(y, x)[None] * np.linspace(0.8, 1.2, count)[:, None, None]
    return np.where((radius > 3) & (radius < 6), 230, 0).astype(np.uint8)


def some_clips(count: int, pictures: np.ndarray | None = None) -> list[MarkedClip]:
    return list(marked_clips(rings() if pictures is None else pictures, num_clips=count, num_pools=4, seed=9))


def ink(clip: MarkedClip) -> np.ndarray:
    """Light above that of the empty square, frame by frame."""
    frames = clip.frames.astype(np.float64)
    return (frames - frames.min(axis=(1, 2), keepdims=True)).sum(axis=(1, 2))


def test_the_frames_around_an_event_are_marked_and_no_others() -> None:
    for clip in some_clips(60):
        events = [frame for frame, kind in enumerate(clip.happened) if kind in EVENTS]
        expected = [any(abs(frame - event) <= 1 for event in events) for frame in range(len(clip.frames))]

        assert clip.marked.tolist() == expected
        assert 1 <= len(events) <= 3
        assert sum(kind is not None for kind in clip.happened) == HAPPENINGS


def test_all_kinds_of_things_happen_and_not_close_to_each_other() -> None:
    clips = some_clips(100)
    gaps = [np.diff([t for t, kind in enumerate(clip.happened) if kind]) for clip in clips]

    assert {kind for clip in clips for kind in clip.happened} == {*EVENTS, *DISTRACTIONS, None}
    assert min(int(gap.min()) for gap in gaps) >= 4


def test_the_number_of_a_frame_does_not_tell_when_something_happens() -> None:
    """As often in one frame as in any other, and a predictor that knows nothing else is hardly better than one that knows nothing."""
    clips = list(marked_clips(rings()[:, 5:9, 5:9], num_clips=800, size=8, num_pools=4, seed=9))
    moments = np.array([[kind is not None for kind in clip.happened] for clip in clips])
    marked = np.array([clip.marked for clip in clips])
    seen, asked = marked[::2].mean(axis=0), marked[1::2]

    assert scipy.stats.chisquare(moments[:, 1:-2].sum(axis=0)).pvalue > 0.001
    assert not moments[:, [0, -2, -1]].any()  # what was before, and what follows, can be seen
    assert log_loss(seen, asked) > 0.97 * log_loss(marked[::2].mean(), asked)


def log_loss(probability: np.ndarray, marked: np.ndarray) -> float:
    probability = np.clip(probability, 1e-3, 1 - 1e-3)
    return float(-np.log(np.where(marked, probability, 1 - probability)).mean())


def test_events_change_who_is_there_and_distractions_do_not() -> None:
    """Of digits of equal light, one more is more light and one fewer is less, whatever overlaps now and then."""
    ratios: dict[str, list[float]] = {kind: [] for kind in (*EVENTS, *DISTRACTIONS)}
    for clip in some_clips(300):
        light = ink(clip)
        for frame, kind in enumerate(clip.happened):
            if kind is not None:  # before, and when a flash or a slip is over
                ratios[kind].append(light[frame + 2] / light[frame - 1])
    median = {kind: float(np.median(found)) for kind, found in ratios.items()}

    assert median["appears"] > 1.2
    assert median["leaves"] < 0.8
    for kind in ("replaced", *DISTRACTIONS):
        assert 0.85 < median[kind] < 1.15, kind


def test_a_clip_depends_on_its_number_alone() -> None:
    few, many = some_clips(3), some_clips(7)

    assert all(np.array_equal(one.frames, other.frames) for one, other in zip(few, many, strict=False))
    assert not np.array_equal(many[0].frames, many[4].frames)


def test_a_clip_shows_pictures_of_its_own_pool_only() -> None:
    changed = rings()
    changed[10:] = 0  # all pools but the first

    for clip, other in zip(some_clips(8), some_clips(8, changed), strict=True):
        assert np.array_equal(clip.frames, other.frames) == (clip.pool == 0)
