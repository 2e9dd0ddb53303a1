"""A trained classifier of texts with its preprocessing inside: text in, class and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.batch import SCORING_BATCH
from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import as_key, open_examples, open_test_groups, slice_masks
from gateline.data.sequences import LabelledSequences
from gateline.data.text_encoding import TextEncoding
from gateline.data.tokenizers import FittedTokenizer
from gateline.errors import DataError, examples
from gateline.manifest import Artifact
from gateline.models.classifier import Classifier
from gateline.probabilities import SMALLEST
from gateline.table import TABLE, as_frame, clean, read_table, require_columns
from gateline.workload.schema import Schema

EXAMPLE_TEXTS = 3  # in the example request


class TextClassifier:
    """A trained classifier of texts with its preprocessing inside.

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
        encoding: TextEncoding,
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
        self._asked = schema.model_copy(
            update={"columns": {encoding.column: schema.columns[encoding.column]}, "keys": ()}
        )

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """The text."""
        return [(self.encoding.column, "text", True)]

    @property
    def tokenizers(self) -> dict[str, FittedTokenizer]:
        """What cuts the texts of a column of a request into tokens."""
        return {self.encoding.column: self.encoding.tokenizer}

    @property
    def most_tokens(self) -> dict[str, int]:
        """How many tokens of a text are read, by name of its column; none for all."""
        most = self.encoding.max_length
        return {} if most is None else {self.encoding.column: most}

    @property
    def place_columns(self) -> list[str]:
        """None: an answer stands in the row of its text."""
        return []

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """The class, and the probability of each."""
        return [(self.label, "text"), *((f"probability_{name}", "float") for name in self.classes)]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Nothing beside the texts."""
        return []

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(self.answer(frame))

    def answer(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Classify texts.

        Args:
            frame: one row per text, with the column of texts.

        Returns:
            `Columns`, one row per text in the order of the request: the most probable class, and every probability.

        Raises:
            DataError: there is no row, no such column, or a text is missing or refused by the schema.
        """
        if len(frame) == 0:
            raise DataError("request", expected="rows with a text", found="none", do="Send one row per text")
        texts = clean(frame, self._asked)[self.encoding.column]
        missing = np.flatnonzero(pd.isna(texts))
        if len(missing):
            raise DataError(
                f"request, column {self.encoding.column}",
                expected="a text in every row",
                found=f"none in row {examples(missing.tolist())}",
                do="Add it",
            )
        return answer_columns(self.label, self.classes, self.probabilities(list(texts)))

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the probability of each class: float32 (S, C) for S texts."""
        return self.explain(texts)[0]

    def explain(self, texts: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Compute probabilities, and how much each token weighs.

        Returns:
            float32 (S, C), and for each text float32 (T,), which sums to 1; None where the model has no attention.
        """
        encoded = self.encoding.encode(texts)
        dataset = LabelledSequences(
            encoded.tokens, encoded.offsets, np.zeros(len(encoded), np.int64), np.arange(len(encoded))
        )
        logits, weights = judged(self.network, dataset)
        return as_shares(logits, self.temperature), weights

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take a few texts of a table as a request."""
        return table[[self.encoding.column]].head(EXAMPLE_TEXTS).reset_index(drop=True)

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Classify the test texts of a prepared folder, also one that was prepared otherwise than for this model.

        Args:
            prepared: its table holds the texts and their classes.
            metric: error_rate, log_loss or brier.
            slices: names of slices, ``COLUMN=VALUE``.

        Raises:
            DataError: the table lacks a column, or holds a class that this model does not know.
        """
        table = read_table(prepared.path / TABLE)
        require_columns(table, (self.encoding.column, self.label), prepared.path)
        rows = open_examples(prepared, "test")
        texts = table[self.encoding.column].to_numpy(dtype=object)[rows].tolist()
        labels = [as_key(label) for label in table[self.label].to_numpy()[rows].tolist()]
        target = class_numbers(labels, self.classes, prepared)
        return example_errors(
            metric,
            class_errors(metric, self.probabilities(texts), target),
            np.ones(len(rows)),
            rows=digest_of_rows(texts, labels),
            position=open_test_groups(prepared),
            slices=slice_masks({name: table[name].to_numpy() for name in table.columns}, slices, rows),
        )


def answer_columns(label: str, classes: Sequence[str], probabilities: np.ndarray) -> dict[str, Any]:
    """Name the most probable class and all probabilities (S, C) as columns of an answer."""
    chosen = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    return {label: chosen} | {
        f"probability_{name}": probabilities[:, place].astype(np.float64) for place, name in enumerate(classes)
    }


def class_numbers(labels: Sequence[str], classes: Sequence[str], prepared: Artifact) -> np.ndarray:
    """Number the classes of the examples of a prepared folder as a model does: int64 (S,).

    Raises:
        DataError: the model does not know one of them.
    """
    strange = sorted(set(labels) - set(classes))
    if strange:
        raise DataError(
            prepared.path,
            expected=f"the classes of this model ({examples(classes)})",
            found=f"{examples(strange)} besides",
            do="Models of different classes cannot be compared; register under another name",
        )
    number = {name: place for place, name in enumerate(classes)}
    return np.array([number[label] for label in labels], dtype=np.int64)


def judged(network: Classifier, dataset: LabelledSequences) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """Compute the logits of all sequences of a data set, and how much each step weighs.

    Returns:
        float32 (S, C), and for each sequence float32 (T,), which sums to 1; None where the network has no attention.
    """
    lengths = np.asarray(dataset.lengths)
    # Sequences of similar length together, as in training; then back into the order of the request.
    order = np.argsort(lengths, kind="stable")
    rows = [order[first : first + SCORING_BATCH] for first in range(0, len(order), SCORING_BATCH)]
    found: list[torch.Tensor] = []
    weights: list[np.ndarray] = [np.empty(0)] * len(order)
    attends = network.attention is not None
    with torch.inference_mode():
        for some in rows:
            batch = dataset.__getitems__(some)
            logits, attention = network.explain(batch.values, batch.lengths)
            found.append(logits.float())
            if attention is not None:
                for place, row in enumerate(some):
                    weights[row] = attention[place, : lengths[row]].float().numpy()
    logits_in_order = torch.cat(found).numpy()[np.argsort(order, kind="stable")]
    return logits_in_order, weights if attends else None


def logits_of(network: Classifier, dataset: LabelledSequences) -> np.ndarray:
    """Compute the logits of all sequences of a data set: float32 (S, C)."""
    return judged(network.eval(), dataset)[0]


def as_shares(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits (S, C) into probabilities: float32 (S, C)."""
    shares: np.ndarray = (torch.from_numpy(logits) / temperature).softmax(dim=1).numpy()
    return shares


def class_errors(metric: str, probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Measure each example.

    Args:
        metric: error_rate (0 or 1), log_loss (nats) or brier (squared distance from the certain truth, 0 to
            2 over all classes; of two classes that of one, 0 to 1, as elsewhere).
        probabilities: (S, C).
        target: int (S,), the true classes.

    Returns:
        float64 (S,).

    Source: Brier (1950), Monthly Weather Review 78(1), equation 2.
    """
    probabilities = probabilities.astype(np.float64)
    if metric == "error_rate":
        return (probabilities.argmax(axis=1) != target).astype(np.float64)
    if metric == "log_loss":
        return -np.log(np.maximum(probabilities[np.arange(len(target)), target], SMALLEST))
    if metric == "brier":
        truth = np.eye(probabilities.shape[1])[target]
        distance = np.square(probabilities - truth)
        return distance[:, 1] if probabilities.shape[1] == 2 else distance.sum(axis=1)
    raise ValueError(f"error_rate, log_loss or brier, got {metric!r}")
