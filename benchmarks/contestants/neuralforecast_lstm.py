"""neuralforecast's LSTM, step by step. Runs in the environment of `benchmarks.peer`."""

from __future__ import annotations

import argparse
import logging
import warnings

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM
from pytorch_lightning.callbacks import LambdaCallback

from benchmarks.contestants.turnstile import Turnstile


def long_table(channels: np.ndarray) -> pd.DataFrame:
    """Make the table that the library takes of (C, N) scaled values."""
    hours = pd.date_range("2016-07-01", periods=channels.shape[1], freq="h")
    tables = [pd.DataFrame({"unique_id": f"c{i}", "ds": hours, "y": row}) for i, row in enumerate(channels)]
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--channels", required=True, help=".npy, float32 (C, N): the training part, scaled")
    flags.add_argument("--flush-denormal", action="store_true")
    given = flags.parse_args()
    turnstile = Turnstile()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    if given.flush_denormal:
        torch.set_flush_denormal(True)
    # The library copies its callbacks; a copied function is the same function.
    stand_at_turnstile = LambdaCallback(
        on_train_start=lambda *_: turnstile.wait(), on_train_batch_end=lambda *_: turnstile.passed()
    )
    model = LSTM(
        h=96,
        input_size=336,
        encoder_n_layers=2,
        encoder_hidden_size=128,
        batch_size=7,  # series; the windows of all seven are drawn from, as in the other contestants
        windows_batch_size=64,
        max_steps=10**9,
        num_lr_decays=0,
        callbacks=[stand_at_turnstile],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger=False,
    )
    NeuralForecast([model], freq="h").fit(long_table(np.load(given.channels)))


if __name__ == "__main__":
    main()
