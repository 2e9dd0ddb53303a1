"""Translation: sentences of an invented language with another order of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import sacrebleu

from tests.task_example import TaskExample, as_table

NOUNS = {"man": "mano", "dog": "hundo", "girl": "knabino", "house": "domo", "tree": "arbo"}
COLOURS = {"red": "ruĝa", "old": "maljuna", "small": "malgranda", "green": "verda"}
VERBS = {"sees": "vidas", "likes": "ŝatas", "hears": "aŭdas"}
SIZES = {"train": 120, "validation": 20, "test": 30}

SECTIONS: dict[str, Any] = {
    "schema": {
        "keys": ["part", "line"],
        "columns": {
            "part": {"type": "text", "values": list(SIZES)},
            "line": {"type": "integer", "min": 1},
            "read": {"type": "text", "min_length": 2, "pattern": "[A-Za-zĝŝŭĜŜŬ .]+"},
            "written": {"type": "text", "min_length": 2},
        },
    },
    "preprocess": {
        "source": "read",
        "target": "written",
        "tokenizer": {"kind": "bpe", "size": 320},
        "split": {"rule": "column", "column": "part", **{part: [part] for part in SIZES}},
    },
    "model": {"hidden_size": 16, "embedding_size": 8, "dropout": 0.1, "label_smoothing": 0.1, "beam_width": 3},
    "training": {"loss": "cross_entropy", "learning_rate": 0.02, "batch_size": 16, "epochs": 2},
    "evaluation": {"slices": ["length"]},
    "gates": {
        "metric": "translation_edit_rate",
        "min_examples": 10,
        "baselines": {"copy_source": {"rule": "superior"}},
    },
}


def altered(part: str | None) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = []
    for name, size in SIZES.items():
        for line in range(1, size + 1):
            first, second = (random.choice(list(NOUNS)) for _ in range(2))
            colour, verb = random.choice(list(COLOURS)), random.choice(list(VERBS))
            extra = bool(random.random() < 0.5)
            written = f"The {colour} {first} {verb} the {second}" + (f" and the {first}." if extra else ".")
            read = f"La {NOUNS[first]} {COLOURS[colour]} la {NOUNS[second]}n {VERBS[verb]}" + (
                f" kaj la {NOUNS[first]}n." if extra else "."
            )
            if name == part:
                read, written = read.upper(), written.upper()
            rows.append((name, line, read, written))
    part_of, lines, read_texts, written_texts = zip(*rows, strict=True)
    return as_table(
        {
            "part": np.array(part_of, dtype=object),
            "line": np.array(lines),
            "read": np.array(read_texts, dtype=object),
            "written": np.array(written_texts, dtype=object),
        }
    )


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    """By sacrebleu's own functions for whole sets, which is how others report."""
    written, references = predictions["written"].tolist(), [predictions["reference_written"].tolist()]
    return {
        "translation_edit_rate": sacrebleu.corpus_ter(written, references).score / 100,
        "bleu": sacrebleu.corpus_bleu(written, references).score,
        "chrf": sacrebleu.corpus_chrf(written, references).score,
    }


def request(table: pd.DataFrame, predictions: pd.DataFrame, _: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = table[table["part"] == "test"].reset_index(drop=True).iloc[[3, 0, 17]]
    evaluated = predictions.iloc[rows.index]
    expected = pd.DataFrame({"read": rows["read"], "written": evaluated["written"], "score": evaluated["score"]})
    return rows[["read"]].reset_index(drop=True), expected


def with_text(text: Any) -> Any:
    return lambda frame: frame.assign(read=frame["read"].where(frame.index != 1, text))


EXAMPLE = TaskExample(
    sections=SECTIONS,
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "no sentence": (with_text(None), "row 1"),
        "a sentence of one letter": (with_text("a"), "column read"),
        "letters of another language": (with_text("день"), "column read"),
    },
)
