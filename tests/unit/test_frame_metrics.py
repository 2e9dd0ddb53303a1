"""Metrics of frames against torchmetrics and against sums written out."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from gateline.baselines.frame_prediction import BASELINES
from gateline.frame_metrics import frame_metrics, ssim


def some_frames(rng: np.random.Generator, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    truth = torch.from_numpy(rng.random(shape))
    return torch.clamp(truth + 0.3 * torch.from_numpy(rng.normal(size=shape)), 0, 1), truth


def test_similarity_is_that_of_torchmetrics_where_its_window_needs_no_mirror(rng: np.random.Generator) -> None:
    frames, truth = some_frames(rng, 2, 3, 2, 20, 27)
    found = ssim(frames, truth)
    for clip in range(2):
        for step in range(3):
            _, whole = structural_similarity_index_measure(
                frames[clip, step][None], truth[clip, step][None], data_range=1.0, return_full_image=True
            )
            inside = whole[..., 5:-5, 5:-5].mean()
            torch.testing.assert_close(found[clip, step], inside.double(), rtol=0, atol=1e-6)


def test_ratio_of_signal_to_noise_is_that_of_torchmetrics(rng: np.random.Generator) -> None:
    frames, truth = some_frames(rng, 2, 3, 1, 8, 9)
    wanted = peak_signal_noise_ratio(frames, truth, data_range=1.0, reduction="none", dim=(2, 3, 4))

    torch.testing.assert_close(frame_metrics(frames, truth)["psnr"].flatten(), wanted.flatten().double())


def test_errors_are_summed_over_the_pixels_of_a_frame(rng: np.random.Generator) -> None:
    frames, truth = some_frames(rng, 2, 3, 1, 12, 12)
    measured = frame_metrics(frames, truth)
    difference = frames.numpy() - truth.numpy()

    np.testing.assert_allclose(measured["squared_error"][1, 2], sum(d * d for d in difference[1, 2].ravel()))
    np.testing.assert_allclose(measured["absolute_error"][0, 1], sum(abs(d) for d in difference[0, 1].ravel()))


def test_the_same_frame_is_perfect() -> None:
    frame = torch.rand(1, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    measured = frame_metrics(frame, frame)

    assert measured["squared_error"].item() == 0
    torch.testing.assert_close(measured["ssim"], torch.ones(1, 1).double())
    assert measured["psnr"].item() == 100


def test_baselines_say_what_their_names_do() -> None:
    past = torch.tensor([0.0, 0.25, 0.5]).reshape(1, 3, 1, 1, 1).expand(2, 3, 1, 4, 4)
    values = {name: baseline(past, 5) for name, baseline in BASELINES.items()}

    assert {tuple(value.shape) for value in values.values()} == {(2, 5, 1, 4, 4)}
    assert {name: value.unique().tolist() for name, value in values.items()} == {
        "black_frame": [0.0],
        "mean_of_inputs": [0.25],
        "copy_last": [0.5],
    }
