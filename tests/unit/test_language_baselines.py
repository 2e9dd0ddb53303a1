"""Baselines of language modelling: counted by hand, and chosen on the validation part."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateline.baselines.language_modelling import BASELINES, Problem
from gateline.data.tokenizers import Tokenizer
from gateline.scoring.language_modelling import token_intervals, token_passages


def problem(train: list[int], validation: list[int], test: list[int], max_order: int = 4) -> Problem:
    parts = {"train": train, "validation": validation, "test": test}
    return Problem({name: np.array(part, dtype=np.int32) for name, part in parts.items()}, 5, max_order)


def test_unigrams_are_shares_of_the_training_part() -> None:
    guess = BASELINES["unigram"](problem([4, 4, 4, 3], [3, 4], [3, 4, 3]))

    assert guess.nats == pytest.approx([-math.log(4 / 9), -math.log(2 / 9)])  # one is added to each of five counts


def test_the_order_is_the_one_that_the_validation_part_likes_best(rng: np.random.Generator) -> None:
    pattern = [0, 0, 1, 0, 1, 1] * 60
    noise = rng.integers(0, 4, size=300).tolist()
    regular, random = (BASELINES["n_gram"](problem(train, train, train)) for train in (pattern, noise))
    unlike = BASELINES["n_gram"](problem(noise, rng.integers(0, 4, size=300).tolist(), noise))

    assert regular.settings["order"] == 4  # three tokens before say which comes
    assert regular.nats[10:].mean() < 0.1
    assert unlike.settings["order"] == 2  # what follows does not follow from anything
    assert len(random.nats) == 299


def test_pairs_foretell_what_follows_on_one_token() -> None:
    guess = BASELINES["bigram"](problem([0, 1, 2] * 50, [0, 1], [0, 1, 2, 0, 1]))

    assert np.exp(-guess.nats).min() > 0.9


def test_tokens_inside_the_first_character_are_of_the_first_passage() -> None:
    """Three bytes, of which the last two stand before the second character, and are no part of the last passage."""
    text = "東" + "ab " * 1000
    fitted = Tokenizer(kind="bpe", size=262).fit(["ab " * 9])

    passage = token_passages(fitted, fitted.encode([text]).tokens, len(text))

    assert passage[:2].tolist() == [0, 0]
    assert (np.diff(passage) >= 0).all()
    assert passage[-1] > 0


def test_intervals_of_tokens_are_those_of_their_passages(rng: np.random.Generator) -> None:
    passage = np.repeat(np.arange(300), 20)
    nats = rng.gamma(2, 0.5, size=6000) + np.repeat(rng.uniform(0, 1, size=300), 20)
    hits = nats < 1
    halves = [1.96 * each.reshape(300, 20).mean(axis=1).std() / np.sqrt(300) for each in (nats, hits.astype(float))]

    found = token_intervals(nats, hits, passage)

    mean = nats.mean()
    assert np.log(found["perplexity"]) == pytest.approx((mean - halves[0], mean + halves[0]), abs=0.25 * halves[0])
    share = hits.mean()
    assert found["accuracy"] == pytest.approx((share - halves[1], share + halves[1]), abs=0.25 * halves[1])
