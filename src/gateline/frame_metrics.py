"""How well frames were foretold. B clips, U frames, C channels, Y rows, X columns; pixels in [0, 1]."""

from __future__ import annotations

import torch
from torch.nn import functional

FRAME_METRICS = ("squared_error", "absolute_error", "ssim", "psnr")
SUMMED = ("squared_error", "absolute_error")
"""Means over frames of a sum over pixels; lower is better, and clips can be resampled."""

WINDOW, SIGMA = 11, 1.5
"""Of SSIM: side and standard deviation of the Gaussian window, in pixels."""
STABLE_MEAN, STABLE_VARIANCE = 0.01**2, 0.03**2
"""Of SSIM, for pixels in [0, 1]: the constants C1 and C2."""
NO_ERROR = 1e-10
"""Of PSNR: a mean squared error below which two frames are the same; 100 dB."""


def frame_metrics(frames: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compare frames with what came, frame by frame.

    Args:
        frames: float (B, U, C, Y, X) in [0, 1].
        truth: the same.

    Returns:
        float64 (B, U) each: squared_error and absolute_error (summed over the pixels of a frame), ssim (1 is best) and
        psnr (decibels, higher is better).
    """
    difference = (frames - truth).double()
    squared = difference.square().sum(dim=(2, 3, 4))
    pixels = difference[0, 0].numel()
    return {
        "squared_error": squared,
        "absolute_error": difference.abs().sum(dim=(2, 3, 4)),
        "ssim": ssim(frames, truth),
        "psnr": -10 * torch.log10(torch.clamp(squared / pixels, min=NO_ERROR)),
    }


def ssim(frames: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each frame: float64 (B, U), 1 for the same frame.

    The window lies inside the picture everywhere, and its values are averaged over places and channels.

    Source: Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment, equation 13.
    """
    x, y = (each.double().flatten(0, 2)[:, None] for each in (frames, truth))  # (B * U * C, 1, Y, X)
    of_x, of_y, of_xx, of_yy, of_xy = blurred(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    covariance = of_xy - of_x * of_y
    variances = (of_xx - of_x**2) + (of_yy - of_y**2)
    of_means = (2 * of_x * of_y + STABLE_MEAN) / (of_x**2 + of_y**2 + STABLE_MEAN)
    similar = of_means * (2 * covariance + STABLE_VARIANCE) / (variances + STABLE_VARIANCE)
    return similar.mean(dim=(1, 2, 3)).reshape(frames.shape[:3]).mean(dim=2)


def blurred(pictures: torch.Tensor) -> torch.Tensor:
    """Average over the Gaussian window: (N, 1, Y, X) -> (N, 1, Y - 10, X - 10); smaller pictures have smaller windows."""
    height, width = (min(WINDOW, side) for side in pictures.shape[2:])
    down, across = (_gaussian(size).to(pictures) for size in (height, width))
    return functional.conv2d(functional.conv2d(pictures, down.reshape(1, 1, -1, 1)), across.reshape(1, 1, 1, -1))


def _gaussian(size: int) -> torch.Tensor:
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (places / SIGMA) ** 2)
    return weights / weights.sum()
