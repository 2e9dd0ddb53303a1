"""Section `training`: loss, optimiser, schedule, and when to stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateline.workload.section import Section

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Constant(Section):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"


class Cosine(Section):
    """Half a cosine over all epochs (Loshchilov and Hutter, 2017, arXiv 1608.03983, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    end: Share = 0.0
    """Share of `learning_rate` that is left at the end."""


class OneCycle(Section):
    """Up along half a cosine, then down along another (Smith and Topin, 2017, arXiv 1708.07120)."""

    kind: Literal["one_cycle"] = "one_cycle"
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of all steps in which the learning rate rises to `learning_rate`."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.04
    """Share of `learning_rate` at the first step."""
    end: Share = 4e-6
    """Share of `learning_rate` that is left at the end."""


class Step(Section):
    """Down by a factor every few epochs."""

    kind: Literal["step"] = "step"
    every: Count = 10
    """Epochs between two falls."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Plateau(Section):
    """Down by a factor whenever `monitor` has not become better for some epochs."""

    kind: Literal["plateau"] = "plateau"
    patience: Count = 2
    """Epochs without a better `monitor` before the learning rate falls; keep it below `training.patience`."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Schedule = Annotated[
    Constant | Cosine | OneCycle | Step | Plateau, Field(discriminator="kind"), BeforeValidator(_by_name)
]
"""A schedule with its settings (``{kind: step, every: 5}``), or its name alone (``cosine``)."""


WITHOUT_EFFECT = {"workers", "nodes", "gpus_per_node"}
"""Settings that change neither weights nor their digest: who loads a batch, and where the processes are that share it."""


class Training(Section):
    """How the weights are found. The seed, the device and the precision are run-wide: `params.yaml` holds them."""

    loss: Literal["absolute", "squared", "huber", "pinball", "cross_entropy", "binary_cross_entropy", "ctc"] = (
        "absolute"
    )
    """Of forecasts: compared in the transformed, scaled space of the target; pinball: of the quantiles that the model
    forecasts. Of classes, tokens and pixels: the cross entropies. ctc: of a transcript without times."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    """The largest that the schedule reaches."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """On weight matrices only; biases are left alone."""
    momentum: Share = 0.9
    """Of sgd."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Of adam and adamw: decay of the moving averages of the gradient and of its square."""
    schedule: Schedule = Cosine()
    """constant, cosine, one_cycle, step or plateau; all but one_cycle, which rises itself, come after `warm_up`."""
    warm_up: Share = 0.0
    """Share of all steps over which the learning rate rises from 0."""
    batch_size: Count = 64
    """Rows of one optimiser step, over all processes together."""
    batch_tokens: Count | None = None
    """Of sequences of different lengths: rows x longest row of a batch, at most, in place of `batch_size`; batches are made
    of rows of similar length."""
    accumulate: Count = 1
    """Parts that a batch is computed in, one after the other, to save memory; the step is that of the whole batch."""
    epochs: Count = 20
    """Passes over the training part, at most."""
    monitor: str = "loss"
    """What is compared on the validation part to find the best epoch: `loss`, or a metric of the task; lower is better."""
    patience: Count = 5
    """Epochs in a row without a better `monitor` before training stops."""
    clip_norm: Positive | None = 1.0
    """Largest norm of the gradient over all weights; null: not clipped."""
    examples_per_epoch: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training part that one epoch draws, without replacement."""
    weight_average: Share = 0.0
    """Decay of the exponential moving average of the weights that is validated and kept; 0: the weights themselves."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load batches; 0 is fastest where a batch is gathered from memory, as windows of series are."""

    nodes: Count = 1
    """Machines that share every batch. More than one need a cluster with Kubeflow Trainer and `checkpoints` in an object store;
    each is like the pod that `resources.train` describes."""
    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 0
    """Of NVIDIA, for each of several nodes; 0: they train on their processors. Those of one node are `resources.train.gpus`."""

    @model_validator(mode="after")
    def _gpus_have_nodes(self) -> Training:
        if self.gpus_per_node and self.nodes == 1:
            raise ValueError(
                f"`gpus_per_node` of 0 where `nodes` is 1, since `resources.train.gpus` says it, got {self.gpus_per_node}"
            )
        return self

    @model_validator(mode="after")
    def _schedule_has_effect(self) -> Training:
        if isinstance(self.schedule, OneCycle) and self.warm_up:
            raise ValueError(
                f"`warm_up` of 0 with `schedule: one_cycle`, whose `rise` says how long the rate rises, got {self.warm_up}"
            )
        if isinstance(self.schedule, Plateau) and self.schedule.patience >= self.patience:
            raise ValueError(
                f"`schedule.patience` of a plateau below `patience` ({self.patience}), with which training stops before the rate falls, "
                f"got {self.schedule.patience}"
            )
        return self

    @model_validator(mode="after")
    def _parts_have_rows(self) -> Training:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"`accumulate` of at most `batch_size` ({self.batch_size}), so that every part has rows, got {self.accumulate}"
            )
        return self
