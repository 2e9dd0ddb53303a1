"""A trained language model with its tokenizer inside: a beginning in, a continuation out. N tokens, V vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.comparison import ExampleErrors, digest_of_rows, slice_errors
from gateline.data.order import StreamOrder
from gateline.data.streams import StreamDataset
from gateline.data.tokenizers import BEGIN, END, PADDING, UNKNOWN, FittedTokenizer
from gateline.errors import DataError, WorkloadError, did_you_mean
from gateline.intervals import running_dependence
from gateline.manifest import Artifact
from gateline.models.decoding import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, Nested, SamplingSettings, sample
from gateline.models.language_model import LanguageModel
from gateline.predictors.texts import read_texts
from gateline.table import as_frame
from gateline.workload.schema import Column, Schema

TEXTS = "texts.json"
"""The parts of the text, in a prepared folder."""
MOST_TOKENS = 100_000
"""Tokens of all continuations that a request may ask for: they are written row by row."""
STREAMS = 8
"""Streams that a text is read in side by side where it is scored; each starts without a past, which costs each its first
characters and is 8 times as fast as one."""
PIECE = 250
"""Characters of a passage: what is resampled, compared and shown."""
NATS_PER_BIT = float(np.log(2))

CONTINUATION = "continuation"
NEVER_WRITTEN = (PADDING, UNKNOWN, BEGIN)
STOP_TOKENS = 8
"""Tokens beside the stop text's own that are looked at for it: a token may hold more than the end of it."""
EXAMPLE_CHARACTERS = 60
KIND = "kind"
"""The slices of characters there are: what kind of character each is."""


class Writer:
    """A trained language model with its tokenizer inside.

    Args:
        network: in eval mode.
        tokenizer: fitted.
        schema: of the table.
        column: of the texts.
    """

    def __init__(self, network: LanguageModel, tokenizer: FittedTokenizer, schema: Schema, column: str) -> None:
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.column = column
        # A beginning is shorter than a book.
        asked = schema.columns[column].model_copy(update={"min_length": 1, "missing_share": 0.0})
        self._asked = schema.model_copy(update={"columns": {column: asked}, "keys": ()})

    @property
    def asked_columns(self) -> dict[str, Column]:
        """What a request may hold: a beginning may be shorter than a book."""
        return dict(self._asked.columns)

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request."""
        return [(self.column, "text", True)]

    @property
    def tokenizers(self) -> dict[str, FittedTokenizer]:
        """What cuts the texts of a column of a request into tokens."""
        return {self.column: self.tokenizer}

    @property
    def place_columns(self) -> list[str]:
        """None: an answer stands in the row of its beginning."""
        return []

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer."""
        return [(self.column, "text"), (CONTINUATION, "text")]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """Name, MLflow's type and default of what a request may say beside its rows; see `answer`."""
        return [
            ("temperature", "double", 0.8),
            ("top_k", "long", 0),
            ("max_length", "long", 200),
            ("stop", "string", ""),
            ("seed", "long", 0),
        ]

    def predict(self, frame: pd.DataFrame, **parameters: Any) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(self.answer(frame, **parameters))

    def answer(
        self,
        frame: pd.DataFrame,
        temperature: float = 0.8,
        top_k: int = 0,
        max_length: int = 200,
        stop: str = "",
        seed: int = 0,
    ) -> dict[str, Any]:
        """Continue the beginning in each row; the same row, parameters and seed give the same, whatever rows stand beside it.

        Args:
            frame: rows with the column of the texts, not empty.
            temperature: below 1 what is probable becomes more probable.
            top_k: draw among so many of the most probable tokens only; 0: among all.
            max_length: tokens at most.
            stop: a text that ends a continuation, and is the end of it; empty: none.
            seed: of the draws.

        Returns:
            `Columns`: the beginnings and their continuations.

        Raises:
            DataError: a row has no text, a parameter cannot be used, or the rows ask for too much together.
        """
        for name, value, fits in (
            ("temperature", temperature, LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE),
            ("top_k", top_k, top_k >= 0),
            ("max_length", max_length, 1 <= max_length <= 10_000),
            ("seed", seed, 0 <= seed < 2**63),
        ):
            if not fits:
                wanted = {
                    "temperature": f"{LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:,g}",
                    "max_length": "1 to 10,000",
                }.get(name, "0 or more")
                raise DataError(f"params.{name}", expected=wanted, found=str(value), do="Correct it, or leave it out")
        if len(frame) == 0:
            raise DataError("request", expected="beginnings of texts", found="no rows", do="Send one or more")
        if len(frame) * max_length > MOST_TOKENS:
            raise DataError(
                "request",
                expected=f"at most {MOST_TOKENS // max_length:,} rows where max_length is {max_length:,}",
                found=f"{len(frame):,}",
                do="Send fewer rows at once, or lower params.max_length",
            )
        texts = read_texts(frame, self._asked, self.column)
        settings = SamplingSettings(temperature=temperature, top_k=top_k or None, max_length=max_length)
        written = [self.write(text, settings, stop, seed) for text in texts]
        return {self.column: texts, CONTINUATION: np.array(written, dtype=object)}

    def write(self, text: str, settings: SamplingSettings, stop: str = "", seed: int = 0) -> str:
        """Continue one text.

        Args:
            text: not empty.
            settings: temperature, top k, length.
            stop: ends the continuation, and is the end of it.
            seed: of the draws, which depend on the text beside.
        """
        prompt = torch.from_numpy(self.tokenizer.encode([text]).tokens.astype(np.int64))[None]
        own = hashlib.blake2b(f"{seed}/{text}".encode("utf-8", "replace"), digest_size=7).digest()
        with torch.inference_mode():
            memory, state, begin = self.network.start(prompt)
            found = sample(
                self._step,
                memory,
                state,
                begin,
                end=END,
                settings=settings,
                seed=int.from_bytes(own),
                stop=(lambda tokens: self._stops(tokens, stop)) if stop else None,
            )
        continuation = self.tokenizer.decode(found.best()[0])
        place = continuation.find(stop) if stop else -1
        return continuation if place < 0 else continuation[: place + len(stop)]

    def surprise(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say how surprising each token but the first is after those before it, and whether it was the likeliest.

        Args:
            tokens: int32 (N,).

        Returns:
            float64 (N - 1,), -log p in nats, and bool (N - 1,).
        """
        dataset = StreamDataset(tokens, piece=PIECE, streams=STREAMS)
        order, state = StreamOrder(len(dataset) // STREAMS, STREAMS), None
        nats, hits = np.zeros((len(dataset), PIECE)), np.zeros((len(dataset), PIECE), dtype=bool)
        with torch.inference_mode():
            for step in range(len(order)):
                rows = order.batch(0, step)
                batch = dataset.__getitems__(rows)
                logits, state = self.network(batch.tokens, state)
                log_probs = torch.log_softmax(logits.double(), dim=2)
                nats[rows] = -log_probs.gather(2, batch.following[:, :, None]).squeeze(2).numpy()
                hits[rows] = (log_probs.argmax(dim=2) == batch.following).numpy()
        return nats.ravel()[: dataset.num_targets], hits.ravel()[: dataset.num_targets]

    def surprise_by_place(self, tokens: np.ndarray) -> np.ndarray:
        """Say how surprising tokens are by how many were read before, from 1 to PIECE: float64 (PIECE,), mean nats."""
        dataset = StreamDataset(tokens, piece=PIECE)
        total = np.zeros(PIECE)
        with torch.inference_mode():
            for first in range(0, len(dataset), 64):
                batch = dataset.__getitems__(np.arange(first, min(first + 64, len(dataset))))
                log_probs = torch.log_softmax(self.network(batch.tokens)[0].double(), dim=2)
                total += -log_probs.gather(2, batch.following[:, :, None]).squeeze(2).sum(dim=0).numpy()
        return total / max(len(dataset), 1)

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Foretell the test part of a prepared folder, also one with another vocabulary, and measure by passages.

        A model that reads in lower case foretells another text than one that does not: these two are not compared.

        Args:
            prepared: holds the test part as text.
            metric: bits_per_character or nats_per_character.
            slices: ``kind=KIND``, see `kinds_of`.

        Raises:
            WorkloadError: the metric is none that models are compared by.
        """
        if metric not in METRICS:
            raise WorkloadError(
                "gates.metric",
                expected="a metric that models are compared by",
                found=repr(metric),
                do=did_you_mean(metric, METRICS),
            )
        texts = prepared.read_json(TEXTS)["test"]
        tokens = stream_of(self.tokenizer, texts)
        nats, _ = self.surprise(tokens)
        return by_passage(self.tokenizer, tokens, nats, metric, texts, slices)

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Cut the first characters of the first text, as a request."""
        return pd.DataFrame({self.column: [str(table[self.column].iloc[0])[:EXAMPLE_CHARACTERS]]})

    def _step(self, tokens: torch.Tensor, memory: Nested, state: Nested) -> tuple[torch.Tensor, Nested]:
        logits, state = self.network.step(tokens, memory, state)
        logits[:, list(NEVER_WRITTEN)] = torch.finfo(logits.dtype).min
        return logits, state

    def _stops(self, tokens: torch.Tensor, stop: str) -> torch.Tensor:
        last = tokens[:, -(len(stop.encode()) + STOP_TOKENS) :].tolist()
        return torch.tensor([stop in self.tokenizer.decode(row) for row in last])


METRICS = ("bits_per_character", "nats_per_character")
"""What models may be compared by: nats of a passage over its characters, in bits or not."""


def stream_of(tokenizer: FittedTokenizer, texts: Sequence[tuple[str, bool]]) -> np.ndarray:
    """Turn pieces of texts into one stream: int32 (N,); END stands behind each that is there to its end.

    Args:
        tokenizer: fitted.
        texts: pieces, and whether each is there to its text's end and another one may follow.
    """
    encoded = tokenizer.encode([text for text, _ in texts])
    rows = [np.append(row, END) if ends else row for row, (_, ends) in zip(encoded.rows(), texts, strict=True)]
    return np.concatenate(rows).astype(np.int32) if rows else np.empty(0, dtype=np.int32)


def characters_of(tokenizer: FittedTokenizer, tokens: np.ndarray) -> np.ndarray:
    """Count the characters that begin in each token: int64 (N,); 1 for the end of a text."""
    counts = tokenizer.characters()
    counts[END] = 1
    return counts[tokens]


def letters_of(tokenizer: FittedTokenizer, texts: Sequence[tuple[str, bool]]) -> list[str]:
    """List the characters of a stream, C of them, whatever the vocabulary; the end of a text is empty.

    Args:
        tokenizer: brings the texts into the form that is foretold.
        texts: what the stream was made of.
    """
    return [letter for text, ends in texts for letter in (*tokenizer.normalise(text), *[""] * ends)]


def by_character(tokenizer: FittedTokenizer, tokens: np.ndarray, nats: np.ndarray) -> np.ndarray:
    """Spread the surprise of each token evenly over the characters that begin in it: float64 (C - 1,), all but the first.

    A token without one, a few bytes in the middle of a character, adds to that character. Nobody foretells the first token;
    where more than the first character begins in it, the rest costs its share of an even guess among the vocabulary.

    Args:
        tokenizer: made the tokens.
        tokens: int32 (N,), the stream.
        nats: float64 (N - 1,), surprise of each token but the first.
    """
    counts = characters_of(tokenizer, tokens)
    shares = np.maximum(counts, 1)
    token = np.repeat(np.arange(len(tokens)), shares)  # once for each character that it adds to
    within = np.arange(len(token)) - (np.cumsum(shares) - shares)[token]
    place = first_characters(tokenizer, tokens)[token] + within
    cost = np.append(np.log(tokenizer.size), nats) / shares
    return np.bincount(place, weights=cost[token], minlength=int(counts.sum()))[1:]


def first_characters(tokenizer: FittedTokenizer, tokens: np.ndarray) -> np.ndarray:
    """Say which character each token begins with, or stands in the middle of: int64 (N,)."""
    counts = characters_of(tokenizer, tokens)
    return np.cumsum(counts) - np.maximum(counts, 1)


def kinds_of(letters: Sequence[str]) -> np.ndarray:
    """Say of which kind each character is: object (C,)."""
    names = {letter: kind_of(letter) if letter else "end" for letter in set(letters)}
    return np.array([names[letter] for letter in letters], dtype=object)


def kind_of(text: str) -> str:
    """Say what kind of character a text begins with."""
    first = text[:1]
    for kind, holds in (
        ("line end", first == "\n"),
        ("space", first.isspace()),
        ("capital", first.isupper()),
        ("letter", first.isalpha()),
        ("digit", first.isdigit()),
    ):
        if holds:
            return kind
    return "punctuation"


def by_passage(
    tokenizer: FittedTokenizer,
    tokens: np.ndarray,
    nats: np.ndarray,
    metric: str,
    texts: Sequence[tuple[str, bool]],
    slices: Sequence[str] = (),
) -> ExampleErrors:
    """Add up the surprise of passages of PIECE characters, which are the same for every vocabulary.

    Args:
        tokenizer: made the tokens.
        tokens: int32 (N,), the stream.
        nats: float64 (N - 1,), surprise of each token but the first.
        metric: one of METRICS.
        texts: what the stream was made of.
        slices: ``kind=KIND``, the kind of character.
    """
    letters = letters_of(tokenizer, texts)
    surprise = by_character(tokenizer, tokens, nats)
    if metric == "bits_per_character":
        surprise /= NATS_PER_BIT
    passage = passages(len(letters))
    total, count = np.bincount(passage, weights=surprise), np.bincount(passage)
    # Another form of the text, in lower case say, is another text to foretell.
    rows = digest_of_rows([tokenizer.normalise(text) for text, _ in texts])
    kinds = kinds_of(letters)[1:]
    masks = {name: kinds == name.removeprefix(f"{KIND}=") for name in slices}
    size = len(total)
    inside = {
        name: (
            np.bincount(passage, weights=surprise * mask, minlength=size),
            np.bincount(passage, weights=mask, minlength=size),
        )
        for name, mask in masks.items()
    }
    return ExampleErrors(
        metric, total, count, np.arange(size), rows, slice_errors(inside), dependence=running_dependence(size)
    )


def passages_in(tokenizer: FittedTokenizer, tokens: np.ndarray) -> int:
    """Count the passages of a stream."""
    return int(passages(int(characters_of(tokenizer, tokens).sum())).max(initial=-1)) + 1


def passages(characters: int) -> np.ndarray:
    """Say in which passage each character but the first stands, of so many: int64 (C - 1,)."""
    return np.arange(max(characters - 1, 0)) // PIECE
