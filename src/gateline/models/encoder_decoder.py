"""From a sequence of tokens to another, as in translation.

B batch, T source steps, U target steps, V target vocabulary, E embedding, H hidden, D directions of the encoder.

The encoder reads the source. The decoder starts from its last state and reads, for each target token, the token before
it; what it wrote looks back at all source steps, and both together foretell the token.

Source: Sutskever, Vinyals and Le (2014), arXiv 1409.3215; Bahdanau, Cho and Bengio (2015), arXiv 1409.0473; attention
after the cell and input feeding, Luong, Pham and Manning (2015), arXiv 1508.04025, sections 3 and 3.3; own predictions
as inputs in training, Bengio, Vinyals, Jaitly and Shazeer (2015), arXiv 1506.03099.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import nn

from gateline.models.attention import AdditiveAttention, ScaledDotAttention
from gateline.models.decoding import MOST_PENALTY, WIDEST_BEAM
from gateline.models.sequence_input import InputSettings, SequenceDropout, SequenceInput, real_steps
from gateline.models.stack import (
    ONE_STEP_AT_A_TIME,
    Bridge,
    Probability,
    Stack,
    StackSettings,
    StackState,
    refuse_weight_drop,
)
from gateline.models.tokens import TokenEmbedding, TokenHead
from gateline.randomness import rows_rand, step_by_step


class TranslatorSettings(InputSettings):
    """Section `model` of a translation workload; cells, sizes and dropout are those of encoder and decoder alike."""

    bidirectional: bool = True
    """Of the encoder."""
    attention: Literal["additive", "dot"] = "additive"
    """How a target step weighs the source steps."""
    input_feeding: bool = False
    """A decoder step also reads what the step before it attended to; training then goes step by step. Not with
    `weight_drop`."""
    tie_weights: bool = True
    """Write target tokens with the numbers that they are read with."""
    teacher_forcing: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Probability with which a step of training reads the true token before it; else it reads what it wrote itself."""
    label_smoothing: Probability = 0.0
    """Share of each target that training spreads evenly over all tokens."""
    beam_width: Annotated[int, Field(ge=1, le=WIDEST_BEAM)] = 5
    """Hypotheses followed at once where a request does not say; 1: the best token only."""
    length_penalty: Annotated[float, Field(ge=0, le=MOST_PENALTY)] = 1.0
    """Where a request does not say: 0 prefers short translations, more prefers longer ones."""

    @model_validator(mode="after")
    def _weights_dropped_once(self) -> TranslatorSettings:
        if self.weight_drop and (self.input_feeding or self.teacher_forcing < 1):
            raise ValueError(
                f"no `weight_drop` with `input_feeding` or `teacher_forcing` below 1: {ONE_STEP_AT_A_TIME}"
            )
        return self


class Memory(NamedTuple):
    """What the decoder looks back at.

    Args:
        encoded: (B, T, H * D).
        keys: (B, T, H * D), the same as the attention compares it.
        real: bool (B, T), or None where all steps are.
    """

    encoded: torch.Tensor
    keys: torch.Tensor
    real: torch.Tensor | None


class DecoderState(NamedTuple):
    """What changes from token to token.

    Args:
        stack: state of the decoder's cells.
        attended: (B, 1, H), what was made of the step before; None without input feeding.
    """

    stack: StackState
    attended: torch.Tensor | None


class Translator(nn.Module):
    """Write a target sequence for a source sequence.

    Args:
        num_source_tokens: size of the source vocabulary.
        num_target_tokens: size of the target vocabulary V.
        settings: cells, attention, dropout.
    """

    def __init__(self, *, num_source_tokens: int, num_target_tokens: int, settings: TranslatorSettings) -> None:
        super().__init__()
        self.settings = settings
        hidden, size = settings.hidden_size, settings.embedding_size or settings.hidden_size
        self.encoder = SequenceInput(num_tokens=num_source_tokens, num_features=None, settings=settings)
        self.bridge = Bridge(settings) if settings.bidirectional else None
        self.embedding = TokenEmbedding(num_target_tokens, size, settings.embedding_dropout)
        self.input_dropout = SequenceDropout(settings.input_dropout, settings.variational_dropout)
        self.input_feeding = settings.input_feeding
        one_way = {name: getattr(settings, name) for name in StackSettings.model_fields} | {"bidirectional": False}
        self.decoder = Stack(input_size=size + hidden * self.input_feeding, settings=StackSettings(**one_way))
        attention = AdditiveAttention if settings.attention == "additive" else ScaledDotAttention
        self.attention = attention(hidden, self.encoder.output_size)
        self.combine = nn.Linear(hidden + self.encoder.output_size, hidden)
        self.output_dropout = SequenceDropout(settings.output_dropout, settings.variational_dropout)
        self.head = TokenHead(hidden, num_target_tokens, self.embedding if settings.tie_weights else None)

    def forward(
        self,
        source: torch.Tensor,
        before: torch.Tensor,
        source_lengths: torch.Tensor | None = None,
        teacher_forcing: float = 1.0,
    ) -> torch.Tensor:
        """Compute logits (B, U, V) of the target tokens; see `explain`."""
        return self.explain(source, before, source_lengths, teacher_forcing)[0]

    def explain(
        self,
        source: torch.Tensor,
        before: torch.Tensor,
        source_lengths: torch.Tensor | None = None,
        teacher_forcing: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Foretell each target token, and say which source steps it was read from.

        Args:
            source: int64 (B, T).
            before: int64 (B, U), the token before each target token: a begin token, then the target without its last.
            source_lengths: int64 (B,), 1 to T; None: all steps are real.
            teacher_forcing: probability with which a step reads `before`; else it reads what the step before it found
                most probable. At 1, and without input feeding, all steps are computed in one pass.

        Returns:
            Logits (B, U, V), and weights of attention (B, U, T), 0 past the source's length.

        Raises:
            WorkloadError: weights are dropped in training and `teacher_forcing` is below 1.
        """
        memory, state = self.start(source, source_lengths)
        if teacher_forcing >= 1 and not self.input_feeding:
            attended, weights, _ = self.advance(before, memory, state)
            return self.write(attended), weights
        refuse_weight_drop(self.decoder)
        forced = None
        if teacher_forcing < 1:
            forced = rows_rand(before.shape, before.device) < teacher_forcing  # (B, U)
        logits: list[torch.Tensor] = []
        looked_at: list[torch.Tensor] = []
        with step_by_step():
            for place in range(before.shape[1]):
                tokens = before[:, place]
                if forced is not None and logits:  # the first step reads the begin token, there is nothing else
                    tokens = torch.where(forced[:, place], tokens, logits[-1].squeeze(1).argmax(dim=1))
                attended, weights, state = self.advance(tokens[:, None], memory, state)
                logits.append(self.write(attended))  # (B, 1, V)
                looked_at.append(weights)
        return torch.cat(logits, dim=1), torch.cat(looked_at, dim=1)

    def start(self, source: torch.Tensor, source_lengths: torch.Tensor | None = None) -> tuple[Memory, DecoderState]:
        """Read the source, int64 (B, T): what the decoder looks back at, and the state it starts from."""
        encoded, stack = self.encoder(source, lengths=source_lengths)  # (B, T, H * D)
        if self.bridge is not None:
            stack = self.bridge(stack)
        attended = encoded.new_zeros(len(source), 1, self.combine.out_features) if self.input_feeding else None
        memory = Memory(encoded, self.attention.key(encoded), real_steps(source_lengths, source))
        return memory, DecoderState(stack, attended)

    def advance(
        self, tokens: torch.Tensor, memory: Memory, state: DecoderState
    ) -> tuple[torch.Tensor, torch.Tensor, DecoderState]:
        """Read target tokens, int64 (B, U): attended (B, U, H), weights (B, U, T), state; with input feeding U is 1."""
        x = self.embedding(tokens)  # (B, U, E)
        if state.attended is not None:
            x = torch.cat([x, state.attended.to(x.dtype)], dim=2)
        decoded, stack = self.decoder(self.input_dropout(x), state.stack)  # (B, U, H)
        context, weights = self.attention(decoded, memory.encoded, memory.real, projected=memory.keys)
        attended = torch.tanh(self.combine(torch.cat([decoded, context], dim=2)))  # (B, U, H)
        return attended, weights, DecoderState(stack, attended if self.input_feeding else None)

    def write(self, attended: torch.Tensor) -> torch.Tensor:
        """Turn attended steps (B, U, H) into logits (B, U, V)."""
        return cast(torch.Tensor, self.head(self.output_dropout(attended)))

    def step(self, tokens: torch.Tensor, memory: Memory, state: DecoderState) -> tuple[torch.Tensor, DecoderState]:
        """Read one token of each row, int64 (B,): logits (B, V) of the next, and the state."""
        attended, _, state = self.advance(tokens[:, None], Memory(*memory), DecoderState(*state))
        return self.write(attended).squeeze(1), state
