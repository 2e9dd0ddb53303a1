"""Find a learning rate by trying all of them: it rises from step to step until the loss runs away.

Source: Smith (2017), arXiv 1506.01186, section 3.3 (the range test), with a rate that grows by a factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gateline.errors import TrainingError
from gateline.manifest import Artifact
from gateline.training.loop import TrainingLoop, nothing_to_learn
from gateline.training.run import RunSettings, training_loop
from gateline.workload import Workload

SMOOTHING = 0.95  # decay of the moving average of the losses
RUN_AWAY = 3.0  # times the lowest loss: where the test ends
MARGIN = 10.0  # below the rate at which the loss was lowest: there training is fast and does not tip over


@dataclass(frozen=True)
class RateSweep:
    """What the range test saw.

    Args:
        rates: (n,), learning rate of each step.
        losses: (n,), smoothed loss before each step.
        suggested: a tenth of the rate at which the loss was lowest.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggested: float


def find_learning_rate(
    workload: Workload,
    prepared: Artifact,
    run: RunSettings,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 150,
) -> RateSweep:
    """Train for a few steps with a learning rate that rises from `lowest` to `highest`; keep nothing of it.

    Raises:
        TrainingError: the loss is no number from the start, or no batch of the first epoch has a label.
        WorkloadError: the sections cannot be used.
    """
    rates = np.geomspace(lowest, highest, steps)
    with training_loop(workload, prepared, run) as loop:
        losses = losses_at(loop, rates)
    smoothed = _smoothed(losses)
    return RateSweep(rates[: len(smoothed)], smoothed, float(rates[int(np.argmin(smoothed))] / MARGIN))


def losses_at(loop: TrainingLoop, rates: np.ndarray) -> list[float]:
    """Take one step with each rate, over the first epoch's batches and again from its first; give the losses before them.

    Batches without labels, which say nothing of a rate, are passed over.
    """
    losses: list[float] = []
    loop.network.train()
    while len(losses) < len(rates):
        steps = range(len(loop.order))
        loaded = loop.load_parts(steps)
        for loop.step in steps:
            if len(losses) == len(rates):
                break
            rows = len(loop.order.batch(loop.epoch, loop.step))
            facts = loop.gradients(loaded, rows)
            if not facts[1]:
                continue
            try:
                loop.update(facts, rows, float(rates[len(losses)]))
                loop.refuse_if_not_finite()
            except TrainingError:
                if not losses:
                    raise
                return losses
            losses.append(float(facts[0] / facts[1]))
            smoothed = _smoothed(losses)
            if smoothed[-1] > RUN_AWAY * smoothed.min():
                return losses
        if not losses:
            raise nothing_to_learn(loop.epoch)
    return losses


def _smoothed(losses: list[float]) -> np.ndarray:
    """Moving average without the bias towards 0 of its first values."""
    average, smoothed = 0.0, []
    for place, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - math.pow(SMOOTHING, place)))
    return np.array(smoothed)
