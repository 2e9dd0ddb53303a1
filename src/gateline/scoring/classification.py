"""Score a classifier and its baselines on the test part; of texts, draw what a reader of texts would want to see."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from gateline.baselines.classification import BASELINES, TextProblem
from gateline.comparison import digest_of_rows
from gateline.data.examples import open_examples, open_test_groups, slice_masks, slice_names
from gateline.data.prepared_windows import STATE, open_store
from gateline.data.splits import PARTS
from gateline.evaluation import Figure, Scores
from gateline.manifest import Artifact
from gateline.predictors.classification import class_errors
from gateline.scoring import INK, MODEL, SOFT, series_classification
from gateline.scoring.class_metrics import (
    class_intervals,
    confusion,
    draw_confusion,
    example_class_errors,
    measure,
    of_the_chosen,
)
from gateline.scoring.inside import ReadSequence, gates_picture, read_sequence
from gateline.scoring.pictures import draw_all, draw_training
from gateline.scoring.vocabulary import draw_vocabulary, plain
from gateline.table import TABLE, read_table
from gateline.tasks.classification import LABEL, Classification, ClassificationEvaluation

WORST = 20  # examples in the report
SHOWN_TEXTS = 6  # with the weights of attention
LENGTH_GROUPS = 6
LONGEST_SHOWN = 300  # characters of a text in the report
TOKENS_PER_LINE = 14


def score(task: Classification, settings: ClassificationEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Classify the test texts with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines, positive class, slices.
        prepared: texts and classes.
        model: weights and configuration.
    """
    state = prepared.read_json(STATE)
    if state["kind"] == "series":
        return series_classification.score(task, settings, prepared, model)
    classes, store, table = state["classes"], open_store(prepared), read_table(prepared.path / TABLE)
    rows = {part: open_examples(prepared, part) for part in PARTS}
    texts = table[state["encoding"]["column"]].to_numpy(dtype=object)
    labels = np.asarray(store.statics[LABEL])
    problem = TextProblem(
        {part: texts[some].tolist() for part, some in rows.items()},
        {part: labels[some] for part, some in rows.items()},
        len(classes),
    )
    classifier: Any = task.load_predictor(model.path)
    probabilities = classifier.probabilities(problem.texts["test"])
    target = problem.labels["test"]
    positive = classes.index(settings.positive) if settings.positive is not None else 1
    with threadpool_limits(1):  # sums over threads differ in their last bits
        baselines = {name: BASELINES[name](problem, "test") for name in settings.baselines}
    columns = {name: table[name].to_numpy() for name in table.columns}
    names = slice_names(columns, settings.slices, rows["test"])
    masks = slice_masks(columns, names, rows["test"])
    lengths = np.diff(store.offsets)[rows["test"]]
    digest = digest_of_rows(problem.texts["test"], [classes[label] for label in target])
    groups = open_test_groups(prepared)
    errors_of = partial(example_class_errors, task.gate_metrics, target=target, rows=digest, groups=groups)
    return Scores(
        metrics=measure(probabilities, target, positive),
        baselines={name: measure(guess, target, positive) for name, guess in baselines.items()},
        slices={name: measure(probabilities[mask], target[mask], positive) for name, mask in masks.items()},
        details={
            "classes": classes,
            "positive": classes[positive],
            "confusion": confusion(probabilities.argmax(axis=1), target, len(classes)).tolist(),
            "calibration": _calibration(probabilities, target),
            "error_by_length": _error_by_length(probabilities, target, lengths),
            "vocabulary": prepared.facts["vocabulary"],
            "validation": {"error_rate": _validation_error(classifier, problem)},
        },
        num_examples=len(target),
        predictions=_as_table(problem.texts["test"], target, probabilities, baselines, classes, rows["test"]),
        units={"log_loss": "nats"},
        intervals=class_intervals(probabilities, target, positive, groups),
        errors=errors_of(probabilities),
        baseline_errors={name: errors_of(guess) for name, guess in baselines.items()},
        worst=_worst(problem.texts["test"], target, probabilities, classes),
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: confusion, calibration, error by length, attention, gates, vocabulary, training."""
    from gateline.tasks.classification import TASK

    state = prepared.read_json(STATE)
    if state["kind"] == "series":
        return series_classification.figures(scores, prepared, model, folder)
    classifier: Any = TASK.load_predictor(model.path)
    pictures: dict[str, Any] = {
        "confusion": (partial(draw_confusion, scores=scores), "What was taken for what"),
        "calibration": (partial(_draw_calibration, scores=scores), "Are the probabilities right?"),
        "error_by_length": (partial(_draw_error_by_length, scores=scores), "Error by length of the text"),
    }
    texts = _shown_texts(scores.predictions, state["encoding"]["column"])
    # Where all texts are too long to show, nothing is explained.
    weights = classifier.explain(texts["text"].tolist())[1] if len(texts) else None
    if weights is not None:
        tokens = [
            classifier.encoding.tokenizer.pieces(text)[: len(row)]
            for text, row in zip(texts["text"], weights, strict=True)
        ]
        draw = partial(_draw_attention, texts=texts, tokens=tokens, weights=weights)
        pictures["attention"] = (draw, "What the model looked at")
    pictures |= gates_picture(classifier.network.input, _read_texts(classifier, scores.predictions), "tokens")
    reports = {state["encoding"]["column"]: scores.details["vocabulary"]}
    pictures["vocabulary"] = (partial(draw_vocabulary, reports=reports), "What the vocabulary knows")
    pictures["training"] = (partial(draw_training, model=model), "Training")
    return draw_all(pictures, folder)


def _validation_error(classifier: Any, problem: TextProblem) -> float:
    chosen = classifier.probabilities(problem.texts["validation"]).argmax(axis=1)
    return float((chosen != problem.labels["validation"]).mean())


def _calibration(probabilities: np.ndarray, target: np.ndarray) -> list[dict[str, float]]:
    """Compare, group by group, how sure the model was with how often it was right."""
    return of_the_chosen(probabilities, target).calibration_curve()


def _error_by_length(probabilities: np.ndarray, target: np.ndarray, lengths: np.ndarray) -> list[dict[str, float]]:
    wrong = probabilities.argmax(axis=1) != target
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_GROUPS + 1), method="nearest"))
    groups = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [
        {
            "from": int(lengths[groups == group].min()),
            "to": int(lengths[groups == group].max()),
            "texts": int((groups == group).sum()),
            "error_rate": float(wrong[groups == group].mean()),
        }
        for group in sorted(set(groups.tolist()))
    ]


def _as_table(
    texts: Any, target: np.ndarray, probabilities: np.ndarray, baselines: Any, classes: Any, rows: np.ndarray
) -> pd.DataFrame:
    names = np.array(classes, dtype=object)
    return pd.DataFrame(
        {
            "row": rows,
            "text": pd.array(texts, dtype="str"),
            "target": pd.array(names[target], dtype="str"),
            "answer": pd.array(names[probabilities.argmax(axis=1)], dtype="str"),
            **{f"probability_{name}": probabilities[:, place] for place, name in enumerate(classes)},
            **{
                f"baseline_{name}": pd.array(names[guess.argmax(axis=1)], dtype="str")
                for name, guess in baselines.items()
            },
        }
    )


def _worst(texts: Any, target: np.ndarray, probabilities: np.ndarray, classes: Any) -> pd.DataFrame:
    """The texts that the model was surest of and wrong about."""
    loss = class_errors("log_loss", probabilities, target)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != target)
    order = wrong[np.argsort(-loss[wrong], kind="stable")][:WORST]
    return pd.DataFrame(
        {
            "text": [str(texts[row])[:LONGEST_SHOWN] for row in order],
            "is": [classes[target[row]] for row in order],
            "answer": [classes[probabilities[row].argmax()] for row in order],
            "said to be": [f"{probabilities[row].max():.0%} sure" for row in order],
        }
    )


def _shown_texts(predictions: pd.DataFrame, column: str) -> pd.DataFrame:  # noqa: ARG001
    """Some of each: the surest right answers of every class, and the surest wrong ones; no long texts."""
    sure = predictions.filter(like="probability_").max(axis=1)
    short = predictions["text"].str.len() < LONGEST_SHOWN
    ranked = predictions.assign(sure=sure)[short].sort_values("sure", ascending=False, kind="stable")
    right = ranked[ranked["answer"] == ranked["target"]].groupby("target", sort=True).head(SHOWN_TEXTS // 3)
    wrong = ranked[ranked["answer"] != ranked["target"]].head(SHOWN_TEXTS // 3)
    return pd.concat([right.head(2 * SHOWN_TEXTS // 3), wrong], ignore_index=True)


def _read_texts(classifier: Any, texts: pd.DataFrame) -> list[ReadSequence]:
    """Look into the cell while it reads the first text that was told rightly, and the first that was not."""
    found, reader, encoding = [], classifier.network.input, classifier.encoding
    for _, rows in texts.groupby(texts["answer"] == texts["target"], sort=True):
        row = rows.iloc[0]
        read = torch.from_numpy(encoding.encode([row["text"]]).tokens.astype(np.int64))
        words = [plain(word) for word in encoding.tokenizer.pieces(row["text"])[: len(read)]]
        found.append(read_sequence(reader, read, f"is {row['target']}, answer {row['answer']}", words))
    return found[::-1]


def _draw_calibration(plt: Any, scores: Scores) -> tuple[Any, str]:
    curve = scores.details["calibration"]
    figure, axis = plt.subplots(figsize=(5, 4.4))
    axis.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    axis.plot(
        [point["probability"] for point in curve], [point["happened"] for point in curve], color=MODEL, marker="o"
    )
    axis.set_xlabel("how sure the model said it was")
    axis.set_ylabel("how often it was right")
    low = 1 / len(scores.details["classes"])
    axis.set_xlim(low - 0.05, 1.02)
    axis.set_ylim(0, 1.02)
    return (
        figure,
        "Answers in groups of equal size by how sure the model was; on the dotted line it was right as often as it said.",
    )


def _draw_error_by_length(plt: Any, scores: Scores) -> tuple[Any, str]:
    groups = scores.details["error_by_length"]
    figure, axis = plt.subplots(figsize=(8, 3.2))
    axis.bar(range(len(groups)), [100 * group["error_rate"] for group in groups], color=MODEL, width=0.7)
    axis.axhline(100 * scores.metrics["error_rate"], color=INK, linewidth=0.8, linestyle=":")
    axis.set_xticks(range(len(groups)), [f"{group['from']}-{group['to']}" for group in groups])
    axis.set_xlabel("tokens")
    axis.set_ylabel("wrong [%]")
    return figure, "Share of wrong answers by length of the text; dotted: over all texts."


def _draw_attention(plt: Any, texts: pd.DataFrame, tokens: Any, weights: Any) -> tuple[Any, str]:
    """Each text in lines of words, on the darker ground the more a word weighs."""
    lines = [[row[at : at + TOKENS_PER_LINE] for at in range(0, len(row), TOKENS_PER_LINE)] for row in tokens]
    height = sum(len(each) + 1.2 for each in lines)
    figure, axis = plt.subplots(figsize=(10, 0.34 * height + 0.2))
    axis.set_axis_off()
    axis.set_xlim(0, 100)
    axis.set_ylim(-height, 0.5)
    renderer, colours = figure.canvas.get_renderer(), plt.get_cmap("Blues")
    down = 0.0
    for number, row in enumerate(lines):
        verdict = f"is {texts['target'][number]}, answer {texts['answer'][number]}"
        right = texts["target"][number] == texts["answer"][number]
        axis.text(0, -down, verdict, color=SOFT if right else "#b3261e", fontsize=9, fontweight="bold", va="center")
        strongest, place = float(np.max(weights[number])), 0
        for line in row:
            down, across = down + 1, 0.0
            for token in line:
                strength = float(weights[number][place]) / strongest
                ground = {"facecolor": colours(0.75 * strength), "edgecolor": "none", "pad": 1.6}
                colour = "white" if strength > 0.7 else INK
                word = axis.text(across, -down, token, color=colour, bbox=ground, va="center", fontsize=10)
                across += word.get_window_extent(renderer).transformed(axis.transData.inverted()).width + 1.0
                place += 1
        down += 1.2
    return figure, (
        "Texts that the model was surest of: right ones of each class, then wrong ones (red). The darker a word, the more the "
        "attention weighs it, in proportion to the strongest of its text; the vocabulary does not know a word in brackets."
    )
