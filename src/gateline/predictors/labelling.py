"""A trained labeller with its preprocessing inside: rows of sequences in raw units in, a probability for each step out.

S sequences, N steps in all, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch

from gateline.batch import SCORING_BATCH
from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import as_key, open_test_groups
from gateline.data.sequence_inputs import (
    InputsSection,
    LabelledStepSequences,
    Layout,
    SequenceEncoding,
    read_encoding,
    read_inputs,
    with_absent,
)
from gateline.data.store import SequenceStore
from gateline.errors import DataError
from gateline.manifest import Artifact
from gateline.models.labeller import Labeller
from gateline.predictors import FLAGS, without_flags
from gateline.probabilities import SMALLEST
from gateline.table import TABLE, as_frame, clean, read_table
from gateline.workload.schema import Schema
from gateline.workload.section import Section

EXAMPLE_SEQUENCES = 2
YES_OR_NO = ("0", "1")
"""Names of the two answers where a label is 0 or 1."""


class Label(Section):
    """What is said of each step.

    A column of 0 and 1 is a yes or no; a column of texts names classes.
    """

    column: str
    of: Literal["step", "sequence"] = "step"
    """step: what the column says in this step, and steps of which it says nothing do not count; sequence: one value for a whole
    sequence, which holds at every step of it."""

    def of_steps(self, layout: Layout, table: Mapping[str, Any]) -> np.ndarray:
        """Find the label of every step of cleaned columns: float64 or object (N,), missing where there is none."""
        values = np.asarray(table[self.column])
        if self.of == "sequence":
            return np.repeat(layout.first_of_series(values), np.diff(layout.offsets))
        return layout.last_in_step(values)


def as_numbers(labels: np.ndarray, classes: Sequence[str] | None) -> np.ndarray:
    """Write labels (N,) as 0 and 1, or as numbers of classes: float64 (N,), NaN where there is none or none that is known."""
    if classes is None:
        return labels.astype(np.float64)
    number = pd.Index(list(classes), dtype=object).get_indexer(pd.Index(labels, dtype=object)).astype(np.float64)
    return np.where(number >= 0, number, np.nan)


@dataclass(frozen=True)
class Fitted:
    """Everything that preprocess fitted and the model keeps, as it stands in `state.json`.

    Args:
        schema: what the columns of the table mean.
        inputs: what is read of them, and how.
        encoding: fitted.
        label: what is said of each step.
        classes: texts that a label of texts had in the training part, in order; None for a yes or no.
    """

    schema: Schema
    inputs: InputsSection
    encoding: SequenceEncoding
    label: Label
    classes: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {
            "schema": self.schema.model_dump(mode="json"),
            "inputs": cast(Section, self.inputs).model_dump(mode="json"),
            "encoding": self.encoding.to_json(),
            "label": self.label.model_dump(mode="json"),
            "classes": None if self.classes is None else list(self.classes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fitted:
        """Read what `to_json` wrote."""
        inputs = read_inputs(value["inputs"])
        return cls(
            schema=Schema.model_validate(value["schema"]),
            inputs=inputs,
            encoding=read_encoding(inputs.kind, value["encoding"]),
            label=Label.model_validate(value["label"]),
            classes=None if value["classes"] is None else tuple(value["classes"]),
        )

    def asked(self) -> Schema:
        """Say what a request holds: where its rows belong, and what is read of them."""
        needed = {*self.schema.place_columns, *self.inputs.columns_read()}
        columns = {name: column for name, column in self.schema.columns.items() if name in needed}
        return self.schema.model_copy(update={"columns": columns})


class SequenceLabeller:
    """A trained labeller with its preprocessing inside: raw units in, raw units out.

    Args:
        network: in eval mode.
        fitted: what preprocess fitted.
        temperature: what logits are divided by, fitted on the validation part; 1 leaves them alone.
        threshold: probability from which on a step is called a 1.
    """

    def __init__(self, network: Labeller, fitted: Fitted, temperature: float = 1.0, threshold: float = 0.5) -> None:
        self.network = network.eval()
        self.fitted = fitted
        self.temperature = temperature
        self.threshold = threshold
        self._asked = fitted.asked()

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request; what may be absent is taken as missing."""
        needed = {*self._asked.place_columns, *self.fitted.inputs.columns_needed()}
        return [(name, column.type, name in needed) for name, column in self._asked.columns.items()]

    @property
    def place_columns(self) -> list[str]:
        """Columns that say where a row of an answer belongs: the keys, and then the time stamp."""
        return list(self._asked.place_columns)

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer: place, label, and the probability of each."""
        name, columns = self.fitted.label.column, self._asked.columns
        place = [(each, str(columns[each].type)) for each in self.place_columns]
        said = (name, "integer" if self.fitted.classes is None else "text")
        return [*place, said, *((f"probability_{one}", "float") for one in self.fitted.classes or YES_OR_NO)]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """A request says nothing beside its rows."""
        return []

    @property
    def answer(self) -> Callable[..., dict[str, Any]]:
        """Answers a request by column, see `label_steps`."""
        return self.label_steps

    @property
    def predict(self) -> Callable[..., pd.DataFrame]:
        """Answers a request as a frame, see `label_steps`."""
        return lambda frame: as_frame(without_flags(self.label_steps(frame)))

    def label_steps(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Label every step of the sequences in a request.

        Args:
            frame: rows in raw units, in any order, from the beginning of each sequence on.

        Returns:
            `Columns`, one row per sequence and step, see `output_columns`, and under `flags` what is unusual in its sequence. With a network that reads forwards only, what is said of a step rests on what was known at its end.

        Raises:
            DataError: a column is not there, a value is refused by the schema, or the sequences are too long.
        """
        if len(frame) == 0:
            raise DataError("request", expected="rows of the table", found="none", do="Send the rows of each sequence")
        encoding = self.fitted.encoding
        layout = self.fitted.inputs.lay_out(
            self._complete(frame), self._asked, of_request=True, longest=encoding.longest
        )
        store = encoding.encode(layout)
        prob = self.probabilities(store, np.arange(layout.num_series))
        name = self.fitted.label.column
        if self.fitted.classes is None:
            said, shares = (prob >= self.threshold).astype(np.float64), np.stack([1 - prob, prob], axis=1)
        else:
            said, shares = np.array(self.fitted.classes, dtype=object)[prob.argmax(axis=1)], prob
        named = {f"probability_{one}": shares[:, place] for place, one in enumerate(self.fitted.classes or YES_OR_NO)}
        flags = np.repeat(encoding.flags(layout), np.diff(layout.offsets))
        return {**layout.places(self._asked), name: said, **named, FLAGS: flags}

    def logits(self, store: SequenceStore, sequences: np.ndarray) -> np.ndarray:
        """Compute the logits of all steps of some sequences (E,), one sequence after the other: float32 (n, C), C = 1 for a yes or no."""
        nothing = np.full(int(store.offsets[-1]), np.nan)
        dataset = LabelledStepSequences(store, sequences, nothing)
        found = []
        with torch.inference_mode():
            for first in range(0, len(sequences), SCORING_BATCH):
                batch = dataset.__getitems__(np.arange(first, min(first + SCORING_BATCH, len(sequences))))
                logits = self.network(batch.values, batch.lengths).float()  # (B, T, C)
                real = torch.arange(logits.shape[1]) < batch.lengths[:, None]
                found.append(logits[real])
        return torch.cat(found).numpy()

    def probabilities(self, store: SequenceStore, sequences: np.ndarray) -> np.ndarray:
        """Compute the probabilities of all steps of some sequences (E,): float64 (n,) of a 1, or (n, C) of classes."""
        return probabilities_of(self.logits(store, sequences), self.temperature)

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Measure the errors on the test part of a prepared folder, also one that was prepared otherwise than for this model.

        Args:
            prepared: holds the rows of the test part.
            metric: log_loss, brier or error_rate.
            slices: ``COLUMN=VALUE``, of columns with one value for each sequence.

        Raises:
            DataError: the steps, or the kind of labels, are others than those of this model.
        """
        theirs = Fitted.from_json(prepared.read_json("state.json"))
        if (theirs.classes is None) is not (self.fitted.classes is None):
            yes_or_no = "labels that are yes or no", "labels that name classes"
            mine, found = yes_or_no if self.fitted.classes is None else yes_or_no[::-1]
            raise DataError(prepared.path, expected=mine, found=found, do="Train again")
        raw = read_table(prepared.path / TABLE)
        table = clean(raw, theirs.schema)
        layout = theirs.inputs.lay_out(raw, theirs.schema)
        own = self.fitted.inputs.lay_out(self._complete(raw), self._asked)
        if not np.array_equal(layout.offsets, own.offsets):
            raise DataError(
                prepared.path,
                expected="the steps that this model labels",
                found="others",
                do="Models of different steps cannot be compared; register under another name",
            )
        labels = as_numbers(self.fitted.label.of_steps(layout, table), self.fitted.classes)
        prob = self.probabilities(self.fitted.encoding.encode(own), np.arange(own.num_series))
        error = step_errors(metric, prob, labels, self.threshold)
        series = np.repeat(np.arange(own.num_series), np.diff(own.offsets))
        counted = np.isfinite(labels)
        total = np.bincount(series, weights=np.where(counted, error, 0.0), minlength=own.num_series)
        count = np.bincount(series, weights=counted, minlength=own.num_series)
        return example_errors(
            metric,
            total,
            count,
            rows=digest_of_rows(*layout.places(theirs.schema).values(), labels),
            position=open_test_groups(prepared),
            slices=masks_of(layout, table, slices),
        )

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut the rows of the first sequences from a table, as a request."""
        keys = list(self._asked.keys)
        first = table[keys].drop_duplicates().head(EXAMPLE_SEQUENCES)
        rows = table.merge(first, on=keys, how="inner")
        return rows[list(self._asked.columns)].reset_index(drop=True)

    def _complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        return with_absent(frame, self._asked, self.input_columns)


def probabilities_of(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits (n, C) into probabilities: float64 (n,) of a 1 where C is 1, else (n, C)."""
    scaled = logits.astype(np.float64) / temperature
    if scaled.shape[1] == 1:
        one: np.ndarray = 1 / (1 + np.exp(-scaled[:, 0]))
        return one
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def step_errors(metric: str, prob: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Say what each step adds to a metric: float64 (n,) for probabilities (n,) or (n, C) and labels (n,); any number where NaN."""
    known = np.nan_to_num(labels).astype(np.int64)
    if prob.ndim == 1:
        of_label, called = np.where(known == 1, prob, 1 - prob), prob >= threshold
        brier = np.square(prob - known)
    else:
        of_label, called = prob[np.arange(len(prob)), known], prob.argmax(axis=1)
        distance = np.square(prob - np.eye(prob.shape[1])[known])
        brier = distance[:, 1] if prob.shape[1] == 2 else distance.sum(axis=1)  # as `class_errors` has it
    if metric == "log_loss":
        return -np.log(np.maximum(of_label, SMALLEST))
    return brier if metric == "brier" else (called != known).astype(np.float64)


def masks_of(layout: Layout, table: Mapping[str, Any], slices: Sequence[str]) -> dict[str, np.ndarray]:
    """Mark the sequences of slices ``COLUMN=VALUE``: bool (S,) by name, for cleaned columns."""
    masks = {}
    for name in slices:
        column, _, value = name.partition("=")
        masks[name] = np.array([as_key(each) == value for each in layout.first_of_series(table[column])], dtype=bool)
    return masks
