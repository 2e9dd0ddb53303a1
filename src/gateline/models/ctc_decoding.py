"""From the output of a network trained with CTC to labels: greedy, and prefix beam search. Label 0 is the blank.

B batch, T output steps, V labels with the blank, K beam, U labels written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from gateline.losses import at_least_float32
from gateline.models.decoding import Hypotheses

WIDEST_BEAM = 100
MULTIPLIER = 6364136223846793005  # of Knuth's linear congruential generator; odd, so that no digit of a key is lost


def ctc_greedy(log_probs: torch.Tensor, lengths: torch.Tensor) -> Hypotheses:
    """Take the most probable label of each step, join repeats, leave out blanks.

    Args:
        log_probs: float (B, T, V).
        lengths: int64 (B,), output steps of each row.

    Returns:
        One labelling per row; its score is log p of this one alignment.
    """
    best, labels = at_least_float32(log_probs).max(dim=2)  # (B, T)
    steps = torch.arange(labels.shape[1], device=labels.device)
    real = steps < lengths.to(labels.device)[:, None]
    before = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], dim=1)
    written = real & (labels != before) & (labels != 0)
    # What is not written goes to a place past the end, which is then cut off.
    place = torch.where(written, written.cumsum(1) - 1, labels.shape[1])
    tokens = labels.new_zeros(len(labels), labels.shape[1] + 1).scatter_(1, place, labels)[:, :-1]
    scores = torch.where(real, best, 0.0).sum(1)
    return Hypotheses(tokens[:, None], written.sum(1)[:, None], scores[:, None])


@dataclass
class Prefixes:
    """The K prefixes of each row that are being followed.

    Args:
        tokens: int64 (B, K, T).
        size: int64 (B, K), labels written; far below 0 where there is no prefix, so that nothing is taken for its
            child.
        last: int64 (B, K), the last label, 0 for none.
        key: int64 (B, K), the same for equal prefixes; that two of different labels share one has odds of about 2^-64.
        blank: float (B, K), log probability of all alignments of the prefix that end with a blank.
        label: float (B, K), the same of those that end with its last label.
    """

    tokens: torch.Tensor
    size: torch.Tensor
    last: torch.Tensor
    key: torch.Tensor
    blank: torch.Tensor
    label: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Log probability of all alignments of each prefix: (B, K)."""
        return torch.logaddexp(self.blank, self.label)


def ctc_beam_search(log_probs: torch.Tensor, lengths: torch.Tensor, *, width: int, num_best: int = 1) -> Hypotheses:
    """Look for the labellings of the highest probability, each summed over all of its alignments.

    Wide enough, the result is exact; greedy decoding in contrast looks at one alignment only.

    Args:
        log_probs: float (B, T, V).
        lengths: int64 (B,), output steps of each row.
        width: prefixes K followed in each row.
        num_best: labellings to return, at most `width`.

    Returns:
        Labellings; their score is log p, summed over the alignments that stayed in the beam.

    Source: Hannun et al. (2014), arXiv 1408.2873, algorithm 1, without a language model; Graves (2012), section 7.5.
    """
    log_probs = at_least_float32(log_probs)
    lengths = lengths.to(log_probs.device)
    batch, steps, _ = log_probs.shape
    nothing = torch.zeros(batch, width, dtype=torch.long, device=log_probs.device)
    impossible = log_probs.new_full((batch, width), -math.inf)
    one = torch.arange(width, device=log_probs.device) == 0  # in the beginning there is one prefix, the empty one
    prefixes = Prefixes(
        tokens=nothing[:, :, None].repeat(1, 1, steps),
        size=torch.where(one, nothing, -steps - 2),
        last=nothing,
        key=nothing,
        blank=torch.where(one, 0.0, impossible),
        label=impossible,
    )
    for step in range(steps):
        prefixes = _advance(prefixes, log_probs[:, step], going=step < lengths)
    scores, place = prefixes.total.topk(num_best, dim=1)
    tokens = prefixes.tokens.gather(1, place[:, :, None].expand(-1, -1, steps))
    return Hypotheses(tokens, prefixes.size.gather(1, place).clamp(min=0), scores)


def _advance(old: Prefixes, frame: torch.Tensor, going: torch.Tensor) -> Prefixes:
    """Read one output step, frame (B, V), in the rows that are still going."""
    width, labels = old.size.shape[1], frame.shape[1]
    total = old.total
    repeat = frame.gather(1, old.last)  # (B, K), log p of the last label once more
    stay_blank, stay_label = total + frame[:, :1], old.label + repeat
    longer = total[:, :, None] + frame[:, None]  # (B, K, V), log p of a label more
    longer.scatter_(
        2, old.last[:, :, None], (old.blank + repeat)[:, :, None]
    )  # the same label again: after a blank only
    longer[:, :, 0] = -math.inf

    # A prefix with one more label may be another prefix of the beam: then its probability is added there.
    last = old.last[:, None].expand(-1, width, -1)  # (B, parent, child)
    child = (old.key[:, :, None] * MULTIPLIER + last == old.key[:, None]) & (
        old.size[:, :, None] + 1 == old.size[:, None]
    )
    from_parent = torch.where(child, longer.gather(2, last), -math.inf).amax(dim=1)  # one parent at most
    stay_label = torch.logaddexp(stay_label, from_parent)
    counted = torch.zeros_like(longer, dtype=torch.long).scatter_add_(2, last, child.long())
    longer = longer.masked_fill(counted > 0, -math.inf)

    candidates = torch.cat([torch.logaddexp(stay_blank, stay_label), longer.flatten(1)], dim=1)  # (B, K + K * V)
    best, place = candidates.topk(width, dim=1)
    stays = place < width
    parent = torch.where(stays, place, (place - width) // labels)
    label = torch.where(stays, 0, (place - width) % labels)
    size = old.size.gather(1, parent)
    tokens = old.tokens.gather(1, parent[:, :, None].expand(-1, -1, old.tokens.shape[2]))
    at = size.clamp(min=0, max=tokens.shape[2] - 1)[:, :, None]
    tokens.scatter_(2, at, torch.where(stays[:, :, None], tokens.gather(2, at), label[:, :, None]))
    key = old.key.gather(1, parent)
    rows = going[:, None]
    return Prefixes(
        tokens=torch.where(rows[:, :, None], tokens, old.tokens),
        size=torch.where(rows, torch.where(best > -math.inf, size + ~stays, -len(tokens[0, 0]) - 2), old.size),
        last=torch.where(rows, torch.where(stays, old.last.gather(1, parent), label), old.last),
        key=torch.where(rows, torch.where(stays, key, key * MULTIPLIER + label), old.key),
        blank=torch.where(rows, stay_blank.gather(1, parent).where(stays, -math.inf), old.blank),
        label=torch.where(rows, torch.where(stays, stay_label.gather(1, parent), best), old.label),
    )
