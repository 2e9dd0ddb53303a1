"""Score a translator and its baselines on the test sentences, and draw what a person of the field would want to see."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from gateline.baselines.translation import BASELINES, Problem
from gateline.comparison import digest_of_rows, example_errors
from gateline.data.examples import open_examples, open_test_groups
from gateline.evaluation import Figure, Scores
from gateline.intervals import bootstrap_intervals
from gateline.manifest import Artifact
from gateline.predictors.translation import LENGTH, SentenceTranslator, length_names, length_of
from gateline.scoring import MODEL, SOFT
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.vocabulary import draw_vocabulary, plain
from gateline.table import TABLE, read_table
from gateline.tasks.translation import TASK as TRANSLATION
from gateline.tasks.translation import Translation, TranslationEvaluation
from gateline.text_metrics import GATE_METRIC, edits_and_words, scores_by_rows, translation_metrics

WORST = 12
"""Sentences shown where the model did worst."""
SHOWN = 4
"""Sentences whose attention is drawn."""
SHOWN_TOKENS = (8, 14)
"""Source tokens that such a sentence has."""
READ_AS_LONG = 6
"""Words that a reference among the worst has at least: in a shorter one a single word is a large share."""


def score(task: Translation, settings: TranslationEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Translate the test sentences with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines and slices.
        prepared: sentences.
        model: weights and configuration.
    """
    translator = task.load_predictor(model.path)
    table = read_table(prepared.path / TABLE)
    read, written = translator.source_column, translator.target_column
    train, test = (table.iloc[open_examples(prepared, part)] for part in ("train", "test"))
    source, reference = list(test[read]), list(test[written])
    found = translator.translate(source)
    problem = Problem(source=list(train[read]), target=list(train[written]), asked=source)
    with threadpool_limits(1):
        guesses = {name: BASELINES[name](problem) for name in settings.baselines}
    counted = edits_and_words(found.texts, reference)
    edits, words = counted
    lengths = np.array([length_of(text) for text in source], dtype=object)

    def by_length(texts: list[str], counted: tuple[np.ndarray, np.ndarray]) -> dict[str, dict[str, float]]:
        masks = {name: np.flatnonzero(lengths == name) for name in length_names()}
        return {
            f"{LENGTH}={name}": translation_metrics(
                [texts[row] for row in rows], [reference[row] for row in rows], (counted[0][rows], counted[1][rows])
            )
            for name, rows in masks.items()
            if len(rows)
        }

    measured = by_length(found.texts, counted)
    counted_of = {name: edits_and_words(guess, reference) for name, guess in guesses.items()}
    sliced = LENGTH in settings.slices
    groups = open_test_groups(prepared)
    errors_of = partial(example_errors, GATE_METRIC, rows=digest_of_rows(source, reference), position=groups)
    return Scores(
        metrics=translation_metrics(found.texts, reference, counted),
        baselines={name: translation_metrics(guess, reference, counted_of[name]) for name, guess in guesses.items()},
        slices=measured if sliced else {},
        details={
            "by_length": measured,
            "sentences_by_length": {name: int((lengths == name).sum()) for name in length_names()},
            "exact": int(sum(text == wanted for text, wanted in zip(found.texts, reference, strict=True))),
            "beam_width": translator.network.settings.beam_width,
            "length_penalty": translator.network.settings.length_penalty,
            "vocabulary": prepared.facts["vocabulary"],
        },
        num_examples=len(source),
        predictions=pd.DataFrame(
            {
                read: source,
                f"reference_{written}": reference,
                written: found.texts,
                "score": found.scores,
                "edits": edits,
                "words": words,
                **{f"baseline_{name}": guess for name, guess in guesses.items()},
            }
        ),
        units={GATE_METRIC: "edits per word"},
        intervals=bootstrap_intervals(scores_by_rows(found.texts, reference), groups),
        baseline_slices=(
            {name: by_length(guess, counted_of[name]) for name, guess in guesses.items()} if sliced else {}
        ),
        errors=[errors_of(*counted)],
        baseline_errors={name: [errors_of(*each)] for name, each in counted_of.items()},
        worst=worst_sentences(source, reference, found.texts, edits, words),
    )


def worst_sentences(
    source: list[str], reference: list[str], translation: list[str], edits: np.ndarray, words: np.ndarray
) -> pd.DataFrame:
    """Show the sentences that need the most edits per word, of those that are not very short."""
    rate = np.where(words >= READ_AS_LONG, edits / np.maximum(words, 1), -1.0)
    rows = np.argsort(-rate, kind="stable")[:WORST]
    return pd.DataFrame(
        {
            "source": [source[row] for row in rows],
            "reference": [reference[row] for row in rows],
            "translation": [translation[row] for row in rows],
            "edits": edits[rows].astype(int),
            "words": words[rows].astype(int),
        }
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: attention, quality by length, edits, vocabularies, training."""
    translator = TRANSLATION.load_predictor(model.path)
    del prepared
    return draw_all(
        {
            "attention": (
                partial(_draw_attention, scores=scores, translator=translator),
                "Where it looks while it writes",
            ),
            "by_length": (partial(_draw_by_length, scores=scores), "Quality by length of the source"),
            "edits": (partial(_draw_edits, scores=scores), "How many edits a translation needs"),
            "vocabulary": (
                partial(draw_vocabulary, reports=scores.details["vocabulary"]),
                "What the vocabularies know",
            ),
            "training": (partial(draw_training, model=model), "Training"),
        },
        folder,
    )


def _draw_attention(plt: Any, scores: Scores, translator: SentenceTranslator) -> tuple[Any, str]:
    """The first test sentences of middle length."""
    source = scores.predictions[translator.source_column]
    fitting = [
        row
        for row, length in enumerate(translator.encode(list(source.head(200))).lengths)
        if SHOWN_TOKENS[0] <= length <= SHOWN_TOKENS[1]
    ]
    texts = [source.iloc[row] for row in (fitting or range(len(source)))[:SHOWN]]
    found = translator.translate(texts)
    columns = min(2, len(texts))
    rows = -(-len(texts) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(6 * columns, 5.2 * rows), squeeze=False)
    for axis in axes.flat[len(texts) :]:
        axis.axis("off")
    for axis, text, codes in zip(axes.flat, texts, found.codes, strict=False):
        read, written, weights = translator.attention(text, codes)
        shades = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(read)), [plain(token) for token in read], rotation=60, ha="right")
        axis.set_yticks(range(len(written)), [plain(token) for token in written])
    figure.tight_layout()
    figure.colorbar(shades, ax=axes, shrink=0.5, label="weight; those of a row add up to 1")
    return figure, (
        "Each row is a token that was written, each column one that was read; the darker, the more it counted. A bar before a "
        "token stands for the space before it."
    )


def _draw_by_length(plt: Any, scores: Scores) -> tuple[Any, str]:
    by_length, counts = scores.details["by_length"], scores.details["sentences_by_length"]
    names = [name.removeprefix(f"{LENGTH}=") for name in by_length]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
    for axis, metric, label in zip(axes, ("bleu", GATE_METRIC), ("BLEU", "edits per word"), strict=True):
        axis.bar(range(len(names)), [values[metric] for values in by_length.values()], color=MODEL, width=0.7)
        axis.axhline(scores.metrics[metric], color=SOFT, linestyle=":", linewidth=1)
        axis.set_xticks(range(len(names)), [f"{name}\n({counts[name]})" for name in names])
        axis.set_ylabel(label)
    axes[0].set_xlabel("words of the source (sentences)")
    return figure, "By the number of words of the source; dotted: all test sentences."


def _draw_edits(plt: Any, scores: Scores) -> tuple[Any, str]:
    table = scores.predictions
    rate = np.minimum(table["edits"] / table["words"].clip(lower=1), 1.5)
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.hist(rate, bins=np.arange(0, 1.51, 0.1), color=MODEL, rwidth=0.9)
    axis.set_xlabel("edits per word of the reference (1.5 and more in the last bar)")
    axis.set_ylabel("sentences")
    exact = scores.details["exact"]
    return figure, f"{exact} of {len(table)} translations are the reference, letter by letter."
