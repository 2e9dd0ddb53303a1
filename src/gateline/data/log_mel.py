"""From samples to log-mel features: how loud each band of pitch is, frame by frame. N samples, T frames, M bands.

One recording is computed at a time, in float64, so that the same recording has the same features wherever it stands.

Source: Davis and Mermelstein (1980), IEEE ASSP 28(4): triangular bands; O'Shaughnessy (1987), Speech Communication, page 150:
the mel scale, mel(f) = 2595 log10(1 + f / 700).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from gateline.workload.section import Section

Positive = Annotated[float, Field(gt=0)]


class LogMel(Section):
    """How a recording becomes features."""

    sampling_rate: Annotated[int, Field(ge=1000)] = 16_000
    """Hz. Recordings of another rate are brought to this one."""
    window_seconds: Positive = 0.025
    """Of one frame."""
    step_seconds: Positive = 0.010
    """From one frame to the next."""
    bands: Annotated[int, Field(ge=1)] = 40
    """Number of mel bands M."""
    lowest_hz: Annotated[float, Field(ge=0)] = 20.0
    """Where the lowest band begins."""
    highest_hz: Positive | None = None
    """Where the highest band ends; null: half of the sampling rate."""
    floor: Positive = 1e-9
    """Mean power of a band that is taken for silence, of 1 for full scale: it is added before the logarithm, so that the digital
    silence of one recording and the hiss of another do not look as different as they are."""
    longest_seconds: Positive = 30.0
    """Longer recordings are refused."""
    normalisation: Literal["training", "utterance"] = "training"
    """training: each band less its mean in the training part, over its deviation there. utterance: each band less its mean in the
    recording itself, over the deviation of the training part, which takes out the microphone and the level."""

    @model_validator(mode="after")
    def _has_bands(self) -> LogMel:
        if self.top_hz > self.sampling_rate / 2:
            raise ValueError(
                f"`highest_hz` of at most half of `sampling_rate`, {self.sampling_rate / 2:g}, got {self.top_hz:g}"
            )
        if self.lowest_hz >= self.top_hz:
            raise ValueError(f"`lowest_hz` below `highest_hz`, {self.top_hz:g}, got {self.lowest_hz:g}")
        if self.window < 2 or self.step < 1:
            raise ValueError(
                f"`window_seconds` of two samples and `step_seconds` of one or more, got {self.window} and {self.step} samples"
            )
        empty = int((filter_bank(self).sum(axis=0) == 0).sum())
        if empty:
            raise ValueError(
                f"`bands` so few that each holds a frequency of the window's {self.fft_size // 2 + 1}; {empty} of {self.bands} "
                "hold none: take fewer, or raise `window_seconds`"
            )
        return self

    @property
    def top_hz(self) -> float:
        """Where the highest band ends."""
        return self.sampling_rate / 2 if self.highest_hz is None else self.highest_hz

    @property
    def window(self) -> int:
        """Samples of one frame."""
        return round(self.window_seconds * self.sampling_rate)

    @property
    def step(self) -> int:
        """Samples from one frame to the next."""
        return round(self.step_seconds * self.sampling_rate)

    @property
    def fft_size(self) -> int:
        """Samples that are transformed: the window, and zeros up to a power of two."""
        return 1 << (self.window - 1).bit_length()


def log_mel(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    """Compute the features of one recording, not yet normalised.

    Args:
        samples: float (N,), N >= 1, at `settings.sampling_rate`.
        settings: frames and bands.

    Returns:
        float32 (T, M), with T = 1 + ceil(max(N - window, 0) / step): the last frame is filled up with zeros.
    """
    frames = _frames(np.asarray(samples, dtype=np.float64), settings.window, settings.step)  # (T, window)
    hann = hann_window(settings.window)
    spectrum = np.fft.rfft(frames * hann, n=settings.fft_size, axis=1)  # (T, fft_size / 2 + 1)
    # Over the window's own power, so that the result does not depend on how long the window is.
    power = (spectrum.real**2 + spectrum.imag**2) / (settings.fft_size * np.square(hann).sum())
    bands: np.ndarray = np.log(power @ filter_bank(settings) + settings.floor)  # (T, M)
    return bands.astype(np.float32)


def hann_window(size: int) -> np.ndarray:
    """Make a Hann window for spectra (periodic): float64 (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def mel(hertz: Any) -> Any:
    """Say how high a frequency sounds."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def hertz_of(mels: Any) -> Any:
    """Say which frequency sounds that high; the inverse of `mel`."""
    return 700 * (10 ** (np.asarray(mels) / 2595) - 1)


@lru_cache(maxsize=8)
def filter_bank(settings: LogMel) -> np.ndarray:
    """Make triangles of height 1 whose corners stand at equal distances on the mel scale: float64 (fft_size / 2 + 1, M)."""
    corners = hertz_of(np.linspace(mel(settings.lowest_hz), mel(settings.top_hz), settings.bands + 2))  # (M + 2,)
    frequencies = np.fft.rfftfreq(settings.fft_size, 1 / settings.sampling_rate)[:, None]
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
    bank: np.ndarray = np.maximum(0.0, np.minimum(rising, falling))
    bank.flags.writeable = False
    return bank


def _frames(samples: np.ndarray, window: int, step: int) -> np.ndarray:
    missing = window - len(samples) if len(samples) < window else (window - len(samples)) % step
    padded = np.concatenate([samples, np.zeros(missing)])
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::step]


class Normaliser:
    """Brings features to about mean 0 and deviation 1, as the training part has them.

    Args:
        mean: float64 (M,), of the training frames.
        deviation: float64 (M,), of the training frames; never 0.
        kind: `LogMel.normalisation`.
    """

    def __init__(self, mean: np.ndarray, deviation: np.ndarray, kind: str) -> None:
        self.mean, self.deviation, self.kind = mean, deviation, kind

    @classmethod
    def fit(cls, features: Any, kind: str) -> Normaliser:
        """Fit to the training part.

        Args:
            features: arrays (T, M), one for each recording; gone through once.
            kind: `LogMel.normalisation`.
        """
        count, total, square = 0, np.zeros(1), np.zeros(1)
        for recording in features:
            exact = _centred(recording, kind)
            count, total, square = count + len(exact), total + exact.sum(axis=0), square + np.square(exact).sum(axis=0)
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - np.square(mean), 0))
        return cls(mean, np.where(deviation > 1e-6, deviation, 1.0), kind)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Normalise one recording: float32 (T, M) -> float32 (T, M)."""
        return ((_centred(features, self.kind) - self.mean) / self.deviation).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Write what was fitted."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist(), "kind": self.kind}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Normaliser:
        """Read what `to_json` wrote."""
        return cls(np.array(state["mean"]), np.array(state["deviation"]), state["kind"])


def _centred(features: np.ndarray, kind: str) -> np.ndarray:
    exact = features.astype(np.float64)
    return exact - exact.mean(axis=0) if kind == "utterance" else exact
