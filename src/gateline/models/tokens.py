"""How tokens are read and written. B batch, V vocabulary, E embedding, H hidden."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from gateline.randomness import locked


class TokenEmbedding(nn.Module):
    """Numbers that stand for tokens; in training, some tokens are left out wherever they occur.

    Source: dropout of Gal and Ghahramani (2016), arXiv 1512.05287, section 4.2, as in arXiv 1708.02182, section 4.3.

    Args:
        num_tokens: size V of the vocabulary.
        size: numbers E per token.
        dropout: share of the vocabulary that is left out.
    """

    def __init__(self, num_tokens: int, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(num_tokens, size).uniform_(-0.1, 0.1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Look up: int64 (B, ...) -> (B, ..., E)."""
        embedded = nn.functional.embedding(tokens, self.weight)
        if not self.training or self.dropout == 0.0:
            return embedded
        # One draw per word of the vocabulary and none per row: every process draws the same.
        drawn = locked(self, lambda: torch.rand(len(self.weight), device=tokens.device))  # (V,)
        kept = drawn >= self.dropout
        return embedded * (kept[tokens] / (1 - self.dropout)).to(embedded.dtype)[..., None]


class TokenHead(nn.Module):
    """Turn what a stack wrote into logits over the vocabulary.

    Args:
        input_size: number of features H of what is read.
        num_tokens: size of the vocabulary V.
        tied: an embedding whose weights are taken; where its size is not H, a linear map stands between. None: own
            weights.
    """

    def __init__(self, input_size: int, num_tokens: int, tied: TokenEmbedding | None) -> None:
        super().__init__()
        self.map: nn.Module = nn.Identity()
        if tied is None:
            self.output = nn.Linear(input_size, num_tokens)
            return
        size = tied.weight.shape[1]
        if size != input_size:
            self.map = nn.Linear(input_size, size, bias=False)
        self.output = nn.Linear(size, num_tokens)
        self.output.weight = tied.weight  # one parameter under two names
        nn.init.zeros_(self.output.bias)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Write logits: (..., H) -> (..., V)."""
        return cast(torch.Tensor, self.output(self.map(y)))
