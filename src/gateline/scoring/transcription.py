"""Score a transcriber and its baselines on the test part, and draw what someone who works with speech would want to see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from gateline.baselines.transcription import BASELINES, SpeechProblem
from gateline.comparison import ExampleErrors, digest_of_rows, example_errors
from gateline.data.examples import open_examples, slice_masks, slice_names
from gateline.data.prepared_windows import STATE
from gateline.data.splits import PARTS
from gateline.data.store import SequenceStore
from gateline.data.tokenizers import tokenizer_from_json
from gateline.data.utterances import FEATURES, LABELS, RECORDING, SOUND, STRING
from gateline.edit_distance import align
from gateline.evaluation import Figure, Scores
from gateline.manifest import Artifact
from gateline.predictors.transcription import RecordingTranscriber, transcript_errors
from gateline.scoring import INK, MODEL, SOFT
from gateline.scoring.pictures import draw_all, draw_training
from gateline.table import TABLE, read_table
from gateline.tasks.transcription import GATE_METRICS, KIND, Transcription, TranscriptionEvaluation

WORDS, GREEDY = "word_error_rate", "greedy_word_error_rate"
WORST = 20  # utterances in the report
SHOWN_WORDS = 20  # in the picture of what was taken for what
NOTHING = "–"
"""What stands beside a word that was left out, or that was not said."""


def score(task: Transcription, settings: TranscriptionEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Transcribe the test part with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines and slices.
        prepared: utterances and transcripts.
        model: weights and configuration.
    """
    transcriber = task.load_predictor(model.path)
    table = read_table(prepared.path / TABLE)
    meant = [transcriber.normalise(text) for text in table[transcriber.text]]
    recordings = table[transcriber.audio].tolist()
    heard = transcriber.transcribe(recordings, transcriber.beam_width)
    greedy = transcriber.transcribe(recordings, 1).texts
    problem = _problem(prepared)
    with threadpool_limits(1):  # sums over threads differ in their last bits
        guesses = {name: BASELINES[name](problem, "test") for name in settings.baselines}
    columns = {name: table[name].to_numpy() for name in table.columns}
    everything = np.arange(len(table))
    masks = slice_masks(columns, slice_names(columns, settings.slices, everything), everything)
    strings = bool(prepared.read_json(STATE)["strings"])
    kinds = columns[KIND] if strings else None
    errors_of = partial(errors_by_pool, meant, pools=columns["pool"], kinds=kinds)
    pairs = [
        pair for left, right in zip(meant, heard.texts, strict=True) for pair in align(left.split(), right.split())
    ]
    return Scores(
        metrics=measure(meant, heard.texts, kinds) | {GREEDY: rate(WORDS, meant, greedy)},
        baselines={name: measure(meant, guess, kinds) for name, guess in guesses.items()},
        slices={
            name: {metric: rate(metric, _where(meant, mask), _where(heard.texts, mask)) for metric in GATE_METRICS}
            for name, mask in masks.items()
        },
        details={
            "edits": {
                "right": sum(left == right for left, right in pairs),
                "substituted": sum(left != right and left is not None and right is not None for left, right in pairs),
                "left_out": sum(right is None for _, right in pairs),
                "inserted": sum(left is None for left, _ in pairs),
            },
            "confusion": _confusion(pairs),
            "by_length": _by_length(meant, heard.texts),
            "beam_width": transcriber.beam_width,
            "kinds": prepared.facts["kinds"],
            "hours": prepared.facts["hours"],
            "vocabulary": prepared.facts["vocabulary"],
        },
        num_examples=len(table),
        predictions=_as_table(table, transcriber, meant, heard.texts, heard.log_probs, greedy, guesses),
        errors=[*errors_of(heard.texts), replace(errors_of(greedy)[0], metric=GREEDY)],
        baseline_errors={name: errors_of(guess) for name, guess in guesses.items()},
        worst=_worst(meant, heard.texts, table, settings.slices),
    )


def rate(metric: str, meant: Sequence[str], found: Sequence[str]) -> float:
    """Divide what is wrong in all transcripts by what was said in all of them; NaN where nothing was."""
    total, count = transcript_errors(metric, meant, found)
    return float(total.sum() / count.sum()) if count.sum() else float("nan")


def measure(meant: Sequence[str], found: Sequence[str], kinds: np.ndarray | None) -> dict[str, float]:
    """Measure transcripts; with `kinds` (R,) also strings and single recordings apart, where there are some."""
    metrics = {metric: rate(metric, meant, found) for metric in GATE_METRICS}
    for kind in () if kinds is None else (STRING, RECORDING):
        mask = np.asarray(kinds) == kind
        if mask.any():
            metrics[f"{kind}_{WORDS}"] = rate(WORDS, _where(meant, mask), _where(found, mask))
    return metrics


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: what the model hears when, confusion, error by length and slice, training."""
    from gateline.tasks.transcription import TASK

    transcriber = TASK.load_predictor(model.path)
    table = read_table(prepared.path / TABLE)
    pictures: dict[str, Any] = {
        "posteriors": (
            partial(_draw_posteriors, scores=scores, transcriber=transcriber, recordings=table[transcriber.audio]),
            "What the model hears, and when",
        ),
        "confusion": (partial(_draw_confusion, scores=scores), "What was taken for what"),
        "by_length": (partial(_draw_by_length, scores=scores), "Error by number of words"),
    }
    if scores.slices:
        pictures["by_slice"] = (partial(_draw_by_slice, scores=scores), "Error by slice")
    pictures["training"] = (partial(draw_training, model=model), "Training")
    return draw_all(pictures, folder)


def _problem(prepared: Artifact) -> SpeechProblem:
    sound, labels = SequenceStore.load(prepared.path / SOUND), SequenceStore.load(prepared.path / LABELS)
    tokenizer = tokenizer_from_json(prepared.read_json(STATE)["tokenizer"])
    numbers = {part: open_examples(prepared, part).tolist() for part in PARTS}

    def row(store: SequenceStore, name: str, number: int) -> np.ndarray:
        return np.asarray(store.arrays[name][store.offsets[number] : store.offsets[number + 1]])

    return SpeechProblem(
        {part: [row(sound, FEATURES, n) for n in some] for part, some in numbers.items()},
        {part: [tokenizer.decode(row(labels, LABELS, n)) for n in some] for part, some in numbers.items()},
    )


def _where(texts: Sequence[str], mask: np.ndarray) -> list[str]:
    return [text for text, there in zip(texts, mask.tolist(), strict=True) if there]


def errors_by_pool(
    meant: Sequence[str], found: Sequence[str], pools: np.ndarray, kinds: np.ndarray | None = None
) -> list[ExampleErrors]:
    """Measure each transcript by the metrics of `measure`; a pool's utterances share recordings or a speaker, so they are resampled together."""
    sums = {metric: transcript_errors(metric, meant, found) for metric in GATE_METRICS}
    for kind in () if kinds is None else (STRING, RECORDING):
        mask = np.asarray(kinds) == kind
        if mask.any():
            sums[f"{kind}_{WORDS}"] = tuple(np.where(mask, each, 0) for each in sums[WORDS])  # type: ignore[assignment]
    rows = digest_of_rows(meant)
    return [example_errors(metric, *each, position=pools, rows=rows) for metric, each in sums.items()]


def _confusion(pairs: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Count what was taken for what, of the most frequent words; the rest is not in the picture."""
    words = Counter(word for pair in pairs for word in set(pair) if word is not None)
    shown = {word for word, _ in sorted(words.items(), key=lambda each: (-each[1], each[0]))[:SHOWN_WORDS]}
    shown.add(NOTHING)
    counts = Counter((left or NOTHING, right or NOTHING) for left, right in pairs)
    return [
        {"said": left, "heard": right, "count": count}
        for (left, right), count in sorted(counts.items())
        if left in shown and right in shown
    ]


def _by_length(meant: Sequence[str], found: Sequence[str]) -> list[dict[str, float]]:
    lengths = np.array([len(text.split()) for text in meant])
    return [
        {
            "words": int(length),
            "utterances": int((lengths == length).sum()),
            "word_error_rate": rate(
                "word_error_rate", _where(meant, lengths == length), _where(found, lengths == length)
            ),
        }
        for length in np.unique(lengths)
    ]


def _as_table(
    table: pd.DataFrame,
    transcriber: RecordingTranscriber,
    meant: Sequence[str],
    found: Sequence[str],
    log_probs: np.ndarray,
    greedy: Sequence[str],
    guesses: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    beside = table.drop(columns=[transcriber.audio, transcriber.text])
    wrong, words = transcript_errors("word_error_rate", meant, found)
    answers = {
        "utterance": np.arange(len(table)),
        "target": pd.array(list(meant), dtype="str"),
        "answer": pd.array(list(found), dtype="str"),
        "log_prob": log_probs,
        "greedy": pd.array(list(greedy), dtype="str"),
        "edits": wrong.astype(np.int64),
        "words": words.astype(np.int64),
        **{f"baseline_{name}": pd.array(list(guess), dtype="str") for name, guess in guesses.items()},
    }
    beside = beside.drop(columns=[name for name in answers if name in beside.columns])
    return pd.concat([pd.DataFrame(answers), beside], axis=1)


def _worst(meant: Sequence[str], found: Sequence[str], table: pd.DataFrame, slices: Sequence[str]) -> pd.DataFrame:
    """The utterances with the most wrong words, in proportion first."""
    wrong, words = transcript_errors("word_error_rate", meant, found)
    order = np.lexsort([np.arange(len(wrong)), -wrong / np.maximum(words, 1), -wrong])
    rows = [int(row) for row in order[:WORST] if wrong[row]]
    return pd.DataFrame(
        {
            "said": [meant[row] for row in rows],
            "heard": [found[row] for row in rows],
            "wrong words": [f"{wrong[row]:.0f} of {words[row]:.0f}" for row in rows],
            **{name: [str(table[name].iloc[row]) for row in rows] for name in slices},
        }
    )


def _shown_utterances(predictions: pd.DataFrame, recordings: pd.Series) -> list[int]:
    """One that was heard without a mistake, of a middling length, and the two with the most."""
    inside = recordings.map(len) <= recordings.map(len).quantile(0.9)
    right = predictions[(predictions["edits"] == 0) & inside]
    wrong = predictions[predictions["edits"] > 0].sort_values(["edits", "utterance"], ascending=[False, True])
    longest = right.sort_values(["words", "utterance"], ascending=[False, True]).head(3 - min(2, len(wrong)))
    return [*longest["utterance"].tolist(), *wrong.head(2)["utterance"].tolist()]


def _draw_posteriors(
    plt: Any, scores: Scores, transcriber: RecordingTranscriber, recordings: pd.Series
) -> tuple[Any, str]:
    """Features above, probabilities of the labels below, on the same axis of time."""
    shown = _shown_utterances(scores.predictions, recordings)
    figure = plt.figure(figsize=(10, 3.3 * len(shown)))
    outer = figure.add_gridspec(len(shown), 1, hspace=0.42)
    for place, number in enumerate(shown):
        above, below = outer[place].subgridspec(2, 1, height_ratios=[1.5, 1], hspace=0.12).subplots()
        row = scores.predictions.iloc[number]
        above.set_title(f"said: {row['target']}\nheard: {row['answer']}", fontsize=9)
        _draw_utterance(above, below, transcriber, transcriber.features(recordings.iloc[number], "recording"))
    below.set_xlabel("seconds")
    return figure, (
        "Log-mel features of an utterance that was heard rightly, then of those with the most wrong words; below each, how "
        "probable the model held every label at each moment (grey: the blank, nothing new). CTC is free to say a label once it is "
        "sure of it: late in the word, or at its beginning where the network reads in both directions."
    )


def _draw_utterance(above: Any, below: Any, transcriber: RecordingTranscriber, features: np.ndarray) -> None:
    posteriors = transcriber.posteriors(features)  # (T, V)
    seconds = len(features) * transcriber.settings.step_seconds
    above.imshow(features.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, features.shape[1]))
    above.set_ylabel("mel band")
    above.tick_params(labelbottom=False)
    moments = (np.arange(len(posteriors)) + 0.5) * seconds / len(posteriors)
    below.fill_between(moments, posteriors[:, 0], color=SOFT, alpha=0.3, linewidth=0)
    labels = posteriors.argmax(axis=1)
    colours = {}
    for label in sorted(set(labels.tolist()) - {0}):
        (line,) = below.plot(moments, posteriors[:, label], linewidth=1.4)
        colours[label] = line.get_color()
    begins = np.flatnonzero(np.diff(labels, prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(labels)], strict=True):
        if label := int(labels[begin]):
            peak = begin + int(posteriors[begin:end, label].argmax())
            name = transcriber.tokenizer.shown(label)
            below.text(moments[peak], 1.03, name, color=colours[label], fontsize=8, ha="center", clip_on=False)
    below.set_ylim(0, 1.18)
    below.set_xlim(0, seconds)
    below.set_ylabel("probability")


def _draw_confusion(plt: Any, scores: Scores) -> tuple[Any, str]:
    cells = scores.details["confusion"]
    names = sorted(
        {cell["said"] for cell in cells} | {cell["heard"] for cell in cells}, key=lambda n: (n == NOTHING, n)
    )
    counts = np.zeros((len(names), len(names)))
    for cell in cells:
        counts[names.index(cell["said"]), names.index(cell["heard"])] = cell["count"]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.42 * len(names)
    figure, axis = plt.subplots(figsize=(size + 0.5, size))
    axis.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the root, so that a few mistakes can be seen
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.4 else INK
        axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("heard")
    axis.set_ylabel("said")
    return figure, (
        f"Words as they were said (row) and heard (column), laid side by side with the fewest edits; {NOTHING} in a row: heard "
        "without being said; in a column: left out."
    )


def _draw_by_length(plt: Any, scores: Scores) -> tuple[Any, str]:
    groups = scores.details["by_length"]
    figure, axis = plt.subplots(figsize=(8, 3.2))
    axis.bar(
        [str(group["words"]) for group in groups], [100 * group["word_error_rate"] for group in groups], color=MODEL
    )
    axis.axhline(100 * scores.metrics["word_error_rate"], color=INK, linewidth=0.8, linestyle=":")
    axis.set_xlabel("words of the utterance")
    axis.set_ylabel("wrong words [%]")
    return figure, "Word error rate by how many words an utterance has; dotted: over all of them."


def _draw_by_slice(plt: Any, scores: Scores) -> tuple[Any, str]:
    names = list(scores.slices)
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.3 * len(names)))
    axis.barh(names, [100 * scores.slices[name]["word_error_rate"] for name in names], color=MODEL)
    axis.axvline(100 * scores.metrics["word_error_rate"], color=INK, linewidth=0.8, linestyle=":")
    axis.invert_yaxis()
    axis.set_xlabel("wrong words [%]")
    return figure, "Word error rate of each slice; dotted: over all utterances."
