"""Baselines of language modelling: counted by hand, and chosen on the validation part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import signal, stats

from gateline.baselines.language_modelling import BASELINES, Problem
from gateline.data.tokenizers import Tokenizer
from gateline.intervals import ratio_intervals
from gateline.predictors.language_modelling import by_passage
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
    passages = [each.reshape(300, 20).mean(axis=1) for each in (nats, hits.astype(float))]
    # As many degrees of freedom as ten blocks have, of which those of half the length are told apart.
    halves = [stats.t.ppf(0.975, 4) * each.std() / np.sqrt(300) for each in passages]

    found = token_intervals(nats, hits, passage)

    mean = nats.mean()
    assert np.log(found["perplexity"]) == pytest.approx((mean - halves[0], mean + halves[0]), abs=0.5 * halves[0])
    share = hits.mean()
    assert found["accuracy"] == pytest.approx((share - halves[1], share + halves[1]), abs=0.5 * halves[1])


def test_intervals_of_a_text_hold_the_truth_though_its_passages_are_alike() -> None:
    """Passages as correlated as those of Shakespeare's plays: about .64 with the next, .33 at a distance of 20, and so on."""
    rng, texts, num_passages, tokens = np.random.default_rng(3), 100, 1000, 2
    held = {"perplexity": 0, "accuracy": 0}
    for _ in range(texts):
        noise = rng.normal(size=(3, num_passages + 600))
        kinds = [
            np.sqrt(share * (1 - phi**2)) * signal.lfilter([1], [1, -phi], each)[600:]
            for share, phi, each in zip((0.45, 0.43, 0.12), (0.985, 0.45, 0.0), noise, strict=True)
        ]
        easy = np.repeat(np.sum(kinds, axis=0), tokens)  # of each passage, standard normal
        found = token_intervals(1.5 + 0.4 * easy, easy < 0, np.repeat(np.arange(num_passages), tokens))
        held["perplexity"] += found["perplexity"][0] < np.exp(1.5) < found["perplexity"][1]
        held["accuracy"] += found["accuracy"][0] < 0.5 < found["accuracy"][1]

    assert min(held.values()) >= 0.88 * texts  # by single passages: a fifth


def test_a_gate_and_an_interval_take_the_same_passages_together(rng: np.random.Generator) -> None:
    fitted = Tokenizer(kind="character").fit(["ab "])
    texts = [("ab " * 9000, False)]
    tokens = fitted.encode([texts[0][0]]).tokens
    nats = rng.gamma(2, 0.5, size=len(tokens) - 1)

    errors = by_passage(fitted, tokens, nats, "nats_per_character", texts)
    of_tokens = token_intervals(nats, nats < 1, token_passages(fitted, tokens, len(texts[0][0])))["perplexity"]

    assert errors.dependence > 1
    assert np.exp(ratio_intervals([errors])["nats_per_character"]) == pytest.approx(of_tokens)
