"""Tasks: kinds of problem that the library can solve, one file each, found by name.

A task's file holds an object `TASK` that satisfies `Task`. It says what its sections of a workload mean, turns a table
into windows or sequences, builds its network, and says what the loss of a batch is.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from gateline.errors import WorkloadError, did_you_mean
from gateline.manifest import Artifact, Draft
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section


class Predictor(Protocol):
    """A trained model with its preprocessing inside: raw units in, raw units out."""

    horizon: int
    """Steps that one window forecasts; neighbouring windows share targets for as long."""

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer."""

    def predict(self, frame: pd.DataFrame, origin: pd.Timestamp | None = None) -> pd.DataFrame:
        """Answer a request."""

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut a small valid request from a cleaned table."""

    def forecast_test_windows(self, prepared: Artifact) -> Mapping[str, Any]:
        """Forecast the test windows of a prepared folder, for comparing models on the same rows."""


class Task(Protocol):
    """What training, evaluation and the steps ask of a task."""

    name: str
    Preprocess: type[Section]
    Model: type[Section]
    Evaluation: type[Section]
    monitors: tuple[str, ...]

    def check(self, schema: Schema, preprocess: Any, evaluation: Any, gates: Gates | None) -> None:
        """Refuse sections that do not fit together."""

    def check_scoring(self, prepared: Artifact, evaluation: Any, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data, before it begins."""

    def prepare(self, raw: pd.DataFrame, schema: Schema, preprocess: Any, draft: Draft) -> None:
        """Write arrays, windows and fitted state into the folder `prepared`."""

    def dataset(self, prepared: Artifact, part: str) -> Dataset[Any]:
        """Open the windows or sequences of one part; the data set gathers whole batches by `__getitems__`."""

    def build(self, model: Any, shapes: Mapping[str, int]) -> nn.Module:
        """Build the network, freshly initialised, from its settings and `shapes` of the prepared data."""

    def shapes(self, prepared: Artifact) -> dict[str, int]:
        """Say what the network must know of the prepared data."""

    def loss(self, network: nn.Module, batch: Any, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum the loss over a batch, and count what was summed."""

    def validate(self, network: nn.Module, prepared: Artifact, loader: Any, kind: str) -> dict[str, float]:
        """Compute `loss` and the metrics that training may monitor, over one part."""

    def load_predictor(self, folder: Path) -> Predictor:
        """Load a model folder."""


def task_names() -> list[str]:
    """List the tasks there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def task_named(name: str) -> Task:
    """Find a task.

    Raises:
        WorkloadError: there is no task of that name.
    """
    if name not in task_names():
        raise WorkloadError(
            "task", expected="the name of a task", found=repr(name), do=did_you_mean(name, task_names())
        )
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
