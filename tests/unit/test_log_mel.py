"""Log-mel features against the sum that defines a discrete Fourier transform, SciPy's, and the published mel scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from gateline.data.log_mel import LogMel, Normaliser, filter_bank, hann_window, hertz_of, log_mel, mel
from gateline.errors import WorkloadError
from gateline.workload.section import read_section

SETTINGS = LogMel(sampling_rate=8000, lowest_hz=60, bands=20)


def by_definition(samples: np.ndarray, settings: LogMel, frame: int) -> list[float]:
    """Features of one frame, sum by sum, in plain Python."""
    size, rate = settings.fft_size, settings.sampling_rate
    begin = frame * settings.step
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / settings.window) for n in range(settings.window)]
    piece = [samples[begin + n] if begin + n < len(samples) else 0.0 for n in range(settings.window)]
    power = []
    for k in range(size // 2 + 1):
        real = sum(
            w * x * math.cos(2 * math.pi * k * n / size) for n, (w, x) in enumerate(zip(window, piece, strict=True))
        )
        imaginary = sum(
            w * x * math.sin(2 * math.pi * k * n / size) for n, (w, x) in enumerate(zip(window, piece, strict=True))
        )
        power.append((real**2 + imaginary**2) / (size * sum(w * w for w in window)))

    def to_mel(f: float) -> float:
        return 1127.0 * math.log(1 + f / 700)  # the same scale, written with another logarithm

    low, high = to_mel(settings.lowest_hz), to_mel(rate / 2)
    corners = [
        700 * (math.exp((low + (high - low) * place / (settings.bands + 1)) / 1127.0) - 1)
        for place in range(settings.bands + 2)
    ]
    features = []
    for band in range(settings.bands):
        left, peak, right = corners[band : band + 3]
        total = 0.0
        for k, p in enumerate(power):
            f = k * rate / size
            if left < f <= peak:
                total += p * (f - left) / (peak - left)
            elif peak < f < right:
                total += p * (right - f) / (right - peak)
        features.append(math.log(total + settings.floor))
    return features


def test_features_follow_the_definition(rng: np.random.Generator) -> None:
    samples = rng.normal(0, 0.1, size=700)

    features = log_mel(samples, SETTINGS)

    assert features.dtype == np.float32
    for frame in (0, 3, len(features) - 1):  # the last one is filled up with zeros
        assert np.allclose(features[frame], by_definition(samples, SETTINGS, frame), atol=2e-3)


def test_the_spectrum_is_that_of_scipy(rng: np.random.Generator) -> None:
    samples = rng.normal(0, 0.1, size=200 + 80 * 9)
    _, _, spectrum = scipy.signal.stft(
        samples,
        8000,
        window=scipy.signal.get_window("hann", 200),
        nperseg=200,
        noverlap=120,
        nfft=256,
        boundary=None,
        padded=False,
    )
    power = np.abs(spectrum.T * hann_window(200).sum()) ** 2 / (256 * np.square(hann_window(200)).sum())  # (T, 129)

    assert np.allclose(log_mel(samples, SETTINGS), np.log(power @ filter_bank(SETTINGS) + SETTINGS.floor), atol=1e-4)


def test_the_mel_scale_is_the_published_one() -> None:
    assert mel(1000) == pytest.approx(1000, abs=0.1)  # 1000 Hz sounds as high as 1000 mel, which is how it was made
    assert mel(0) == 0
    assert hertz_of(mel(3456.7)) == pytest.approx(3456.7)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    corners = hertz_of(np.linspace(mel(60), mel(4000), 22))
    for band in (2, 9, 17):
        tone = 0.5 * np.sin(2 * np.pi * corners[band + 1] * np.arange(1600) / 8000)
        assert (log_mel(tone, SETTINGS)[1:-2].argmax(axis=1) == band).all()


def test_the_bands_share_out_every_frequency_between_their_outermost_peaks() -> None:
    bank = filter_bank(SETTINGS)
    peaks = hertz_of(np.linspace(mel(60), mel(4000), 22))[[1, -2]]
    frequencies = np.arange(129) * 8000 / 256
    inside = (frequencies >= peaks[0]) & (frequencies <= peaks[1])

    assert np.allclose(bank[inside].sum(axis=1), 1)  # triangles that meet at their corners add up to one


def test_twice_as_loud_is_four_times_the_power(rng: np.random.Generator) -> None:
    samples = rng.normal(0, 0.1, size=2000)

    assert np.allclose(log_mel(2 * samples, SETTINGS) - log_mel(samples, SETTINGS), math.log(4), atol=1e-3)
    assert np.allclose(log_mel(np.zeros(500), SETTINGS), math.log(SETTINGS.floor))


@given(num_samples=st.integers(1, 3000))
def test_every_sample_stands_in_a_frame_and_no_frame_is_empty(num_samples: int) -> None:
    frames, bands = log_mel(np.ones(num_samples), SETTINGS).shape

    assert bands == 20
    assert (frames - 1) * SETTINGS.step + SETTINGS.window >= num_samples
    assert (frames - 1) * SETTINGS.step < num_samples


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"highest_hz": 5000}, "at most half"),
        ({"lowest_hz": 4000}, "below"),
        ({"bands": 120}, "hold none"),
        ({"window_seconds": 1e-4}, "window_seconds"),
        ({"bandz": 1}, "bands"),
    ],
)
def test_settings_that_make_no_features_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_section("features", LogMel, {"sampling_rate": 8000, **settings})


@pytest.mark.parametrize("kind", ["training", "utterance"])
def test_normalised_training_features_have_mean_0_and_deviation_1(kind: str, rng: np.random.Generator) -> None:
    features = [
        rng.normal(5 + level, 3, size=(length, 4)).astype(np.float32) for level, length in ((0, 50), (4, 120), (-2, 7))
    ]

    normaliser = Normaliser.fit(iter(features), kind)
    together = np.concatenate([normaliser(recording) for recording in features])

    assert np.allclose(together.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(together.std(axis=0), 1, atol=1e-4)
    again = Normaliser.from_json(normaliser.to_json())
    assert np.array_equal(again(features[0]), normaliser(features[0]))
    louder = normaliser(features[0] + 2)
    assert np.allclose(louder, normaliser(features[0]), atol=1e-5) == (kind == "utterance")


def test_a_band_that_never_changes_is_not_divided_by_nothing() -> None:
    normaliser = Normaliser.fit([np.full((9, 2), -3.0, dtype=np.float32)], "training")

    assert np.array_equal(normaliser(np.full((2, 2), -3.0, dtype=np.float32)), np.zeros((2, 2)))
