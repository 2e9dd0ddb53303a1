"""What `params.yaml` may say for the whole run, whichever workload it trains."""

from __future__ import annotations

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
RUN_SETTINGS = ("seed", "device", "precision", "processes", "checkpoints")
"""The keys."""
LARGEST_SEED = (2**63 - 1, "2^63 - 1")  # in words, too


def what_it_may_be(name: str, value: object, largest_seed: tuple[int, str] = LARGEST_SEED) -> str | None:
    """Say what a run-wide setting may be, where a value is none of it; None where it is one.

    Args:
        name: one of `RUN_SETTINGS`.
        value: as the file, or a flag, has it.
        largest_seed: a number, and how people write it.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    usable, expected = {
        "seed": (whole and 0 <= value <= largest_seed[0], f"a whole number from 0 to {largest_seed[1]}"),  # type: ignore[operator]
        "device": (value in DEVICES, ", ".join(DEVICES)),
        "precision": (value in PRECISIONS, ", ".join(PRECISIONS)),
        "processes": (whole and value >= 1, "a whole number from 1"),  # type: ignore[operator]
        "checkpoints": (
            isinstance(value, str) and bool(value.strip()),
            "an address, a folder of this machine, or beside",
        ),
    }[name]
    return None if usable else expected
