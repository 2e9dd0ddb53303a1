"""A trained transcriber with its preprocessing inside: recordings in, text out. B batch, T output steps, V labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.audio import decode
from gateline.data.examples import slice_masks
from gateline.data.log_mel import LogMel, Normaliser, log_mel
from gateline.data.tokenizers import UNKNOWN, FittedTokenizer
from gateline.edit_distance import edit_distance
from gateline.errors import DataError, examples
from gateline.manifest import Artifact
from gateline.models.ctc_decoding import WIDEST_BEAM, ctc_beam_search, ctc_greedy
from gateline.models.transcriber import Transcriber
from gateline.table import TABLE, as_frame, clean, read_table, require_columns
from gateline.workload.schema import Schema

BATCH = 64
"""Recordings at a time where no gradients are kept: a second of sound is a hundred frames."""
EXAMPLE_RECORDINGS = 2  # in the example request


@dataclass(frozen=True)
class Transcripts:
    """What was heard in R recordings.

    Args:
        texts: of each.
        log_probs: float64 (R,), the logarithm of the probability of each text, over all alignments that were followed.
    """

    texts: list[str]
    log_probs: np.ndarray


class RecordingTranscriber:
    """A trained transcriber with its preprocessing inside.

    Args:
        network: its weights loaded.
        features: how recordings become features.
        normaliser: fitted.
        tokenizer: fitted; label 0 is the blank.
        schema: of the table that it was trained on.
        audio: column of the recordings.
        text: column of the transcripts.
        beam_width: labellings followed where a request says nothing.
    """

    def __init__(
        self,
        network: Transcriber,
        features: LogMel,
        normaliser: Normaliser,
        tokenizer: FittedTokenizer,
        schema: Schema,
        *,
        audio: str,
        text: str,
        beam_width: int,
    ) -> None:
        self._network = network.eval()
        self.settings, self._normaliser = features, normaliser
        self.tokenizer = tokenizer
        self.audio, self.text = audio, text
        self.beam_width = beam_width
        self._asked = schema.model_copy(update={"columns": {audio: schema.columns[audio]}, "keys": (), "time": None})

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """The recording, as a file."""
        return [(self.audio, "bytes", True)]

    @property
    def place_columns(self) -> list[str]:
        """None: an answer stands in the row of its recording."""
        return []

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """The text, and how probable it is."""
        return [(self.text, "text"), ("log_prob", "float")]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """How wide to search."""
        return [("beam_width", "long", self.beam_width)]

    def predict(self, frame: pd.DataFrame, beam_width: int | None = None) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(self.answer(frame, beam_width))

    def answer(self, frame: pd.DataFrame, beam_width: int | None = None) -> dict[str, Any]:
        """Transcribe recordings.

        Args:
            frame: one row per recording, with the column of their bytes; any sampling rate, any number of channels.
            beam_width: labellings that are followed; 1: greedy; None: the model's own.

        Returns:
            `Columns`, one row per recording in the order of the request.

        Raises:
            DataError: there is no row or no such column, a recording cannot be read, or the beam is none.
        """
        width = self.beam_width if beam_width is None else beam_width
        if not 1 <= width <= WIDEST_BEAM:
            raise DataError(
                "params.beam_width", expected=f"1 to {WIDEST_BEAM}", found=str(width), do="Send another, or none"
            )
        if len(frame) == 0:
            raise DataError("request", expected="rows with a recording", found="none", do="Send one row per recording")
        recordings = clean(frame, self._asked)[self.audio]
        missing = np.flatnonzero(pd.isna(recordings))
        if len(missing):
            raise DataError(
                f"request, column {self.audio}",
                expected="a recording in every row",
                found=f"none in row {examples(missing.tolist())}",
                do="Add it",
            )
        names = [f"request, column {self.audio}, row {row}" for row in range(len(recordings))]
        heard = self.transcribe(list(recordings), width, names)
        return {self.text: np.array(heard.texts, dtype=object), "log_prob": heard.log_probs}

    def transcribe(self, recordings: Sequence[bytes], width: int, names: Sequence[str] | None = None) -> Transcripts:
        """Transcribe the bytes of recordings.

        Args:
            recordings: R files.
            width: labellings that are followed; 1: greedy.
            names: of the recordings, for errors; None: their numbers.

        Raises:
            DataError: a recording cannot be read.
        """
        places = names or [f"recording {row}" for row in range(len(recordings))]
        features = [self.features(content, place) for content, place in zip(recordings, places, strict=True)]
        texts, log_probs = [""] * len(features), np.zeros(len(features))
        # Recordings of similar length together, as in training; then back into the order of the request.
        order = np.argsort([len(each) for each in features], kind="stable")
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH].tolist()
            with torch.inference_mode():
                posteriors, lengths = self._network(*padded([features[row] for row in some]))
                posteriors = writable(posteriors)
                found = (
                    ctc_greedy(posteriors, lengths) if width == 1 else ctc_beam_search(posteriors, lengths, width=width)
                )
            for row, tokens, score in zip(some, found.best(), found.scores[:, 0].tolist(), strict=True):
                texts[row], log_probs[row] = self.tokenizer.decode(tokens), score
        return Transcripts(texts, log_probs)

    def features(self, content: bytes, place: str) -> np.ndarray:
        """Turn one recording into what the network reads: float32 (T, M).

        Raises:
            DataError: it cannot be read.
        """
        settings = self.settings
        samples = decode(content, place, sampling_rate=settings.sampling_rate, longest_seconds=settings.longest_seconds)
        return self._normaliser(log_mel(samples, settings))

    def posteriors(self, features: np.ndarray) -> np.ndarray:
        """Compute how probable each label is at each output step of one recording: float32 (T, V) for (T * R, M)."""
        with torch.inference_mode():
            log_probs, _ = self._network(*padded([features]))
        return np.exp(log_probs[0].float().numpy())

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take the shortest recordings of a table as a request."""
        shortest = table[self.audio].map(len).sort_values(kind="stable").index[:EXAMPLE_RECORDINGS]
        return table.loc[shortest, [self.audio]].reset_index(drop=True)

    def normalise(self, text: str) -> str:
        """Bring a transcript into the form in which answers are written, so that both can be compared."""
        return " ".join(self.tokenizer.normalise(text).split())

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Transcribe the test part of a prepared folder, also one that was prepared otherwise than for this model.

        Args:
            prepared: its table holds the test part as recordings and transcripts.
            metric: word_error_rate, character_error_rate or sentence_error_rate.
            slices: names of slices, ``COLUMN=VALUE``.

        Raises:
            DataError: the table lacks a column, or holds a recording that is too long for this model.
        """
        table = read_table(prepared.path / TABLE)
        require_columns(table, (self.audio, self.text, "pool"), prepared.path)
        recordings, meant = table[self.audio].tolist(), table[self.text].tolist()
        found = self.transcribe(recordings, self.beam_width).texts
        wanted = [self.normalise(text) for text in meant]
        total, count = transcript_errors(metric, wanted, found)
        columns = {name: table[name].to_numpy() for name in table.columns}
        return example_errors(
            metric,
            total,
            count,
            position=table["pool"].to_numpy().astype(np.int64),
            # As this model writes them: one that leaves out capitals has an easier task, and is not compared with one that does not.
            rows=digest_of_rows(wanted, [hashlib.sha256(content).hexdigest() for content in recordings]),
            slices=slice_masks(columns, slices, np.arange(len(table))),
        )


def writable(log_probs: torch.Tensor) -> torch.Tensor:
    """Rule out the label of what was too rare to be known: it is heard, and nobody can read it.

    Args:
        log_probs: float (B, T, V), of the network.
    """
    unknown = torch.arange(log_probs.shape[2], device=log_probs.device) == UNKNOWN
    return log_probs.masked_fill(unknown, -torch.inf)


def transcript_errors(metric: str, meant: Sequence[str], found: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Measure each transcript: what is wrong, and of how many, float64 (R,) each.

    Args:
        metric: word_error_rate (edits, of the words that were meant), character_error_rate (the same of characters) or
            sentence_error_rate (0 or 1, of 1).
        meant: what is said.
        found: what was heard.
    """
    pairs = list(zip(meant, found, strict=True))
    if metric == "word_error_rate":
        counts = [(edit_distance(left.split(), right.split()), len(left.split())) for left, right in pairs]
    elif metric == "character_error_rate":
        counts = [(edit_distance(left, right), len(left)) for left, right in pairs]
    elif metric == "sentence_error_rate":
        counts = [(int(left != right), 1) for left, right in pairs]
    else:
        raise ValueError(f"word_error_rate, character_error_rate or sentence_error_rate, got {metric!r}")
    total, count = np.array(counts, dtype=np.float64).reshape(-1, 2).T
    return total, count


def padded(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay features (T, M) of recordings side by side, zeros past their ends: (B, longest, M) and lengths int64 (B,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    together = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=np.float32)
    for place, row in enumerate(rows):
        together[place, : len(row)] = row
    return torch.from_numpy(together), torch.from_numpy(lengths)
