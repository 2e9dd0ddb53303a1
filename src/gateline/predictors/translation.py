"""A trained translator with its tokenizers inside: sentences of one language in, of the other out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import open_examples, open_test_groups
from gateline.data.tokenizers import BEGIN, END, PADDING, UNKNOWN, Encoded, FittedTokenizer
from gateline.data.windows import VariableLengthDataset
from gateline.errors import DataError, WorkloadError, did_you_mean
from gateline.manifest import Artifact
from gateline.models.decoding import MOST_PENALTY, WIDEST_BEAM, BeamSettings, Nested, beam_search, greedy
from gateline.models.encoder_decoder import Translator
from gateline.predictors.texts import read_texts
from gateline.table import TABLE, as_frame, read_table, require_columns
from gateline.text_metrics import GATE_METRIC, edits_and_words
from gateline.workload.schema import Column, Schema

SENTENCES_AT_ONCE = 64
"""Translated side by side, of similar length."""
LENGTH_STEP, SPARE_TOKENS = 8, 10
"""A translation has at most twice as many tokens as its source, whose length is rounded up to a multiple, and some to spare."""
NEVER_WRITTEN = (PADDING, UNKNOWN, BEGIN)
SCORE = "score"
EXAMPLE_ROWS = 2
LENGTH = "length"
"""The slice by how many words the source has."""
BORDERS = (8, 12, 16)
"""Words up to which a slice goes; the last one has no end."""


@dataclass(frozen=True)
class Translations:
    """Translated sentences.

    Args:
        texts: E of them.
        scores: float64 (E,), log p under the model with the length penalty, as the beam compares them.
        codes: the tokens of each, without END.
    """

    texts: list[str]
    scores: np.ndarray
    codes: list[list[int]]


class SentenceTranslator:
    """A trained translator with its tokenizers inside.

    Args:
        network: in eval mode.
        source: tokenizer of the language that is read.
        target: tokenizer of the language that is written.
        schema: of the table.
        columns: of the source and of the target.
        max_length: tokens of a source sentence that are read; None: all.
    """

    def __init__(
        self,
        network: Translator,
        source: FittedTokenizer,
        target: FittedTokenizer,
        schema: Schema,
        columns: tuple[str, str],
        max_length: int | None,
    ) -> None:
        self.network = network.eval()
        self.source, self.target = source, target
        self.source_column, self.target_column = columns
        self._max_length = max_length
        asked = schema.columns[self.source_column]
        asked = asked.model_copy(update={"min_length": max(1, asked.min_length or 1), "missing_share": 0.0})
        self._asked = schema.model_copy(update={"columns": {self.source_column: asked}, "keys": ()})

    @property
    def asked_columns(self) -> dict[str, Column]:
        """What a request may hold: a sentence to translate has at least one character."""
        return dict(self._asked.columns)

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""
        return [(self.source_column, "text", True)]

    @property
    def tokenizers(self) -> dict[str, FittedTokenizer]:
        """What cuts the texts of a column of a request into tokens."""
        return {self.source_column: self.source}

    @property
    def most_tokens(self) -> dict[str, int]:
        """How many tokens of a text are read, by name of its column; none for all."""
        return {} if self._max_length is None else {self.source_column: self._max_length}

    @property
    def place_columns(self) -> list[str]:
        """None: a translation stands in the row of its source."""
        return []

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer."""
        return [(self.source_column, "text"), (self.target_column, "text"), (SCORE, "float")]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Name, MLflow's type and default of what a request may say beside its rows; see `answer`."""
        settings = self.network.settings
        return [("beam_width", "long", settings.beam_width), ("length_penalty", "double", settings.length_penalty)]

    def predict(self, frame: pd.DataFrame, **parameters: Any) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(self.answer(frame, **parameters))

    def answer(
        self, frame: pd.DataFrame, beam_width: int | None = None, length_penalty: float | None = None
    ) -> dict[str, Any]:
        """Translate the sentence in each row.

        Args:
            frame: rows with the source column, not empty.
            beam_width: hypotheses followed at once; None: as the model's settings say, as with the penalty.
            length_penalty: 0 prefers short translations, more prefers longer ones.

        Returns:
            `Columns`: source, translation, and its score (log p with the length penalty).

        Raises:
            DataError: a row has no text, or a parameter cannot be used.
        """
        settings = self.network.settings
        width = settings.beam_width if beam_width is None else beam_width
        penalty = settings.length_penalty if length_penalty is None else length_penalty
        if not 1 <= width <= WIDEST_BEAM:
            raise DataError("params.beam_width", expected=f"1 to {WIDEST_BEAM}", found=str(width), do="Correct it")
        if not 0 <= penalty <= MOST_PENALTY:
            raise DataError(
                "params.length_penalty", expected=f"0 to {MOST_PENALTY:g}", found=str(penalty), do="Correct it"
            )
        if len(frame) == 0:
            raise DataError("request", expected="sentences", found="no rows", do="Send one or more")
        texts = read_texts(frame, self._asked, self.source_column)
        found = self.translate(list(texts), width, penalty)
        return {
            self.source_column: texts,
            self.target_column: np.array(found.texts, dtype=object),
            SCORE: found.scores,
        }

    def translate(
        self, texts: Sequence[str], width: int | None = None, length_penalty: float | None = None
    ) -> Translations:
        """Translate sentences, those of similar length side by side."""
        settings = self.network.settings
        width = settings.beam_width if width is None else width
        penalty = settings.length_penalty if length_penalty is None else length_penalty
        encoded = self.encode(texts)
        sentences = VariableLengthDataset(encoded.tokens, encoded.offsets)
        # Only sentences with the same limit stand side by side: what is written must not depend on the neighbours.
        limits = 2 * LENGTH_STEP * -(-encoded.lengths // LENGTH_STEP) + SPARE_TOKENS
        codes: list[list[int]] = [[] for _ in texts]
        scores = np.zeros(len(texts))
        with torch.inference_mode():
            for rows, longest in batches_of(limits):
                source = sentences.__getitems__(rows)
                memory, state = self.network.start(source.values.long(), source.lengths)
                begin = torch.full((len(rows),), BEGIN)
                if width == 1:
                    found = greedy(self._step, memory, state, begin, end=END, max_length=longest).penalised(
                        penalty, longest
                    )
                else:
                    beam = BeamSettings(width=width, length_penalty=penalty, max_length=longest)
                    found = beam_search(self._step, memory, state, begin, end=END, settings=beam)
                scores[rows] = found.scores[:, 0].double().numpy()
                for row, best in zip(rows.tolist(), found.best(), strict=True):
                    codes[row] = best
        return Translations([self.target.decode(row).strip() for row in codes], scores, codes)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turn source sentences into what the encoder reads."""
        return self.source.encode(texts).cut(self._max_length).framed(end=True)

    def attention(self, text: str, codes: Sequence[int]) -> tuple[list[str], list[str], np.ndarray]:
        """Say where the decoder looked while it wrote a translation.

        Args:
            text: source sentence.
            codes: tokens U of the translation, without END.

        Returns:
            Source tokens T, target tokens U + 1 with END, and weights float32 (U + 1, T).
        """
        source = self.encode([text])
        before = torch.tensor([[BEGIN, *codes]])
        with torch.inference_mode():
            _, weights = self.network.explain(torch.from_numpy(source.tokens.astype(np.int64))[None], before)
        read = [self.source.shown(int(code)) for code in source.tokens]
        return read, [self.target.shown(int(code)) for code in [*codes, END]], weights[0].numpy()

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Translate the test part of a prepared folder, also one with other vocabularies, and count the edits.

        Args:
            prepared: holds the test part in raw units.
            metric: translation_edit_rate.
            slices: ``length=...``, see `length_of`.

        Raises:
            DataError: the table lacks a column.
            WorkloadError: the metric is none that models are compared by.
        """
        if metric != GATE_METRIC:
            raise WorkloadError(
                "gates.metric",
                expected="a metric that models are compared by",
                found=repr(metric),
                do=did_you_mean(metric, [GATE_METRIC]),
            )
        table = read_table(prepared.path / TABLE).iloc[open_examples(prepared, "test")]
        require_columns(table, (self.source_column, self.target_column), prepared.path)
        source, reference = (list(table[name]) for name in (self.source_column, self.target_column))
        edits, words = edits_and_words(self.translate(source).texts, reference)
        lengths = np.array([length_of(text) for text in source], dtype=object)
        return example_errors(
            metric,
            edits,
            words,
            rows=digest_of_rows(source, reference),
            position=open_test_groups(prepared),
            slices={name: lengths == name.removeprefix(f"{LENGTH}=") for name in slices},
        )

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take the first sentences of a table, as a request."""
        return table[[self.source_column]].head(EXAMPLE_ROWS).reset_index(drop=True)

    def _step(self, tokens: torch.Tensor, memory: Nested, state: Nested) -> tuple[torch.Tensor, Nested]:
        logits, state = self.network.step(tokens, memory, state)
        logits[:, list(NEVER_WRITTEN)] = torch.finfo(logits.dtype).min
        return logits, state


def batches_of(limits: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Put rows with the same limit (E,) side by side: their numbers, and the limit."""
    for limit in np.unique(limits).tolist():
        rows = np.flatnonzero(limits == limit)
        for first in range(0, len(rows), SENTENCES_AT_ONCE):
            yield rows[first : first + SENTENCES_AT_ONCE], limit


def length_of(text: str) -> str:
    """Name the slice of a sentence by its number of words: `1-8`, `9-12`, `13-16`, `17+`."""
    words, first = len(text.split()), 1
    for border in BORDERS:
        if words <= border:
            return f"{first}-{border}"
        first = border + 1
    return f"{first}+"


def length_names() -> list[str]:
    """Name the slices by length, from short to long."""
    return [f"{first}-{last}" for first, last in zip((1, *(b + 1 for b in BORDERS)), BORDERS, strict=False)] + [
        f"{BORDERS[-1] + 1}+"
    ]
