"""Classification: one of several classes for each sequence, a text or a series of observations."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from gateline.batch import SCORING_BATCH, LabelledBatch
from gateline.data.example_kinds import KINDS, ExampleInputs, complete
from gateline.data.examples import (
    ExampleSplit,
    as_key,
    check_split,
    groups_of,
    open_examples,
    refuse_several,
    save_examples,
    split_examples,
    split_in_words,
)
from gateline.data.order import Order, SequentialOrder, shuffled
from gateline.data.prepared_windows import STATE, open_store
from gateline.data.sequences import LabelledSequences
from gateline.data.store import SequenceStore
from gateline.errors import ArtifactError, DataError, WorkloadError, examples, refuse_taken, require_known
from gateline.losses import summed_cross_entropy
from gateline.manifest import Artifact, Draft
from gateline.models.classifier import Classifier, ClassifierSettings
from gateline.predictors import BESIDE_CLASSES
from gateline.predictors.classification import TextClassifier, logits_of
from gateline.predictors.series_classification import SeriesClassifier
from gateline.probabilities import fit_temperature
from gateline.table import TABLE, as_frame, clean, write_table
from gateline.tasks import Scorer
from gateline.workload.gates import Gates
from gateline.workload.schema import Schema
from gateline.workload.section import Section

if TYPE_CHECKING:
    from gateline.workload.training import Training

BASELINES_OF = {
    "text": ("majority", "naive_bayes", "logistic_regression"),
    "series": ("majority", "logistic_regression", "gradient_boosting"),
}
"""By the kind of inputs."""
BASELINES = ("majority", "logistic_regression", "naive_bayes", "gradient_boosting")
GATE_METRICS = ("error_rate", "log_loss", "brier")
METRICS = (*GATE_METRICS, "accuracy", "f1_macro", "calibration_error", "auroc", "auprc")
LOSS = "cross_entropy"
LABEL = "label"
"""The store's static of classes."""
CALIBRATION = "calibration.json"
MOST_CLASSES = 1000


class ClassificationPreprocess(Section):
    """Section `preprocess` of a classification workload."""

    inputs: ExampleInputs
    """``kind: text``, or ``kind: series``."""
    label: str
    """Column of the classes: texts, whole numbers, or true and false; of series, the same in all rows of one."""
    split: ExampleSplit


class ClassificationEvaluation(Section):
    """Section `evaluation` of a classification workload."""

    baselines: Annotated[tuple[Literal[BASELINES], ...], Field(min_length=1)] = BASELINES_OF["text"]  # type: ignore[valid-type]
    """Of texts; of series: majority, logistic_regression, gradient_boosting."""
    positive: str | None = None
    """Of two classes, the one that is looked for (auroc, auprc); none: the second in the order of the alphabet."""
    slices: tuple[str, ...] = ()
    """Columns whose values get metrics of their own."""
    shown: tuple[str, ...] = ()
    """Of series, columns that are drawn for a few of them."""


class Classification:
    """The task `classification`."""

    name = "classification"
    examples_are = "examples"
    Preprocess = ClassificationPreprocess
    Model = ClassifierSettings
    Evaluation = ClassificationEvaluation
    monitors = ("loss", "error_rate")
    gate_metrics = GATE_METRICS
    own_columns = ("row", "text", "target", "answer", "probability_*", "baseline_*")
    requirements = ("tokenizers",)

    def columns_beside(self, schema: Schema, preprocess: ClassificationPreprocess) -> Sequence[str]:
        """The keys of series; texts are named by their row."""
        return schema.keys if preprocess.inputs.kind == "series" else ()

    def check(
        self,
        schema: Schema,
        preprocess: ClassificationPreprocess,
        evaluation: ClassificationEvaluation | None,
        gates: Gates | None,
    ) -> None:
        """Refuse sections that do not fit together.

        Raises:
            WorkloadError: a column is not in the schema or of another type, or a gate names what is not computed.
        """
        preprocess.inputs.check(schema)
        name, types = preprocess.label, ("text", "integer", "boolean")
        require_known("preprocess.label", name, schema.columns)
        if (found := schema.columns[name].type) not in types:
            raise WorkloadError(
                "preprocess.label",
                expected=f"a column of type {' or '.join(types)}",
                found=f"{name} ({found})",
                do="Name another",
            )
        if name in preprocess.inputs.columns_read():
            raise WorkloadError(
                "preprocess.inputs",
                expected="columns that do not give the class away",
                found=f"the label {name}",
                do="Drop it there",
            )
        refuse_taken("schema.keys", self.columns_beside(schema, preprocess), self.own_columns)
        refuse_taken("schema.columns", (*self.columns_beside(schema, preprocess), name), BESIDE_CLASSES)
        check_split(preprocess.split, schema)
        if evaluation is not None:
            for name in evaluation.slices:
                require_known("evaluation.slices", name, schema.columns)
            if evaluation.shown and preprocess.inputs.kind == "text":
                raise WorkloadError(
                    "evaluation.shown",
                    expected="no such key where texts are classified",
                    found=examples(evaluation.shown),
                    do="Leave it out: only columns of series are drawn",
                )
            for name in evaluation.shown:
                require_known("evaluation.shown", name, schema.columns)
            for name in evaluation.baselines:
                require_known("evaluation.baselines", name, BASELINES_OF[preprocess.inputs.kind])
        if evaluation is not None and gates is not None:
            gates.require_measured(evaluation.baselines, METRICS, GATE_METRICS)

    def check_training(self, model: ClassifierSettings, training: Training) -> None:  # noqa: ARG002
        """Refuse a loss that does not train classes.

        Raises:
            WorkloadError: another loss than the cross entropy.
        """
        if training.loss != LOSS:
            raise WorkloadError(
                "training.loss", expected=f"`{LOSS}`", found=f"`{training.loss}`", do=f"Say `loss: {LOSS}`"
            )

    def check_network(self, model: ClassifierSettings, preprocess: ClassificationPreprocess) -> None:
        """Refuse a network that cannot be made, before it is made.

        Raises:
            WorkloadError: its settings do not fit together.
        """
        with torch.device("meta"):
            if preprocess.inputs.kind == "text":
                Classifier(num_classes=2, num_tokens=5, settings=model)
            else:
                Classifier(num_classes=2, num_features=5, settings=model)

    def check_evaluation(self, model: ClassifierSettings, evaluation: ClassificationEvaluation) -> None:
        """Every network answers what is measured."""

    def check_data(self, model: ClassifierSettings, prepared: Artifact) -> None:
        """Accept any data."""

    def check_scoring(self, prepared: Artifact, evaluation: ClassificationEvaluation, gates: Gates) -> None:
        """Refuse an evaluation that cannot be made of these data.

        Raises:
            WorkloadError: a slice is no column, `positive` is no class, or a gate names what is not computed.
        """
        state = prepared.read_json(STATE)
        classes = state["classes"]
        for name in evaluation.slices:
            require_known("evaluation.slices", name, state["schema"]["columns"])
        for name in evaluation.baselines:
            require_known("evaluation.baselines", name, BASELINES_OF[state["kind"]])
        if evaluation.positive is not None:
            require_known("evaluation.positive", evaluation.positive, classes)
        for name in gates.limits:
            if name in ("auroc", "auprc") and len(classes) != 2:
                raise WorkloadError(
                    f"gates.limits.{name}", expected="two classes", found=str(len(classes)), do="Take another metric"
                )

    def explain(
        self,
        schema: Schema,  # noqa: ARG002
        preprocess: ClassificationPreprocess,
        facts: Mapping[str, Any],
    ) -> Iterator[str]:
        """Say in words what preprocess would do."""
        yield f"tell `{preprocess.label}`" + (f" ({examples(facts['classes'])})" if facts else "") + " apart"
        yield from KINDS[preprocess.inputs.kind].explain(preprocess.inputs, facts)
        yield split_in_words(preprocess.split, facts.get("examples", {}), KINDS[preprocess.inputs.kind].examples_are)

    def prepare(
        self, raw: pd.DataFrame, schema: Schema, preprocess: ClassificationPreprocess, draft: Draft
    ) -> pd.DataFrame:
        """Write the folder `prepared`.

            prepared/
            ├── arrays/*.npy                    what is read of all sequences, laid end to end, and offsets
            ├── statics/*.npy                   class of each sequence, and what is the same at all of its steps
            ├── examples/{train,validation,test}.npy    numbers of each part's sequences
            ├── state.json                      kind, encoding (fitted on the training part), classes, split
            └── table.parquet                   the table in raw units, cleaned

        Raises:
            DataError: a text or label is missing, a part is empty, or holds a class that training has not.
        """
        kind, columns = KINDS[preprocess.inputs.kind], clean(raw, schema)
        layout = kind.lay_out(preprocess.inputs, raw, schema, columns)
        first = kind.first_rows(layout)
        labels = class_names(columns, preprocess.label, first, schema.keys)
        parts = split_examples(columns, preprocess.split, schema.keys, first)
        classes = sorted({labels[row] for row in parts["train"]})
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise DataError(
                f"column {preprocess.label}",
                expected=f"2 to {MOST_CLASSES} classes in the training part",
                found=f"{len(classes)} ({examples(classes)})",
                do="Look at the column and the split",
            )
        strange = sorted(set(labels) - set(classes))
        if strange:
            raise DataError(
                f"column {preprocess.label}",
                expected=f"the classes of the training part ({examples(classes)})",
                found=f"{examples(strange)} only in another part",
                do="Choose another split, or leave these rows out in the query",
            )
        encoding = kind.fit(preprocess.inputs, layout, parts["train"], schema)
        encoded, facts = kind.encode(encoding, layout, parts)
        number = {name: place for place, name in enumerate(classes)}
        numbers = np.array([number[label] for label in labels], np.int64)
        store = SequenceStore(encoded.arrays, encoded.offsets, {**encoded.statics, LABEL: numbers})
        store.save(draft.path)
        save_examples(parts, draft, groups_of(columns, preprocess.split, schema.keys, first))
        write_table(as_frame(columns), draft.path / TABLE)
        split = preprocess.split.model_dump(mode="json")
        draft.write_json(
            STATE,
            {
                "schema": schema.model_dump(mode="json"),
                "kind": preprocess.inputs.kind,
                "encoding": encoding.to_json(),
                "label": preprocess.label,
                "classes": classes,
                "split": split,
            },
        )
        draft.facts |= {
            "task": self.name,
            "examples_are": kind.examples_are,
            "arrays": {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in store.arrays.items()},
            "classes": classes,
            "class_counts": {
                part: {name: sum(labels[row] == name for row in rows) for name in classes}
                for part, rows in parts.items()
            },
            **facts,
            "split": split,
        }
        return as_frame(columns)[kind.rows_of(layout, parts["train"])]

    def dataset(self, prepared: Artifact, part: str) -> LabelledSequences:
        """Open the sequences of one part."""
        store, rows = open_store(prepared), open_examples(prepared, part)
        values = KINDS[prepared.read_json(STATE)["kind"]].values(store)
        return LabelledSequences(values, store.offsets, store.statics[LABEL], rows)

    def shapes(self, prepared: Artifact) -> dict[str, Any]:
        """Say what the network must know of the prepared data."""
        state = prepared.read_json(STATE)
        kind = KINDS[state["kind"]]
        return {**kind.shapes(kind.read(state["encoding"])), "num_classes": len(state["classes"])}

    def build(self, model: ClassifierSettings, shapes: Mapping[str, Any]) -> Classifier:
        """Build the network, freshly initialised."""
        return Classifier(**shapes, settings=model)

    def start(self, network: nn.Module, dataset: LabelledSequences) -> None:
        """Weigh the classes as `model.balance` says; every other weight is learnt."""
        classifier = cast(Classifier, network)
        classifier.weigh_classes(torch.bincount(dataset.labels, minlength=classifier.head.out_features))

    def order(self, prepared: Artifact, dataset: LabelledSequences, training: Training, seed: int) -> Order:  # noqa: ARG002
        """Draw texts in a fresh random order every epoch, or texts of similar length with a budget of tokens."""
        return shuffled(dataset.lengths, training, seed)

    def validation_order(self, prepared: Artifact, dataset: LabelledSequences, training: Training) -> Order:  # noqa: ARG002
        """Take the validation texts as they stand."""
        return SequentialOrder(len(dataset), SCORING_BATCH)

    def loss(
        self,
        network: nn.Module,
        batch: LabelledBatch,
        kind: str,  # noqa: ARG002  there is one
        carried: None,  # noqa: ARG002  texts hand nothing on
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Sum the cross entropy of a batch, in nats, and count its texts."""
        classifier = cast(Classifier, network)
        logits = classifier(batch.values, batch.lengths)
        weight = classifier.class_weight
        return *summed_cross_entropy(logits, batch.target, class_weight=weight), None

    def scorer(self, prepared: Artifact, kind: str) -> Scorer:  # noqa: ARG002  there is one loss
        """Add up the loss and the errors."""

        def score(
            network: nn.Module,
            batch: LabelledBatch,
            carried: None,  # noqa: ARG001
        ) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], None]:
            logits = cast(Classifier, network)(batch.values, batch.lengths).float()
            total, count = summed_cross_entropy(logits, batch.target)
            wrong = (logits.argmax(dim=1) != batch.target).sum()
            return {"loss": (total, count), "error_rate": (wrong, count)}, None

        return score

    def finish(self, network: nn.Module, prepared: Artifact, draft: Draft) -> None:
        """Fit the temperature on the validation part, and write it into the model folder.

        model/
        └── calibration.json      temperature; only with `model.calibrate`
        """
        classifier = cast(Classifier, network)
        if not classifier.settings.calibrate:
            return
        # On the CPU and in float32, as the model is served.
        served, dataset = copy.deepcopy(classifier).cpu(), self.dataset(prepared, "validation")
        logits = logits_of(served, dataset).astype(np.float64)
        target = open_store(prepared).statics[LABEL][open_examples(prepared, "validation")]
        draft.write_json(CALIBRATION, {"temperature": fit_temperature(logits, target)})

    def load_predictor(self, folder: Path) -> TextClassifier | SeriesClassifier:
        """Load a model folder.

        Raises:
            ArtifactError: weights and configuration do not belong together, or a file is damaged.
        """
        from gateline.model_folder import load_network, read_model_json

        config, state = read_model_json(folder, "config.json"), read_model_json(folder, "preprocessing.json")
        try:
            network = self.build(ClassifierSettings(**config["model"]), config["shapes"])
            calibrated = network.settings.calibrate
            made: dict[str, Any] = {
                "encoding": KINDS[state["kind"]].read(state["encoding"]),
                "schema": Schema.model_validate(state["schema"]),
                "classes": tuple(state["classes"]),
                "label": str(state["label"]),
                "temperature": read_model_json(folder, CALIBRATION)["temperature"] if calibrated else 1.0,
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                folder, expected="a model of this version", found=" ".join(str(error).split())[:160], do="Train again"
            ) from error
        load_network(network, folder)
        return (TextClassifier if state["kind"] == "text" else SeriesClassifier)(network, **made)


TASK = Classification()


def class_names(columns: Mapping[str, Any], label: str, first: np.ndarray, keys: Sequence[str]) -> list[str]:
    """Name the class of each sequence, which all of its rows agree on.

    Args:
        columns: the cleaned table.
        label: column of the classes.
        first: int64 (S,), the row that speaks for each sequence.
        keys: of the schema; rows that agree in them are one sequence.

    Raises:
        DataError: a row has no label, or a sequence several.
    """
    names = np.array([as_key(value) for value in complete(columns, label)], dtype=object)
    if len(first) < len(names):
        do = "Correct the rows, or use the task `labelling`, which judges each step"
        refuse_several(label, names, columns, keys, what="class", do=do)
    return cast(list[str], names[first].tolist())
