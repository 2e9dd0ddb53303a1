"""Sums and counts of the losses, against their formulas; what is not observed counts for nothing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from gateline.losses import (
    summed_binary_cross_entropy,
    summed_cross_entropy,
    summed_ctc,
    summed_frame_loss,
)


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape)).requires_grad_()


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_cross_entropy_is_the_surprise_of_the_right_class(rng: np.random.Generator) -> None:
    logits, target = normal(rng, 3, 4, 5), torch.from_numpy(rng.integers(5, size=(3, 4)))
    total, count = summed_cross_entropy(logits, target)

    probabilities = np.exp(logits.detach().numpy())
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    right = np.take_along_axis(probabilities, target.numpy()[:, :, None], axis=2)
    assert float(total.detach()) == pytest.approx(-np.log(right).sum())
    assert int(count) == 12


def test_smoothing_spreads_a_share_of_the_target_over_all_classes(rng: np.random.Generator) -> None:
    logits, target = normal(rng, 6, 5), torch.from_numpy(rng.integers(5, size=6))
    total, _ = summed_cross_entropy(logits, target, label_smoothing=0.2)

    log_probs = torch.log_softmax(logits, dim=1).detach().numpy()
    wanted = 0.8 * np.eye(5)[target.numpy()] + 0.2 / 5
    assert float(total.detach()) == pytest.approx(-(wanted * log_probs).sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_what_is_not_observed_changes_neither_cross_entropy_nor_its_gradient(
    smoothing: float, rng: np.random.Generator
) -> None:
    logits, target = normal(rng, 3, 4, 5), torch.from_numpy(rng.integers(5, size=(3, 4)))
    observed = torch.from_numpy(rng.random((3, 4)) < 0.5)
    observed[0, 0] = True
    total, count = summed_cross_entropy(logits, target, observed, label_smoothing=smoothing)
    total.backward()
    only, _ = summed_cross_entropy(logits[observed], target[observed], label_smoothing=smoothing)

    assert int(count) == int(observed.sum())
    assert float(total.detach()) == pytest.approx(float(only.detach()))
    assert logits.grad is not None
    assert (logits.grad[~observed] == 0).all()
    assert (logits.grad[observed] != 0).all()


def test_rare_labels_weigh_more(rng: np.random.Generator) -> None:
    logits, target = normal(rng, 3, 4, 2), torch.from_numpy(rng.integers(2, size=(3, 4, 2))).double()
    observed = torch.from_numpy(rng.random((3, 4)) < 0.6)
    total, count = summed_binary_cross_entropy(logits, target, observed, positive_weight=torch.tensor([4.0, 1.0]))

    p, y = logistic(logits.detach().numpy()), target.numpy()
    losses = -(np.array([4.0, 1.0]) * y * np.log(p) + (1 - y) * np.log(1 - p))
    assert float(total.detach()) == pytest.approx(losses[observed.numpy()].sum())
    assert int(count) == 2 * int(observed.sum())


def test_a_missing_label_is_no_number_and_leaves_the_gradient_alone(rng: np.random.Generator) -> None:
    logits, target = normal(rng, 2, 3), torch.tensor([[0.0, math.nan, 1.0], [1.0, 0.0, math.nan]]).double()
    observed = torch.isfinite(target)
    total, count = summed_binary_cross_entropy(logits, target.nan_to_num(), observed)
    total.backward()

    assert int(count) == 4
    assert logits.grad is not None
    assert (logits.grad[~observed] == 0).all()


def test_ctc_sums_over_all_alignments(rng: np.random.Generator) -> None:
    log_probs = torch.log_softmax(normal(rng, 3, 5, 3), dim=2)
    lengths, target, target_lengths = (
        torch.tensor([5, 3, 4]),
        torch.tensor([[1, 2, 2], [1, 9, 9], [2, 1, -1]]),
        torch.tensor([3, 1, 2]),
    )
    total, count = summed_ctc(log_probs, lengths, target, target_lengths)

    wanted = 0.0
    for row, (length, size) in enumerate(zip(lengths.tolist(), target_lengths.tolist(), strict=True)):
        steps = log_probs[row, :length].detach().numpy()
        probability = sum(
            math.exp(sum(steps[t, label] for t, label in enumerate(path)))
            for path in itertools.product(range(3), repeat=length)
            if [label for label, _ in itertools.groupby(path) if label] == target[row, :size].tolist()
        )
        wanted -= math.log(probability)
    assert float(total.detach()) == pytest.approx(wanted)
    assert int(count) == 3


def test_a_labelling_that_does_not_fit_has_an_infinite_loss(rng: np.random.Generator) -> None:
    log_probs = torch.log_softmax(normal(rng, 2, 3, 4), dim=2)
    fits, repeats = torch.tensor([[1, 2], [3, 0]]), torch.tensor([[1, 1], [3, 0]])
    lengths = torch.tensor([2, 3])

    assert torch.isfinite(summed_ctc(log_probs, lengths, fits, torch.tensor([2, 1]))[0])
    assert torch.isinf(summed_ctc(log_probs, lengths, repeats, torch.tensor([2, 1]))[0])


@pytest.mark.parametrize("kind", ["squared", "binary_cross_entropy"])
def test_frames_are_compared_pixel_by_pixel(kind: str, rng: np.random.Generator) -> None:
    logits, target = normal(rng, 2, 3, 1, 4, 5), torch.from_numpy(rng.random((2, 3, 1, 4, 5)))
    observed = torch.tensor([[True, True, False], [True, False, False]])
    total, count = summed_frame_loss(kind, logits, target, observed)

    p, y = logistic(logits.detach().numpy()), target.numpy()
    losses = (p - y) ** 2 if kind == "squared" else -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert float(total.detach()) == pytest.approx(losses[observed.numpy()].sum())
    assert int(count) == 3 * 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_over_many_elements_keep_their_digits(dtype: torch.dtype) -> None:
    """In 16 bits a sum of ones stops growing at 256 or 2048."""
    logits = torch.zeros(5000, 2, dtype=dtype)

    assert float(summed_cross_entropy(logits, torch.zeros(5000, dtype=torch.long))[0]) == pytest.approx(
        5000 * math.log(2)
    )
    assert float(summed_binary_cross_entropy(logits, torch.zeros(5000, 2))[0]) == pytest.approx(10000 * math.log(2))
