"""Recordings as bytes: what is read is what was written, other rates keep the tone, and what is broken is one clear line."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from gateline.data.audio import decode, describe, encode, resample
from gateline.errors import DataError


def sine(hertz: float, rate: int, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def written(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=kind, subtype=subtype)
    return content.getvalue()


def test_sixteen_bits_come_back_exactly(rng: np.random.Generator) -> None:
    whole = rng.integers(-(2**15), 2**15, size=1000).astype(np.int16)

    samples = decode(written(whole, 8000), "it", sampling_rate=8000, longest_seconds=1)

    assert samples.dtype == np.float32
    assert np.array_equal(samples * 2**15, whole)
    assert np.array_equal(decode(encode(samples, 8000), "it", sampling_rate=8000, longest_seconds=1), samples)
    assert encode(samples, 8000) == encode(samples, 8000)


def test_channels_are_averaged(rng: np.random.Generator) -> None:
    left, right = rng.uniform(-0.5, 0.5, size=(2, 400))

    mono = decode(
        written(np.stack([left, right], 1), 8000, subtype="FLOAT"), "it", sampling_rate=8000, longest_seconds=1
    )

    assert np.allclose(mono, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16")]
)
def test_other_kinds_of_file_are_read(kind: str, subtype: str) -> None:
    tone = sine(440, 16_000)

    assert np.allclose(
        decode(written(tone, 16_000, kind, subtype), "it", sampling_rate=16_000, longest_seconds=1), tone, atol=1e-4
    )


@pytest.mark.parametrize(
    ("rate", "target"), [(44_100, 8000), (16_000, 8000), (8000, 16_000), (11_025, 8000), (48_000, 16_000)]
)
def test_a_tone_of_another_rate_is_the_same_tone(rate: int, target: int) -> None:
    resampled = decode(written(sine(440, rate), rate), "it", sampling_rate=target, longest_seconds=1)

    exact = sine(440, target)  # the closed form, at the new rate
    inside = slice(target // 50, -target // 50)  # the filter rings at both ends
    assert len(resampled) == len(exact)
    assert np.abs(resampled - exact)[inside].max() < 5e-3


def test_what_the_new_rate_cannot_hold_is_filtered_out() -> None:
    kept = resample(sine(6000, 44_100), 44_100, 8000)

    assert np.abs(kept[200:-200]).max() < 1e-2  # without a filter it would come back as 2000 Hz, as loud as before


def test_the_header_says_what_there_is() -> None:
    recording = describe(written(np.zeros((441, 2)), 44_100), "it")

    assert (recording.num_samples, recording.sampling_rate, recording.channels) == (441, 44_100, 2)
    assert recording.duration_seconds == pytest.approx(0.01)


GOOD = written(sine(440, 8000), 8000)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "none"),
        (b"RIFF", "recording"),
        (b"\x00" * 200, "recording"),
        (b"zero one two three", "recording"),
        (GOOD[:20], "recording"),
        ("text", "str"),
        (None, "NoneType"),
        (written(np.zeros(0), 8000), "without a sample"),
        (written(sine(440, 8000, seconds=2), 8000), "2.0 s"),
        (written(np.array([0.0, np.nan]), 8000, subtype="FLOAT"), "NaN"),
        (GOOD[:24] + struct.pack("<I", 0) + GOOD[28:], "recording|Hz"),
        (GOOD[:24] + struct.pack("<I", 2**30) + GOOD[28:], "Hz"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else type(value).__name__
    ),  # some of these bytes hold the time at which they were written
)
def test_what_cannot_be_used_is_one_line_that_names_it(content: object, found: str) -> None:
    with pytest.raises(DataError, match=found) as refusal:
        decode(content, "recording 7", sampling_rate=8000, longest_seconds=1)

    assert str(refusal.value).startswith("recording 7: expected ")
    assert "\n" not in str(refusal.value)


def test_a_header_that_promises_more_than_follows_takes_no_memory() -> None:
    lying = GOOD[:40] + struct.pack("<I", 2**31 - 2) + GOOD[44:]

    try:
        samples = decode(lying, "it", sampling_rate=8000, longest_seconds=1)
    except DataError:
        return
    assert len(samples) == 4000  # libsndfile looked at the size of the file instead


def test_silence_that_packs_into_nothing_is_refused_before_it_is_unpacked() -> None:
    silence = written(np.zeros((30 * 192_000, 8), dtype=np.int16), 192_000, "FLAC", "PCM_16")
    assert len(silence) < 200_000
    tracemalloc.start()

    with pytest.raises(
        DataError, match=r"it: expected at most 33,554,432 samples .*; found 30.0 s x 8 channels x 192,000"
    ):
        decode(silence, "it", sampling_rate=16_000, longest_seconds=30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2**24
    assert len(decode(written(np.zeros((4000, 8)), 8000), "it", sampling_rate=8000, longest_seconds=30)) == 4000


def test_any_bytes_are_read_or_refused(rng: np.random.Generator) -> None:
    for _ in range(200):
        damaged = bytearray(GOOD[: rng.integers(1, len(GOOD))])
        for place in rng.integers(0, min(len(damaged), 60), size=3):
            damaged[place] = rng.integers(256)
        try:
            samples = decode(bytes(damaged), "it", sampling_rate=8000, longest_seconds=1)
        except DataError:
            continue
        assert samples.ndim == 1
        assert np.isfinite(samples).all()
