"""Language modelling from a text to a continuation: nothing leaks, numbers agree with plain loops, serving equals evaluation."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gateline.data.text_parts import PlaceSplit
from gateline.data.tokenizers import FIRST, UNKNOWN, Tokenizer, tokenizer_from_json
from gateline.errors import DataError, WorkloadError
from gateline.evaluation import evaluate
from gateline.judgement import Check, Verdict
from gateline.manifest import Artifact, open_artifact, write_artifact
from gateline.models.language_model import LanguageModelSettings
from gateline.predictors.language_modelling import (
    PIECE,
    STREAMS,
    Writer,
    by_character,
    by_passage,
    kind_of,
    kinds_of,
    letters_of,
    passages_in,
    stream_of,
)
from gateline.promotion import decide
from gateline.table import read_table
from gateline.tasks.language_modelling import TASK, LanguageModellingPreprocess, open_stream
from gateline.training import RunSettings, train
from gateline.workload import Workload
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import read_section

TINY: Mapping[str, Any] = {
    "schema": {
        "keys": ["document"],
        "columns": {"document": {"type": "integer"}, "text": {"type": "text", "min_length": 5000}},
    },
    "preprocess": {
        "text": "text",
        "tokenizer": {"kind": "character"},
        "piece": 16,
        "split": {"validation": [0.0, 0.1], "train": [0.1, 0.8], "test": [0.8, 1.0]},
    },
    "model": {"hidden_size": 12, "embedding_size": 6, "tie_weights": False},
    "training": {"loss": "cross_entropy", "learning_rate": 0.02, "batch_size": 8, "epochs": 2},
    "evaluation": {"max_order": 4, "slices": ["kind"], "sample_length": 20},
    "gates": {"metric": "bits_per_character", "min_examples": 4, "baselines": {"unigram": {}}},
}


def tiny_text(seed: int = 0, words: int = 2000) -> str:
    random = np.random.default_rng(seed)
    lexicon = ["the", "old", "„Müßiggang“", "sees", "a", "hört", "Москва", "runs", "Tōkyō", "Anna"]
    return " ".join(random.choice(lexicon, size=words)).replace("runs ", "runs.\n")


def tiny_table(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"document": range(1, len(texts) + 1), "text": texts})


def prepare(folder: Path, table: pd.DataFrame, **preprocess: Any) -> Artifact:
    with write_artifact(folder.with_name("raw"), "raw"):
        pass
    raw = open_artifact(folder.with_name("raw"), "raw")
    with write_artifact(folder, "prepared", {"raw": raw}) as draft:
        TASK.prepare(
            table,
            Schema.model_validate(TINY["schema"]),
            LanguageModellingPreprocess.model_validate({**TINY["preprocess"], **preprocess}),
            draft,
        )
    return open_artifact(folder, "prepared")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("language")
    prepared = prepare(folder / "prepared", tiny_table(tiny_text()))
    whole = Workload("tiny", "language_modelling", "", "test", copy.deepcopy(dict(TINY)))
    model = train(whole, prepared, folder / "model", RunSettings(seed=1))
    return prepared, model, evaluate(whole, prepared, model, folder / "evaluation")


@pytest.fixture(scope="module")
def made_of_byte_pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    folder = tmp_path_factory.mktemp("byte_pairs")
    byte_pairs = {"tokenizer": {"kind": "bpe", "size": 270}}  # too few to write each of the characters as one token
    prepared = prepare(folder / "prepared", tiny_table(tiny_text()), **byte_pairs)
    sections = copy.deepcopy(dict(TINY))
    sections["preprocess"] |= byte_pairs
    whole = Workload("tiny", "language_modelling", "", "test", sections)
    model = train(whole, prepared, folder / "model", RunSettings(seed=2))
    return prepared, model, evaluate(whole, prepared, model, folder / "evaluation")


@pytest.fixture(scope="module")
def writer(made: tuple[Artifact, Artifact, Artifact]) -> Writer:
    return TASK.load_predictor(made[1].path)


def plain_surprise(writer: Writer, tokens: np.ndarray) -> list[float]:
    """-log p of each token but the first, one step at a time; reading begins anew with each stream."""
    targets = len(tokens) - 1
    stream = PIECE * math.ceil(targets / (STREAMS * PIECE))
    nats, state = [], None
    with torch.inference_mode():
        for place in range(targets):
            state = None if place % stream == 0 else state
            logits, state = writer.network(torch.tensor([[tokens[place]]]), state)
            nats.append(-torch.log_softmax(logits[0, 0].double(), dim=0)[tokens[place + 1]].item())
    return nats


def test_parts_are_ranges_that_share_nothing(tmp_path: Path) -> None:
    text = tiny_text()
    prepared = prepare(tmp_path / "prepared", tiny_table(text))
    parts = {part: pieces[0][0] for part, pieces in prepared.read_json("texts.json").items()}

    assert parts["validation"] + parts["train"] + parts["test"] == text
    tokenizer = tokenizer_from_json(prepared.read_json("state.json")["tokenizer"])
    for part, piece in parts.items():
        assert tokenizer.decode(open_stream(prepared, part)) == piece


def test_a_character_of_another_part_is_unknown(tmp_path: Path) -> None:
    """A leak planted in the test part: the vocabulary must not know it, nor its count."""
    text = tiny_text()
    planted = text[:-100] + "§" + text[-100:]
    prepared = prepare(tmp_path / "prepared", tiny_table(planted))

    assert "§" not in prepared.read_json("state.json")["tokenizer"]["tokens"]
    assert (open_stream(prepared, "test") == UNKNOWN).sum() == 1
    assert (open_stream(prepared, "train") == UNKNOWN).sum() == 0
    assert prepared.facts["vocabulary"]["parts"]["test"]["unknown"] == 1


def test_what_is_trained_on_does_not_depend_on_the_other_parts(tmp_path: Path) -> None:
    text = tiny_text()
    cut = round(0.8 * len(text))
    changed = text[:cut] + "".join(reversed(text[cut:]))
    states = [
        prepare(tmp_path / name, tiny_table(one)).read_json("state.json") for name, one in (("a", text), ("b", changed))
    ]

    assert states[0] == states[1]


def test_several_texts_end_with_a_token_and_one_does_not(tmp_path: Path) -> None:
    whole = tiny_text(words=1200)
    texts = [whole, tiny_text(1, words=1200)]
    two = prepare(tmp_path / "two", tiny_table(*texts))
    pieces = two.read_json("texts.json")

    ends = [end for part in ("validation", "train", "test") for _, end in pieces[part]]
    assert ends == [False, True, False, True]
    assert [len(piece[0]) for part in pieces.values() for piece in part if piece[1]]
    assert not any(
        end for part in prepare(tmp_path / "one", tiny_table(whole)).read_json("texts.json").values() for _, end in part
    )


@pytest.mark.parametrize(
    "split",
    [
        {"train": [0, 0.5], "validation": [0.4, 0.6], "test": [0.6, 1]},
        {"train": [0.5, 0.1], "validation": [0.6, 0.7], "test": [0.7, 1]},
    ],
)
def test_ranges_that_overlap_or_run_backwards_are_refused(split: dict[str, Any]) -> None:
    with pytest.raises(WorkloadError, match="ranges that"):
        read_section("preprocess.split", PlaceSplit, split)


def test_surprise_is_that_of_a_plain_loop(made: tuple[Artifact, Artifact, Artifact], writer: Writer) -> None:
    tokens = np.asarray(open_stream(made[0], "test"))[:900]
    nats, hits = writer.surprise(tokens)

    np.testing.assert_allclose(nats, plain_surprise(writer, tokens), rtol=1e-4, atol=1e-5)
    assert len(hits) == len(nats)


def test_the_monitored_loss_is_the_mean_over_every_token(
    made: tuple[Artifact, Artifact, Artifact], writer: Writer
) -> None:
    """Streams that are made up to a multiple count each token once."""
    prepared, model, _ = made
    dataset = TASK.dataset(prepared, "validation")
    order = TASK.validation_order(prepared, dataset, None)  # type: ignore[arg-type]  # not read
    score, carried, total, count = TASK.scorer(prepared, "cross_entropy"), None, 0.0, 0
    with torch.inference_mode():
        for step in range(len(order)):
            scores, carried = score(writer.network, dataset.__getitems__(order.batch(0, step)), carried)
            total, count = total + float(scores["loss"][0]), count + int(scores["loss"][1])

    assert count == len(open_stream(prepared, "validation")) - 1
    best = model.read_json("history.json")[model.facts["best_epoch"] - 1]
    assert total / count == pytest.approx(best["validation_loss"], rel=1e-4)


def test_training_learns_more_than_how_frequent_characters_are(made: tuple[Artifact, Artifact, Artifact]) -> None:
    measured = made[2].read_json("metrics.json")

    assert measured["test"]["nats_per_character"] < measured["baselines"]["unigram"]["nats_per_character"]


def test_metrics_are_those_of_another_computation(made: tuple[Artifact, Artifact, Artifact], writer: Writer) -> None:
    """From the text and the network alone: one step at a time, and characters as Python counts them."""
    prepared, _, evaluation = made
    measured, rows = evaluation.read_json("metrics.json"), read_table(evaluation.path / "predictions.parquet")
    text = prepared.read_json("texts.json")["test"][0][0]
    bits = np.array(plain_surprise(writer, writer.tokenizer.encode([text]).tokens)) / math.log(2)

    assert len(bits) == len(text) - 1
    assert not text.isascii()
    assert measured["test"]["bits_per_character"] == pytest.approx(bits.mean(), rel=1e-4)
    assert measured["test"]["perplexity"] == pytest.approx(2 ** bits.mean(), rel=1e-4)
    capital = np.array([letter.isupper() for letter in text[1:]])
    found = measured["slices"]["kind=capital"]["bits_per_character"]
    assert found == pytest.approx(bits[capital].mean(), rel=1e-4)
    np.testing.assert_allclose(rows["bits"], bits, rtol=1e-4, atol=1e-5)
    assert measured["test"]["accuracy"] == pytest.approx(rows["likeliest"].mean())
    train_text = made[0].read_json("texts.json")["train"][0][0]
    share = {letter: (train_text.count(letter) + 1) / (len(train_text) + 0.0) for letter in "eA"}
    found = rows[rows["token"] == "e"]["baseline_unigram"].iloc[0]
    assert found == pytest.approx(-math.log2(share["e"]), rel=0.01)


def test_bits_per_character_of_byte_pairs_are_those_of_another_computation(
    made_of_byte_pairs: tuple[Artifact, Artifact, Artifact],
) -> None:
    """The surprise of all tokens over the characters of the text, however many bytes each has."""
    prepared, model, evaluation = made_of_byte_pairs
    writer = TASK.load_predictor(model.path)
    text = prepared.read_json("texts.json")["test"][0][0]
    tokens = writer.tokenizer.encode([text]).tokens
    nats = plain_surprise(writer, tokens)
    begun = len(writer.tokenizer.decode(tokens[:1]))  # characters in the first token; all but one cost an even guess
    total = sum(nats) + (begun - 1) / begun * math.log(writer.tokenizer.size)

    measured = evaluation.read_json("metrics.json")
    assert measured["test"]["bits_per_character"] == pytest.approx(total / math.log(2) / (len(text) - 1), rel=1e-4)
    assert measured["test"]["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    for metric in TASK.gate_metrics:
        errors = writer.test_errors(prepared, metric, ["kind=space"])
        assert errors.score() == pytest.approx(measured["test"][metric], rel=1e-6)
        assert errors.slices["kind=space"] == pytest.approx(measured["slices"]["kind=space"][metric], rel=1e-6)
        assert errors.count.sum() == len(text) - 1
    spaces = measured["slices"]["kind=space"]["bits_per_character"] * text[1:].count(" ")
    assert 0 < spaces < total / math.log(2)


def test_the_surprise_of_a_token_is_spread_over_the_characters_that_begin_in_it() -> None:
    """By hand: the byte pair `ab`, then ö in two tokens, one for each byte; the first token costs an even guess."""
    fitted = Tokenizer(kind="bpe", size=FIRST + 256 + 1).fit(["ab ab ab"])
    tokens = fitted.encode(["abö東ab"]).tokens
    nats = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])

    assert len(tokens) == 1 + 2 + 3 + 1
    expected = [math.log(FIRST + 257) / 2, 1.0 + 2.0, 4.0 + 8.0 + 16.0, 16.0, 16.0]
    assert by_character(fitted, tokens, nats).tolist() == pytest.approx(expected)


def test_the_end_of_a_text_counts_as_a_character_in_every_vocabulary() -> None:
    texts = [("Ähre\n", True), ("9 東", True)]
    letters = ["Ä", "h", "r", "e", "\n", "", "9", " ", "東", ""]
    for settings in ({"kind": "character"}, {"kind": "bpe", "size": 260}):
        fitted = read_section("tokenizer", Tokenizer, settings).fit([text for text, _ in texts])
        tokens = stream_of(fitted, texts)
        assert letters_of(fitted, texts) == letters
        errors = by_passage(
            fitted, tokens, np.ones(len(tokens) - 1), "nats_per_character", texts, ["kind=end", "kind=digit"]
        )
        assert errors.count.tolist() == [len(letters) - 1]
        assert errors.slices == {"kind=end": 1.0, "kind=digit": 1.0}
    assert kinds_of(letters).tolist() == [
        "capital",
        "letter",
        "letter",
        "letter",
        "line end",
        "end",
        "digit",
        "space",
        "letter",
        "end",
    ]


@pytest.mark.parametrize(("last", "passages"), [(0, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3)])
def test_passages_end_at_the_same_characters_whatever_the_vocabulary(last: int, passages: int) -> None:
    text = "ö" + "東" * (last or 1)
    for settings in ({"kind": "character"}, {"kind": "bpe", "size": 260}, {"kind": "bpe", "size": 300}):
        fitted = read_section("tokenizer", Tokenizer, settings).fit([text])
        tokens = stream_of(fitted, [(text, False)])
        errors = by_passage(fitted, tokens, np.ones(len(tokens) - 1), "nats_per_character", [(text, False)])
        assert errors.count.tolist() == [len(text[1:][first : first + PIECE]) for first in range(0, last or 1, PIECE)]
        assert passages_in(fitted, tokens) == len(errors.count) == passages


def test_the_errors_that_models_are_compared_by_are_the_metric(
    made: tuple[Artifact, Artifact, Artifact], writer: Writer
) -> None:
    prepared, _, evaluation = made
    measured = evaluation.read_json("metrics.json")
    for metric in TASK.gate_metrics:
        errors = writer.test_errors(prepared, metric, ["kind=space", "kind=digit"])
        assert errors.score() == pytest.approx(measured["test"][metric], rel=1e-6)
        assert errors.slices == {"kind=space": pytest.approx(measured["slices"]["kind=space"][metric], rel=1e-6)}
        assert len(errors.total) == measured["num_examples"] == prepared.facts["examples"]["test"]
    with pytest.raises(WorkloadError, match="compared by"):
        writer.test_errors(prepared, "perplexity")


def test_models_with_other_vocabularies_are_compared_on_the_same_passages(
    made: tuple[Artifact, Artifact, Artifact],
    made_of_byte_pairs: tuple[Artifact, Artifact, Artifact],
    writer: Writer,
    tmp_path: Path,
) -> None:
    """Characters, byte pairs that part a character, and more of them: equal rows, counts and slices."""
    other = prepare(tmp_path / "prepared", tiny_table(tiny_text()), tokenizer={"kind": "bpe", "size": 300})
    tokenizer = tokenizer_from_json(other.read_json("state.json")["tokenizer"])
    network = TASK.build(LanguageModelSettings(**TINY["model"]), TASK.shapes(other))
    writers = [
        writer,
        TASK.load_predictor(made_of_byte_pairs[1].path),
        Writer(network, tokenizer, Schema.model_validate(TINY["schema"]), "text"),
    ]
    slices = ["kind=space", "kind=letter", "kind=capital"]
    ours, *others = [each.test_errors(other, "bits_per_character", slices) for each in writers]

    assert ours.score() == pytest.approx(writer.test_errors(made[0], "bits_per_character").score())
    gates = Gates.model_validate(TINY["gates"])
    for theirs in others:
        assert theirs.rows == ours.rows
        assert theirs.count.tolist() == ours.count.tolist()
        assert theirs.position.tolist() == ours.position.tolist()
        assert set(theirs.slices) == set(ours.slices) == set(slices)
        decision = decide(Verdict((Check("x", True, ""),)), ours, theirs, gates, generator=np.random.default_rng(0))
        assert {check.name: check.passed for check in decision.checks}["same_rows"]
        assert decision.comparison["difference"] == pytest.approx(ours.score() - theirs.score())


def test_a_text_in_lower_case_is_another_one(made: tuple[Artifact, Artifact, Artifact], writer: Writer) -> None:
    state = {**writer.tokenizer.to_json(), "lowercase": True}
    lower = Writer(writer.network, tokenizer_from_json(state), Schema.model_validate(TINY["schema"]), "text")

    rows = [each.test_errors(made[0], "bits_per_character").rows for each in (writer, lower)]
    assert rows[0] != rows[1]


def test_the_same_request_gets_the_same_answer_and_each_row_its_own(writer: Writer) -> None:
    frame = pd.DataFrame({"text": ["the old ", "Anna sees ", "the old "]})
    answer = writer.predict(frame, max_length=30, seed=5)

    assert list(answer.columns) == [name for name, _ in writer.output_columns]
    assert answer.equals(writer.predict(frame, max_length=30, seed=5))
    assert answer["continuation"][0] == answer["continuation"][2] != answer["continuation"][1]
    alone = writer.predict(frame.iloc[[1]], max_length=30, seed=5)
    assert alone["continuation"][0] == answer["continuation"][1]
    assert writer.predict(frame, max_length=30, seed=6)["continuation"][0] != answer["continuation"][0]
    assert answer["continuation"].str.len().max() <= 30


def test_only_the_likeliest_token_is_drawn_with_top_k_1(writer: Writer) -> None:
    text = "the old man "
    found = writer.predict(pd.DataFrame({"text": [text]}), top_k=1, max_length=12, temperature=3.0)["continuation"][0]

    written = text
    with torch.inference_mode():
        for _ in range(12):
            tokens = torch.from_numpy(writer.tokenizer.encode([written]).tokens.astype(np.int64))[None]
            written += writer.tokenizer.decode([int(writer.network(tokens)[0][0, -1, 4:].argmax()) + 4])
    assert found == written[len(text) :]


def test_a_stop_text_ends_the_continuation_and_is_its_end(writer: Writer) -> None:
    frame = pd.DataFrame({"text": ["the old "]})
    whole = writer.predict(frame, max_length=200, seed=1)["continuation"][0]
    stop = whole[20:23]
    stopped = writer.predict(frame, max_length=200, seed=1, stop=stop)["continuation"][0]

    assert stopped == whole[: whole.index(stop) + len(stop)]


@pytest.mark.parametrize(
    ("texts", "parameters", "words"),
    [
        ([], {}, "no rows"),
        (["ok", None], {}, "none in row 1"),
        (["ok", ""], {}, "of 1 to"),
        (["ok"], {"temperature": 0.0}, "params.temperature"),
        (["ok"], {"temperature": 1e-300}, "params.temperature"),
        (["ok"], {"top_k": -1}, "params.top_k"),
        (["ok"], {"max_length": 0}, "params.max_length"),
        (["ok"], {"seed": -1}, "params.seed"),
        (["ok"] * 11, {"max_length": 10_000}, "at most 10 rows where max_length is 10,000"),
        (["ok"] * 501, {}, "at most 500 rows"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    texts: list[str | None], parameters: dict[str, Any], words: str, writer: Writer
) -> None:
    with pytest.raises(DataError, match=words):
        writer.predict(pd.DataFrame({"text": pd.Series(texts, dtype="str")}), **parameters)


def test_the_example_is_a_valid_request(writer: Writer) -> None:
    assert len(writer.predict(writer.example(tiny_table(tiny_text())), max_length=5)) == 1


def test_kinds_of_characters() -> None:
    assert [kind_of(text) for text in ("\n", " x", "A", "é", "4", ";")] == [
        "line end",
        "space",
        "capital",
        "letter",
        "digit",
        "punctuation",
    ]


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [({"text": "document"}, "a name that is there"), ({"tokenizer": {"kind": "word"}}, "character or bpe")],
)
def test_sections_that_do_not_fit_are_refused(preprocess: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        TASK.check(
            Schema.model_validate(TINY["schema"]),
            LanguageModellingPreprocess.model_validate({**TINY["preprocess"], **preprocess}),
            None,
            None,
        )


def test_a_gate_on_what_is_not_computed_is_refused() -> None:
    evaluation = TASK.Evaluation.model_validate(TINY["evaluation"])
    wrong: list[dict[str, Any]] = [
        {"metric": "perplexity"},
        {"baselines": {"trigram": {}}},
        {"limits": {"bleu": {"min": 1}}},
    ]
    for gates in wrong:
        with pytest.raises(WorkloadError, match="a name that is there"):
            TASK.check(
                Schema.model_validate(TINY["schema"]),
                LanguageModellingPreprocess.model_validate(TINY["preprocess"]),
                evaluation,
                Gates.model_validate({**TINY["gates"], **gates}),
            )


def test_a_text_too_short_for_its_pieces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than 16 tokens"):
        prepare(
            tmp_path / "prepared",
            tiny_table(tiny_text()),
            split={"validation": [0.0, 0.0005], "train": [0.1, 0.8], "test": [0.8, 1.0]},
        )
