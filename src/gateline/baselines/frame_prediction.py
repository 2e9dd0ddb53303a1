"""What foretells frames without learning. B clips, T past frames, U frames to come, C channels, Y rows, X columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


def black_frame(past: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Nothing is there: (B, U, C, Y, X) for past frames (B, T, C, Y, X)."""
    return torch.zeros_like(past[:, :1]).expand(-1, num_frames, -1, -1, -1)


def mean_of_inputs(past: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Each frame is the mean of those that were seen."""
    return past.mean(dim=1, keepdim=True).expand(-1, num_frames, -1, -1, -1)


def copy_last(past: torch.Tensor, num_frames: int) -> torch.Tensor:
    """The last frame stays."""
    return past[:, -1:].expand(-1, num_frames, -1, -1, -1)


BASELINES: Mapping[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "black_frame": black_frame,
    "mean_of_inputs": mean_of_inputs,
    "copy_last": copy_last,
}
"""Each takes past frames (B, T, C, Y, X) and U, and returns frames (B, U, C, Y, X)."""
