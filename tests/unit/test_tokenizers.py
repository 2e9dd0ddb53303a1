"""Tokenizers: nothing is lost that need not be, nothing is learnt from other parts, the same texts make the same numbers."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateline.data.tokenizers import (
    BEGIN,
    END,
    FIRST,
    PADDING,
    SPACE_SHOWN,
    SPECIAL_TOKENS,
    UNKNOWN,
    Encoded,
    FittedTokenizer,
    Tokenizer,
    tokenizer_from_json,
    vocabulary_report,
)
from gateline.errors import ArtifactError, DataError, WorkloadError
from gateline.workload.section import read_section

SENTENCES = [
    "Ein Mann steht auf der Straße.",
    "Ein Hund läuft über die Straße, und ein Mann lacht.",
    "Zwei Männer stehen auf einer Leiter.",
    "Die Frau läuft.",
]
LETTERS = "abcdeé ß.,\n"


def tokenizer(kind: str = "word", texts: list[str] = SENTENCES, **options: Any) -> FittedTokenizer:
    if kind == "bpe":
        options = {"size": 300, **options}
    return Tokenizer(kind=kind, **options).fit(texts)


@pytest.fixture(params=["word", "character", "bpe"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_byte_pairs_give_back_any_text_and_know_all_of_it(text: str) -> None:
    fitted = FITTED_BPE
    codes = fitted.encode([text])

    assert UNKNOWN not in codes.tokens
    assert fitted.decode(codes.tokens) == unicodedata.normalize("NFC", text)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(alphabet=LETTERS, min_size=1), min_size=1, max_size=8))
def test_characters_give_back_the_texts_they_were_fitted_on(texts: list[str]) -> None:
    fitted = tokenizer("character", texts)
    encoded = fitted.encode(texts)

    assert [fitted.decode(row) for row in encoded.rows()] == texts
    assert encoded.lengths.tolist() == [len(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["word", "character", "bpe"]),
    train=st.lists(st.text(alphabet="abc. ", min_size=1).filter(str.strip), min_size=1, max_size=6),
    test=st.lists(st.text(alphabet="abxyz. "), max_size=6),
)
def test_only_what_training_has_not_seen_is_unknown(kind: str, train: list[str], test: list[str]) -> None:
    fitted = tokenizer(kind, train)
    assert UNKNOWN not in fitted.encode(train).tokens

    if kind == "character":
        seen = set("".join(train))
        expected = [[letter not in seen for letter in text] for text in test]
        found = [(row == UNKNOWN).tolist() for row in fitted.encode(test).rows()]
        assert found == expected
    if kind == "bpe":
        assert UNKNOWN not in fitted.encode(test).tokens


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["word", "character", "bpe"]),
    lowercase=st.booleans(),
    train=st.lists(st.text(alphabet="aAbBé. ", min_size=1).filter(str.strip), min_size=1, max_size=6),
    test=st.lists(st.text(max_size=20), max_size=4),
)
def test_the_same_json_makes_the_same_numbers(kind: str, lowercase: bool, train: list[str], test: list[str]) -> None:
    fitted = tokenizer(kind, train, lowercase=lowercase)
    again = tokenizer_from_json(json.loads(json.dumps(fitted.to_json())))

    assert again.tokens == fitted.tokens
    assert again.to_json() == fitted.to_json()
    assert again.encode(test).tokens.tolist() == fitted.encode(test).tokens.tolist()
    for row in fitted.encode(test).rows():
        assert again.decode(row) == fitted.decode(row)


def test_the_order_of_the_texts_changes_nothing(kind: str, rng: np.random.Generator) -> None:
    shuffled = [SENTENCES[place] for place in rng.permutation(len(SENTENCES))]

    assert tokenizer(kind, shuffled).to_json() == tokenizer(kind).to_json()


def test_another_process_makes_the_same_vocabulary(kind: str, root: Path) -> None:
    program = (
        "import json, sys; from gateline.data.tokenizers import Tokenizer; kind, texts = json.loads(sys.argv[1]);"
        "print(json.dumps(Tokenizer(kind=kind, size=300).fit(texts).to_json()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, json.dumps([kind, SENTENCES])],
        env={"PYTHONPATH": str(root / "src"), "PYTHONHASHSEED": "4", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == tokenizer(kind, size=300).to_json()


def test_counts_are_those_of_the_training_texts() -> None:
    fitted = tokenizer("word", ["a b a", "c a b."], words="spaces")

    assert dict(zip(fitted.tokens[FIRST:], fitted.counts[FIRST:].tolist(), strict=True)) == {
        "a": 3,
        "b": 1,
        "b.": 1,
        "c": 1,
    }
    assert fitted.tokens[FIRST] == "a"  # the most frequent first


def test_pieces_are_the_words_as_they_stand_and_mark_the_unknown() -> None:
    assert tokenizer("word").pieces("Ein Hund bellt.") == ["Ein", "Hund", "[bellt]", "."]
    assert tokenizer("character", ["ab c"]).pieces("a bz") == ["a", SPACE_SHOWN, "b", "<unknown>"]
    assert "".join(tokenizer("bpe").pieces("läuft")) == "läuft"


def test_rare_words_are_unknown_and_counted_as_such() -> None:
    fitted = tokenizer("word", ["a b a", "c a b"], min_count=2)

    assert fitted.tokens == (*SPECIAL_TOKENS, "a", "b")
    assert fitted.counts.tolist() == [0, 1, 0, 0, 3, 2]
    assert fitted.encode(["a c b"]).tokens.tolist() == [FIRST, UNKNOWN, FIRST + 1]


def test_the_size_counts_the_special_tokens(kind: str) -> None:
    room = 280 if kind == "bpe" else 8

    assert tokenizer(kind, size=room).size == room


def test_byte_pairs_join_the_most_frequent_pair_first() -> None:
    """Counted by hand: in `low low low lot` the pair l, o stands four times, every other three times or fewer."""
    fitted = tokenizer("bpe", ["low low low lot"], size=FIRST + 256 + 1)

    assert fitted.shown(fitted.size - 1) == "lo"
    assert [fitted.shown(code) for code in fitted.encode(["slow"]).tokens] == ["s", "lo", "w"]


def test_byte_pairs_agree_with_a_plain_implementation(rng: np.random.Generator) -> None:
    """Encoding by the textbook: of all neighbouring pieces, join the pair that was learnt first, until none is left."""
    words = ["".join(rng.choice(list("abc"), size=rng.integers(1, 9))) for _ in range(200)]
    fitted = tokenizer("bpe", words, size=FIRST + 256 + 40)
    ranks = {tuple(pair): rank for rank, pair in enumerate(fitted.options["merges"])}

    def plainly(word: str) -> list[str]:
        pieces = list(word)
        while True:
            pairs = [(ranks.get(pair, 10**9), place) for place, pair in enumerate(itertools.pairwise(pieces))]
            if not pairs or min(pairs)[0] == 10**9:
                return pieces
            _, place = min(pairs)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]

    for word in words[:50]:
        assert [fitted.tokens[code] for code in fitted.encode([word]).tokens] == plainly(word)


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_characters_that_begin_in_byte_pairs_add_up_to_those_of_any_text(text: str) -> None:
    codes = FITTED_BPE.encode([text]).tokens

    assert FITTED_BPE.characters()[codes].sum() == len(FITTED_BPE.normalise(text))


def test_characters_that_begin_in_tokens_are_counted_whatever_their_bytes(kind: str) -> None:
    text = "Die Katze hört „Müßiggang“ in Tōkyō 東京"
    fitted = tokenizer(kind, [text], **({"size": 270} if kind == "bpe" else {}))
    counted = fitted.characters()[fitted.encode([text]).tokens].sum()

    assert counted == (len(text.replace(" ", "")) if kind == "word" else len(text))
    assert fitted.characters()[: UNKNOWN + 1].tolist() == [0, 1]


def test_words_part_from_punctuation_or_only_at_spaces() -> None:
    text = "A man, who's here ."
    fitted = {rule: tokenizer("word", [text], words=rule) for rule in ("punctuation", "spaces")}

    assert fitted["punctuation"].decode(fitted["punctuation"].encode([text]).tokens) == "A man , who ' s here ."
    assert fitted["spaces"].decode(fitted["spaces"].encode([text]).tokens) == text


def test_no_text_can_spell_a_special_token(kind: str) -> None:
    fitted = tokenizer(kind, [*SENTENCES, *SPECIAL_TOKENS])
    codes = fitted.encode(list(SPECIAL_TOKENS)).tokens

    assert not set(codes.tolist()) & {PADDING, UNKNOWN, BEGIN, END}


def test_special_tokens_are_left_out_of_a_decoded_text_and_unknown_is_shown(kind: str) -> None:
    fitted = tokenizer(kind)
    codes = fitted.encode(["Die Frau"]).framed(begin=True, end=True).tokens

    assert codes[0] == BEGIN
    assert codes[-1] == END
    assert fitted.decode([*codes, PADDING, PADDING]) == "Die Frau"
    assert fitted.decode([UNKNOWN]) == "\ufffd"


def test_an_accent_counts_alike_however_it_was_typed(kind: str) -> None:
    fitted = tokenizer(kind, ["läuft"])

    assert fitted.encode(["la\u0308uft"]).tokens.tolist() == fitted.encode(["läuft"]).tokens.tolist()


def test_lower_case_is_read_alike(kind: str) -> None:
    fitted = tokenizer(kind, lowercase=True)

    assert fitted.encode(["DIE FRAU"]).tokens.tolist() == fitted.encode(["die frau"]).tokens.tolist()
    assert fitted.decode(fitted.encode(["Die Frau"]).tokens) == "die frau"


def test_a_lone_surrogate_is_replaced_and_a_pair_is_joined(kind: str) -> None:
    fitted = tokenizer(kind, ["a \ufffd \U0001f600"])

    assert fitted.decode(fitted.encode(["a \ud800"]).tokens) == "a \ufffd"
    assert fitted.decode(fitted.encode(["\ud83d\ude00"]).tokens) == "\U0001f600"


def test_texts_are_cut_and_the_loss_is_counted() -> None:
    encoded = Encoded.of([[5, 6, 7], [], [8], [9, 10, 11, 12, 13]])
    cut = encoded.cut(2)

    assert [row.tolist() for row in cut.rows()] == [[5, 6], [], [8], [9, 10]]
    assert (cut.texts_cut, cut.tokens_cut) == (2, 4)
    assert cut.lost is not None
    assert cut.lost.tolist() == [1, 0, 0, 3]
    taken = cut.take(np.array([3, 1]))
    assert [row.tolist() for row in taken.rows()] == [[9, 10], []]
    assert (taken.texts_cut, taken.tokens_cut) == (1, 3)
    assert encoded.cut(5) is encoded
    framed = cut.framed(end=True)
    assert [row.tolist() for row in framed.rows()] == [[5, 6, END], [END], [8, END], [9, 10, END]]
    assert (framed.texts_cut, framed.tokens_cut) == (2, 4)


def test_the_report_agrees_with_counting_by_hand() -> None:
    fitted = tokenizer("word", ["a a a b", "b c"], words="spaces")
    report = vocabulary_report(
        fitted, {"train": fitted.encode(["a a a b", "b c"]).cut(3), "test": fitted.encode(["a x", "y", ""])}
    )

    assert report["size"] == FIRST + 3
    assert report["most_frequent"] == [["a", 3], ["b", 2], ["c", 1]]
    assert report["once"] == 1
    assert report["parts"]["train"] == {
        "texts": 2,
        "tokens": 5,
        "unknown": 0,
        "unknown_rate": 0.0,
        "longest": 3,
        "texts_cut": 1,
        "tokens_cut": 1,
    }
    assert report["parts"]["test"]["unknown_rate"] == pytest.approx(2 / 3)
    json.dumps(report, allow_nan=False)


def test_no_texts_at_all_are_encoded_as_none(kind: str) -> None:
    fitted = tokenizer(kind)

    assert len(fitted.encode([])) == 0
    assert fitted.encode(["", ""]).offsets.tolist() == [0, 0, 0]


def test_characters_are_those_that_python_counts(rng: np.random.Generator) -> None:
    text = "".join(rng.choice(list(LETTERS + "😀"), size=500))
    fitted = tokenizer("character", [text])

    counts = dict(zip(fitted.tokens[FIRST:], fitted.counts[FIRST:].tolist(), strict=True))
    assert counts == dict(Counter(text))


def test_texts_without_a_frequent_word_are_refused() -> None:
    with pytest.raises(DataError, match="2 times or more"):
        tokenizer("word", ["a b c"], min_count=2)


@pytest.mark.parametrize("size", [None, 100])
def test_byte_pairs_without_room_for_the_bytes_are_refused(size: int | None) -> None:
    with pytest.raises(WorkloadError, match="at least 260 for bpe"):
        read_section("preprocess.tokenizer", Tokenizer, {"kind": "bpe", "size": size})


@pytest.mark.parametrize("state", [{}, {"kind": "sentence"}, {**tokenizer("word").to_json(), "counts": [1]}])
def test_something_else_is_no_tokenizer(state: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="a tokenizer as JSON"):
        tokenizer_from_json(state)


FITTED_BPE = tokenizer("bpe")
