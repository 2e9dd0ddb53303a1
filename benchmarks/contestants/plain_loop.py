"""The loop that a tutorial shows: `nn.LSTM`, a linear head, Adam, a `DataLoader` over single windows; float32, torch's defaults."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.contestants.turnstile import Turnstile

LOOKBACK, HORIZON, BATCH = 336, 96, 64


class Windows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Every window of every channel, one at a time."""

    def __init__(self, channels: torch.Tensor) -> None:
        self.channels = channels  # (C, N)
        self.per_channel = channels.shape[1] - LOOKBACK - HORIZON + 1

    def __len__(self) -> int:
        return len(self.channels) * self.per_channel

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        channel, start = divmod(index, self.per_channel)
        window = self.channels[channel, start : start + LOOKBACK + HORIZON]
        return window[:LOOKBACK, None], window[LOOKBACK:]


class PlainLSTM(nn.Module):
    """Read (B, T, 1), forecast (B, U) from the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 128, num_layers=2, batch_first=True)
        self.head = nn.Linear(128, HORIZON)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        output, _ = self.lstm(past)
        forecast: torch.Tensor = self.head(output[:, -1])
        return forecast


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--channels", required=True, help=".npy, float32 (C, N): the training part, scaled")
    given = flags.parse_args()
    turnstile = Turnstile()
    torch.manual_seed(0)
    loader = DataLoader(
        Windows(torch.from_numpy(np.load(given.channels))), batch_size=BATCH, shuffle=True, drop_last=True
    )
    model = PlainLSTM()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    turnstile.wait()
    while True:
        for past, future in loader:
            loss = nn.functional.l1_loss(model(past), future)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            turnstile.passed()


if __name__ == "__main__":
    main()
