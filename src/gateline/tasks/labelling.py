"""Labelling: one answer for each step of a sequence, a yes or no or one of several classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import BeforeValidator, Field
from torch import nn

from gateline.batch import SCORING_BATCH, LabelledStepsBatch
from gateline.data.examples import (
    ExampleSplit,
    check_split,
    groups_of,
    open_examples,
    save_examples,
    split_examples,
    split_in_words,
)
from gateline.data.frame_inputs import FrameInputs
from gateline.data.irregular_encoding import SeriesInputs
from gateline.data.order import Order, SequentialOrder, shuffled
from gateline.data.prepared_windows import STATE, open_store
from gateline.data.sequence_inputs import LABEL, LabelledStepSequences, steps_of
from gateline.data.store import SequenceStore
from gateline.errors import ArtifactError, DataError, WorkloadError, examples, refuse_taken, require_known
from gateline.losses import summed_binary_cross_entropy, summed_cross_entropy
from gateline.manifest import Artifact, Draft
from gateline.models.labeller import Labeller, LabellerSettings
from gateline.predictors import BESIDE_CLASSES
from gateline.predictors.labelling import Fitted, Label, SequenceLabeller, as_numbers, probabilities_of, step_errors
from gateline.probabilities import best_threshold, fit_temperature
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

USUAL_BASELINES = ("prevalence", "logistic_regression", "gradient_boosting")
BASELINES = (*USUAL_BASELINES, "uniform", "motion_energy")
GATE_METRICS = ("log_loss", "brier", "error_rate")
OF_A_YES = ("auroc", "auprc", "calibration_error", "precision", "recall", "auroc_last")
METRICS = (*GATE_METRICS, "f_score", *OF_A_YES)
LOSSES = ("binary_cross_entropy", "cross_entropy")
CALIBRATION = "calibration.json"

Pair = tuple[torch.Tensor, torch.Tensor]
"""Sum and count."""


def _of_series(value: Any) -> Any:
    """Read inputs of no kind as those of series, the usual ones."""
    return {"kind": "series", **value} if isinstance(value, Mapping) and "kind" not in value else value


class LabellingPreprocess(Section):
    """Section `preprocess` of a labelling workload."""

    inputs: Annotated[SeriesInputs | FrameInputs, Field(discriminator="kind"), BeforeValidator(_of_series)]
    """What is read, and how rows become steps."""
    label: Label
    """What is said of each step."""
    split: ExampleSplit
    """Which sequences train, validate and test."""


class LabellingEvaluation(Section):
    """Section `evaluation` of a labelling workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = USUAL_BASELINES  # type: ignore[valid-type]
    """uniform and motion_energy are for a yes or no that stands for a few steps, such as an event in a film."""
    slices: tuple[str, ...] = ()
    """Columns with one value for each sequence, whose values get metrics of their own."""
    shown: tuple[str, ...] = ()
    """Columns that are drawn beside the answers for a few sequences."""


class Labelling:
    """The task `labelling`."""

    name = "labelling"
    examples_are = "sequences"
    gate_metrics = GATE_METRICS
    own_columns = ("step", "label", "called", "prob", "baseline_*")
    requirements = ("av",)  # of those whose steps are frames
    Preprocess = LabellingPreprocess
    Model = LabellerSettings
    Evaluation = LabellingEvaluation
    monitors = ("loss", *GATE_METRICS)

    def columns_beside(self, schema: Schema, preprocess: LabellingPreprocess) -> Sequence[str]:  # noqa: ARG002
        """Keys and time stamp, which say of which step a label is."""
        return schema.place_columns

    def check(
        self,
        schema: Schema,
        preprocess: LabellingPreprocess,
        evaluation: LabellingEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: a column is not in the schema, cannot be read, or gives the label away; or a gate names what is not
                computed.
        """
        preprocess.inputs.check(schema)
        label = preprocess.label
        require_known("preprocess.label.column", label.column, schema.columns)
        kind = schema.columns[label.column].type
        if kind not in ("integer", "boolean", "text"):
            raise WorkloadError(
                "preprocess.label.column",
                expected="a column of 0 and 1 (integer or boolean), or of texts",
                found=f"{label.column} ({kind})",
                do="Cast it in the query",
            )
        if label.column in preprocess.inputs.columns_read():
            raise WorkloadError(
                "preprocess.inputs",
                expected="columns that do not give the label away",
                found=f"the label {label.column}",
                do="Drop it there",
            )
        refuse_taken("schema", self.columns_beside(schema, preprocess), self.own_columns)
        refuse_taken("schema", (*self.columns_beside(schema, preprocess), label.column), BESIDE_CLASSES)
        check_split(preprocess.split, schema)
        if evaluation is not None and gates is not None:
            _check_gates(schema, evaluation, gates)

    def check_training(self, model: LabellerSettings, training: Training) -> None:  # noqa: ARG002
        """Refuse a loss that does not train labels.

        Raises:
            WorkloadError: it is none of the cross entropies.
        """
        if training.loss not in LOSSES:
            raise WorkloadError(
                "training.loss",
                expected="binary_cross_entropy for a yes or no, cross_entropy for classes",
                found=training.loss,
                do="Say one of them",
            )

    def check_network(self, model: LabellerSettings, preprocess: LabellingPreprocess) -> None:  # noqa: ARG002
        """Refuse a network that cannot be made, whatever the features."""
        with torch.device("meta"):  # the network says what it refuses, and no memory is taken
            Labeller(num_classes=1, num_features=1, settings=model)

    def check_evaluation(self, model: LabellerSettings, evaluation: LabellingEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: LabellerSettings, prepared: Artifact) -> None:
        """Nothing is left that data could refuse."""

    def check_scoring(self, prepared: Artifact, evaluation: LabellingEvaluation, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data.

        Raises:
            WorkloadError: a slice is no column, or a gate names what is not computed.
        """
        _check_gates(Fitted.from_json(prepared.read_json(STATE)).schema, evaluation, gates)

    def explain(self, schema: Schema, preprocess: LabellingPreprocess, facts: Mapping[str, Any]) -> Iterator[str]:
        """Say in words what preprocess would do."""
        inputs, label = preprocess.inputs, preprocess.label
        said = "yes or no" if schema.columns[label.column].type != "text" else "one of several classes"
        yield f"label each step with {label.column} ({said}), one value for each {label.of}"
        yield from inputs.explain()
        yield split_in_words(preprocess.split, facts.get("examples", {}), self.examples_are)

    def prepare(self, raw: pd.DataFrame, schema: Schema, preprocess: LabellingPreprocess, draft: Draft) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── arrays/*.npy          what the encoding makes of each step, its label, and offsets
            ├── statics/*.npy         what is the same for a whole sequence
            ├── examples/{train,validation,test}.npy     numbers of the sequences
            ├── state.json            schema, inputs, encoding (fitted on the training part), label, split
            └── table.parquet         the rows of the test part in raw units

        Raises:
            DataError: a part has no sequence, all labels of the training part are the same, a label is neither 0 nor 1, or
                another part has a class that training has not.
        """
        table = clean(raw, schema)
        layout = preprocess.inputs.lay_out(raw, schema)
        parts = split_examples(table, preprocess.split, schema.keys, layout.first_rows)
        encoding = preprocess.inputs.fit(layout, parts["train"], schema)
        encoded = encoding.encode(layout)
        series = np.repeat(np.arange(layout.num_series), np.diff(layout.offsets))
        trains, label = np.isin(series, parts["train"]), preprocess.label
        said = label.of_steps(layout, table)
        classes = None
        if schema.columns[label.column].type == "text":
            classes = tuple(sorted(set(said[trains][~pd.isna(said[trains])].tolist())))
        labels = as_numbers(said, classes)
        _refuse_one_label(labels[trains], label)
        _refuse_strange(
            said[np.isin(series, np.concatenate(list(parts.values())))], classes, table[label.column], label
        )
        store = SequenceStore({**encoded.arrays, LABEL: labels}, encoded.offsets, encoded.statics)
        store.save(draft.path)
        save_examples(parts, draft, groups_of(table, preprocess.split, schema.keys, layout.first_rows))
        write_table(raw[layout.rows_of(parts["test"])], draft.path / TABLE)
        split = preprocess.split.model_dump(mode="json")
        draft.write_json(
            STATE, Fitted(schema, preprocess.inputs, encoding, label, classes).to_json() | {"split": split}
        )
        steps = {part: int(np.isfinite(labels[np.isin(series, rows)]).sum()) for part, rows in parts.items()}
        draft.facts |= {
            "task": self.name,
            "arrays": {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in store.arrays.items()},
            "steps": steps,
            "features": encoding.feature_names(),
            "label": label.column,
            "classes": classes,
            "split": split,
        }
        return as_frame(table)[layout.rows_of(parts["train"])]

    def dataset(self, prepared: Artifact, part: str) -> LabelledStepSequences:
        """Open the sequences of one part."""
        store, fitted = open_store(prepared), Fitted.from_json(prepared.read_json(STATE))
        sequences = open_examples(prepared, part)
        return LabelledStepSequences(store, sequences, store.arrays[LABEL], fitted.classes is not None)

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        fitted = Fitted.from_json(prepared.read_json(STATE))
        return {
            "num_features": len(fitted.encoding.feature_names()),
            "num_classes": 1 if fitted.classes is None else len(fitted.classes),
        }

    def build(self, model: LabellerSettings, shapes: Mapping[str, Any]) -> Labeller:
        """Build the network, freshly initialised."""
        return Labeller(settings=model, **shapes)

    def start(self, network: nn.Module, dataset: LabelledStepSequences) -> None:
        """Begin at the frequency of each label, so that the first epoch does not have to learn it."""
        labels = dataset.labels[steps_of(dataset.store, dataset.sequences)]
        labels = labels[np.isfinite(labels)]
        bias = cast(Labeller, network).head.bias
        if dataset.classes:
            share = np.bincount(labels.astype(np.int64), minlength=len(bias)) + 1.0
            bias.copy_(torch.from_numpy(np.log(share / share.sum())))
        else:
            share = (labels.sum() + 1) / (len(labels) + 2)
            bias.fill_(float(np.log(share / (1 - share))))

    def order(self, prepared: Artifact, dataset: LabelledStepSequences, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw the training sequences in a fresh random order every epoch; with `batch_tokens`, those of similar length together."""
        return shuffled(dataset.lengths, training, seed)

    def validation_order(self, prepared: Artifact, dataset: LabelledStepSequences, training: Training) -> Order:  # noqa: ARG002
        """Take the validation sequences as they stand."""
        return SequentialOrder(len(dataset), SCORING_BATCH)

    def loss(
        self,
        network: nn.Module,
        batch: LabelledStepsBatch,
        kind: str,
        carried: None,  # noqa: ARG002  sequences hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum the loss over the labelled steps of a batch, and count them."""
        return *_summed(kind, network(batch.values, batch.lengths), batch), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:
        """Add up the loss and what models are compared by.

        Raises:
            WorkloadError: the loss is not that of the labels.
        """
        classes = Fitted.from_json(prepared.read_json(STATE)).classes
        if (classes is None) != (kind == "binary_cross_entropy"):
            raise WorkloadError(
                "training.loss",
                expected="binary_cross_entropy" if classes is None else "cross_entropy",
                found=kind,
                do="The labels are a yes or no" if classes is None else f"There are {len(classes)} classes",
            )

        def score(network: nn.Module, batch: LabelledStepsBatch, carried: None) -> tuple[dict[str, Pair], None]:  # noqa: ARG001
            logits = network(batch.values, batch.lengths).float()  # (B, T, C)
            total, count = _summed(kind, logits, batch)
            prob = probabilities_of(logits[batch.observed].cpu().numpy(), 1.0)
            labels = batch.target[batch.observed].cpu().numpy()
            sums = {name: float(step_errors(name, prob, labels).sum()) for name in GATE_METRICS}
            return {"loss": (total, count)} | {
                name: (torch.tensor(value).to(count.device), count) for name, value in sums.items()
            }, None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Fit temperature and threshold on the validation part, and write them into the model folder.

        model/
        └── calibration.json      temperature (1 without `model.calibrate`), and the threshold of the best F-score of a yes
        """
        fitted, store = Fitted.from_json(prepared.read_json(STATE)), open_store(prepared)
        sequences = open_examples(prepared, "validation")
        # On the CPU and in float32, as the model is served.
        served = cast(Labeller, copy.deepcopy(network).cpu())
        logits = SequenceLabeller(served, fitted).logits(store, sequences)
        labels = store.arrays[LABEL][steps_of(store, sequences)]
        known = np.isfinite(labels)
        logits, labels = logits[known], labels[known]
        calibration = {"temperature": 1.0, "threshold": 0.5}
        if served.settings.calibrate:
            calibration["temperature"] = fit_temperature(logits[:, 0] if logits.shape[1] == 1 else logits, labels)
        if logits.shape[1] == 1:
            calibration["threshold"] = best_threshold(probabilities_of(logits, calibration["temperature"]), labels)
        draft.write_json(CALIBRATION, calibration)

    def load_predictor(self, folder: Path) -> SequenceLabeller:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        calibration = read_model_json(folder, CALIBRATION)
        try:
            network = self.build(LabellerSettings(**config["model"]), config["shapes"])
            fitted = Fitted.from_json(state)
            labeller = SequenceLabeller(network, fitted, calibration["temperature"], calibration["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return labeller


TASK = Labelling()


def _refuse_one_label(labels: np.ndarray, label: Label) -> None:
    different = np.unique(labels[np.isfinite(labels)])
    if len(different) < 2:
        raise DataError(
            f"column {label.column}",
            expected="at least two labels in the training part",
            found=f"{len(different)} in {len(labels)} steps",
            do="Check the label and the split",
        )


def _refuse_strange(said: np.ndarray, classes: Sequence[str] | None, column: Any, label: Label) -> None:
    """Refuse labels of any part that no answer of the network stands for: they would be no step of any loss or metric.

    Args:
        said: labels of the steps of all parts, (n,).
        classes: those of the training part; None for a yes or no.
        column: labels of the rows of the table, (R,), to say which rows these are.
        label: what is said of each step.
    """
    known: set[Any] = {0, 1} if classes is None else set(classes)
    strange = sorted(set(said[~pd.isna(said)].tolist()) - known)
    if not strange:
        return
    rows = np.flatnonzero(pd.Series(np.asarray(column)).isin(strange)).tolist()
    shown = [str(int(each)) if classes is None else repr(each) for each in strange]
    raise DataError(
        f"column {label.column}",
        expected="0 or 1" if classes is None else f"the classes of the training part ({examples(classes)})",
        found=f"{examples(shown)} in row {examples(rows)}",
        do=(
            "Cast it to a text in the query, whose values are classes, or leave these rows out"
            if classes is None
            else "Choose another split, or leave these rows out in the query"
        ),
    )


def _summed(kind: str, logits: torch.Tensor, batch: LabelledStepsBatch) -> Pair:
    """Sum the loss of logits (B, T, C) over the steps with a label."""
    if kind == "cross_entropy":
        return summed_cross_entropy(logits, batch.target, batch.observed)
    return summed_binary_cross_entropy(logits.squeeze(-1), batch.target, batch.observed)


def _check_gates(schema: Schema, evaluation: LabellingEvaluation, gates: Gates) -> None:
    for name in (*evaluation.slices, *evaluation.shown):
        require_known("evaluation.slices" if name in evaluation.slices else "evaluation.shown", name, schema.columns)
    gates.require_measured(evaluation.baselines, METRICS, GATE_METRICS)
