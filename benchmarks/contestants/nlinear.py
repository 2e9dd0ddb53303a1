"""NLinear: each window less its last value, one matrix from lags to steps ahead; trained, or in closed form.

Source: Zeng et al. (2023), arXiv 2205.13504; trained as there: Adam, batches of 32, squared loss, a learning
rate of 0.005 that is halved after every epoch.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from benchmarks.contestants.turnstile import Turnstile

LOOKBACK, HORIZON, BATCH = 336, 96, 32
PENALTIES = (1e1, 1e2, 1e3, 1e4)


def windows(channels: torch.Tensor, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut all windows whose forecast lies in steps [first, last): (W, T) and (W, U), less the last value of each."""
    cut = channels[:, first - LOOKBACK : last].unfold(1, LOOKBACK + HORIZON, 1).flatten(0, 1)
    cut = cut - cut[:, LOOKBACK - 1 : LOOKBACK]
    return cut[:, :LOOKBACK].contiguous(), cut[:, LOOKBACK:].contiguous()


def train(
    turnstile: Turnstile, fit: tuple[torch.Tensor, torch.Tensor], judge: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Train for ever; tell of every epoch."""
    torch.manual_seed(0)
    model = nn.Linear(LOOKBACK, HORIZON)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    trained = 0.0
    while True:
        began = time.perf_counter()
        for rows in torch.randperm(len(fit[0])).split(BATCH):
            loss = nn.functional.mse_loss(model(fit[0][rows]), fit[1][rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        trained += time.perf_counter() - began
        with torch.inference_mode():
            turnstile.answer({"seconds": trained, "mse": float(nn.functional.mse_loss(model(judge[0]), judge[1]))})


def solve(
    turnstile: Turnstile, fit: tuple[torch.Tensor, torch.Tensor], judge: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Solve the normal equations for a few penalties; tell of each."""
    began = time.perf_counter()
    gram, moment = (fit[0].T @ fit[0]).double(), (fit[0].T @ fit[1]).double()
    for penalty in PENALTIES:
        weights = torch.linalg.solve(gram + penalty * torch.eye(LOOKBACK, dtype=torch.float64), moment).float()
        seconds = time.perf_counter() - began
        turnstile.answer({"seconds": seconds, "mse": float(nn.functional.mse_loss(judge[0] @ weights, judge[1]))})


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--channels", required=True, help=".npy, float32 (C, N), scaled")
    flags.add_argument("--validation", type=int, required=True, help="steps at the end that are validated on")
    flags.add_argument("--closed-form", action="store_true")
    given = flags.parse_args()
    turnstile = Turnstile()
    torch.set_flush_denormal(True)
    channels = torch.from_numpy(np.load(given.channels))
    cut = channels.shape[1] - given.validation
    (solve if given.closed_form else train)(
        turnstile, windows(channels, LOOKBACK, cut), windows(channels, cut, channels.shape[1])
    )


if __name__ == "__main__":
    main()
