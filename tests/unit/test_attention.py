"""Attention against independent arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gateline.models.attention import AdditiveAttention, ScaledDotAttention

Attention = ScaledDotAttention | AdditiveAttention
KINDS = pytest.mark.parametrize("kind", [ScaledDotAttention, AdditiveAttention])


def double(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.tensor(rng.normal(size=shape))


@pytest.mark.parametrize("masked", [False, True])
def test_scaled_dot_attention_equals_torchs(masked: bool, rng: np.random.Generator) -> None:
    attention = ScaledDotAttention(3, 4).double()
    queries, keys = double(rng, 2, 3, 3), double(rng, 2, 5, 4)
    mask = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]]) if masked else None
    context, weights = attention(queries, keys, mask)

    expected = torch.nn.functional.scaled_dot_product_attention(
        attention.query(queries), attention.key(keys), keys, None if mask is None else mask[:, None].expand(-1, 3, -1)
    )
    assert torch.allclose(context, expected)
    assert torch.allclose(weights.sum(dim=2), torch.ones(2, 3, dtype=torch.float64))


def test_additive_attention_equals_bahdanaus_equation(rng: np.random.Generator) -> None:
    attention = AdditiveAttention(3, 4).double()
    queries, keys = double(rng, 2, 3, 3), double(rng, 2, 5, 4)
    context, weights = attention(queries, keys)

    w, b, u = (p.detach().numpy() for p in (attention.query.weight, attention.query.bias, attention.key.weight))
    v = attention.score.weight.detach().numpy()[0]
    for row in range(2):
        for query in range(3):
            scores = [v @ np.tanh(w @ queries[row, query].numpy() + b + u @ key) for key in keys[row].numpy()]
            expected = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights[row, query].detach().numpy(), expected)
            np.testing.assert_allclose(context[row, query].detach().numpy(), expected @ keys[row].numpy())


@KINDS
def test_masked_keys_change_neither_result_nor_gradient(kind: type[Attention], rng: np.random.Generator) -> None:
    attention = kind(3, 4).double()
    queries, keys = double(rng, 2, 3, 3).requires_grad_(), double(rng, 2, 5, 4)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    results = []
    for fill in (0.0, 1e6, torch.nan):
        filled = keys.masked_fill(~mask[:, :, None], fill)
        context, weights = attention(queries, filled, mask)
        gradients = torch.autograd.grad(context.square().sum(), [queries, *attention.parameters()])
        assert (weights[0, :, 3:] == 0).all()
        results.append([context, weights, *gradients])

    short, _ = attention(queries[:1], keys[:1, :3])
    assert torch.allclose(results[0][0][:1], short)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@KINDS
def test_a_row_without_any_real_key_yields_zeros_and_finite_gradients(
    kind: type[Attention], rng: np.random.Generator
) -> None:
    attention = kind(3, 4).double()
    queries, keys = double(rng, 2, 3, 3).requires_grad_(), double(rng, 2, 5, 4).requires_grad_()
    mask = torch.tensor([[False] * 5, [True] * 5])
    context, weights = attention(queries, keys, mask)
    (context.square().sum() + weights.square().sum()).backward()

    assert (context[0] == 0).all()
    assert (weights[0] == 0).all()
    assert keys.grad is not None
    assert (keys.grad[0] == 0).all()
    for tensor in (queries, keys, *attention.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@KINDS
def test_gradients_of_attention_are_right(kind: type[Attention], rng: np.random.Generator) -> None:
    attention = kind(3, 4).double()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    inputs = (double(rng, 2, 2, 3).requires_grad_(), double(rng, 2, 3, 4).requires_grad_())

    assert torch.autograd.gradcheck(lambda q, k: attention(q, k, mask), inputs)
