"""How often the truth is read, over the course of training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gateline.models.frame_predictor import FramePredictor, FramePredictorSettings
from gateline.models.scheduled_sampling import ScheduledSampling
from gateline.randomness import rows_of_batch, training_progress


def test_linear_is_a_line_and_then_flat() -> None:
    schedule = ScheduledSampling(decay="linear", begin=0.9, end=0.1, until=0.5)

    assert [round(schedule.probability(p), 6) for p in (0, 0.25, 0.5, 0.75, 1)] == [0.9, 0.5, 0.1, 0.1, 0.1]


def test_exponential_falls_by_the_same_factor_in_equal_steps() -> None:
    schedule = ScheduledSampling(decay="exponential", begin=1.0)
    first, second, third = (schedule.probability(p) for p in (0, 0.3, 0.6))

    assert first == 1
    assert second / first == pytest.approx(third / second)
    assert schedule.probability(1.0) == 0


def test_inverse_sigmoid_is_the_logistic_curve() -> None:
    schedule = ScheduledSampling(decay="inverse_sigmoid", begin=1.0, until=0.8)

    assert schedule.probability(0.4) == pytest.approx(0.5)
    assert schedule.probability(0.2) == pytest.approx(1 - schedule.probability(0.6))
    assert math.log(1 / schedule.probability(0.6) - 1) == pytest.approx(3)
    assert schedule.probability(0) > 0.99


@pytest.mark.parametrize("decay", ["linear", "exponential", "inverse_sigmoid"])
def test_the_truth_is_never_given_back(decay: str) -> None:
    schedule = ScheduledSampling.model_validate({"decay": decay, "begin": 0.8, "end": 0.2, "until": 0.7})
    values = [schedule.probability(p) for p in np.linspace(0, 1, 101)]

    assert values == sorted(values, reverse=True)
    assert values[-1] == 0.2


def test_an_end_above_the_begin_is_refused() -> None:
    with pytest.raises(ValueError, match="withdrawn"):
        ScheduledSampling(begin=0.2, end=0.5)


def test_progress_is_that_of_the_step_and_training_is_over_outside() -> None:
    with rows_of_batch(0, 1, 1, seed=3, progress=0.25):
        assert training_progress() == 0.25
    assert training_progress() == 1.0


def test_what_a_row_reads_does_not_depend_on_how_the_batch_is_shared_out() -> None:
    torch.manual_seed(0)
    network = FramePredictor(num_channels=1, settings=FramePredictorSettings(hidden_size=3, patch=2)).double()
    clips = torch.rand(4, 6, 1, 4, 4, dtype=torch.float64)

    def said(first: int, count: int) -> torch.Tensor:
        some = clips[first : first + count]
        with rows_of_batch(first, count, 4, seed=11, progress=0.5):
            return network(some[:, :3], 3, future=some[:, 3:], teacher_forcing=0.5)

    torch.testing.assert_close(torch.cat([said(0, 1), said(1, 3)]), said(0, 4), rtol=0, atol=1e-12)


def test_a_network_that_knows_nothing_paints_the_mean_brightness() -> None:
    network = FramePredictor(num_channels=1, settings=FramePredictorSettings(hidden_size=2))
    torch.nn.init.zeros_(network.head.weight)
    network.start_at(0.07)

    torch.testing.assert_close(network.predict(torch.rand(1, 2, 1, 4, 4), 2), torch.full((1, 2, 1, 4, 4), 0.07))
