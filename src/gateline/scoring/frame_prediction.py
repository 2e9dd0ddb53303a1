"""Score a frame predictor and its baselines on the test clips, and draw what came beside what was foretold.

E test clips, B of them at a time, T past frames, U frames to foretell, C channels, Y rows, X columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.baselines.frame_prediction import BASELINES
from gateline.comparison import ExampleErrors, example_errors
from gateline.data.clips import as_bytes
from gateline.data.pictures import encode_png
from gateline.data.prepared_clips import open_dataset, read_settings
from gateline.evaluation import Figure, Scores
from gateline.frame_metrics import FRAME_METRICS, SUMMED, frame_metrics
from gateline.intervals import Interval, ratio_intervals
from gateline.manifest import Artifact
from gateline.predictors.frame_prediction import FrameForecaster, batches, dependence_of, motion_of, slices_of
from gateline.scoring import INK, MODEL
from gateline.scoring.pictures import draw_all, draw_training
from gateline.tasks.frame_prediction import TASK as FRAME_PREDICTION
from gateline.tasks.frame_prediction import FramePrediction, FramePredictionEvaluation

UNITS = {"squared_error": "per frame", "absolute_error": "per frame", "psnr": "dB"}
WORST = 10  # clips in the table of the worst
PICTURED_CLIPS = 100
"""Whose foretold and true frames stand in the table of predictions."""
MOST_SHOWN_FRAMES = 10  # of the past and of what came, in a row of the pictures

Measured = Mapping[str, np.ndarray]
"""float64 (E, U) for each of FRAME_METRICS."""


def score(task: FramePrediction, settings: FramePredictionEvaluation, prepared: Artifact, model: Artifact) -> Scores:
    """Foretell the test clips with the model and with every baseline.

    Args:
        task: the task.
        settings: baselines and slices.
        prepared: clips.
        model: weights and configuration.
    """
    forecaster = task.load_predictor(model.path)
    methods = {"model": forecaster.foretell} | {name: BASELINES[name] for name in settings.baselines}
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {m: [] for m in FRAME_METRICS} for name in methods}
    motion, kept, digest = [], _Pictures(), hashlib.sha256()
    for batch in batches(open_dataset(prepared, "test")):
        motion.append(motion_of(batch.past))
        digest.update(as_bytes(torch.cat([batch.past, batch.future], dim=1)).tobytes())
        for name, method in methods.items():
            foretold = method(batch.past, forecaster.future)
            measured = frame_metrics(foretold, batch.future)
            if name == "model":
                kept.keep(foretold, batch.future)
            for metric, values in measured.items():
                found[name][metric].append(values.numpy())
    scored = {name: {m: np.concatenate(parts) for m, parts in of.items()} for name, of in found.items()}
    mine = scored.pop("model")
    slices = slices_of(np.concatenate(motion)) if settings.slices else {}
    num_clips = len(mine["squared_error"])
    dependence = dependence_of(read_settings(prepared), num_clips)
    errors_of = partial(clip_errors, rows=digest.hexdigest(), dependence=dependence)
    return Scores(
        metrics=_means(mine),
        baselines={name: _means(theirs) for name, theirs in scored.items()},
        slices={
            name: _means({m: values[mask] for m, values in mine.items()}) for name, mask in slices.items() if mask.any()
        },
        details={
            "by_step": {
                metric: {"model": _by_step(mine[metric])}
                | {name: _by_step(theirs[metric]) for name, theirs in scored.items()}
                for metric in FRAME_METRICS
            },
            "validation": {"squared_error": _validation_error(forecaster, prepared)},
            "shown_clips": min(settings.shown_clips, num_clips),
        },
        num_examples=num_clips,
        predictions=_as_table(mine, scored).assign(**kept.columns()),
        units={name: unit for name, unit in UNITS.items() if name in mine},
        intervals=clip_intervals(mine, dependence),
        errors=errors_of(mine),
        baseline_errors={name: errors_of(theirs) for name, theirs in scored.items()},
        worst=_worst(mine, scored),
    )


def figures(scores: Scores, prepared: Artifact, model: Artifact, folder: Path) -> list[Figure]:
    """Draw the plots into a folder: clips as they come, the worst ones, error by frame ahead, training."""
    forecaster = FRAME_PREDICTION.load_predictor(model.path)
    shown = scores.details["shown_clips"]
    errors = scores.predictions.groupby("clip")["squared_error"].mean()
    strips = partial(_draw_clips, forecaster=forecaster, prepared=prepared, errors=errors)
    draw = {
        "clips": (partial(strips, rows=np.arange(shown)), "What was foretold"),
        "worst_clips": (partial(strips, rows=_worst_first(errors)[:shown]), "The worst errors"),
        "error_by_step": (partial(_draw_by_step, scores=scores), "Error by frame ahead"),
        "training": (partial(draw_training, model=model), "Training"),
    }
    return draw_all(draw, folder)


class _Pictures:
    """Pictures of the first clips, for whoever reads the table of predictions; those of all would be far larger than it."""

    def __init__(self) -> None:
        self._found: dict[str, list[bytes | None]] = {"image": [], "target": []}
        self._clips = 0

    def keep(self, foretold: torch.Tensor, truth: torch.Tensor) -> None:
        """Take the next clips, both (B, U, C, Y, X)."""
        for clip in range(len(foretold)):
            wanted = self._clips < PICTURED_CLIPS
            self._clips += 1
            for name, frames in (("image", foretold[clip]), ("target", truth[clip])):
                self._found[name] += [encode_png(frame) if wanted else None for frame in as_bytes(frames)]

    def columns(self) -> dict[str, pd.Series]:
        """PNG, or nothing, by row of the table."""
        return {name: pd.Series(pictures, dtype=object) for name, pictures in self._found.items()}


def _means(measured: Measured) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in measured.items()}


def _by_step(values: np.ndarray) -> list[float]:
    return [float(value) for value in values.mean(axis=0)]


def clip_intervals(measured: Measured, dependence: int) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of each metric; the frames of a clip stay together, and so do neighbours of one film."""
    return ratio_intervals(clip_errors(measured, "", dependence, tuple(measured)))


def clip_errors(measured: Measured, rows: str, dependence: int, metrics: Sequence[str] = SUMMED) -> list[ExampleErrors]:
    """Add up the errors of the frames of each clip, of the metrics that models are compared by."""
    return [
        example_errors(
            name,
            measured[name].sum(axis=1),
            np.full(len(measured[name]), measured[name].shape[1]),
            rows=rows,
            dependence=dependence,
        )
        for name in metrics
    ]


def _validation_error(forecaster: FrameForecaster, prepared: Artifact) -> float:
    errors = [
        frame_metrics(forecaster.foretell(batch.past, forecaster.future), batch.future)["squared_error"]
        for batch in batches(open_dataset(prepared, "validation"))
    ]
    return float(torch.cat(errors).mean())


def _as_table(mine: Measured, baselines: Mapping[str, Measured]) -> pd.DataFrame:
    """One row per test clip and frame ahead (1..U): the metrics of the model, and the squared errors of the baselines.

    Beside them, of the first clips, `image` and `target`: what was foretold, and what came, as PNG.
    """
    clips, steps = mine["squared_error"].shape
    return pd.DataFrame(
        {
            "clip": np.repeat(np.arange(clips), steps),
            "step": np.tile(np.arange(1, steps + 1), clips),
            **{name: values.ravel() for name, values in mine.items()},
            **{f"baseline_{name}": theirs["squared_error"].ravel() for name, theirs in baselines.items()},
        }
    )


def _worst(mine: Measured, baselines: Mapping[str, Measured]) -> pd.DataFrame:
    """The clips with the largest squared errors, worst first, beside the best baseline's."""
    of_clip = pd.DataFrame({name: values.mean(axis=1) for name, values in mine.items()})
    of_clip.insert(0, "clip", np.arange(len(of_clip)))
    of_clip["best_baseline"] = np.min([theirs["squared_error"].mean(axis=1) for theirs in baselines.values()], axis=0)
    return of_clip.iloc[_worst_first(of_clip["squared_error"])[:WORST]].reset_index(drop=True)


def _worst_first(errors: pd.Series) -> np.ndarray:
    return np.argsort(-errors.to_numpy(), kind="stable")


def _draw_clips(
    plt: Any, forecaster: FrameForecaster, prepared: Artifact, errors: pd.Series, rows: np.ndarray
) -> tuple[Any, str]:
    """Three strips a clip: what was read, what came, what was foretold."""
    batch = open_dataset(prepared, "test").__getitems__(rows)
    foretold = forecaster.foretell(batch.past, forecaster.future)
    shape = read_settings(prepared).clips.shape()
    past = _picked(batch.past.shape[1])
    ahead = _picked(batch.future.shape[1])
    columns = max(len(past), len(ahead))
    height = 11 / columns * shape[1] / shape[2]  # of a strip, inches
    figure = plt.figure(figsize=(11, len(rows) * (3 * height + 0.35)))
    grid = figure.add_gridspec(len(rows), 1, hspace=0.35 / (3 * height))
    for place, row in enumerate(rows.tolist()):
        strips = {
            "read": batch.past[place, past],
            "came": batch.future[place, ahead],
            "foretold": foretold[place, ahead],
        }
        axes = grid[place].subgridspec(3, 1, hspace=0.03).subplots()
        for axis, (name, frames) in zip(axes, strips.items(), strict=True):
            axis.imshow(_strip(frames, columns), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_ylabel(name, color=MODEL if name == "foretold" else INK, fontsize=8)
        axes[0].set_title(f"clip {row}: squared error {errors[row]:.0f} per frame", fontsize=9)
    return figure, (
        f"Of each clip: the {forecaster.past} frames that were read, the {forecaster.future} that came, and what the model "
        "foretold of them, from left to right."
    )


def _picked(count: int) -> list[int]:
    """Choose frames to show, evenly, the last among them."""
    shown = min(count, MOST_SHOWN_FRAMES)
    return [round((place + 1) * count / shown) - 1 for place in range(shown)]


def _strip(frames: torch.Tensor, columns: int) -> np.ndarray:
    """Lay frames (n, C, Y, X) side by side with a white line between: (Y, ..., C), or without channels if grey."""
    channels, height, width = frames.shape[1:]
    strip = np.ones((height, columns * (width + 1) - 1, channels), dtype=np.float32)
    for place, frame in enumerate(frames.numpy()):
        strip[:, place * (width + 1) : place * (width + 1) + width] = frame.transpose(1, 2, 0)
    return strip[:, :, 0] if channels == 1 else strip


def _draw_by_step(plt: Any, scores: Scores) -> tuple[Any, str]:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
    for axis, metric, label in (
        (left, "squared_error", "squared error per frame"),
        (right, "ssim", "structural similarity"),
    ):
        for name, curve in scores.details["by_step"][metric].items():
            style = {"color": MODEL, "linewidth": 2.6} if name == "model" else {"linewidth": 1.2, "alpha": 0.85}
            axis.plot(range(1, len(curve) + 1), curve, label=name.replace("_", " "), **style)
        axis.set_xlabel("frames ahead")
        axis.set_ylabel(label)
    left.set_ylim(bottom=0)
    left.legend(ncols=2)
    return (
        figure,
        "On the test part, for each frame ahead. Squared error: lower is better; similarity: 1 is the same picture.",
    )
