"""Section `training`: loss, optimiser, schedule, and when to stop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateline.workload.section import Section

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Training(Section):
    """How the weights are found. The seed, the device and the precision are run-wide: `params.yaml` holds them."""

    loss: Literal["absolute", "squared", "huber"] = "absolute"
    """Compared in the transformed, scaled space of the target."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """On weight matrices only; biases are left alone."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """constant, or cosine: down to 0 over `epochs`; both after `warm_up`."""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all steps over which the learning rate rises from 0."""
    batch_size: Count = 64
    epochs: Count = 20
    """Passes over the training windows, at most."""
    monitor: str = "loss"
    """What is compared on the validation part to find the best epoch: `loss`, or a metric of the task; lower is better."""
    patience: Count = 5
    """Epochs in a row without a better `monitor` before training stops."""
    clip_norm: Positive | None = 1.0
    """Largest norm of the gradient over all weights; null: not clipped."""
    windows_per_epoch: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training windows that one epoch draws, without replacement."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights that is validated and kept; 0: the weights themselves."""
