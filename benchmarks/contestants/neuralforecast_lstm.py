"""neuralforecast's LSTM, step by step or from look to look at the validation part. Runs in the environment of `benchmarks.peer`."""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MSE
from neuralforecast.models import LSTM
from pytorch_lightning.callbacks import LambdaCallback

from benchmarks.contestants.turnstile import Turnstile


def long_table(channels: np.ndarray) -> pd.DataFrame:
    """Make the table that the library takes of (C, N) scaled values."""
    hours = pd.date_range("2016-07-01", periods=channels.shape[1], freq="h")
    tables = [pd.DataFrame({"unique_id": f"c{i}", "ds": hours, "y": row}) for i, row in enumerate(channels)]
    return pd.concat(tables, ignore_index=True)


def turns(turnstile: Turnstile) -> LambdaCallback:
    """Stand at the turnstile after every batch. (The library copies its callbacks; a copied function is the same function.)"""
    return LambdaCallback(on_train_start=lambda *_: turnstile.wait(), on_train_batch_end=lambda *_: turnstile.passed())


def checks(turnstile: Turnstile) -> LambdaCallback:
    """Tell of every look at the validation part, and of the seconds of training until then, without the looks."""
    trained, began = 0.0, 0.0

    def train() -> None:
        nonlocal began
        began = time.perf_counter()

    def look() -> None:
        nonlocal trained
        trained += time.perf_counter() - began

    def tell(trainer: Any, _: Any) -> None:
        turnstile.answer({"seconds": trained, "mse": float(trainer.callback_metrics["valid_loss"])})
        train()

    return LambdaCallback(
        on_train_start=lambda *_: train(), on_validation_start=lambda *_: look(), on_validation_end=tell
    )


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--channels", required=True, help=".npy, float32 (C, N), scaled")
    flags.add_argument("--flush-denormal", action="store_true")
    flags.add_argument(
        "--validation", type=int, default=0, help="steps at the end that are validated on (default: none)"
    )
    flags.add_argument("--check-every", type=int, default=75, help="steps between two looks at them (default: 75)")
    given = flags.parse_args()
    turnstile = Turnstile()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    if given.flush_denormal:
        torch.set_flush_denormal(True)
    model = LSTM(
        h=96,
        input_size=336,
        encoder_n_layers=2,
        encoder_hidden_size=128,
        batch_size=7,  # series; the windows of all seven are drawn from, as in the other contestants
        windows_batch_size=128 if given.validation else 64,  # 128 is the library's own
        max_steps=10**9,
        num_lr_decays=0,
        valid_loss=MSE(),
        val_check_steps=given.check_every,
        callbacks=[checks(turnstile) if given.validation else turns(turnstile)],
        accelerator="cpu",
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger=False,
    )
    NeuralForecast([model], freq="h").fit(long_table(np.load(given.channels)), val_size=given.validation)


if __name__ == "__main__":
    main()
