"""What the commands of all benchmarks share: counts that can be measured with, refusals in one line, when a figure is recorded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from gateline.adapters.door import refuse
from gateline.errors import EXIT_DONE, GatelineError
from gateline.workload.run_wide import LARGEST_SEED


def whole(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """Make a type of flags: a whole number from one to another."""
    expected = f"a whole number from {lowest}" + ("" if highest is None else f" to {highest}")

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest or (highest is not None and number > highest):
            raise argparse.ArgumentTypeError(f"expected {expected}; found {text!r}")
        return number

    return read


count = whole(1)
seed = whole(0, LARGEST_SEED[0])


def seconds(text: str) -> float:
    """Read a flag that is a time above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0; found {text!r}")
    return number


def sizes_to_record(flags: argparse.ArgumentParser, given: argparse.Namespace, *names: str) -> str:
    """Say which flags stand in the way of a record: figures of other sizes are not those that the documents speak of.

    Returns:
        Those flags with the sizes of the record, e.g. ``--rounds 5``; empty where all have them.
    """
    others = {name: flags.get_default(name) for name in names if getattr(given, name) != flags.get_default(name)}
    return " ".join(f"no --{name}" if size is None else f"--{name} {_shown(size)}" for name, size in others.items())


def in_one_line(main: Callable[[], None]) -> int:
    """Run a benchmark; return its exit code, a refusal told in one line on stderr."""
    try:
        main()
    except GatelineError as error:
        return refuse(str(error), error.exit_code)
    return EXIT_DONE


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
