"""A stream of tokens as a task of the tests: batches that hand a state on, without the texts and tokenizers of language modelling."""

# ruff: noqa: ARG002  (the arguments are the protocol's)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gateline.data.order import StreamOrder
from gateline.models.language_model import LanguageModel, LanguageModelSettings
from gateline.workload.training import Training

CHUNK, STEPS, TOKENS = 8, 12, 7  # tokens of a chunk, chunks of a stream, size of the vocabulary
STREAMS = {"train": 7, "validation": 3}


@dataclass(frozen=True)
class Chunks:
    """Tokens and what follows each: int64 (B, T + 1)."""

    tokens: torch.Tensor

    def to(self, device: torch.device) -> Chunks:
        return Chunks(self.tokens.to(device))


class ChunkDataset:
    """Consecutive chunks of one text, in which a token depends on the ones before it."""

    def __init__(self, streams: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        text = np.zeros(streams * STEPS * CHUNK + 1, dtype=np.int64)
        for place in range(2, len(text)):
            text[place] = (text[place - 1] + text[place - 2] + (random.random() < 0.1)) % TOKENS
        self._chunks = torch.from_numpy(text).unfold(0, CHUNK + 1, CHUNK)

    def __getitems__(self, rows: np.ndarray) -> Chunks:
        return Chunks(self._chunks[torch.as_tensor(rows)])


class StreamTask:
    """What `TrainingLoop` asks of a task, for a language model with carried state."""

    name = "streams"
    monitors = ("loss",)

    def build(self, dropout: float) -> nn.Module:
        settings = LanguageModelSettings(
            hidden_size=10, num_layers=2, dropout=dropout, weight_drop=dropout, embedding_size=6
        )
        return LanguageModel(num_tokens=TOKENS, settings=settings)

    def dataset(self, prepared: Any, part: str) -> ChunkDataset:
        return ChunkDataset(STREAMS[part], len(part))

    def start(self, network: nn.Module, dataset: Any) -> None:
        """Nothing to begin with."""

    def order(self, prepared: Any, dataset: Any, training: Training, seed: int) -> StreamOrder:
        return StreamOrder(STEPS, STREAMS["train"])

    def validation_order(self, prepared: Any, dataset: Any, training: Training) -> StreamOrder:
        return StreamOrder(STEPS, STREAMS["validation"])

    def loss(self, network: nn.Module, batch: Chunks, kind: str, carried: Any) -> Any:
        logits, carried = network(batch.tokens[:, :-1], carried)
        total = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch.tokens[:, 1:].flatten(), reduction="sum"
        )
        return total, torch.tensor(batch.tokens[:, 1:].numel()), carried

    def scorer(self, prepared: Any, kind: str) -> Any:
        def score(network: nn.Module, batch: Chunks, carried: Any) -> Any:
            total, count, carried = self.loss(network, batch, kind, carried)
            return {"loss": (total, count)}, carried

        return score
