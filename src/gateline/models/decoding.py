"""From a model's probabilities to tokens: greedy, beam search and sampling.

B batch, K beam, N hypotheses, U tokens of a sequence, V vocabulary.

A model offers ``step(tokens (B,), memory, state) -> (logits (B, V), state)``. Both `memory`, which never changes while
a sequence is written (an encoded sentence), and `state`, which does, are nested tuples of tensors (B, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from gateline.losses import at_least_float32
from gateline.workload.section import Section

Nested = Any
"""A tensor (B, ...), None, or a tuple of these."""

Step = Callable[[torch.Tensor, Nested, Nested], tuple[torch.Tensor, Nested]]
Stop = Callable[[torch.Tensor], torch.Tensor]
"""Says of the tokens (B, U) written so far which rows are finished: bool (B,)."""

Count = Annotated[int, Field(ge=1)]

WIDEST_BEAM = 64
MOST_PENALTY = 10.0
"""Beyond it the length alone decides, and its power no longer fits a number."""
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e3
"""Below, the most probable token alone is drawn, as with top_k 1; above, any token."""


class BeamSettings(Section):
    """How a beam search looks for the most probable sequence."""

    width: Count = 4
    """Hypotheses kept at each step; 1 follows the best token only."""
    length_penalty: Annotated[float, Field(ge=0, le=MOST_PENALTY)] = 0.6
    """Exponent alpha: a hypothesis of U tokens is judged by log p / ((5 + U) / 6)^alpha; 0 prefers short ones."""
    max_length: Count = 100
    """Tokens at most; a hypothesis that has not ended by then is cut and judged as it is."""


class SamplingSettings(Section):
    """How tokens are drawn."""

    temperature: Annotated[float, Field(ge=LOWEST_TEMPERATURE, le=HIGHEST_TEMPERATURE)] = 1.0
    """Logits are divided by it: below 1 the probable becomes more probable."""
    top_k: Count | None = None
    """Draw among the most probable tokens only; null: among all."""
    max_length: Count = 100
    """Tokens at most."""


@dataclass(frozen=True)
class Hypotheses:
    """N sequences for each row of a batch, the best first.

    Args:
        tokens: int64 (B, N, U), without the end token; what stands past the length does not count.
        lengths: int64 (B, N).
        scores: float (B, N), what they are ordered by; -inf where there are fewer than N.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    scores: torch.Tensor

    def best(self) -> list[list[int]]:
        """List the tokens of the best sequence of each row."""
        rows = zip(self.tokens[:, 0].tolist(), self.lengths[:, 0].tolist(), strict=True)
        return [tokens[:length] for tokens, length in rows]

    def penalised(self, alpha: float, max_length: int) -> Hypotheses:
        """Judge by length what has log p for a score, as a beam search does.

        Args:
            alpha: see `BeamSettings.length_penalty`.
            max_length: what was written until then has no end token.
        """
        written = self.lengths + (self.lengths < max_length).long()
        return Hypotheses(self.tokens, self.lengths, self.scores / ((5 + written) / 6) ** alpha)


def greedy(
    step: Step, memory: Nested, state: Nested, begin: torch.Tensor, *, end: int | None, max_length: int
) -> Hypotheses:
    """Write the most probable token at each step.

    Args:
        step: the model.
        memory: (B, ...).
        state: (B, ...).
        begin: int64 (B,), the token before the first.
        end: the token that ends a sequence, or None.
        max_length: tokens at most.

    Returns:
        One sequence per row; its score is log p, with the end token.
    """
    return _write(step, memory, state, begin, lambda log_probs: log_probs.argmax(dim=1), end, max_length, None)


def sample(
    step: Step,
    memory: Nested,
    state: Nested,
    begin: torch.Tensor,
    *,
    end: int | None,
    settings: SamplingSettings,
    seed: int,
    stop: Stop | None = None,
) -> Hypotheses:
    """Draw each token from the model's distribution.

    Args:
        step: the model.
        memory: (B, ...).
        state: (B, ...).
        begin: int64 (B,), the token before the first.
        end: the token that ends a sequence, or None.
        settings: temperature, top k, length.
        seed: the same seed, model and batch draw the same tokens.
        stop: ends rows beside the end token; the last token then belongs to the sequence.

    Returns:
        One sequence per row; its score is log p under the model itself, at temperature 1 and over all tokens.
    """
    generator = torch.Generator(begin.device).manual_seed(seed)

    def draw(log_probs: torch.Tensor) -> torch.Tensor:
        kept = min(settings.top_k or log_probs.shape[1], log_probs.shape[1])
        values, tokens = log_probs.topk(kept, dim=1)
        chosen = torch.multinomial(torch.softmax(values / settings.temperature, dim=1), 1, generator=generator)
        return tokens.gather(1, chosen).squeeze(1)

    return _write(step, memory, state, begin, draw, end, settings.max_length, stop)


def _write(
    step: Step,
    memory: Nested,
    state: Nested,
    begin: torch.Tensor,
    choose: Callable[[torch.Tensor], torch.Tensor],
    end: int | None,
    max_length: int,
    stop: Stop | None,
) -> Hypotheses:
    """Write token after token until every row is finished."""
    tokens = begin
    written = begin.new_zeros(len(begin), max_length)
    lengths = torch.zeros_like(begin)
    finished = torch.zeros_like(begin, dtype=torch.bool)
    scores: torch.Tensor | None = None
    for place in range(max_length):
        logits, state = step(tokens, memory, state)
        log_probs = torch.log_softmax(at_least_float32(logits), dim=1)
        tokens = choose(log_probs)
        gained = torch.where(finished, 0.0, log_probs.gather(1, tokens[:, None]).squeeze(1))
        scores = gained if scores is None else scores + gained
        if end is not None:
            finished = finished | (tokens == end)
        written[:, place] = torch.where(finished, 0, tokens)
        lengths = lengths + ~finished
        if stop is not None:
            finished = finished | stop(written[:, : place + 1])
        if bool(finished.all()):
            break
    assert scores is not None  # noqa: S101  max_length is at least 1
    return Hypotheses(written[:, None], lengths[:, None], scores[:, None])


def beam_search(
    step: Step,
    memory: Nested,
    state: Nested,
    begin: torch.Tensor,
    *,
    end: int,
    settings: BeamSettings,
    num_best: int = 1,
) -> Hypotheses:
    """Look for the sequences of the best score, following `width` hypotheses of each row at once.

    A hypothesis that ends among the `width` best of its step is kept. A row is finished when none that still goes on
    could become better than the `num_best` kept ones: log p only falls, so its best possible score is known. The width
    decides only how much is looked at; wide enough, the result is that of looking at every sequence.

    Args:
        step: the model.
        memory: (B, ...).
        state: (B, ...).
        begin: int64 (B,), the token before the first.
        end: the token that ends a sequence.
        settings: width, length penalty, length.
        num_best: hypotheses N to return.

    Source: length penalty of Wu et al. (2016), arXiv 1609.08144, equation 14; when to stop, Huang, Zhao and Ma (2017).
    """
    batch, width = len(begin), settings.width
    first_row = torch.arange(batch, device=begin.device)[:, None] * width  # (B, 1)
    repeated = torch.arange(batch, device=begin.device).repeat_interleave(width)
    memory, state, tokens = select_rows(memory, repeated), select_rows(state, repeated), begin[repeated]
    written = begin.new_zeros(batch, width, settings.max_length)
    log_p: torch.Tensor | None = None
    kept: Hypotheses | None = None
    for length in range(1, settings.max_length + 1):
        logits, state = step(tokens, memory, state)
        new = torch.log_softmax(at_least_float32(logits), dim=1).view(batch, width, -1)  # (B, K, V)
        if log_p is None:  # all K start alike: only the first counts
            log_p = new.new_full((batch, width), -math.inf).index_fill_(1, first_row.new_zeros(1), 0.0)
            kept = _nothing_kept(batch, num_best, settings.max_length, log_p)
        totals = (log_p[:, :, None] + new).flatten(1)  # (B, K * V)
        best, place = totals.topk(min(2 * width, totals.shape[1]), dim=1)  # (B, 2K): at most K of them end
        parent, token = place // new.shape[2], place % new.shape[2]
        ends = token == end

        first = slice(None, width)
        finishing = ends[:, first] if length < settings.max_length else torch.ones_like(ends[:, first])
        score = best[:, first] / length_penalty(length, settings.length_penalty)
        ended = _write_at(_pick(written, parent[:, first]), length - 1, torch.where(ends, 0, token)[:, first])
        assert kept is not None  # noqa: S101  set at the first step
        kept = _keep_best(kept, ended, length - ends[:, first].long(), score.where(finishing, -math.inf))

        going = torch.argsort(ends.long(), dim=1, stable=True)[:, first]  # the best that do not end, in their order
        parent, log_p, chosen = parent.gather(1, going), best.gather(1, going), token.gather(1, going)
        written = _write_at(_pick(written, parent), length - 1, chosen)
        possible = log_p[:, 0] / length_penalty(settings.max_length, settings.length_penalty)
        if bool((kept.scores[:, -1] >= possible).all()):
            break
        state, tokens = select_rows(state, (first_row + parent).flatten()), chosen.flatten()
    assert kept is not None  # noqa: S101  max_length is at least 1
    return kept


def length_penalty(length: int, alpha: float) -> float:
    """Divide log p of `length` tokens, the end token counted, by this. Source: Wu et al. (2016), equation 14."""
    return float(((5 + length) / 6) ** alpha)


def select_rows(nested: Nested, rows: torch.Tensor) -> Nested:
    """Take rows of every tensor of a memory or state: (B, ...) -> (len(rows), ...)."""
    if isinstance(nested, torch.Tensor):
        return nested.index_select(0, rows)
    return None if nested is None else tuple(select_rows(part, rows) for part in nested)


def _nothing_kept(batch: int, num_best: int, max_length: int, like: torch.Tensor) -> Hypotheses:
    numbers = torch.zeros(batch, num_best, max_length, dtype=torch.long, device=like.device)
    return Hypotheses(numbers, numbers[:, :, 0], like.new_full((batch, num_best), -math.inf))


def _keep_best(kept: Hypotheses, tokens: torch.Tensor, lengths: torch.Tensor, scores: torch.Tensor) -> Hypotheses:
    """Put new hypotheses (B, K, ...) among the kept ones (B, N, ...) and keep the N best."""
    all_tokens, all_lengths = torch.cat([kept.tokens, tokens], dim=1), torch.cat([kept.lengths, lengths], dim=1)
    best, place = torch.cat([kept.scores, scores], dim=1).topk(kept.scores.shape[1], dim=1)
    return Hypotheses(_pick(all_tokens, place), all_lengths.gather(1, place), best)


def _pick(sequences: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Take sequences (B, K, U) by their place (B, N): (B, N, U)."""
    return sequences.gather(1, place[:, :, None].expand(-1, -1, sequences.shape[2]))


def _write_at(sequences: torch.Tensor, at: int, tokens: torch.Tensor) -> torch.Tensor:
    """Write tokens (B, K) at one step of sequences (B, K, U) that are nobody else's."""
    sequences[:, :, at] = tokens
    return sequences
