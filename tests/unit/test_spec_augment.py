"""SpecAugment: what the paper says is hidden, in training only, and the same however the batch is cut and padded."""

from __future__ import annotations

import numpy as np
import torch

from gateline.models.spec_augment import SpecAugment, SpecAugmentSettings
from gateline.randomness import rows_of_batch

SETTINGS = SpecAugmentSettings(frequency_masks=2, frequency_width=5, time_masks=2, time_width=12, time_share=0.3)


def masked(
    x: torch.Tensor,
    lengths: list[int],
    settings: SpecAugmentSettings = SETTINGS,
    *,
    seed: int = 3,
    first: int = 0,
    total: int = 0,
) -> torch.Tensor:
    with rows_of_batch(first, len(x), total or len(x), seed):
        hidden: torch.Tensor = SpecAugment(settings)(x, torch.tensor(lengths))
    return hidden


def test_nothing_is_hidden_outside_training() -> None:
    x = torch.ones(2, 50, 16)

    assert torch.equal(SpecAugment(SETTINGS).eval()(x, torch.tensor([50, 20])), x)
    assert torch.equal(masked(x, [50, 20], SpecAugmentSettings()), x)


def test_masks_are_as_wide_as_the_paper_says() -> None:
    widths = []
    for seed in range(300):
        x = masked(torch.ones(1, 40, 16), [40], SpecAugmentSettings(frequency_masks=1, frequency_width=5), seed=seed)
        bands = (x[0] == 0).all(dim=0).nonzero().flatten()
        assert torch.equal((x[0] == 0).any(dim=0), (x[0] == 0).all(dim=0))  # a band is hidden at all times or at none
        assert len(bands) == 0 or int(bands[-1] - bands[0]) + 1 == len(bands)  # and they lie side by side
        widths.append(len(bands))

    counts = np.bincount(widths, minlength=6)
    assert len(counts) == 6  # 0 to 5, each about as often: 50 of 300
    assert counts.min() > 25
    assert counts.max() < 85


def test_time_masks_stay_inside_the_recording_and_below_their_share() -> None:
    settings = SpecAugmentSettings(time_masks=1, time_width=12, time_share=0.3)
    longest = 0
    for seed in range(200):
        x = masked(torch.ones(2, 40, 4), [40, 10], settings, seed=seed)
        hidden = (x == 0).all(dim=2)  # (B, T)
        assert not hidden[1, 10:].any()  # past the length there is nothing to hide
        assert hidden[1].sum() <= 3
        longest = max(longest, int(hidden[0].sum()))
    assert longest == 12


def test_rows_and_steps_hide_different_things() -> None:
    x = torch.ones(8, 40, 16)
    one, other = masked(x, [40] * 8), masked(x, [40] * 8, seed=4)

    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, other)
    assert torch.equal(one, masked(x, [40] * 8))


def test_parts_of_a_batch_and_more_padding_hide_the_same() -> None:
    x, lengths = torch.ones(5, 40, 16), [40, 35, 31, 20, 12]
    whole = masked(x, lengths)

    parts = [masked(x[:2], lengths[:2], first=0, total=5), masked(x[2:, :31], lengths[2:], first=2, total=5)]
    assert torch.equal(whole[:2], parts[0])
    assert torch.equal(whole[2:, :31], parts[1])
