"""Frame prediction: small pictures of noise that drift across a small square."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from gateline.data.clips import ClipsOfDigits, DigitClips
from gateline.data.pictures import encode_png, read_pictures
from tests.task_example import TaskExample, as_table

PAST, FUTURE, SIZE, SIDE = 3, 2, 12, 5
PICTURES = {"train": (0, 8), "validation": (8, 11), "test": (11, 14)}
ASKED = 2  # clips of the request

CLIPS: dict[str, Any] = {
    "kind": "moving_digits",
    "size": SIZE,
    "seed": 6,
    **{part: {"pictures": list(rows), "clips": 12} for part, rows in PICTURES.items()},
}
SECTIONS: dict[str, Any] = {
    "schema": {
        "keys": ["number"],
        "columns": {
            "number": {"type": "integer", "min": 0},
            "height": {"type": "integer"},
            "width": {"type": "integer"},
            "image": {"type": "bytes"},
        },
    },
    "preprocess": {"past": PAST, "future": FUTURE, "clips": CLIPS},
    "model": {"hidden_size": 4, "patch": 2, "scheduled_sampling": {"begin": 0.5, "end": 0}},
    "training": {"loss": "binary_cross_entropy", "learning_rate": 0.02, "batch_size": 5, "epochs": 2},
    "evaluation": {"shown_clips": 1},
    "gates": {"metric": "squared_error", "min_examples": 4, "baselines": {"copy_last": {"rule": "superior"}}},
}


def altered(part: str | None) -> pd.DataFrame:
    pictures = np.random.default_rng(0).integers(30, 226, (14, SIDE, SIDE)).astype(np.uint8)
    if part is not None:
        first, after = PICTURES[part]
        pictures[first:after] = 255 - pictures[first:after]
    count = len(pictures)
    images = np.empty(count, dtype=object)
    images[:] = [picture.tobytes() for picture in pictures]
    sides = np.full(count, SIDE)
    return as_table({"number": np.arange(count), "height": sides, "width": sides}).assign(image=images)


def metrics(predictions: pd.DataFrame) -> dict[str, float]:
    foretold, came = (
        read_pictures(predictions[name].tolist(), height=SIZE, width=SIZE).astype(np.float64) / 255
        for name in ("image", "target")
    )
    squares = [float(sum(d * d for d in (one - other).ravel())) for one, other in zip(foretold, came, strict=True)]
    ratio = peak_signal_noise_ratio(
        torch.from_numpy(foretold), torch.from_numpy(came), data_range=1.0, dim=(1, 2, 3), reduction="none"
    )
    return {
        "squared_error": sum(squares) / len(squares),
        "absolute_error": float(np.abs(foretold - came).sum() / len(came)),
        "psnr": float(ratio.mean()),
    }


def request(
    table: pd.DataFrame, predictions: pd.DataFrame, scores: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    del scores
    columns = {str(name): table[name].to_numpy() for name in table}
    clips = ClipsOfDigits.of_table(columns, DigitClips.model_validate(CLIPS), PAST + FUTURE)
    past = clips.frames("test", np.arange(ASKED))[:, :PAST]
    names = np.array(["first", "second"], dtype=object)
    asked = as_table({"clip": np.repeat(names, PAST), "frame": np.tile(np.arange(1.0, PAST + 1), ASKED)})
    foretold = predictions[predictions["clip"] < ASKED]["image"]
    expected = {
        "clip": np.repeat(names, FUTURE),
        "frame": np.tile(np.arange(PAST + 1.0, PAST + FUTURE + 1), ASKED),
        "image": np.array([base64.b64encode(png).decode("ascii") for png in foretold], dtype=object),
    }
    return asked.assign(image=[encode_png(frame) for clip in past for frame in clip]), as_table(expected)


def with_value(column: str, value: Any) -> Any:
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object).tolist()
        values[1] = value
        return frame.assign(**{column: values})

    return spoil


EXAMPLE = TaskExample(
    sections=SECTIONS,
    altered=altered,
    metrics=metrics,
    request=request,
    bad_rows={
        "no picture": (with_value("image", None), "none in row 1"),
        "no picture that can be read": (with_value("image", b"nothing"), "column image, row 1"),
        "another size": (with_value("image", encode_png(np.zeros((1, 3, 3), dtype=np.uint8))), "column image"),
        "a frame twice": (with_value("frame", 1), "clip first"),
        "no number": (with_value("frame", None), "column frame"),
    },
)
