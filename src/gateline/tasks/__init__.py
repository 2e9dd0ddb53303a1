"""Tasks: kinds of problem that the library can solve, one file each, found by name.

A task's file holds an object `TASK` that satisfies `Task`. It says what its sections of a workload mean, turns a table
into windows or sequences, builds its network, and says what the loss of a batch is.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from gateline.comparison import ExampleErrors
from gateline.data.order import Order
from gateline.errors import WorkloadError, did_you_mean
from gateline.manifest import Artifact, Draft
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

Scorer = Callable[[nn.Module, Any, Any], tuple[Mapping[str, tuple[torch.Tensor, torch.Tensor]], Any]]
"""Takes a network in eval mode, a batch and what the batch before handed on; gives sum and count of each of `monitors`, so
that batches and processes add up, and what to hand on."""


class Predictor(Protocol):
    """A trained model with its preprocessing inside: raw units in, raw units out."""

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""

    @property
    def place_columns(self) -> list[str]:
        """Columns that say where a row of an answer belongs, e.g. keys and time stamp; none where it is the row's place."""

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer: first those of its place."""

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Name, MLflow's type and default of what a request may say beside its rows; keywords of `answer`."""

    @property
    def answer(self) -> Callable[..., dict[str, Any]]:
        """Answers a request, a frame and `parameters` as keywords, by column, see `gateline.table.Columns`.

        Beside `output_columns`, an answer may have `gateline.predictors.FLAGS`. A predictor whose attribute `takes_columns` is
        true is handed the columns of the frame by name, see `gateline.table.by_column`, which saves it the time to take them out.
        """

    @property
    def predict(self) -> Callable[..., pd.DataFrame]:
        """Answers a request as a frame."""

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut a small valid request from a cleaned table."""

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Answer the test part of a prepared folder, also one made otherwise than for this model, and measure the errors.

        Args:
            prepared: holds the test part in raw units.
            metric: one of the task's `gate_metrics`.
            slices: names of slices, as evaluate wrote them.
        """


class Task(Protocol):
    """What training, evaluation and the steps ask of a task."""

    name: str
    examples_are: str
    """What is counted, in the plural: windows, sentences, recordings."""
    Preprocess: type[Section]
    Model: type[Section]
    Evaluation: type[Section]
    """Has `baselines` and `slices`."""
    monitors: tuple[str, ...]
    """What training may watch."""
    gate_metrics: tuple[str, ...]
    """What models may be compared by: a sum over examples divided by another, lower is better."""
    own_columns: tuple[str, ...]
    """What columns of `Scores.predictions` are called beside those of `columns_beside`; ``*`` stands for any text."""
    requirements: tuple[str, ...]
    """Distributions that a served model needs beside those that every model does."""

    def columns_beside(self, schema: Schema, preprocess: Any) -> Sequence[str]:
        """Name the columns of the data that stand in the table of predictions: `check` refuses those called as `own_columns` are."""

    def check(self, schema: Schema, preprocess: Any, evaluation: Any, gates: Gates | None) -> None:
        """Refuse sections that do not fit together."""

    def check_training(self, model: Any, training: Training) -> None:
        """Refuse settings of the network and of its training that do not fit together."""

    def check_network(self, model: Any, preprocess: Any) -> None:
        """Refuse a network that does not fit what preprocess will make, before it is made."""

    def check_evaluation(self, model: Any, evaluation: Any) -> None:
        """Refuse an evaluation that asks of the network what it does not answer."""

    def check_data(self, model: Any, prepared: Artifact) -> None:
        """Refuse, before the first step, a network that could not be finished with these data."""

    def check_scoring(self, prepared: Artifact, evaluation: Any, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data, before it begins."""

    def explain(self, schema: Schema, preprocess: Any, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say in words what preprocess would do; `facts` are those of the prepared folder, empty if it is not made."""

    def prepare(self, raw: pd.DataFrame, schema: Schema, preprocess: Any, draft: Draft) -> pd.DataFrame:
        """Write arrays, examples and fitted state into the folder `prepared`; its facts say how many `examples` a part has.

        Returns:
            The rows of the table that the training part was made of, cleaned: what later data are compared with.
        """

    def dataset(self, prepared: Artifact, part: str) -> Dataset[Any]:
        """Open the windows or sequences of one part; the data set gathers whole batches by `__getitems__`."""

    def build(self, model: Any, shapes: Mapping[str, Any]) -> nn.Module:
        """Build the network, freshly initialised, from its settings and `shapes` of the prepared data."""

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""

    def start(self, network: nn.Module, dataset: Any) -> None:
        """Set, before training, the weights that are computed from the training part and not learned; without gradients."""

    def order(self, prepared: Artifact, dataset: Any, training: Training, seed: int) -> Order:
        """Say which rows make the batches of an epoch of training."""

    def validation_order(self, prepared: Artifact, dataset: Any, training: Training) -> Order:
        """Say which rows make the batches of a validation, each row once."""

    def loss(self, network: nn.Module, batch: Any, kind: str, carried: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Sum the loss over a batch, and count what was summed.

        Args:
            network: in training mode.
            batch: rows of the data set.
            kind: `training.loss`.
            carried: what the batch before, in the same place of the epoch's streams, handed on: nested tuples of tensors
                (B, ...), cut from the graph; None at the first batch.

        Returns:
            Scalar sum, scalar count, and what to hand on (None where batches have nothing to do with each other).
        """

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:
        """Make what computes, batch by batch, the `monitors` that training may watch.

        Args:
            prepared: arrays and fitted state.
            kind: `training.loss`.
        """

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Add to the model folder what can be said only once the best weights are there; in eval mode."""

    def load_predictor(self, folder: Path) -> Predictor:
        """Load a model folder."""


def refuse_batch_tokens(training: Training, examples_are: str) -> None:
    """Refuse batches made by length, of a task whose examples are all of one length: they would be ignored in silence.

    Args:
        training: the section.
        examples_are: see `Task`.

    Raises:
        WorkloadError: there is `batch_tokens`.
    """
    if training.batch_tokens is not None:
        raise WorkloadError(
            "training.batch_tokens",
            expected=f"`batch_size` alone, since all {examples_are} are of one length",
            found=str(training.batch_tokens),
            do="Drop it",
        )


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
