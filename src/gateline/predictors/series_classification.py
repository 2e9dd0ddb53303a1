"""A trained classifier of series with its preprocessing inside: rows of a patient in, class and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import as_key, open_examples, open_test_groups, slice_masks
from gateline.data.irregular_encoding import IrregularEncoding
from gateline.data.irregular_steps import Steps
from gateline.data.sequence_inputs import features, with_absent
from gateline.data.sequences import LabelledSequences
from gateline.data.store import SequenceStore
from gateline.errors import DataError
from gateline.manifest import Artifact
from gateline.models.classifier import Classifier
from gateline.predictors import FLAGS, without_flags
from gateline.predictors.classification import answer_columns, as_shares, class_errors, class_numbers, judged
from gateline.table import TABLE, as_frame, read_table, require_columns
from gateline.workload.schema import Schema

EXAMPLE_SERIES = 2  # in the example request


class SeriesClassifier:
    """A trained classifier of series with its preprocessing inside.

    Args:
        network: its weights loaded.
        encoding: fitted.
        schema: of the table that it was trained on.
        classes: names of the C classes.
        label: column of the classes.
        temperature: what logits are divided by.
    """

    def __init__(
        self,
        network: Classifier,
        encoding: IrregularEncoding,
        schema: Schema,
        classes: Sequence[str],
        label: str,
        temperature: float = 1.0,
    ) -> None:
        self.network = network.eval()
        self.encoding = encoding
        self.schema = schema
        self.classes = tuple(classes)
        self.label = label
        self.temperature = temperature
        read = {*schema.place_columns, *encoding.inputs.columns_read()}
        columns = {name: column for name, column in schema.columns.items() if name in read}
        self._asked = schema.model_copy(update={"columns": columns})

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request; what may be absent is taken as missing."""
        needed = {*self._asked.place_columns, *self.encoding.inputs.columns_needed()}
        return [(name, column.type, name in needed) for name, column in self._asked.columns.items()]

    @property
    def place_columns(self) -> list[str]:
        """The keys: one answer for all rows that agree in them."""
        return list(self._asked.keys)

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """The keys, the class, and the probability of each."""
        place = [(name, str(self._asked.columns[name].type)) for name in self.place_columns]
        return [*place, (self.label, "text"), *((f"probability_{name}", "float") for name in self.classes)]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Nothing beside the rows."""
        return []

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(without_flags(self.answer(frame)))

    def answer(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Classify series.

        Args:
            frame: rows in raw units, in any order, from the beginning of each series on.

        Returns:
            `Columns`, one row per series in the order in which they come: keys, the most probable class, every probability, and
            under `flags` what is unusual in the series.

        Raises:
            DataError: there is no row, a column is not there, a value is refused by the schema, or the series are too long.
        """
        if len(frame) == 0:
            raise DataError("request", expected="rows of the table", found="none", do="Send the rows of each series")
        steps = self.lay_out(frame, of_request=True)
        probabilities = self.probabilities(self.encoding.encode(steps), np.arange(steps.num_series))
        answer = {**steps.keys, **answer_columns(self.label, self.classes, probabilities)}
        return answer | {FLAGS: self.encoding.flags(steps)}

    def lay_out(self, frame: pd.DataFrame, *, of_request: bool = False) -> Steps:
        """Lay rows out as steps; a column that a request leaves out is missing in every row."""
        complete = with_absent(frame, self._asked, self.input_columns)
        return self.encoding.inputs.lay_out(complete, self._asked, of_request=of_request, longest=self.encoding.longest)

    def probabilities(self, store: SequenceStore, series: np.ndarray) -> np.ndarray:
        """Compute the probability of each class of some series (E,): float32 (E, C)."""
        return self.explain(store, series)[0]

    def explain(self, store: SequenceStore, series: np.ndarray) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Compute probabilities, and how much each step weighs.

        Returns:
            float32 (E, C), and for each series float32 (T,), which sums to 1; None where the model has no attention.
        """
        read = features(store, np.arange(int(store.offsets[-1])))
        dataset = LabelledSequences(read, store.offsets, np.zeros(store.num_series, np.int64), series)
        logits, weights = judged(self.network, dataset)
        return as_shares(logits, self.temperature), weights

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take all rows of the first series of a table as a request."""
        keys = list(self._asked.keys)
        first = table[keys].drop_duplicates().head(EXAMPLE_SERIES)
        return table.merge(first, on=keys, how="inner")[list(self._asked.columns)].reset_index(drop=True)

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Classify the test series of a prepared folder, also one that was prepared otherwise than for this model.

        Args:
            prepared: its table holds the rows and their classes.
            metric: error_rate, log_loss or brier.
            slices: names of slices, ``COLUMN=VALUE``.

        Raises:
            DataError: the table lacks the classes, or holds one that this model does not know.
        """
        table, series = read_table(prepared.path / TABLE), open_examples(prepared, "test")
        require_columns(table, [self.label], prepared.path)
        steps = self.lay_out(table)
        rows = steps.first_rows[series]
        labels = [as_key(label) for label in table[self.label].to_numpy()[rows].tolist()]
        target = class_numbers(labels, self.classes, prepared)
        probabilities = self.probabilities(self.encoding.encode(steps), series)
        return example_errors(
            metric,
            class_errors(metric, probabilities, target),
            np.ones(len(series)),
            rows=digest_of_rows(*(values[series] for values in steps.keys.values()), labels),
            position=open_test_groups(prepared),
            slices=slice_masks({name: table[name].to_numpy() for name in table.columns}, slices, rows),
        )
