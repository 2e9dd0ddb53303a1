"""Progress on the terminal, on stderr: of training, and of files that are fetched; a line per epoch where no bar moves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateline.workload import Workload
from gateline.workload.training import Training

MEASURED = ("rows_per_second", "peak_memory_bytes")


class TrainingProgress:
    """Tells a person how training goes.

    Args:
        bar: what moves.
        epochs: at most this many.
    """

    def __init__(self, bar: Progress, epochs: int) -> None:
        self._bar, self._epochs, self._epoch = bar, epochs, 1
        self._task = bar.add_task("epoch 1", total=None, loss="")
        self._began = time.monotonic()
        self._stepped = False

    def on_step(self, step: int, steps: int, loss: float) -> None:
        """Move the bar."""
        self._stepped = True
        self._bar.update(
            self._task,
            description=f"epoch {self._epoch}/{self._epochs}",
            completed=step,
            total=steps,
            loss=f"loss {loss:.4f}" if math.isfinite(loss) else "",
        )

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Print a line about a finished epoch, or one that a resumed run found finished."""
        numbers = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in record.items()
            if name not in ("epoch", "learning_rate", *MEASURED)
        )
        speed = f", {record['rows_per_second']:,.0f} rows/s" if "rows_per_second" in record else ""
        when = f"{time.monotonic() - self._began:.0f} s{speed}" if self._stepped else "from the checkpoint"
        self._stepped = False
        self._bar.console.print(
            f"epoch {record['epoch']}/{self._epochs}: {numbers} ({when})", highlight=False, soft_wrap=True
        )
        self._epoch = int(record["epoch"]) + 1


@contextmanager
def training_progress(workload: Workload) -> Iterator[TrainingProgress]:
    """Show a bar while training goes on."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        yield TrainingProgress(bar, workload.section("training", Training).epochs)


@contextmanager
def counting_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while something is counted, e.g. files that are fetched; what is given is told how many of how many are there."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)

        def on_count(count: int, total: int) -> None:
            bar.update(task, completed=count, total=total, visible=True)

        yield on_count


def fetching_progress() -> AbstractContextManager[Callable[[int, int], None]]:
    """Show a bar while the files of a folder are fetched."""
    return counting_progress("fetching")
