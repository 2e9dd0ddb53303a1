"""Baselines and scores of transcription on made-up features, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from gateline.baselines.transcription import SHORTEST, SpeechProblem, most_frequent, pieces_of, segments
from gateline.intervals import ratio_intervals
from gateline.predictors.transcription import transcript_errors
from gateline.scoring.transcription import NOTHING, _confusion, errors_by_pool, measure, rate

BANDS = 12


def sound(pattern: str, rng: np.random.Generator) -> np.ndarray:
    """Twelve frames for each letter: a and b are loud in other bands, a dot is silent."""
    loud = {"a": np.r_[np.ones(6), np.zeros(6)], "b": np.r_[np.zeros(6), np.ones(6)], ".": np.full(BANDS, -3.0)}
    return np.concatenate([np.tile(2 * loud[each], (12, 1)) for each in pattern]) + rng.normal(
        0, 0.1, (12 * len(pattern), BANDS)
    )


def test_pieces_are_what_lies_between_silences(rng: np.random.Generator) -> None:
    assert pieces_of(sound("a.b", rng), 0.5, 6) == [(0, 12), (24, 36)]
    assert pieces_of(sound(".ab.", rng), 0.5, 6) == [(12, 36)]
    assert pieces_of(sound("a.b", rng), 0.5, 13) == [(0, 36)]  # a pause that is too short for one
    assert pieces_of(np.ones((9, BANDS)), 0.5, 2) == []  # nothing is louder than the rest
    click = sound("...", rng)
    click[20 : 20 + SHORTEST - 1] += 9
    assert pieces_of(click, 0.5, 2) == []


def test_segments_tell_pieces_apart_by_what_stood_alone(rng: np.random.Generator) -> None:
    train = ["a", "b"] * 20 + ["a.b", "b.a.a"]
    problem = SpeechProblem(
        {"train": [sound(each, rng) for each in train], "test": [sound(each, rng) for each in ("a.b.b", "b", "b.a")]},
        {"train": [" ".join(each.replace(".", "")) for each in train], "test": ["a b b", "b", "b a"]},
    )

    assert segments(problem, "test") == problem.texts["test"]


def test_most_frequent_says_the_same_of_everything() -> None:
    problem = SpeechProblem({}, {"train": ["b", "a", "b", "a", "c"], "test": ["c", "c"]})

    assert most_frequent(problem, "test") == ["a", "a"]  # of two as frequent, the first in the order of the alphabet


def test_rates_divide_all_edits_by_all_words() -> None:
    meant, found = ["one two", "three", "four five six"], ["one", "three", "four nine six six"]

    assert rate("word_error_rate", meant, found) == pytest.approx((1 + 0 + 2) / 6)
    assert rate("sentence_error_rate", meant, found) == pytest.approx(2 / 3)
    assert rate("character_error_rate", ["abc"], ["axc"]) == pytest.approx(1 / 3)
    assert np.isnan(rate("word_error_rate", [], []))
    kinds = np.array(["string", "recording", "string"])
    assert measure(meant, found, kinds)["recording_word_error_rate"] == 0
    assert measure(meant, found, kinds)["string_word_error_rate"] == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="bleu"):
        transcript_errors("bleu", meant, found)


def test_what_was_taken_for_what_is_counted() -> None:
    cells = _confusion([("one", "one"), ("one", "nine"), ("two", None), (None, "one")])

    assert {(cell["said"], cell["heard"]): cell["count"] for cell in cells} == {
        ("one", "one"): 1,
        ("one", "nine"): 1,
        ("two", NOTHING): 1,
        (NOTHING, "one"): 1,
    }


def test_intervals_resample_what_belongs_together(rng: np.random.Generator) -> None:
    pools = rng.permutation(40)  # of ten utterances each; all of every fourth pool are wrong
    meant, found = ["a"] * 400, ["b"] * 100 + ["a"] * 300

    def interval(position: np.ndarray) -> tuple[float, float]:
        return ratio_intervals(errors_by_pool(meant, found, position))["word_error_rate"]

    together, apart = interval(np.repeat(pools, 10)), interval(rng.permutation(400))

    assert together[0] < apart[0] < 0.25 < apart[1] < together[1]  # forty pools say less than four hundred utterances
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])
