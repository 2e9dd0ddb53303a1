"""Loaders of the same windows, batch by batch: this project's, a row-by-row Dataset, and neuralforecast's.

The last is imported in its own environment only, so nothing of this project is imported above the functions.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.contestants.turnstile import Turnstile

SEED = 1


def store(values: np.ndarray, lookback: int, horizon: int, batch: int, workers: int) -> Iterator[Any]:
    """This project's store: epochs without end.

    Args:
        values: float32 (C, N, V), series of as many steps; the first of V columns is the target.
        lookback: past steps.
        horizon: steps ahead.
        batch: windows of a batch.
        workers: processes beside this one.
    """
    from gateline.data.inputs import Inputs
    from gateline.data.loading import load
    from gateline.data.order import ShuffledOrder
    from gateline.data.runs import Runs
    from gateline.data.store import SERIES, VALUES, SequenceStore
    from gateline.data.windows import WindowDataset

    series, steps, columns = values.shape
    whole = SequenceStore(
        {VALUES: values.reshape(-1, columns)}, np.arange(series + 1) * steps, {SERIES: np.arange(series)}
    )
    inputs = Inputs(columns, [0, columns, *range(1, columns)], [])
    windows = steps - lookback - horizon + 1
    origins = Runs.of((first * steps + lookback, windows, 1) for first in range(series))
    dataset = WindowDataset(whole, origins, inputs=inputs, lookback=lookback, horizon=horizon)
    order = ShuffledOrder(len(dataset), batch, SEED)
    return load(
        dataset,
        (order.batch(epoch, step) for epoch in itertools.count() for step in range(len(order))),
        workers=workers,
    )


class RowByRow(Dataset[dict[str, torch.Tensor]]):
    """The Dataset of a tutorial: one window for one index; the default collate stacks them."""

    def __init__(self, values: np.ndarray, lookback: int, horizon: int) -> None:
        self.values, self.lookback, self.horizon = torch.from_numpy(values), lookback, horizon
        self.windows = values.shape[1] - lookback - horizon + 1

    def __len__(self) -> int:
        return len(self.values) * self.windows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        series, first = divmod(index, self.windows)
        window = self.values[series, first : first + self.lookback + self.horizon]
        there = window[:, 0].isfinite()
        filled = window.nan_to_num()
        past = filled[: self.lookback]
        return {
            "past": torch.cat([past[:, :1], there[: self.lookback, None], past[:, 1:]], dim=1),
            "series": torch.tensor(series),
            "target": filled[self.lookback :, 0],
            "observed": there[self.lookback :],
        }


def row_by_row(values: np.ndarray, lookback: int, horizon: int, batch: int, workers: int) -> Iterator[Any]:
    """PyTorch's DataLoader with its defaults around `RowByRow`; see `store`."""
    generator = torch.Generator().manual_seed(SEED)
    loader = DataLoader(
        RowByRow(values, lookback, horizon), batch, shuffle=True, num_workers=workers, generator=generator
    )
    return itertools.chain.from_iterable(loader for _ in itertools.count())


def neuralforecast(values: np.ndarray, lookback: int, horizon: int, batch: int, workers: int) -> Iterator[Any]:
    """What neuralforecast does in a training step before the network: load its series, cut windows, draw some of them."""
    import pandas as pd
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import LSTM
    from neuralforecast.tsdataset import TimeSeriesDataset, TimeSeriesLoader

    hours = pd.date_range("2016-07-01", periods=values.shape[1], freq="h")
    tables = [pd.DataFrame({"unique_id": f"c{i}", "ds": hours, "y": one[:, 0]}) for i, one in enumerate(values)]
    dataset, *_ = TimeSeriesDataset.from_df(pd.concat(tables, ignore_index=True))
    model = LSTM(h=horizon, input_size=lookback, windows_batch_size=batch, loss=MAE(), accelerator="cpu")
    loader = TimeSeriesLoader(dataset, batch_size=len(values), shuffle=True, num_workers=workers)
    torch.manual_seed(SEED)
    for loaded in itertools.chain.from_iterable(loader for _ in itertools.count()):
        # The lines of neuralforecast 3.3's BaseModel.training_step up to the forward pass, for data without static columns.
        windows, static, static_columns, usable, weights, columns = model._create_windows(loaded, step="train")
        chosen = torch.randperm(len(usable))[:batch]
        sampled = model._sample_windows(
            windows_temporal=windows,
            static=static,
            static_cols=static_columns,
            temporal_cols=columns,
            w_idxs=chosen,
            final_condition=usable,
            sample_weight=weights,
        )
        sampled = model._normalization(windows=sampled, y_idx=loaded["y_idx"])
        yield model._parse_windows(loaded, sampled)


LOADERS = {"store": store, "row_by_row": row_by_row, "neuralforecast": neuralforecast}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--loader", required=True, choices=LOADERS)
    flags.add_argument("--values", required=True, help=".npy, float32 (C, N, V)")
    flags.add_argument("--lookback", required=True, type=int)
    flags.add_argument("--horizon", required=True, type=int)
    flags.add_argument("--batch", required=True, type=int)
    flags.add_argument("--workers", default=0, type=int)
    flags.add_argument("--threads", default=1, type=int)
    given = flags.parse_args()
    turnstile = Turnstile()
    torch.set_num_threads(given.threads)
    batches = LOADERS[given.loader](np.load(given.values), given.lookback, given.horizon, given.batch, given.workers)
    next(batches)  # imports, workers, first touches
    turnstile.wait()
    for _ in batches:
        turnstile.passed()


if __name__ == "__main__":
    main()
