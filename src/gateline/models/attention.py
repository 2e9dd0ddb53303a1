"""Attention: every query step takes a weighted mean of all key steps. B batch, U query steps, T key steps.

Both kinds are called alike and return the weights beside the result, so that they can be drawn.
"""

from __future__ import annotations

import math

import torch
from torch import nn


class ScaledDotAttention(nn.Module):
    """Weigh by the scaled product of query and key, each mapped into a space of the keys' size.

    Source: Luong, Pham and Manning (2015), arXiv 1508.04025, with the scale of Vaswani et al. (2017), arXiv 1706.03762.

    Args:
        query_size: number of features Hq of a query.
        key_size: number of features Hk of a key.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, key_size, bias=False)
        self.key = nn.Linear(key_size, key_size, bias=False)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        mask: torch.Tensor | None = None,
        projected: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            queries: (B, U, Hq).
            keys: (B, T, Hk).
            mask: bool (B, T), true where a key is real; None: everywhere.
            projected: (B, T, Hk), what the layer `key` makes of the keys, for who asks the same keys step by step.

        Returns:
            context (B, U, Hk), and weights (B, U, T): 0 where masked, and summing to 1 over T unless a row has no real key.
        """
        keys = real_keys(keys, mask)
        projected = self.key(keys) if projected is None else projected
        scores = self.query(queries) @ projected.transpose(1, 2) / math.sqrt(keys.shape[2])
        return weighted_mean(scores, keys, mask)


class AdditiveAttention(nn.Module):
    """Weigh by a network with one hidden layer that reads query and key.

    Source: Bahdanau, Cho and Bengio (2015), arXiv 1409.0473, appendix A.1.2.

    Args:
        query_size: number of features Hq of a query.
        key_size: number of features Hk of a key; also the size of the hidden layer.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, key_size)
        self.key = nn.Linear(key_size, key_size, bias=False)
        self.score = nn.Linear(key_size, 1, bias=False)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        mask: torch.Tensor | None = None,
        projected: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend; see `ScaledDotAttention.forward`. Takes memory for B x U x T x Hk numbers."""
        keys = real_keys(keys, mask)
        projected = self.key(keys) if projected is None else projected
        hidden = torch.tanh(self.query(queries)[:, :, None] + projected[:, None])  # (B, U, T, Hk)
        return weighted_mean(self.score(hidden).squeeze(3), keys, mask)


def real_keys(keys: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Put 0 where a key is masked, also in place of what is no number."""
    return keys if mask is None else keys.masked_fill(~mask[:, :, None], 0)


def weighted_mean(
    scores: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn scores (B, U, T) into weights over the real keys, and take their mean of `real_keys` (B, T, Hk)."""
    if mask is None:
        weights = torch.softmax(scores, dim=2)
        return weights @ keys, weights
    masked = ~mask[:, None]  # (B, 1, T)
    # The lowest number and not -inf: a row without any real key has a softmax then, and a gradient of 0.
    weights = torch.softmax(scores.masked_fill(masked, torch.finfo(scores.dtype).min), dim=2).masked_fill(masked, 0)
    return weights @ keys, weights
