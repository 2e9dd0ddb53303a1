"""Optimiser, learning rate and average of the weights. Nothing here draws random numbers or needs to be told twice."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gateline.workload.training import Cosine, OneCycle, Plateau, Step, Training


def make_optimiser(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Build the optimiser, one fused kernel for all weights; weight decay only on matrices."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if training.optimiser == "sgd":
        sgd = torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum, fused=True)
        for parameter in network.parameters():
            # Else the kernel makes them of whatever memory holds, and keeps that when it skips the first step.
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimiser]
    return kind(groups, lr=training.learning_rate, betas=training.betas, fused=True)


def learning_rate(training: Training, step: int, steps_per_epoch: int, scores: Sequence[float]) -> float:
    """Say the learning rate of a step; it follows from where training is, so nothing of it is kept.

    Args:
        training: the section.
        step: optimiser steps before this one.
        steps_per_epoch: optimiser steps of an epoch.
        scores: `monitor` of the epochs before this one, lower is better.
    """
    return training.learning_rate * _share(training, step, steps_per_epoch, scores)


def _share(training: Training, step: int, steps_per_epoch: int, scores: Sequence[float]) -> float:
    steps, schedule = training.epochs * steps_per_epoch, training.schedule
    if isinstance(schedule, OneCycle):
        top = max(schedule.rise * steps - 1, 1e-9)
        if step <= top:
            return _cosine(schedule.start, 1.0, step / top)
        return _cosine(1.0, schedule.end, (step - top) / max(steps - 1 - top, 1e-9))
    warm_up = round(training.warm_up * steps)
    if step < warm_up:
        return (step + 1) / warm_up
    if isinstance(schedule, Cosine):
        return _cosine(1.0, schedule.end, (step - warm_up) / max(1, steps - warm_up))
    if isinstance(schedule, Step):
        return schedule.factor ** (step // steps_per_epoch // schedule.every)
    if isinstance(schedule, Plateau):
        return schedule.factor ** falls(scores, schedule.patience)
    return 1.0


def falls(scores: Sequence[float], patience: int) -> int:
    """Count how often `patience` epochs in a row brought nothing better.

    Example:
        >>> falls([3.0, 2.0, 2.5, 2.1, 2.2, 2.3, 1.0], patience=2)
        2
    """
    best, waited, count = math.inf, 0, 0
    for score in scores:
        best, waited = (score, 0) if score < best else (best, waited + 1)
        if waited == patience:
            waited, count = 0, count + 1
    return count


def _cosine(start: float, end: float, share: float) -> float:
    """Go from start to end along half a cosine; share 0..1 of the way."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))


class WeightAverage:
    """Exponential moving average of the weights of a network.

    Early on the decay is smaller, min(decay, (n + 1) / (n + 10)) after n updates, so that the first weights are soon
    forgotten.

    Args:
        network: whose weights.
        decay: 0 < decay < 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # a copy is no longer the one buffer that cuDNN wants
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights as they are after a step."""
        share = 1.0 if self.updates == 0 else 1 - min(self.decay, (self.updates + 1) / (self.updates + 10))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), share)
        for average, current in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(current)
        self.updates += 1
