"""Products of two matrices, over and over: what the cores can do at most. A "step" is one product of (m, k) by (k, n)."""

from __future__ import annotations

import argparse

import torch

from benchmarks.contestants.turnstile import Turnstile


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--shape", type=int, nargs=3, required=True, metavar=("M", "K", "N"))
    flags.add_argument("--precision", choices=["float32", "bfloat16"], required=True)
    given = flags.parse_args()
    turnstile = Turnstile()
    torch.set_num_threads(1)
    rows, inner, columns = given.shape
    dtype = getattr(torch, given.precision)
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
    out = torch.empty(rows, columns, dtype=dtype)
    with torch.inference_mode():
        turnstile.wait()
        while True:
            torch.mm(left, right, out=out)
            turnstile.passed()


if __name__ == "__main__":
    main()
