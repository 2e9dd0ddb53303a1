"""Transcription: three words of tones, alone and in strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torchmetrics.functional.text import char_error_rate, word_error_rate

from tests.task_example import TaskExample
from tests.tiny_speech import tiny_speech, tiny_speech_table

PARTS = {"train": [0, 1, 2, 3, 4], "validation": [5], "test": [6, 7]}


def altered(part: str | None) -> pd.DataFrame:
    """In one part, every recording is backwards in the table: another sound, and another word beside it."""
    table = tiny_speech_table()
    if part is not None:
        rows = table["take"].isin(PARTS[part])
        table.loc[rows, ["audio", "said"]] = table.loc[rows, ["audio", "said"]].to_numpy()[::-1]
        table.loc[rows, "said"] = table.loc[rows, "said"].map({"low": "mid", "mid": "high", "high": "low"})
    return table


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    found, meant = predictions["answer"].tolist(), predictions["target"].tolist()
    return {
        "word_error_rate": float(word_error_rate(found, meant)),
        "character_error_rate": float(char_error_rate(found, meant)),
        "sentence_error_rate": float((predictions["answer"] != predictions["target"]).mean()),
    }


def request(
    table: pd.DataFrame, predictions: pd.DataFrame, scores: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = table[table["take"].isin(PARTS["test"])].iloc[::3].reset_index(drop=True)
    evaluated = predictions[predictions["kind"] == "recording"].set_index("path").loc[rows["path"]]
    return rows[["audio"]], evaluated.rename(columns={"answer": "said"})[["said", "log_prob"]].reset_index(drop=True)


def with_audio(frame: pd.DataFrame, content: object) -> pd.DataFrame:
    frame["audio"] = [*frame["audio"][:-1], content]
    return frame


EXAMPLE = TaskExample(
    sections=tiny_speech(),
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "no sound": (lambda frame: with_audio(frame, b"no sound"), "row 7"),
        "half of a header": (lambda frame: with_audio(frame, frame["audio"][0][:20]), "row 7"),
        "nothing": (lambda frame: with_audio(frame, None), "row 7"),
        "text": (lambda frame: with_audio(frame, "low"), "audio"),
    },
    answers={"beam_width": 4},
    tolerance=1e-2,  # a probability near 1 has a logarithm near 0
)
