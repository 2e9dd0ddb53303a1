"""What a training step of each cell costs beside `nn.LSTM`, and what padding costs: ``python -m benchmarks.cells``.

Every figure is a ratio of two times taken in turns, so that whatever else the machine does reaches both; the median of the
turns counts. One thread, as in training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks import command
from benchmarks.machine import where
from benchmarks.tables import markdown, write_result
from gateline.cells import build_cell, cell_named, cell_names
from gateline.device import configure_process

BATCH, STEPS, FEATURES, HIDDEN = 64, 128, 128, 128
SHORTEST = 0.75  # of the steps: lengths in a bucket are drawn evenly from here to all of them
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Run = Callable[[], torch.Tensor]


def seconds(run: Run, precision: torch.dtype) -> float:
    """Time one forward and one backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        y = run()
    y.float().square().mean().backward()
    return time.perf_counter() - began


def ratio(run: Run, beside: Run, precision: torch.dtype, turns: int) -> float:
    """Say how many times longer one takes than the other."""
    seconds(run, precision), seconds(beside, precision)
    return statistics.median(seconds(run, precision) / seconds(beside, precision) for _ in range(turns))


def packed(layer: nn.LSTM | nn.GRU, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Read rows of different lengths as torch's manual has it."""
    y, _ = layer(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]


def reading(layer: nn.Module, *inputs: torch.Tensor | None) -> Run:
    """Bind a layer to what it reads; the run gives its outputs at each step."""
    return lambda: layer(*inputs)[0]


def main() -> None:
    """Measure, print, write."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    flags.add_argument("--turns", type=command.count, default=15, help="of each pair (default: 15)")
    given = flags.parse_args()
    turns = given.turns
    configure_process("cpu", "float32")
    torch.manual_seed(0)
    began = time.monotonic()
    x = torch.randn(BATCH, STEPS, FEATURES)
    lengths = torch.randint(round(SHORTEST * STEPS), STEPS + 1, (BATCH,))
    theirs = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    cells = {
        name: build_cell(name, input_size=FEATURES, hidden_size=HIDDEN)
        for name in cell_names()
        if not cell_named(name).reads_pictures
    }
    costs = {
        name: {p: ratio(reading(cell, x), reading(theirs, x), kind, turns) for p, kind in PRECISIONS.items()}
        for name, cell in cells.items()
    }  # fmt: skip
    padding = {}
    for name in ("lstm", "gru"):
        cell, layer = cells[name], getattr(nn, name.upper())(FEATURES, HIDDEN, batch_first=True)
        padding[name] = {
            precision: {
                "packed": ratio(partial(packed, layer, x, lengths), reading(cell, x), kind, turns),
                "unpacked": ratio(reading(cell, x, None, lengths), reading(cell, x), kind, turns),
            }
            for precision, kind in PRECISIONS.items()
        }  # fmt: skip
    machine = where()
    result = {
        "where": machine,
        "seed": 0,
        "turns": turns,
        "wall_clock_seconds": round(time.monotonic() - began, 1),
        "batch": BATCH, "steps": STEPS, "features": FEATURES, "hidden": HIDDEN,
        "times_nn_lstm": costs,
        "padded_times_unpadded": padding,
    }  # fmt: skip
    of_cells = [[name, *(f"{cost[p]:.2f}" for p in PRECISIONS)] for name, cost in costs.items()]
    of_padding = [
        [name, precision, f"{cost['packed']:.2f}", f"{cost['unpacked']:.2f}"]
        for name, by_precision in padding.items()
        for precision, cost in by_precision.items()
    ]
    text = "\n\n".join(
        [
            f"Forward and backward pass of one layer, {BATCH} rows of {STEPS} steps, {FEATURES} features, {HIDDEN} hidden, one "
            f"thread of {machine['cpu']}, as a multiple of `nn.LSTM` in the same precision:",
            markdown(["cell", *PRECISIONS], of_cells),
            f"Rows of {round(SHORTEST * STEPS)} to {STEPS} steps, as a multiple of the same cell without lengths: packed as "
            "torch's manual has it, and unpacked, as the cells here do:",
            markdown(["cell", "precision", "packed", "unpacked"], of_padding),
        ]
    )
    write_result("cells", result, text, command.sizes_to_record(flags, given, "turns"))


if __name__ == "__main__":
    sys.exit(command.in_one_line(main))
