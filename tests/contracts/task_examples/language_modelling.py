"""Language modelling: short sentences of ten words, character by character."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tests.task_example import TaskExample, as_table

WORDS = ("the", "old", "man", "sees", "a", "dog", "and", "runs.\n", "home", "Anna")
PLACES = {"validation": (0.0, 0.1), "train": (0.1, 0.5), "test": (0.5, 1.0)}
SAMPLE = {"temperature": 0.7, "max_length": 30, "seed": 7}

SECTIONS: dict[str, Any] = {
    "schema": {
        "keys": ["document"],
        "columns": {
            "document": {"type": "integer", "min": 1},
            "text": {"type": "text", "min_length": 5000, "pattern": r"[A-Za-z .\n]+"},
        },
    },
    "preprocess": {
        "text": "text",
        "tokenizer": {"kind": "character"},
        "piece": 16,
        "split": {"rule": "place", **{part: list(places) for part, places in PLACES.items()}},
    },
    "model": {"hidden_size": 12, "embedding_size": 6, "tie_weights": False, "output_dropout": 0.1},
    "training": {"loss": "cross_entropy", "learning_rate": 0.02, "batch_size": 8, "epochs": 1},
    "evaluation": {
        "max_order": 4,
        "slices": ["kind"],
        "prompt": "the old ",
        "temperatures": [SAMPLE["temperature"]],
        "sample_length": SAMPLE["max_length"],
    },
    "gates": {"metric": "bits_per_character", "min_examples": 4, "baselines": {"unigram": {"rule": "superior"}}},
}


def altered(part: str | None) -> pd.DataFrame:
    text = " ".join(np.random.default_rng(0).choice(WORDS, size=4000))
    if part is not None:
        first, after = (round(place * len(text)) for place in PLACES[part])
        text = text[:first] + text[first:after].swapcase() + text[after:]
    return as_table({"document": np.array([1]), "text": np.array([text], dtype=object)})


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    probs = [2.0**-bits for bits in predictions["bits"]]
    nats = -math.fsum(map(math.log, probs)) / len(probs)
    return {
        "bits_per_character": nats / math.log(2),
        "nats_per_character": nats,
        "perplexity": math.exp(nats),
        "accuracy": sum(predictions["likeliest"]) / len(predictions),
    }


def request(
    table: pd.DataFrame, predictions: pd.DataFrame, scores: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    del table, predictions
    sample = scores["details"]["samples"][0]
    asked = as_table({"text": np.array([sample["prompt"]] * 3, dtype=object)})
    return asked, as_table({"text": asked["text"].to_numpy(), "continuation": np.array([sample["text"]] * 3, object)})


def with_text(text: Any) -> Any:
    return lambda frame: frame.assign(text=frame["text"].where(frame.index != 1, text))


EXAMPLE = TaskExample(
    sections=SECTIONS,
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "no text": (with_text(None), "row 1"),
        "an empty text": (with_text(""), "column text"),
        "characters of another language": (with_text("день"), "column text"),
    },
    answers=SAMPLE,
)
