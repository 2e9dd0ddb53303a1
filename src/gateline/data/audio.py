"""Sound as it comes: bytes of a wav (flac, ogg, mp3, aiff) to one channel of samples at a known rate, and back. N samples.

Bytes are somebody else's: a header may promise what does not follow, or more than any memory holds. What cannot be used is
refused with one line, before more is read than `longest_seconds` allows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.errors import DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
"""Of the files that are taken for recordings."""
RATES = (1_000, 768_000)
"""Sampling rates that a recording may have, in Hz; what lies outside is a damaged header."""
MAX_CHANNELS = 64
MOST_VALUES = 2**25
"""Sampling rate x channels x seconds of one recording, 128 MiB while it is read: silence of any length packs into nothing."""


@dataclass(frozen=True)
class Recording:
    """What a recording says of itself.

    Args:
        num_samples: of each channel.
        sampling_rate: Hz.
        channels: how many.
    """

    num_samples: int
    sampling_rate: int
    channels: int

    @property
    def duration_seconds(self) -> float:
        """How long it is."""
        return self.num_samples / self.sampling_rate


def describe(content: Any, place: object) -> Recording:
    """Read what the header of a recording says.

    Args:
        content: bytes of the file.
        place: names the recording in an error.

    Raises:
        DataError: they are no recording, or it is empty or of an impossible kind.
    """
    with _opened(content, place) as (_, recording):
        return recording


def decode(content: Any, place: object, *, sampling_rate: int, longest_seconds: float) -> np.ndarray:
    """Turn bytes into one channel of samples.

    Channels are averaged, then the sound is brought to `sampling_rate`.

    Args:
        content: bytes of the file.
        place: names the recording in an error.
        sampling_rate: of the result, Hz.
        longest_seconds: what is longer is refused, before it is read.

    Returns:
        float32 (N,), full scale from -1 to 1.

    Raises:
        DataError: no recording, empty, broken, too long or of too many samples, or a sample that is no number.
    """
    with _opened(content, place) as (file, recording):
        if recording.duration_seconds > longest_seconds:
            raise DataError(
                place,
                expected=f"at most {longest_seconds:g} s of sound",
                found=f"{recording.duration_seconds:.1f} s",
                do="Cut it, or raise `longest_seconds`",
            )
        if recording.num_samples * recording.channels > MOST_VALUES:
            raise DataError(
                place,
                expected=f"at most {MOST_VALUES:,} samples in all channels",
                found=f"{recording.duration_seconds:.1f} s x {recording.channels} channels x {recording.sampling_rate:,} Hz",
                do="Send one channel, or a lower sampling rate",
            )
        channels = file.read(dtype="float32", always_2d=True)  # (N, C)
    if len(channels) != recording.num_samples:
        raise _broken(place, f"{len(channels)} of the {recording.num_samples} samples that its header promises")
    samples = channels.mean(axis=1, dtype=np.float64)
    if not np.isfinite(samples).all():
        raise DataError(
            place, expected="samples that are numbers", found="NaN or infinity", do="Record or convert it again"
        )
    return resample(samples, recording.sampling_rate, sampling_rate).astype(np.float32)


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Bring samples to another rate; what the new rate cannot hold is filtered out first.

    Args:
        samples: float64 (N,).
        rate: theirs, Hz.
        target_rate: Hz.

    Returns:
        float64 (ceil(N * target_rate / rate),).

    Source: polyphase filter of `scipy.signal.resample_poly` (Kaiser window, beta 5).
    """
    if rate == target_rate:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, target_rate)
    resampled: np.ndarray = resample_poly(samples, target_rate // common, rate // common)
    return resampled


def encode(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Write one channel of samples (N,) as a 16-bit wav: the same samples, the same bytes.

    What was decoded from 16 bits comes back exactly; what is louder than full scale is cut to it.
    """
    import soundfile

    whole = np.clip(np.rint(np.asarray(samples, dtype=np.float64) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    written = io.BytesIO()
    soundfile.write(written, whole, sampling_rate, format="WAV", subtype="PCM_16")
    return written.getvalue()


@contextmanager
def _opened(content: Any, place: object) -> Iterator[tuple[Any, Recording]]:
    import soundfile

    if not isinstance(content, bytes | bytearray | memoryview):
        raise DataError(
            place, expected="the bytes of a recording", found=type(content).__name__, do="Give the file's bytes"
        )
    if len(content) == 0:
        raise DataError(place, expected="the bytes of a recording", found="none", do="Look at the file")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            recording = Recording(file.frames, file.samplerate, file.channels)
            _refuse_impossible(recording, place)
            yield file, recording
    except soundfile.SoundFileError as error:
        said = str(getattr(error, "error_string", error))  # without the address of an object, which says nothing
        raise _broken(place, " ".join(said.split()).removesuffix(".")[:120]) from error


def _refuse_impossible(recording: Recording, place: object) -> None:
    if recording.num_samples < 1:
        raise DataError(place, expected="a recording", found="one without a sample", do="Record it again")
    low, high = RATES
    if not (low <= recording.sampling_rate <= high and 1 <= recording.channels <= MAX_CHANNELS):
        raise DataError(
            place,
            expected=f"{low:,} to {high:,} Hz and at most {MAX_CHANNELS} channels",
            found=f"{recording.sampling_rate:,} Hz, {recording.channels} channels",
            do="Convert it",
        )


def _broken(place: object, found: str) -> DataError:
    return DataError(
        place, expected=f"a recording ({', '.join(SUFFIXES)})", found=found, do="Look at the file, or convert it to wav"
    )
