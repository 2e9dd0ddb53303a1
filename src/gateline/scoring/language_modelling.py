"""Score a language model and its baselines on the test stream, and draw what a person of the field would want to see."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.baselines.language_modelling import BASELINES, Problem
from gateline.comparison import ExampleErrors, example_errors
from gateline.data.splits import PARTS
from gateline.data.tokenizers import FittedTokenizer
from gateline.evaluation import Figure, Scores
from gateline.intervals import Interval, ratio_intervals, running_dependence
from gateline.manifest import Artifact
from gateline.models.decoding import SamplingSettings
from gateline.models.sequence_input import SequenceInput
from gateline.predictors.language_modelling import (
    KIND,
    METRICS,
    NATS_PER_BIT,
    PIECE,
    TEXTS,
    by_character,
    by_passage,
    first_characters,
    kinds_of,
    letters_of,
    passages,
    passages_in,
)
from gateline.scoring import INK, MODEL, SOFT
from gateline.scoring.inside import SHOWN_STEPS, ReadSequence, gates_picture, read_sequence
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.vocabulary import draw_vocabulary, plain
from gateline.tasks.language_modelling import TASK as LANGUAGE_MODELLING
from gateline.tasks.language_modelling import LanguageModelling, LanguageModellingEvaluation, open_stream

WORST = 8
"""Passages shown where the model did worst."""
SURPRISING = 15
"""Tokens listed that surprised the model most on average."""
OFTEN = 30
"""Times that such a token occurs at least."""
LINE = 64
"""Characters of a line in a picture."""
SAMPLE_SEED = 7


def score(
    task: LanguageModelling, settings: LanguageModellingEvaluation, prepared: Artifact, model: Artifact
) -> Scores:
    """Foretell the test stream with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines, slices, samples.
        prepared: streams and texts.
        model: weights and configuration.
    """
    writer = task.load_predictor(model.path)
    tokenizer = writer.tokenizer
    streams = {part: np.asarray(open_stream(prepared, part)) for part in PARTS}
    tokens = streams["test"]
    texts = prepared.read_json(TEXTS)["test"]
    problem = Problem(streams=streams, num_tokens=tokenizer.size, max_order=settings.max_order)
    nats, hits = writer.surprise(tokens)
    guesses = {name: BASELINES[name](problem) for name in settings.baselines}
    letters = letters_of(tokenizer, texts)
    kinds = kinds_of(letters)
    first = kinds[first_characters(tokenizer, tokens)][1:]  # the kind that each token begins with
    kinds = kinds[1:]
    sliced = KIND in settings.slices
    spread = partial(by_character, tokenizer, tokens)

    def by_kind(values: np.ndarray, right: np.ndarray | None = None) -> dict[str, dict[str, float]]:
        nats_of = spread(values)
        return {
            f"{KIND}={kind}": measure(
                nats_of[kinds == kind], values[first == kind], None if right is None else right[first == kind]
            )
            for kind in sorted(set(kinds.tolist()))
        }

    def errors_of(values: np.ndarray) -> list[ExampleErrors]:
        return [by_passage(tokenizer, tokens, values, metric, texts) for metric in METRICS]

    best = min(guesses, key=lambda name: guesses[name].nats.sum())
    validation, _ = writer.surprise(streams["validation"])
    return Scores(
        metrics=measure(spread(nats), nats, hits),
        baselines={name: measure(spread(guess.nats), guess.nats) for name, guess in guesses.items()},
        slices=by_kind(nats, hits) if sliced else {},
        details={
            "baseline_order": {name: guess.settings["order"] for name, guess in guesses.items()},
            "best_baseline": best,
            "surprise_by_place": [float(value) for value in writer.surprise_by_place(tokens)],
            "surprising": surprising(tokenizer, tokens, nats),
            "samples": [
                {
                    "temperature": temperature,
                    "prompt": settings.prompt,
                    "text": writer.write(
                        settings.prompt,
                        SamplingSettings(temperature=temperature, max_length=settings.sample_length),
                        seed=SAMPLE_SEED,
                    ),
                }
                for temperature in settings.temperatures
            ],
            "vocabulary": prepared.facts["vocabulary"],
            "validation": {
                "nats_per_character": float(by_character(tokenizer, streams["validation"], validation).mean())
            },
        },
        num_examples=passages_in(tokenizer, tokens),
        predictions=pd.DataFrame(
            {
                "place": np.arange(1, len(tokens)),
                "token": np.array([tokenizer.shown(code) for code in range(tokenizer.size)], dtype=object)[tokens[1:]],
                "bits": nats / NATS_PER_BIT,
                "likeliest": hits,
                **{f"baseline_{name}": guess.nats / NATS_PER_BIT for name, guess in guesses.items()},
            }
        ),
        units={"nats_per_character": "nats", "bits_per_character": "bits"},
        intervals=token_intervals(nats, hits, token_passages(tokenizer, tokens, len(letters))),
        baseline_slices={name: by_kind(guess.nats) for name, guess in guesses.items()} if sliced else {},
        errors=errors_of(nats),
        baseline_errors={name: errors_of(guess.nats) for name, guess in guesses.items()},
        worst=worst_passages(letters, spread(nats), spread(guesses[best].nats), best),
    )


def measure(by_letter: np.ndarray, by_token: np.ndarray, hits: np.ndarray | None = None) -> dict[str, float]:
    """All metrics of some characters, and of the tokens that begin there.

    Args:
        by_letter: float64 (C,), surprise of the characters in nats.
        by_token: float64 (N,), surprise of the tokens; where there are none, only characters are measured.
        hits: bool (N,), whether it was the likeliest; None leaves `accuracy` out.
    """
    per_character = float(by_letter.mean())
    measured = {"bits_per_character": per_character / NATS_PER_BIT, "nats_per_character": per_character}
    if len(by_token):
        measured["perplexity"] = float(np.exp(by_token.mean()))
        if hits is not None:
            measured["accuracy"] = float(hits.mean())
    return measured


def token_passages(tokenizer: FittedTokenizer, tokens: np.ndarray, num_letters: int) -> np.ndarray:
    """Say which passage each token but the first begins in, or stands in the middle of a character of: int (N - 1,)."""
    # Characters are counted from the second on; a first one of several bytes has tokens that stand before it.
    return passages(num_letters)[np.maximum(first_characters(tokenizer, tokens)[1:] - 1, 0)]


def token_intervals(nats: np.ndarray, hits: np.ndarray, passage: np.ndarray) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of perplexity and accuracy, passages in blocks as `by_passage` has them.

    Args:
        nats: float64 (N,), surprise of the tokens.
        hits: bool (N,), whether each was the likeliest.
        passage: int (N,), the passage that each begins in.
    """
    ones, dependence = np.ones(len(nats)), running_dependence(int(passage.max(initial=-1)) + 1)
    found = ratio_intervals(
        example_errors(name, values, ones, rows="", position=passage, dependence=dependence)
        for name, values in (("perplexity", nats), ("accuracy", hits))
    )
    if "perplexity" in found:
        low, high = found["perplexity"]
        found["perplexity"] = float(np.exp(low)), float(np.exp(high))
    return found


def surprising(tokenizer: FittedTokenizer, tokens: np.ndarray, nats: np.ndarray) -> list[dict[str, Any]]:
    """List the tokens that surprise most on average, of those that occur often."""
    count = np.bincount(tokens[1:], minlength=tokenizer.size)
    bits = np.bincount(tokens[1:], weights=nats / NATS_PER_BIT, minlength=tokenizer.size)
    often = np.flatnonzero(count >= OFTEN)
    order = often[np.argsort(-bits[often] / count[often], kind="stable")][:SURPRISING]
    return [
        {"token": tokenizer.shown(int(code)), "bits": float(bits[code] / count[code]), "count": int(count[code])}
        for code in order
    ]


def worst_passages(letters: Sequence[str], nats: np.ndarray, baseline: np.ndarray, name: str) -> pd.DataFrame:
    """Show the passages that the model foretold worst, beside the best baseline.

    Args:
        letters: C characters of the stream.
        nats: float64 (C - 1,), surprise of each but the first.
        baseline: float64 (C - 1,), the same of the baseline.
        name: of the baseline.
    """
    passage = passages(len(letters))
    length = np.bincount(passage)
    bits, theirs = (np.bincount(passage, weights=values / NATS_PER_BIT) / length for values in (nats, baseline))
    bits[length < PIECE / 2] = 0  # the rest at the end says little
    worst = np.argsort(-bits, kind="stable")[:WORST]
    return pd.DataFrame(
        {
            "passage": worst,
            "text": ["".join(passage_of(letters, number)) for number in worst],
            "bits_per_character": bits[worst],
            name: theirs[worst],
        }
    )


def passage_of(letters: Sequence[str], number: int) -> Sequence[str]:
    """Take the characters of one passage."""
    return letters[1 + number * PIECE : 1 + (number + 1) * PIECE]


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: samples, a passage by surprise, surprise by place and by token, gates, vocabulary, training."""
    writer = LANGUAGE_MODELLING.load_predictor(model.path)
    tokenizer, reader = writer.tokenizer, writer.network.input
    tokens, texts = np.asarray(open_stream(prepared, "test")), prepared.read_json(TEXTS)["test"]
    bits = by_character(tokenizer, tokens, scores.predictions["bits"].to_numpy() * NATS_PER_BIT) / NATS_PER_BIT
    return draw_all(
        {
            "samples": (partial(_draw_samples, scores=scores), "What it writes"),
            "passages": (
                partial(_draw_passages, worst=scores.worst, letters=letters_of(tokenizer, texts), bits=bits),
                "Where it is surprised",
            ),
            "by_place": (partial(_draw_by_place, scores=scores), "Surprise by how much was read"),
            **gates_picture(reader, [_read_beginning(reader, tokenizer, tokens)], "tokens"),
            "by_token": (partial(_draw_by_token, scores=scores), "The most surprising tokens"),
            "vocabulary": (
                partial(draw_vocabulary, reports={"text": scores.details["vocabulary"]}),
                "What the vocabulary knows",
            ),
            "training": (partial(draw_training, model=model), "Training"),
        },
        folder,
    )


def _read_beginning(reader: SequenceInput, tokenizer: FittedTokenizer, tokens: np.ndarray) -> ReadSequence:
    """Look into the cell while it reads the beginning of the test part."""
    begin = tokens[:SHOWN_STEPS].astype(np.int64)
    words = [_plain(tokenizer.shown(int(token))) for token in begin]
    return read_sequence(reader, torch.from_numpy(begin), "the beginning of the test part", words)


def _plain(text: str) -> str:
    """Keep what the font of a picture can draw, and what it would take for a formula as it stands."""
    return plain("".join(letter if letter.isprintable() or letter == "\n" else "\N{MIDDLE DOT}" for letter in text))


def _wrapped(text: str) -> list[str]:
    return [piece for line in text.split("\n") for piece in (textwrap.wrap(line, LINE) or [""])]


def _draw_samples(plt: Any, scores: Scores) -> tuple[Any, str]:
    samples = scores.details["samples"]
    lines = [_wrapped(sample["prompt"] + sample["text"]) for sample in samples]
    figure, axes = plt.subplots(
        1, len(samples), figsize=(5.2 * len(samples), 0.6 + 0.19 * max(map(len, lines))), squeeze=False
    )
    for axis, sample, shown in zip(axes[0], samples, lines, strict=True):
        axis.axis("off")
        axis.set_title(f"temperature {sample['temperature']:g}")
        axis.text(
            0, 1, _plain("\n".join(shown)), family="monospace", size=8, va="top", transform=axis.transAxes, color=INK
        )
    return figure, (
        f"Drawn token by token after the beginning “{samples[0]['prompt'].strip()}”. A low temperature keeps to what is most "
        "probable, a high one dares more."
    )


def _lay_out(letters: Sequence[str]) -> list[tuple[int, int]]:
    """Say on which line and in which column each character of a passage stands; a line ends behind `LINE` characters."""
    places, line, column = [], 0, 0
    for letter in letters:
        if letter == "\n" or column >= LINE:
            line, column = line + 1, 0
        places.append((line, column))
        column += letter != "\n"
    return places


def _draw_passages(plt: Any, worst: pd.DataFrame, letters: Sequence[str], bits: np.ndarray) -> tuple[Any, str]:
    """The worst passage and one in the middle, each character coloured by its surprise."""
    passage = passages(len(letters))
    mean = np.bincount(passage, weights=bits)
    middle = int(np.argsort(mean, kind="stable")[len(mean) // 2])
    shown = {"the worst passage": int(worst["passage"].iloc[0]), "a passage in the middle": middle}
    laid = {number: _lay_out(passage_of(letters, number)) for number in shown.values()}
    lines = 1 + max(line for places in laid.values() for line, _ in places)
    figure, axes = plt.subplots(1, len(shown), figsize=(12, 0.4 + 0.2 * lines))
    for axis, (title, number) in zip(axes, shown.items(), strict=True):
        axis.set_title(f"{title}: {bits[passage == number].mean():.2f} bits per character")
        axis.set(xlim=(0, LINE), ylim=(lines, 0))
        axis.axis("off")
        signs = zip(passage_of(letters, number), bits[passage == number], laid[number], strict=True)
        for letter, value, (line, column) in signs:
            if letter == "\n":
                continue
            strength = min(1.0, value / 8)
            axis.add_patch(plt.Rectangle((column, line), 1, 1, color=MODEL, alpha=0.75 * strength, linewidth=0))
            axis.text(
                column + 0.5, line + 0.75, _plain(letter or " "), family="monospace", size=8, ha="center", color=INK
            )
    return figure, "The darker a character, the more it surprised the model (8 bits and more are darkest)."


def _draw_by_place(plt: Any, scores: Scores) -> tuple[Any, str]:
    curve = np.array(scores.details["surprise_by_place"]) / NATS_PER_BIT
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.plot(np.arange(1, len(curve) + 1), curve, color=MODEL, linewidth=1.4)
    bits = scores.predictions
    for place, column in enumerate(name for name in bits.columns if name.startswith("baseline_")):
        axis.axhline(
            bits[column].mean(),
            color=SOFT,
            linewidth=1,
            linestyle=["-", "--", ":"][place % 3],
            label=column.removeprefix("baseline_").replace("_", " "),
        )
    axis.set_xscale("log")
    axis.set_xlabel("tokens read before")
    axis.set_ylabel("bits per token")
    axis.set_ylim(bottom=0)
    axis.legend()
    return figure, (
        f"Mean surprise on the test part where reading begins anew every {PIECE} tokens: how much the past helps. The lines are "
        "the baselines."
    )


def _draw_by_token(plt: Any, scores: Scores) -> tuple[Any, str]:
    rows = scores.details["surprising"]
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.bar(range(len(rows)), [row["bits"] for row in rows], color=MODEL, width=0.75)
    axis.set_xticks(range(len(rows)), [_plain(row["token"]) for row in rows], family="monospace")
    axis.set_ylabel("bits")
    return figure, f"Tokens of the test part with the highest mean surprise, of those that occur {OFTEN} times or more."
