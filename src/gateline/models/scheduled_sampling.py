"""How often a network that writes step by step reads the truth in training, and how often what it wrote itself.

In use it only ever reads its own words or frames. Trained on the truth alone it has never seen its own mistakes; trained on
its own from the first step it has nothing to learn from. So the truth is withdrawn bit by bit.

Source: Bengio, Vinyals, Jaitly and Shazeer (2015), arXiv 1506.03099, section 2.4.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateline.workload.section import Section

Probability = Annotated[float, Field(ge=0, le=1)]

STEEPNESS = 12.0
"""Of the logistic curve: between `begin` and `end` it covers all but 1/400 at either side."""
LEFT = 0.01
"""Of an exponential decay: what share of the way is left when it ends."""


class ScheduledSampling(Section):
    """Probability with which a step of training reads the truth, over the course of training."""

    decay: Literal["linear", "exponential", "inverse_sigmoid"] = "linear"
    begin: Probability = 0.0
    """At the first step of training."""
    end: Probability = 0.0
    """From `until` on."""
    until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of all steps of training after which `end` is reached."""

    @model_validator(mode="after")
    def _falls(self) -> ScheduledSampling:
        if self.end > self.begin:
            raise ValueError(f"`end` of at most `begin` ({self.begin}), since the truth is withdrawn, got {self.end}")
        return self

    def probability(self, progress: float) -> float:
        """Say the probability after a share of training, 0 to 1."""
        way = min(progress / self.until, 1.0)
        return self.end + (self.begin - self.end) * _DECAYS[self.decay](way)


def _linear(way: float) -> float:
    return 1 - way


def _exponential(way: float) -> float:
    return 0.0 if way >= 1 else LEFT**way


def _inverse_sigmoid(way: float) -> float:
    return 0.0 if way >= 1 else 1 / (1 + math.exp(STEEPNESS * (way - 0.5)))


_DECAYS = {"linear": _linear, "exponential": _exponential, "inverse_sigmoid": _inverse_sigmoid}
"""Each falls from 1 to 0 while `way` rises from 0 to 1."""
