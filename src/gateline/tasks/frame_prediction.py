"""Frame prediction: the frames of a clip that come next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from gateline.batch import ClipBatch
from gateline.data.clips import ClipDataset, DigitClips, make_clips
from gateline.data.order import Order, SequentialOrder, ShuffledOrder
from gateline.data.prepared_clips import ClipsOfWorkload, open_dataset, read_settings
from gateline.data.prepared_windows import STATE
from gateline.data.splits import PARTS
from gateline.errors import ArtifactError, WorkloadError, require_known
from gateline.frame_metrics import FRAME_METRICS, SUMMED
from gateline.losses import summed_frame_loss
from gateline.manifest import Artifact, Draft
from gateline.models.frame_predictor import FramePredictor, FramePredictorSettings
from gateline.predictors.frame_prediction import CLIPS_AT_A_TIME, FrameForecaster, as_request
from gateline.randomness import training_progress
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer, refuse_batch_tokens
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

BASELINES = ("black_frame", "mean_of_inputs", "copy_last")
LOSSES = ("absolute", "squared", "huber", "binary_cross_entropy")
CLIPS_OF_REQUEST = 2
"""Put aside by preprocess as the example of a request."""


class FramePredictionEvaluation(Section):
    """Section `evaluation` of a frame prediction workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = BASELINES  # type: ignore[valid-type]
    slices: tuple[Literal["motion"], ...] = ("motion",)
    """motion: thirds of the test clips, by how much changes from one past frame to the next."""
    shown_clips: Annotated[int, Field(ge=1, le=20)] = 4
    """Clips in each of the report's pictures: some as they come, and those with the worst errors."""


class FramePrediction:
    """The task `frame_prediction`."""

    name = "frame_prediction"
    examples_are = "clips"
    Preprocess = ClipsOfWorkload
    Model = FramePredictorSettings
    Evaluation = FramePredictionEvaluation
    monitors = ("loss", "squared_error")
    gate_metrics = SUMMED
    own_columns = ("clip", "step", "image", "target", *FRAME_METRICS, "baseline_*")
    requirements = ("av",)

    def columns_beside(self, schema: Schema, preprocess: ClipsOfWorkload) -> Sequence[str]:  # noqa: ARG002
        """None: clips are numbered."""
        return ()

    def check(
        self,
        schema: Schema,
        preprocess: ClipsOfWorkload,
        evaluation: FramePredictionEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: a column is not in the schema or of another type; or a gate names what is not computed.
        """
        clips = preprocess.clips
        columns = {"column": "bytes"}
        if isinstance(clips, DigitClips):
            columns |= {"height": "integer", "width": "integer"}
        else:
            columns |= {"order": "integer", "film": "text"}
        for role, kind in columns.items():
            name = getattr(clips, role)
            if name is None:
                continue
            where = f"preprocess.clips.{role}"
            require_known(where, name, schema.columns)
            if schema.columns[name].type != kind:
                raise WorkloadError(
                    where,
                    expected=f"a column of type {kind}",
                    found=f"{name} ({schema.columns[name].type})",
                    do="Name another column, or correct the schema",
                )
        if evaluation is not None and gates is not None:
            gates.require_measured(evaluation.baselines, FRAME_METRICS, SUMMED)

    def check_training(self, model: FramePredictorSettings, training: Training) -> None:
        """Refuse a loss that is not one of pixels, and what frames that are written one by one cannot have.

        Raises:
            WorkloadError: another loss, a budget of tokens, or dropped weights where the network reads its own frames.
        """
        if training.loss not in LOSSES:
            raise WorkloadError(
                "training.loss", expected=f"one of {', '.join(LOSSES)}", found=training.loss, do="Choose one of them"
            )
        refuse_batch_tokens(training, self.examples_are)
        if model.weight_drop and model.scheduled_sampling.end < 1:
            raise WorkloadError(
                "model.weight_drop",
                expected="0, where the network reads its own frames: each step would drop other weights",
                found=str(model.weight_drop),
                do="Drop it, or train on true frames alone (`scheduled_sampling: {begin: 1, end: 1}`)",
            )

    def check_network(self, model: FramePredictorSettings, preprocess: ClipsOfWorkload) -> None:
        """Refuse a network that does not fit the frames.

        Raises:
            WorkloadError: the patch does not divide them, or the cell reads no pictures.
        """
        channels, height, width = preprocess.clips.shape()
        if height % model.patch or width % model.patch:
            raise WorkloadError(
                "model.patch",
                expected=f"a number that divides rows and columns of a frame, {height} and {width}",
                found=str(model.patch),
                do="Choose such a patch, or another size of frames",
            )
        with torch.device("meta"):  # the network says what it refuses, and no memory is taken
            FramePredictor(num_channels=channels, settings=model)

    def check_evaluation(self, model: FramePredictorSettings, evaluation: FramePredictionEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: FramePredictorSettings, prepared: Artifact) -> None:
        """Refuse nothing: any clips will do."""

    def check_scoring(self, prepared: Artifact, evaluation: FramePredictionEvaluation, gates: Gates) -> None:  # noqa: ARG002
        """Refuse an evaluation that cannot be made.

        Raises:
            WorkloadError: a gate names what is not computed.
        """
        gates.require_measured(evaluation.baselines, FRAME_METRICS, SUMMED)

    def explain(self, schema: Schema, preprocess: ClipsOfWorkload, facts: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG002
        """Say in words what preprocess would do."""
        clips, (channels, height, width) = preprocess.clips, preprocess.clips.shape()
        colours = "grey" if channels == 1 else "colour"
        yield f"clips of {preprocess.past} frames to read and {preprocess.future} to foretell, {height} x {width}, {colours}"
        if isinstance(clips, DigitClips):
            for part in PARTS:
                first, after = getattr(clips, part).pictures
                yield f"{part}: {getattr(clips, part).clips:,} clips of {clips.num_digits} pictures among rows {first} to {after - 1}"
        else:
            yield f"cut from {clips.column}: of each film the last {clips.test:.0%} for test, {clips.validation:.0%} before that for validation"
        if facts:
            yield "clips: " + ", ".join(f"{count:,} {part}" for part, count in facts["examples"].items())

    def prepare(self, raw: pd.DataFrame, schema: Schema, preprocess: ClipsOfWorkload, draft: Draft) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── pictures.npy, or frames.npy and clips/*.npy     see `gateline.data.clips`
            ├── state.json            the section `preprocess`
            └── table.parquet         two test clips, as a request has them

        Nothing is fitted: pixels are read as shares of the brightest.

        Raises:
            DataError: the table does not hold what clips are made of, or a part has none.
        """
        columns = clean(raw, schema)
        clips = make_clips(columns, preprocess.clips, preprocess.past + preprocess.future)
        clips.save(draft.path)
        draft.write_json(STATE, preprocess.model_dump(mode="json"))
        shown = min(CLIPS_OF_REQUEST, clips.count("test"))
        past = clips.frames("test", np.arange(shown))[:, : preprocess.past]
        write_table(as_request(past, [f"test_{row}" for row in range(shown)]), draft.path / TABLE)
        draft.facts |= {
            "task": self.name,
            "examples": {part: clips.count(part) for part in PARTS},
            "frames": {"past": preprocess.past, "future": preprocess.future},
            "shape": list(preprocess.clips.shape()),
            "clips": preprocess.clips.kind,
        }
        return as_frame(columns)[preprocess.clips.trains(len(raw))]

    def dataset(self, prepared: Artifact, part: str) -> ClipDataset:
        """Open the clips of one part."""
        return open_dataset(prepared, part)

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        return {"num_channels": read_settings(prepared).clips.shape()[0]}

    def build(self, model: FramePredictorSettings, shapes: Mapping[str, Any]) -> FramePredictor:
        """Build the network, freshly initialised."""
        return FramePredictor(num_channels=shapes["num_channels"], settings=model)

    def start(self, network: nn.Module, dataset: ClipDataset) -> None:
        """Let the network begin with the mean brightness of some training clips, rather than learn it first."""
        rows = np.arange(min(CLIPS_AT_A_TIME, len(dataset)))
        cast(FramePredictor, network).start_at(float(dataset.__getitems__(rows).future.mean()))

    def order(self, prepared: Artifact, dataset: ClipDataset, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw the training clips in a fresh random order every epoch."""
        return ShuffledOrder(len(dataset), training.batch_size, seed, training.examples_per_epoch)

    def validation_order(self, prepared: Artifact, dataset: ClipDataset, training: Training) -> Order:  # noqa: ARG002
        """Take the validation clips as they stand."""
        return SequentialOrder(len(dataset), CLIPS_AT_A_TIME)

    def loss(
        self,
        network: nn.Module,
        batch: ClipBatch,
        kind: str,
        carried: None,  # noqa: ARG002  clips hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum the loss over the pixels to foretell, and count them; true frames are read as often as it is their time."""
        predictor = cast(FramePredictor, network)
        probability = predictor.settings.scheduled_sampling.probability(training_progress())
        logits = predictor(batch.past, batch.future.shape[1], future=batch.future, teacher_forcing=probability)
        return *summed_frame_loss(kind, logits, batch.future), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:  # noqa: ARG002
        """Add up the loss, by pixel, and the squared error, summed over the pixels of a frame; on own frames only."""

        def score(
            network: nn.Module,
            batch: ClipBatch,
            carried: None,  # noqa: ARG001
        ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], None]:
            logits = cast(FramePredictor, network)(batch.past, batch.future.shape[1])
            total, count = summed_frame_loss(kind, logits, batch.future)
            squared, pixels = summed_frame_loss("squared", logits, batch.future)
            return {"loss": (total, count), "squared_error": (squared, pixels / batch.future[0, 0].numel())}, None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Add nothing."""

    def load_predictor(self, folder: Path) -> FrameForecaster:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            network = self.build(FramePredictorSettings(**config["model"]), config["shapes"])
            settings = ClipsOfWorkload.model_validate(state)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return FrameForecaster(network, past=settings.past, future=settings.future, shape=settings.clips.shape())


TASK = FramePrediction()
