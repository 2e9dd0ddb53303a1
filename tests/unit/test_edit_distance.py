"""Edit distance against its recursive definition and against torchmetrics; alignments add up to it."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import char_error_rate, word_error_rate

from gateline.edit_distance import align, edit_distance

WORDS = st.lists(st.sampled_from(["one", "two", "three", "oh"]), max_size=7)


def by_definition(meant: tuple[str, ...], found: tuple[str, ...]) -> int:
    @cache
    def distance(left: int, right: int) -> int:
        if left == 0 or right == 0:
            return left + right
        return min(
            distance(left - 1, right) + 1,
            distance(left, right - 1) + 1,
            distance(left - 1, right - 1) + (meant[left - 1] != found[right - 1]),
        )

    return distance(len(meant), len(found))


@given(meant=WORDS, found=WORDS)
def test_it_is_the_fewest_edits(meant: list[str], found: list[str]) -> None:
    assert edit_distance(meant, found) == by_definition(tuple(meant), tuple(found))


@given(pairs=st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=5))
def test_rates_are_those_of_torchmetrics(pairs: list[tuple[list[str], list[str]]]) -> None:
    meant, found = [" ".join(left) for left, _ in pairs], [" ".join(right) for _, right in pairs]

    words = sum(edit_distance(left, right) for left, right in pairs) / sum(len(left) for left, _ in pairs)
    characters = sum(map(edit_distance, meant, found)) / sum(map(len, meant))

    assert abs(words - float(word_error_rate(found, meant))) < 1e-6
    assert abs(characters - float(char_error_rate(found, meant))) < 1e-6


@given(meant=WORDS, found=WORDS)
def test_an_alignment_tells_both_sequences_and_has_as_many_edits(meant: list[str], found: list[str]) -> None:
    pairs = align(meant, found)

    assert [left for left, _ in pairs if left is not None] == meant
    assert [right for _, right in pairs if right is not None] == found
    assert sum(left != right for left, right in pairs) == edit_distance(meant, found)


def test_an_alignment_names_the_edits() -> None:
    assert align(["one", "two", "three"], ["one", "oh", "three", "four"]) == [
        ("one", "one"),
        ("two", "oh"),
        ("three", "three"),
        (None, "four"),
    ]
