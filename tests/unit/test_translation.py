"""Parts of translation: pairs side by side, what a translation costs, what a baseline says, where the decoder looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gateline.baselines.translation import BASELINES, Problem
from gateline.data.pairs import PairDataset
from gateline.data.tokenizers import BEGIN, END, Encoded, Tokenizer
from gateline.data.windows import VariableLengthDataset
from gateline.errors import DataError, WorkloadError
from gateline.intervals import bootstrap_intervals
from gateline.models.encoder_decoder import Translator, TranslatorSettings
from gateline.predictors.translation import SentenceTranslator, length_names, length_of
from gateline.tasks.translation import TASK
from gateline.text_metrics import edits_and_words, scores_by_rows, translation_metrics
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema

GERMAN = ["Ein Mann sieht einen Hund.", "Eine Frau sieht das Haus.", "Der Hund läuft.", "Ein Mann läuft zum Haus."]
ENGLISH = ["A man sees a dog.", "A woman sees the house.", "The dog runs.", "A man runs to the house."]


def translator(max_length: int | None = None, **settings: Any) -> SentenceTranslator:
    torch.manual_seed(3)
    source, target = (Tokenizer(kind="bpe", size=320).fit(texts) for texts in (GERMAN, ENGLISH))
    network = Translator(
        num_source_tokens=source.size,
        num_target_tokens=target.size,
        settings=TranslatorSettings(hidden_size=10, embedding_size=6, **settings),
    )
    schema = Schema.model_validate({"columns": {"german": {"type": "text"}, "english": {"type": "text"}}})
    return SentenceTranslator(network, source, target, schema, ("german", "english"), max_length)


def test_pairs_stand_side_by_side_with_the_token_before_each() -> None:
    source = Encoded.of([[5, 6, END], [7, END], [8, 9, 10, END]])
    target = Encoded.of([[BEGIN, 20, END], [BEGIN, 21, 22, 23, END], [BEGIN, END]])
    dataset = PairDataset(source, target, np.array([1, 2, 0]))
    batch = dataset.__getitems__([0, 2])  # pairs 1 and 0

    assert batch.source.tolist() == [[7, END, 0], [5, 6, END]]
    assert batch.source_lengths.tolist() == [2, 3]
    assert batch.before.tolist() == [[BEGIN, 21, 22, 23], [BEGIN, 20, 0, 0]]
    assert batch.target.tolist() == [[21, 22, 23, END], [20, END, 0, 0]]
    assert batch.target_lengths.tolist() == [4, 2]
    assert dataset.lengths.tolist() == [4, 4, 3]
    assert len(dataset) == 3


def test_padding_is_that_of_plain_python(rng: np.random.Generator) -> None:
    rows = [rng.integers(4, 90, size=size).tolist() for size in rng.integers(1, 12, size=30)]
    chosen = rng.integers(0, 30, size=9)
    texts = Encoded.of(rows)
    batch = VariableLengthDataset(texts.tokens, texts.offsets).__getitems__(chosen)

    longest = max(len(rows[row]) for row in chosen)
    assert batch.values.tolist() == [rows[row] + [0] * (longest - len(rows[row])) for row in chosen]
    assert batch.lengths.tolist() == [len(rows[row]) for row in chosen]


@pytest.mark.parametrize(
    ("translation", "reference", "edits"),
    [
        ("a man sees a dog", "a man sees a dog", 0),
        ("a man sees dog", "a man sees a dog", 1),
        ("a dog a man sees", "a man sees a dog", 1),  # a stretch that is moved is one edit
        ("A MAN sees a dog", "a man sees a dog", 0),  # tercom looks at words in lower case
        ("one two three four five", "a man sees a dog", 5),
    ],
)
def test_edits_counted_by_hand(translation: str, reference: str, edits: int) -> None:
    counted, words = edits_and_words([translation], [reference])

    assert counted.tolist() == [edits]
    assert words.tolist() == [5]


def test_perfect_translations_have_the_best_scores_and_certain_ones() -> None:
    scores = translation_metrics(ENGLISH, ENGLISH)

    assert scores == {
        "translation_edit_rate": 0.0,
        "bleu": pytest.approx(100),
        "chrf": pytest.approx(100),
        "length_ratio": 1.0,
    }
    certain = bootstrap_intervals(scores_by_rows(ENGLISH * 3, ENGLISH * 3), np.arange(3 * len(ENGLISH)))
    assert certain["bleu"] == pytest.approx((100, 100))


def test_intervals_hold_the_score_and_are_the_same_every_time(rng: np.random.Generator) -> None:
    order = rng.permutation(40)
    found = [([*ENGLISH[:2], "The cat sleeps.", "Something else entirely."] * 10)[place] for place in order]
    wanted = [(ENGLISH * 10)[place] for place in order]
    scores, measure = translation_metrics(found, wanted), scores_by_rows(found, wanted)
    intervals = bootstrap_intervals(measure, np.arange(40))

    assert intervals.keys() == {"bleu", "chrf", "length_ratio"}
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high
    assert intervals == bootstrap_intervals(measure, np.arange(40))


def test_scores_of_some_sentences_are_those_of_their_texts() -> None:
    found = ["The cat sleeps.", *ENGLISH[1:]]
    rows = np.array([0, 2, 0, 1])

    measured = scores_by_rows(found, ENGLISH)(rows)

    expected = translation_metrics([found[row] for row in rows], [ENGLISH[row] for row in rows])
    assert measured == pytest.approx({name: expected[name] for name in ("bleu", "chrf", "length_ratio")})


def test_baselines_translate_what_they_have_seen() -> None:
    problem = Problem(source=GERMAN, target=ENGLISH, asked=["Eine Frau sieht das Haus.", "Der Mann sieht das Haus."])

    assert BASELINES["copy_source"](problem) == problem.asked
    assert BASELINES["translation_memory"](problem)[0] == ENGLISH[1]
    assert BASELINES["dictionary"](problem)[0].endswith("house.")
    assert set(BASELINES) == set(TASK.Evaluation().baselines)


@pytest.mark.parametrize("width", [1, 4])
def test_a_translation_does_not_depend_on_its_neighbours(width: int) -> None:
    model = translator()
    together = model.translate(GERMAN, width)

    for place, text in enumerate(GERMAN):
        alone = model.translate([text], width)
        assert alone.texts[0] == together.texts[place]
        assert alone.scores[0] == pytest.approx(together.scores[place], rel=1e-4)


def test_greedy_writes_the_likeliest_token_at_each_step() -> None:
    model = translator()
    found = model.translate(GERMAN[:1], width=1).codes[0]
    source = torch.from_numpy(model.encode(GERMAN[:1]).tokens.astype(np.int64))[None]
    written = [BEGIN]
    with torch.inference_mode():
        while len(written) <= len(found):
            logits = model.network(source, torch.tensor([written]))[0, -1]
            logits[[0, 1, 2]] = -torch.inf
            written.append(int(logits.argmax()))

    assert written[1:] == found


def test_a_wider_beam_finds_a_translation_at_least_as_probable() -> None:
    model = translator()
    scores = {width: model.translate(GERMAN, width, 0.0).scores for width in (1, 8)}

    assert (scores[8] >= scores[1] - 1e-4).all()


def test_attention_is_a_share_of_each_source_token_for_each_written_one() -> None:
    model = translator(attention="dot")
    read, written, weights = model.attention(GERMAN[2], model.translate([GERMAN[2]]).codes[0])

    assert weights.shape == (len(written), len(read))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert read[-1] == written[-1] == "<end>"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"beam_width": 0}, "params.beam_width"),
        ({"beam_width": 1000}, "params.beam_width"),
        ({"length_penalty": -1.0}, "params.length_penalty"),
        ({"length_penalty": float("inf")}, "params.length_penalty"),
        ({"length_penalty": 1e9}, "params.length_penalty"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        translator().predict(pd.DataFrame({"german": GERMAN}), **parameters)


def test_what_a_request_does_not_say_is_as_the_model_was_evaluated() -> None:
    model = translator(beam_width=3, length_penalty=0.4)
    frame = pd.DataFrame({"german": GERMAN})

    assert model.parameters == [("beam_width", "long", 3), ("length_penalty", "double", 0.4)]
    assert model.predict(frame).equals(model.predict(frame, beam_width=3, length_penalty=0.4))


def test_how_many_tokens_are_read_is_said_for_the_flags_of_a_longer_sentence() -> None:
    assert translator(max_length=5).most_tokens == {"german": 5}
    assert translator().most_tokens == {}


def test_slices_by_length() -> None:
    assert [length_of("a " * words) for words in (1, 8, 9, 12, 13, 16, 17, 40)] == [
        "1-8",
        "1-8",
        "9-12",
        "9-12",
        "13-16",
        "13-16",
        "17+",
        "17+",
    ]
    assert length_names() == ["1-8", "9-12", "13-16", "17+"]


def test_sections_that_do_not_fit_are_refused() -> None:
    schema = Schema.model_validate(
        {"columns": {"part": {"type": "text"}, "a": {"type": "text"}, "b": {"type": "text"}, "n": {"type": "integer"}}}
    )
    split = {"rule": "column", "column": "part", "train": ["t"], "validation": ["v"], "test": ["x"]}
    tokenizer = {"kind": "word"}
    for wrong, words in (
        ({"source": "a", "target": "a"}, "another column"),
        ({"source": "n", "target": "b"}, "a name that is there"),
        ({"source": "a", "target": "b", "split": {**split, "column": "q"}}, "a column"),
    ):
        preprocess = TASK.Preprocess.model_validate({"tokenizer": tokenizer, "split": split, **wrong})
        with pytest.raises(WorkloadError, match=words):
            TASK.check(schema, preprocess, None, None)
    preprocess = TASK.Preprocess.model_validate({"tokenizer": tokenizer, "split": split, "source": "a", "target": "b"})
    gates = Gates.model_validate({"metric": "bleu", "baselines": {"copy_source": {}}})
    with pytest.raises(WorkloadError, match=r"gates\.metric"):
        TASK.check(schema, preprocess, TASK.Evaluation(), gates)
